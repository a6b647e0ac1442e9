"""What of this machine the process may use: a container's limits count, where there are any."""

import os
from pathlib import Path

_ROOT = Path("/")


def free_memory(root: Path = _ROOT) -> int | None:
    """Bytes that may still be taken, of the machine or of the container if that is less. None: it does not say."""
    found = [
        int(line.split()[1]) << 10
        for line in _read(root / "proc/meminfo").splitlines()
        if line.startswith("MemAvailable:")
    ]
    limit, used = (_read(root / "sys/fs/cgroup" / name).strip() for name in ("memory.max", "memory.current"))
    if limit.isdigit() and used.isdigit():
        # Pages of files are given back when they are needed, so they do not count as used.
        statistics = dict(line.split() for line in _read(root / "sys/fs/cgroup/memory.stat").splitlines())
        found.append(int(limit) - int(used) + int(statistics.get("file", 0)))
    return min(found, default=None)


def usable_cores(root: Path = _ROOT) -> int:
    """Processor cores for this process, at least 1. More threads than that make decoding slower, not faster."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read(root / "sys/fs/cgroup/cpu.max").strip().partition(" ")
    if quota.isdigit() and period.isdigit():
        cores = min(cores, round(int(quota) / int(period)))
    return max(1, cores)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""
