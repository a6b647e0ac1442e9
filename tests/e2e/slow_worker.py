"""A real Celery worker whose model is slow and always says the same: `python -m tests.e2e.slow_worker`.

Everything but the model is the project's own: the queue, the task, leases, the database.
"""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from quantahr import queue
from quantahr.bus import Answering
from quantahr.messages import Delta, Event, Final, Source
from quantahr.settings import load_settings
from quantahr.store import Store
from worker.tasks.ask import answer_question

SENTENCES = 30
TEXT = "".join(f"Sentence {number}. " for number in range(SENTENCES))
SOURCE = Source(number=1, section="s", document="Leave.docx", heading="Leave", passage="Thirty days.", version="abc")


class SlowAnswerer:
    def answer(self, request: Any, emit: Callable[[Event], None], stopped: Callable[[], bool]) -> Final:
        for sentence in TEXT.split(". ")[:SENTENCES]:
            if stopped():
                break
            emit(Delta(text=f"{sentence}. "))
            time.sleep(0.15)
        return Final(verdict="answered", text=TEXT, sources=(SOURCE,))


def main() -> None:
    settings = load_settings()
    application = queue.make_celery(settings)
    bus, store = Answering(settings), Store.open(settings)
    runtime: Any = SimpleNamespace(settings=settings, bus=bus, store=store, answerer=SlowAnswerer())

    @application.task(name=queue.ASK, acks_late=True, ignore_result=True)
    def ask(identifier: str) -> None:
        answer_question(runtime, identifier)

    arguments = ["worker", "--pool=threads", "--concurrency=2", f"--queues={queue.ASK_QUEUE}", "--loglevel=warning"]
    application.worker_main([*arguments, "--without-gossip", "--without-mingle"])


if __name__ == "__main__":
    main()
