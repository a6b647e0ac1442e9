"""Training on this machine: the same bootstrap and the same marks, in a process of its own session.

It outlives whoever started it, and is found again by a lock that it holds as long as anything of it runs: no process
number that another program may have got in the meantime decides what is ended. `python -m training.launch.local FOLDER`
is the process that takes the lock and then becomes the bootstrap.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from quantahr.retrain import Attempt, Job
from quantahr.retrain.machine import MachineState, Seen
from training.launch.bundle import BOOTSTRAP, ROOT, build
from training.launch.contract import Configured, Known, RefusedError
from training.launch.marks import check_sums, progress_in, status_in
from training.launch.user_data import environment, minutes_for
from training.locks import LOCK, held

_STARTED: Final = "started"
_KEPT_ENVIRONMENT: Final = ("PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE", "HF_HOME", "HF_HUB_OFFLINE", "HF_TOKEN")
"""All that training sees of our environment: chat tokens are none of its business."""
_KINDNESS_SECONDS: Final = 8.0
_START_SECONDS: Final = 20.0


class LocalLauncher:
    """Trains on this machine. `folder` holds everything; `config` gives what a job trains, with files under `root`.

    Bases that were downloaded before are found in `state_dir`.
    """

    zones = 1

    def __init__(
        self, folder: Path, config: Configured, *, root: Path, state_dir: Path, beat_seconds: float = 5.0
    ) -> None:
        self._folder, self._config, self._root = folder.resolve(), config, root
        self._place, self._state_dir = self._folder / "place", state_dir.resolve()
        self._beat = beat_seconds

    def prepare(self, job: Job) -> tuple[str, str | None]:
        bundle = build(job.id, self._config(job), root=self._root)
        for file in (*bundle.files, bundle.manifest):
            path = self._place / file.key
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name}.partial")
            partial.write_bytes(file.data)
            partial.rename(path)
        return bundle.manifest.sha256, None

    def find(self, job: Job, attempt: Attempt) -> str | None:
        return _name(job, attempt) if (self._home(job, attempt) / _STARTED).exists() else None

    def start(self, job: Job, attempt: Attempt) -> str:
        home = self._home(job, attempt)
        home.mkdir(parents=True, exist_ok=True)
        kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
        values = environment(job, attempt, place=str(self._place), home=str(home), end="exit")
        values |= {"QHR_INSTANCE": _name(job, attempt), "QHR_PYTHON": sys.executable}
        values["QHR_STATE_DIR"] = str(self._state_dir)
        values |= {"QHR_BEAT_SECONDS": str(self._beat), "QHR_MINUTES": str(minutes_for(job, attempt))}
        (home / "environment.json").write_text(json.dumps(values), encoding="utf-8")
        with (home / "boot.log").open("ab") as log:
            # Not waited for: it belongs to nobody. A second one on the same folder finds the lock taken and ends.
            subprocess.Popen(
                [sys.executable, "-m", "training.launch.local", str(home)],
                cwd=ROOT,
                env={**kept, **values},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if (home / _STARTED).exists():
                return _name(job, attempt)
            time.sleep(0.05)
        raise RefusedError(
            "start", "The training process did not start on this machine.", f"See {home / 'boot.log'}, then try again."
        )

    def guard(self, job: Job, attempt: Attempt) -> None:
        """Nothing to do: `timeout` and an alarm inside the process end it."""

    def look(self, job: Job, attempt: Attempt) -> Seen:
        home, name = self._home(job, attempt), _name(job, attempt)
        # The process first: what it said last is there by the time it is gone.
        machine: MachineState = "running" if held(home) else "ended" if (home / _STARTED).exists() else "absent"
        marks = self._place / "jobs" / job.id
        return Seen(
            machine=machine,
            instance=name,
            progress=progress_in(_read(marks / "heartbeat.json"), name),
            status=status_in(_read(marks / "status.json"), name),
        )

    def settle(self, job: Job) -> bool:
        running = [home for home in self._homes(job.id) if not _end(home)]
        return not running

    def release(self, job: Job) -> None:
        for name in ("data", "config"):
            shutil.rmtree(self._place / name / job.id, ignore_errors=True)
        shutil.rmtree(self._folder / "boxes" / job.id, ignore_errors=True)

    def fetch(self, job: Job, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._place / "adapters" / job.id, folder)
        check_sums(folder)

    def reap(self, jobs: Known, now: float) -> list[str]:
        ended = []
        for home in sorted((self._folder / "boxes").glob("*/a*")):
            if not held(home):
                continue
            job = jobs(home.parent.name)
            if job is None or job.final or now - (home / _STARTED).stat().st_mtime > _minutes(home) * 60 + 300:
                _end(home)
                ended.append(f"{home.parent.name}-{home.name}")
        return ended

    def _home(self, job: Job, attempt: Attempt) -> Path:
        return self._folder / "boxes" / job.id / f"a{attempt.number}"

    def _homes(self, job: str) -> list[Path]:
        return sorted((self._folder / "boxes" / job).glob("a*"))


def _name(job: Job, attempt: Attempt) -> str:
    return f"local-{job.id}-a{attempt.number}"


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _minutes(home: Path) -> int:
    with contextlib.suppress(OSError, ValueError, KeyError):
        return int(json.loads((home / "environment.json").read_text(encoding="utf-8"))["QHR_MINUTES"])
    return 0


def _end(home: Path) -> bool:
    """End what runs there, kindly first. True once nothing does."""
    if not held(home):
        return True
    with contextlib.suppress(OSError, ValueError):
        session = int((home / _STARTED).read_text(encoding="ascii"))
        asked = home / "asked_to_end"
        with contextlib.suppress(FileNotFoundError):
            if time.time() - asked.stat().st_mtime > _KINDNESS_SECONDS:
                os.killpg(session, signal.SIGKILL)
                return False
        if not asked.exists():
            asked.touch()
            os.killpg(session, signal.SIGTERM)
    return not held(home)


def _become_the_bootstrap(home: Path) -> None:
    lock = (home / LOCK).open("ab")
    for _ in range(20):  # somebody may just be looking whether it is held
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            time.sleep(0.05)
    else:
        return
    if (home / _STARTED).exists():
        return  # it has run before; an attempt runs once
    os.set_inheritable(lock.fileno(), True)
    partial = home / ".started"
    partial.write_text(str(os.getpid()), encoding="ascii")
    partial.rename(home / _STARTED)
    os.execv("/bin/bash", ["bash", str(BOOTSTRAP)])  # noqa: S606 (our own script)


if __name__ == "__main__":
    _become_the_bootstrap(Path(sys.argv[1]))
