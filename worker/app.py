"""The worker: a Celery application whose threads share one model.

Run by `quantahr worker`, which sets the pool to threads (a forked process must not touch llama.cpp's or CUDA's memory)
and as many of them as the engine has slots.
"""

import logging
import time
import warnings
from typing import Any

from celery import Celery, signals
from celery.exceptions import CPendingDeprecationWarning, SecurityWarning

from quantahr import queue
from quantahr.bus.answering import PASSING
from quantahr.settings import Settings, load_settings
from worker.runtime import current
from worker.tasks.ask import answer_question
from worker.tasks.people import run_work

log = logging.getLogger(__name__)


def make_worker(settings: Settings) -> Celery:
    """The Celery application with its tasks; the runtime opens when the worker starts."""
    application = queue.make_celery(settings)

    @application.task(name=queue.ASK, acks_late=True, ignore_result=True)
    def ask(identifier: str) -> None:
        began = time.monotonic()
        outcome = answer_question(current.get(), identifier)
        log.info("question %s: %s after %.2f s", identifier, outcome, time.monotonic() - began)

    @application.task(name=queue.PEOPLE, acks_late=False, ignore_result=True)
    def people(work: str) -> None:
        run_work(current.get(), work)

    @signals.worker_ready.connect(weak=False)
    def ready(**_: Any) -> None:
        # Here, because Celery's own logging has asked to see them always: a remark about a setting that we have set.
        warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
        current.get().bus.ready = True
        current.get().follower.follow()

    @signals.worker_shutdown.connect(weak=False)
    def stop(**_: Any) -> None:
        current.close()

    return application


def _in_one_line(record: logging.LogRecord) -> bool:
    """A Redis that is away is one line and not a traceback of forty; what it says next names the address."""
    if record.exc_info and isinstance(record.exc_info[1], PASSING):
        record.exc_info, record.exc_text = None, None
    return True


def run_worker(settings: Settings | None = None, *, log_level: str = "info", name: str | None = None) -> None:
    """Run a worker until it is told to stop. Raises ModelError, PolicyError and StoreError before it takes work."""
    settings = settings or load_settings()
    # Before Celery starts, so that a missing model or folder is one clear sentence and not a traceback.
    current.open(settings).warm_up()
    application = make_worker(settings)
    # Celery's banner, its remark about root and its two lines a task say nothing that an operator needs.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    for chatty in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("celery.worker.consumer.consumer").addFilter(_in_one_line)
    arguments = [
        "--quiet",
        "worker",
        "--pool=threads",
        f"--concurrency={settings.model.slots}",
        f"--queues={queue.ASK_QUEUE},{queue.PEOPLE_QUEUE}",
        f"--loglevel={log_level}",
        "--without-gossip",
        "--without-mingle",
    ]
    if name:
        arguments.append(f"--hostname={name}@%h")
    application.worker_main(arguments)
