"""Who is inside an engine: lets callers in, and lets close() wait until the last one is out."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from worker.engines.base import EngineClosedError


class Gate:
    """Counts the calls that are under way. Thread-safe."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._inside = 0
        self._closed = False

    @property
    def closed(self) -> bool:
        """True once closing has begun: who is inside should leave soon."""
        return self._closed

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Raises EngineClosedError once closing has begun."""
        with self._condition:
            if self._closed:
                raise EngineClosedError("This model version has been unloaded. Ask again: the next one serves.")
            self._inside += 1
        try:
            yield
        finally:
            with self._condition:
                self._inside -= 1
                self._condition.notify_all()

    def close(self) -> bool:
        """Lets nobody in any more and returns when everybody is out; True for the one call that closed it."""
        with self._condition:
            first, self._closed = not self._closed, True
            self._condition.wait_for(lambda: self._inside == 0)
            return first
