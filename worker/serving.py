"""Which engine serves: one at a time, each answer bound to one from its first token to its last.

Blue/green. A new engine is loaded beside the old one, and `switch` makes it the one that new answers get; the old one
goes on until its last answer has ended and is then kept for a rollback or closed.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from worker.engines.base import Engine


@dataclass(eq=False)
class _Held:
    engine: Engine
    users: int = 0
    drained: threading.Event = field(default_factory=threading.Event)


class Serving:
    """The engine in service. `load` makes it; it is called on first use, so that a worker starts before its model."""

    def __init__(self, load: Callable[[], Engine]) -> None:
        self._load = load
        self._held: _Held | None = None
        self._lock = threading.Lock()
        self._loading = threading.Lock()

    @contextmanager
    def lease(self) -> Iterator[Engine]:
        """The engine for one answer. It is not closed before this ends."""
        held = self._take()
        try:
            yield held.engine
        finally:
            with self._lock:
                held.users -= 1
                if held.users == 0 and held is not self._held:
                    held.drained.set()

    def switch(self, engine: Engine, *, drain_seconds: float = 120.0) -> Engine | None:
        """Serve `engine` from now on. Returns the previous one, after its last answer has ended; the caller closes it.

        If that takes longer than `drain_seconds`, it is returned all the same.
        """
        with self._lock:
            before, self._held = self._held, _Held(engine)
            idle = before is None or before.users == 0
        if before is None:
            return None
        if not idle:
            before.drained.wait(drain_seconds)
        return before.engine

    def close(self) -> None:
        """Unload the model."""
        with self._lock:
            held, self._held = self._held, None
        if held:
            held.engine.close()

    def _take(self) -> _Held:
        with self._lock:
            if self._held:
                self._held.users += 1
                return self._held
        with self._loading:
            with self._lock:
                missing = self._held is None
            if missing:
                engine = self._load()
                with self._lock:
                    self._held = self._held or _Held(engine)
        return self._take()
