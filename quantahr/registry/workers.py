"""Which worker serves which version now, so that "live everywhere" can be said when it is true.

Each worker writes its line into one Redis hash every few seconds; a line that is not renewed no longer counts.
"""

import json
import time
from dataclasses import asdict, dataclass
from typing import Any, Final

WORKERS: Final = "qhr:workers"
FRESH_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class WorkerState:
    """`serving`: a version's id, or "base". `serial`: the last change of the pointer that the worker has dealt with.

    `refused`: the version that it could not serve, with the reason in `problem`. `at`: seconds since 1970.
    """

    worker: str
    serving: str
    serial: int
    at: float
    refused: str | None = None
    problem: str = ""


def report(client: Any, state: WorkerState) -> None:
    """Write a worker's line. `client` is a redis.Redis."""
    client.hset(WORKERS, state.worker, json.dumps(asdict(state)))
    client.expire(WORKERS, int(FRESH_SECONDS) * 3)


def forget(client: Any, worker: str) -> None:
    """Take a worker's line away, when it ends."""
    client.hdel(WORKERS, worker)


def states(client: Any, *, now: float | None = None) -> list[WorkerState]:
    """What every living worker serves, by name. `client` is a redis.Redis."""
    oldest = (time.time() if now is None else now) - FRESH_SECONDS
    found = [WorkerState(**json.loads(line)) for line in client.hvals(WORKERS)]
    return sorted((state for state in found if state.at >= oldest), key=lambda state: state.worker)


def converged(client: Any, serial: int, *, now: float | None = None) -> bool:
    """Whether every living worker has dealt with the pointer's change number `serial`; False if there is none."""
    living = states(client, now=now)
    return bool(living) and all(state.serial >= serial for state in living)
