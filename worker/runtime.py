"""What one worker process holds: the bus, the database, the knowledge and the engine in service."""

import logging
import threading
from collections.abc import Callable

from quantahr.bus import Answering
from quantahr.settings import Settings
from quantahr.store import Store
from worker.engines.base import Engine
from worker.knowledge import Knowledge
from worker.people.room import PeopleRoom
from worker.serving import Serving
from worker.swap import Follower, tell_administrator

log = logging.getLogger(__name__)


class Runtime:
    """Opened when a worker starts, closed when it ends."""

    def __init__(self, settings: Settings, load: Callable[[], Engine] | None = None) -> None:
        self.settings = settings
        self.knowledge = Knowledge(settings)
        # Read while the database may still be starting, and while the model is loaded.
        self.knowledge.start()
        self.store = Store.open(settings)
        tell = tell_administrator(settings, self.store)
        self.follower = Follower(settings, tell, serving=Serving(load) if load else None)
        self.serving = self.follower.serving
        self.people = PeopleRoom(settings, self.store, self.knowledge, self.serving)
        self.answerer = self.people.answerer
        self.bus = Answering(settings)

    def warm_up(self) -> None:
        """Load the model and the index now. Raises ModelError and PolicyError."""
        with self.serving.lease() as engine:
            log.info("serving %s with %d slots", engine.version.label, engine.slots)
        self.knowledge.index()

    def close(self) -> None:
        self.follower.close()
        self.bus.close_connection()
        self.knowledge.close()
        self.serving.close()
        self.store.close()


class _Current:
    """The process's runtime; Celery gives tasks no other way to reach it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runtime: Runtime | None = None

    def open(self, settings: Settings) -> Runtime:
        with self._lock:
            self._runtime = self._runtime or Runtime(settings)
            return self._runtime

    def get(self) -> Runtime:
        if self._runtime is None:
            raise RuntimeError("the worker has not started")
        return self._runtime

    def close(self) -> None:
        with self._lock:
            runtime, self._runtime = self._runtime, None
        if runtime:
            runtime.close()


current = _Current()
