"""A worker without a model: it takes questions from the real queue, and writes real events over the real bus.

What it answers is a script by the words of the question, so that a test of a bot knows what has to arrive.
"""

import base64
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator

import redis

from quantahr.bus import Answering, Claim, LeaseLostError
from quantahr.messages import Contact, Delta, Failed, Question, Source, Sources
from quantahr.messages import Final as FinalEvent
from quantahr.queue import ASK_QUEUE
from quantahr.settings import Settings
from quantahr.store import Store

LEAVE = "You get 30 days of leave. "
SENSITIVE = "I am sorry this happened. Please talk to Ada, the counsellor."
LONG = "\n\n".join(f"Rule {number}: " + "lorem ipsum dolor sit amet " * 8 for number in range(1, 101))
SOURCE = Source(
    number=1,
    section="leave:1",
    document="Leave.docx",
    heading="Annual leave > Entitlement",
    passage="Every employee gets 30 days of leave <a year> & may carry over five.",
    version="abc123def456",
    effective="2026-01-01",
)
CLOSEST = SOURCE.model_copy(update={"number": 2, "heading": "Pets", "passage": "Dogs are welcome on Fridays."})

Step = Delta | Sources | FinalEvent | Failed | float
Script = Callable[[Question, Store], Iterator[Step]]


def script(question: Question, store: Store) -> Iterator[Step]:
    """What the worker does, by the words of the question; a number is a pause in seconds."""
    text = question.text.casefold()
    if "part-timers" in text:
        earlier = [turn.text for turn in store.earlier(question, 2)]
        yield _final(f"Following {earlier}: half of it.")
    elif "harass" in text:
        yield FinalEvent(verdict="sensitive", text=SENSITIVE, asker_only=True, contact=Contact(name="Ada"))
    elif "parrot" in text:
        yield FinalEvent(verdict="abstained", text="I find nothing about that. Ask HR.", closest=(CLOSEST,))
    elif "slow" in text:
        yield Sources(sources=(SOURCE,))
        for number in range(200):
            yield Delta(text=f"Sentence {number}. ")
            yield 0.1
    elif "long" in text:
        for start in range(0, len(LONG), 2000):
            yield Delta(text=LONG[start : start + 2000])
            yield 0.02
        yield _final(LONG)
    else:
        yield Sources(sources=(SOURCE,))
        yield Delta(text=LEAVE)
        yield 0.15
        yield Delta(text="Ask <!channel> & @here <b>nobody</b>. [1]")
        yield _final(LEAVE + "Ask <!channel> & @here <b>nobody</b>. [1]")


class ScriptedWorker:
    """Runs in a thread of its own from `start` to `stop`."""

    def __init__(self, settings: Settings, store: Store, play: Script = script) -> None:
        self.answered: list[str] = []
        """The questions that it took, in order."""
        self._store = store
        self._play = play
        self._bus = Answering(settings)
        self._redis = redis.Redis.from_url(settings.redis_url)
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(3)]
        self._running = len(self._threads)
        self._leaving = threading.Lock()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._ended.set()

    def _run(self) -> None:
        with contextlib.suppress(redis.ConnectionError):  # the tests are over
            while not self._ended.is_set():
                taken = self._redis.blpop([ASK_QUEUE], timeout=1)
                if taken:
                    message = json.loads(taken[1])
                    body = json.loads(base64.b64decode(message["body"]))
                    self._answer(str(body[0][0]))
        with self._leaving:
            self._running -= 1
            last = not self._running
        if last:  # the others still need it for what they answer
            self._bus.close_connection()

    def _answer(self, identifier: str) -> None:
        with self._bus.claim(identifier) as claim:
            if isinstance(claim, Claim):
                self.answered.append(claim.question.text)
                with contextlib.suppress(LeaseLostError):
                    self._attempt(claim)

    def _attempt(self, claim: Claim) -> None:
        said = ""
        for step in self._play(claim.question, self._store):
            if claim.stopped:
                self._end(claim, _final(said).model_copy(update={"stopped": True}))
                return
            match step:
                case float():
                    time.sleep(step)
                case FinalEvent() | Failed():
                    self._end(claim, step)
                    return
                case Delta(text=more):
                    said += more
                    claim.emit(step)
                case _:
                    claim.emit(step)
        self._end(claim, _final(said))

    def _end(self, claim: Claim, event: FinalEvent | Failed) -> None:
        if isinstance(event, FinalEvent):
            self._store.record_answer(claim.question, event)
        claim.close(event)


def _final(text: str) -> FinalEvent:
    return FinalEvent(verdict="answered", text=text, sources=(SOURCE,), closest=(CLOSEST,))
