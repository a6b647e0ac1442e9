"""The task that answers: once, within its attempts, and without a word in the log."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from quantahr.bus import Answering, Asking
from quantahr.messages import Delta, Event, Failed, Final, Question
from quantahr.settings import Settings
from quantahr.store import Store
from worker.answering.pipeline import Request
from worker.tasks.ask import LAST_ATTEMPT, answer_question

SECRET = "my very private question about purple elephants"


class ScriptedAnswerer:
    def __init__(self, act: Callable[[Request, Callable[[Event], None]], Final]) -> None:
        self.act = act
        self.requests: list[Request] = []

    def answer(self, request: Request, emit: Callable[[Event], None], stopped: Callable[[], bool]) -> Final:
        self.requests.append(request)
        return self.act(request, emit)


def fine(_: Request, emit: Callable[[Event], None]) -> Final:
    emit(Delta(text="28 days. [1]"))
    return Final(verdict="answered", text="28 days. [1]")


@pytest.fixture
def runtime(settings: Settings, store: Store) -> Iterator[Any]:
    bus = Answering(settings)
    yield SimpleNamespace(settings=settings, store=store, bus=bus, answerer=ScriptedAnswerer(fine))
    bus.close_connection()


def question(number: int = 1, *, text: str = SECRET, at: float = 1.0) -> Question:
    return Question(
        id=f"{number:024x}",
        platform="slack",
        tenant="T1",
        conversation="D1",
        thread="D1",
        user="U1",
        text=text,
        private=True,
        asked_at=at,
    )


def asked(settings: Settings, wanted: Question) -> None:
    async def run() -> None:
        bus = Asking(settings)
        await bus.ask(wanted, {})
        await bus.close()

    asyncio.run(run())


def events(settings: Settings, wanted: Question) -> list[Event]:
    async def run() -> list[Event]:
        bus = Asking(settings)
        found = [event async for _, event in bus.follow(wanted.id)]
        await bus.close()
        return found

    return asyncio.run(run())


def test_an_answer_is_streamed_stored_and_closed(runtime: Any, settings: Settings, store: Store) -> None:
    asked(settings, question())
    assert answer_question(runtime, question().id) == "answered"
    assert [event.type for event in events(settings, question())] == ["accepted", "started", "delta", "final"]
    kept = store.answer(question().id)
    assert kept is not None
    assert kept.text == "28 days. [1]"


def test_the_same_task_delivered_twice_answers_once(runtime: Any, settings: Settings) -> None:
    asked(settings, question())
    assert [answer_question(runtime, question().id) for _ in range(2)] == ["answered", "closed"]
    assert len([event for event in events(settings, question()) if event.type == "final"]) == 1


def test_a_task_whose_question_is_gone_does_nothing(runtime: Any) -> None:
    assert answer_question(runtime, "f" * 24) == "gone"


def test_a_failure_is_an_apology_and_leaves_no_words_in_the_log(
    runtime: Any, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(request: Request, _: Callable[[Event], None]) -> Final:
        raise ValueError(request.text)

    runtime.answerer = ScriptedAnswerer(breaks)
    asked(settings, question())
    with caplog.at_level(logging.DEBUG):
        assert answer_question(runtime, question().id) == "failed"
    assert isinstance(events(settings, question())[-1], Failed)
    assert "elephants" not in caplog.text


def test_a_question_that_ended_several_workers_is_given_up_with_an_apology(runtime: Any, settings: Settings) -> None:
    asked(settings, question())
    for _ in range(LAST_ATTEMPT):
        with runtime.bus.claim(question().id):
            pass  # a worker that died
    assert answer_question(runtime, question().id) == "given up"
    assert isinstance(events(settings, question())[-1], Failed)


def test_a_follow_up_brings_the_earlier_question_along(runtime: Any, settings: Settings) -> None:
    for number, text in ((1, "how many days do I get?"), (2, "and for part-timers?")):
        asked(settings, question(number, text=text, at=float(number)))
        answer_question(runtime, question(number).id)
    assert runtime.answerer.requests[1].earlier == ("how many days do I get?",)


def test_a_sensitive_question_is_answered_but_its_words_are_not_kept(
    runtime: Any, settings: Settings, store: Store
) -> None:
    runtime.answerer = ScriptedAnswerer(lambda *_: Final(verdict="sensitive", text="Talk to Ana.", asker_only=True))
    asked(settings, question())
    answer_question(runtime, question().id)
    kept = store.question(question().id)
    assert kept is not None
    assert kept.text is None
    asked(settings, question(2, at=2.0))
    answer_question(runtime, question(2).id)
    assert runtime.answerer.requests[-1].earlier == ()


def test_a_database_that_fails_does_not_cost_the_employee_the_answer(
    runtime: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(SECRET)

    asked(settings, question())
    monkeypatch.setattr(runtime.store, "record_answer", full)
    assert answer_question(runtime, question().id) == "answered"
    assert isinstance(events(settings, question())[-1], Final)
    assert "elephants" not in caplog.text
