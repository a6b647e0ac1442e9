"""Whether something still runs, told by the lock that it holds: another program may have got its process number."""

import fcntl
from pathlib import Path
from typing import Final

LOCK: Final = "lock"
"""The name of the file in the process's folder."""


def held(folder: Path) -> bool:
    """Whether a process holds the lock of this folder. The look itself takes the lock for a moment, shared."""
    try:
        with (folder / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
