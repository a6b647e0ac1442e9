"""The beat: it only ticks. What is due stands in the database, and doing it is the worker's.

Any number of beats may run. The one that holds the lease ticks; if it dies, another one takes over when the lease ends.
A tick is a message with the name of the work, dropped when the one before still waits. The daily retention needs no
model, so the beat does it itself.
"""

import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable
from typing import Final

from celery import Celery

from quantahr import queue
from quantahr.people import periods
from quantahr.people.retention import purge
from quantahr.settings import Settings
from quantahr.store import Store

log = logging.getLogger(__name__)

TICK_SECONDS: Final = 30.0
LEASE_SECONDS: Final = 90.0
DAY: Final = 86_400.0
EVERY: Final = {"onboarding": TICK_SECONDS, "gaps": DAY, "digest": 7 * DAY}
"""Work of the worker, and how often it is asked for."""


class Beat:
    """`publish` hands the name of a work to the workers."""

    def __init__(self, settings: Settings, store: Store, publish: Callable[[str], None]) -> None:
        self._settings = settings
        self._store = store
        self._publish = publish
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"

    def tick(self) -> bool:
        """Ask for what is due. Returns False if another beat ticks."""
        if not periods.keep(self._store, "beat", LEASE_SECONDS, self.name):
            return False
        for work, seconds in EVERY.items():
            # A little less than the interval, so that a tick which comes early does not lose its turn.
            if periods.take(self._store, work, seconds * 0.9, self.name):
                self._publish(work)
        if periods.take(self._store, "retention", DAY * 0.9, self.name):
            purge(self._store, self._settings)
        return True

    def run(self, ended: threading.Event, seconds: float = TICK_SECONDS) -> None:
        """Tick until `ended`; what fails is tried again at the next tick."""
        while not ended.is_set():
            try:
                self.tick()
            except Exception as error:
                log.warning("a tick failed (%s); the next one tries again", type(error).__name__)
            ended.wait(seconds)


def publisher(settings: Settings, application: Celery | None = None) -> Callable[[str], None]:
    """Sends the name of a work to the workers' queue; it expires when nobody takes it."""
    celery = application or queue.make_celery(settings)

    def publish(work: str) -> None:
        celery.send_task(
            queue.PEOPLE,
            args=[work],
            queue=queue.PEOPLE_QUEUE,
            expires=min(EVERY[work], 3600.0),
            retry=False,
            ignore_result=True,
        )

    return publish


def run_beat(settings: Settings) -> None:
    """Tick until SIGTERM or SIGINT. Raises StoreError if there is no database."""
    store = Store.open(settings)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        Beat(settings, store, publisher(settings)).run(ended)
    finally:
        store.close()
