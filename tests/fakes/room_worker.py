"""The worker's own rooms in this process: real index, summaries, drafts, standard answers; only the model is a script.

It takes from the real queues what the bots and the beat put there.
"""

import base64
import contextlib
import functools
import json
import threading
from typing import Any
from unittest.mock import patch

import redis

from quantahr.queue import ASK_QUEUE, PEOPLE_QUEUE
from quantahr.retrieval import load_embedder
from quantahr.settings import Settings
from tests.worker.test_pipeline import ScriptedEngine
from worker.runtime import Runtime
from worker.tasks.ask import answer_question
from worker.tasks.people import run_work

embedder = functools.cache(load_embedder)


class RoomWorker:
    """Runs in a thread of its own from `start` to `stop`. `outcomes` are what became of the questions."""

    def __init__(self, settings: Settings, engine: ScriptedEngine | None = None) -> None:
        self.engine = engine or ScriptedEngine("I do not know.")
        # What is the same for every test of a process is loaded once.
        with patch("worker.knowledge.load_embedder", embedder):
            self.runtime = Runtime(settings, lambda: self.engine)
            self.runtime.warm_up()
        self.outcomes: list[str] = []
        self._redis = redis.Redis.from_url(settings.redis_url)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(5.0)
        self.runtime.close()

    def _run(self) -> None:
        with contextlib.suppress(redis.ConnectionError):  # the tests are over
            while not self._ended.is_set():
                taken: Any = self._redis.blpop([ASK_QUEUE, PEOPLE_QUEUE], timeout=0.2)
                if taken:
                    [argument] = json.loads(base64.b64decode(json.loads(taken[1])["body"]))[0]
                    if taken[0] == ASK_QUEUE.encode():
                        self.outcomes.append(answer_question(self.runtime, argument))
                    else:
                        run_work(self.runtime, argument)
