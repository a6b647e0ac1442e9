"""The conversation itself, without a platform: accepted once, delivered once, seen through."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import redis

from bots import wording
from bots.conversation import Answer, Conversation, Incoming, SurfaceGoneError
from bots.roles import Roles
from quantahr.bus import Asking, Pending
from quantahr.errors import QueueError
from quantahr.messages import Failed, Final, Platform, Question
from quantahr.settings import Settings
from quantahr.store import Store
from tests.fakes.people import until
from tests.fakes.scripted_worker import LEAVE, ScriptedWorker

QUESTION = Incoming("console", "t", "c", "thread", "ana", "event-1", "How much leave do I get?", True)


class Paper:
    """A surface that writes everything down."""

    def __init__(self, address: Mapping[str, Any] | None = None, *, fails: Exception | None = None) -> None:
        self.where = {"page": 1, **(address or {})}
        self.remarks: list[str] = []
        self.shown: list[str] = []
        self.ends: list[Answer] = []
        self.fails = fails

    @property
    def address(self) -> Mapping[str, Any]:
        return dict(self.where)

    async def status(self, text: str) -> None:
        self.remarks.append(text)

    async def show(self, text: str) -> None:
        self.shown.append(text)
        self.where["shown"] = len(text)

    async def finish(self, answer: Answer) -> None:
        if self.fails:
            raise self.fails
        self.ends.append(answer)


@pytest.fixture
async def conversation(settings: Settings, store: Store) -> AsyncIterator[Conversation]:
    bus = Asking(settings)
    talk = Conversation(settings, bus, store)
    yield talk
    await talk.close(0.1)
    await bus.close()


async def test_a_question_is_answered_and_shown_while_it_grows(
    conversation: Conversation, worker: ScriptedWorker
) -> None:
    paper = Paper()
    await conversation.ask(QUESTION, paper)
    await until(lambda: paper.ends)
    end = paper.ends[0].end
    assert isinstance(end, Final)
    assert end.text.startswith(LEAVE)
    assert paper.shown[0] == LEAVE
    assert paper.remarks[0] == wording.LOOKING
    await until(lambda: not conversation._deliveries)
    assert await conversation.bus.pending("console") == []


async def test_a_repeated_event_is_answered_once(conversation: Conversation, worker: ScriptedWorker) -> None:
    first, second = Paper(), Paper()
    assert await conversation.ask(QUESTION, first)
    assert await conversation.ask(QUESTION, second) is None
    await until(lambda: first.ends)
    assert second.ends == []


async def test_its_own_watch_does_not_deliver_an_answer_a_second_time(
    conversation: Conversation, worker: ScriptedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between accepting a question and holding its delivery, it looks abandoned."""
    paper, other = Paper(), Paper()
    hold = conversation.bus.hold

    async def slowly(question: str) -> bool:
        await asyncio.sleep(0.3)
        return await hold(question)

    monkeypatch.setattr(conversation.bus, "hold", slowly)
    await conversation.ask(QUESTION, paper)
    assert await conversation.take_over("console", lambda _: other) == 1
    await until(lambda: paper.ends or other.ends)
    await until(lambda: not conversation._deliveries)
    assert len(paper.ends) + len(other.ends) == 1


async def test_what_was_delivered_while_the_watch_was_looking_is_not_delivered_again(
    conversation: Conversation, worker: ScriptedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper, other = Paper(), Paper()
    identifier = await conversation.ask(QUESTION, paper)
    await until(lambda: not conversation._deliveries)
    assert len(paper.ends) == 1

    async def looked_before(platform: str) -> list[Pending]:
        return [Pending(str(identifier), paper.address)]

    monkeypatch.setattr(conversation.bus, "abandoned", looked_before)
    await conversation.take_over("console", lambda _: other)
    await until(lambda: not conversation._deliveries)
    assert other.ends == []
    assert await conversation.bus.hold(str(identifier)), "nobody holds it"


async def test_an_answer_that_redis_could_not_be_told_of_is_not_said_again(
    conversation: Conversation, worker: ScriptedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis restarts between the answer's last word and the note that it was delivered."""
    paper, other = Paper(), Paper()
    delivered = conversation.bus.delivered
    refusals = [redis.ConnectionError("gone"), redis.BusyLoadingError("loading")]

    async def restarting(platform: Platform, question: str) -> None:
        if refusals:
            raise refusals.pop()
        await delivered(platform, question)

    monkeypatch.setattr(conversation.bus, "delivered", restarting)
    await conversation.ask(QUESTION, paper)
    await until(lambda: not conversation._deliveries)
    assert await conversation.take_over("console", lambda _: other) == 0
    assert len(paper.ends) == 1
    assert await conversation.bus.pending("console") == []


async def test_another_process_goes_on_where_the_first_ended(
    conversation: Conversation, settings: Settings, store: Store, worker: ScriptedWorker
) -> None:
    first = Paper()
    await conversation.ask(Incoming(**{**_fields(QUESTION), "text": "slow please"}), first)
    await until(lambda: len(first.shown) > 2)
    await conversation.close(0.0)
    bus = Asking(settings)
    second = Conversation(settings, bus, store)
    taken: list[Paper] = []

    def rebuilt(address: Mapping[str, Any]) -> Paper:
        taken.append(Paper(address))
        return taken[-1]

    assert await second.take_over("console", rebuilt) == 1
    assert taken[0].where["shown"] >= len(first.shown[0])
    assert await second.stop_in("console", "ana", lambda address: address["page"] == 1)
    await until(lambda: taken[0].ends)
    await second.close()
    await bus.close()
    assert first.ends == []


async def test_only_the_asker_can_stop(conversation: Conversation, worker: ScriptedWorker) -> None:
    paper = Paper()
    await conversation.ask(Incoming(**{**_fields(QUESTION), "text": "slow please"}), paper)
    await until(lambda: paper.shown)
    assert not await conversation.stop_in("console", "ben", lambda _: True)
    assert not await conversation.stop_in("console", "ana", lambda address: address["page"] == 2)
    assert await conversation.stop_in("console", "ana", lambda _: True)
    await until(lambda: paper.ends)


async def test_what_was_answered_can_be_unfolded_later(conversation: Conversation, worker: ScriptedWorker) -> None:
    paper = Paper()
    question = await conversation.ask(QUESTION, paper)
    await until(lambda: paper.ends)
    end = await conversation.ended(str(question))
    assert isinstance(end, Final)
    assert end.sources
    assert await conversation.ended("0" * 24) is None


async def test_where_nobody_is_left_the_question_is_closed(conversation: Conversation, worker: ScriptedWorker) -> None:
    await conversation.ask(QUESTION, Paper(fails=SurfaceGoneError("gone")))
    await until(lambda: not conversation._deliveries)
    assert await conversation.bus.pending("console") == []


async def test_a_delivery_that_fails_is_tried_again_for_as_long_as_the_answer_is_kept(
    conversation: Conversation, worker: ScriptedWorker
) -> None:
    question = str(await conversation.ask(QUESTION, Paper(fails=OSError("no network"))))
    await until(lambda: not conversation._deliveries)
    assert [one.id for one in await conversation.bus.pending("console")] == [question]
    await conversation.bus._redis.delete(f"qhr:answer:{question}", f"qhr:delivering:{question}")
    await conversation.take_over("console", lambda _: Paper(fails=OSError("no network")))
    await until(lambda: not conversation._deliveries)
    assert await conversation.bus.pending("console") == []


async def test_a_failed_delivery_leaves_no_words_in_the_log(
    conversation: Conversation, worker: ScriptedWorker, caplog: pytest.LogCaptureFixture
) -> None:
    await conversation.ask(QUESTION, Paper(fails=OSError("could not send: You get 30 days")))
    await until(lambda: not conversation._deliveries)
    assert "30 days" not in caplog.text
    assert "leave" not in caplog.text


async def test_an_unreachable_redis_is_an_apology_not_silence(conversation: Conversation) -> None:
    pool = conversation.bus._redis.connection_pool
    pool.connection_kwargs["path"] = "/nowhere"
    conversation.patience = 1.0
    paper = Paper()
    await conversation.ask(QUESTION, paper)
    await until(lambda: paper.ends)
    assert isinstance(paper.ends[0].end, Failed)
    assert paper.ends[0].end.text == wording.UNREACHABLE


async def test_a_question_waits_for_a_redis_that_is_restarting(
    conversation: Conversation, worker: ScriptedWorker
) -> None:
    pool = conversation.bus._redis.connection_pool
    here = pool.connection_kwargs["path"]
    pool.connection_kwargs["path"] = "/nowhere"
    await pool.disconnect()
    paper = Paper()
    await conversation.ask(QUESTION, paper)
    await asyncio.sleep(0.7)
    assert not paper.ends
    pool.connection_kwargs["path"] = here
    pool.reset()  # what it keeps would go on looking elsewhere
    await until(lambda: paper.ends)
    assert isinstance(paper.ends[0].end, Final)


async def test_a_question_that_was_accepted_though_redis_could_not_say_so_is_answered_once(
    conversation: Conversation, worker: ScriptedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept = conversation.bus.ask
    tries = 0

    async def lost_reply(question: Question, address: Mapping[str, Any]) -> bool:
        nonlocal tries
        tries += 1
        accepted = await accept(question, address)
        if tries == 1:
            raise QueueError("the connection broke")
        return accepted

    monkeypatch.setattr(conversation.bus, "ask", lost_reply)
    paper = Paper()
    await conversation.ask(QUESTION, paper)
    await until(lambda: paper.ends)
    await until(lambda: not conversation._deliveries)
    assert (tries, len(paper.ends)) == (2, 1)
    assert isinstance(paper.ends[0].end, Final)


async def test_hr_replies_need_the_right_place_or_role(
    conversation: Conversation, store: Store, settings: Settings, worker: ScriptedWorker
) -> None:
    paper = Paper()
    question = str(await conversation.ask(QUESTION, paper))
    await until(lambda: paper.ends)
    outcome = await conversation.escalate(
        question=question, user="ana", address={"user": "ana"}, hr_address={"channel": "hr"}
    )
    assert outcome == wording.SENT_TO_HR
    asked = store.lease_messages("console", 10)[0].payload["escalation"]
    replied = await conversation.hr_reply(
        platform="console", user="ben", escalation=asked, text="Yes", in_hr_channel=False
    )
    assert replied == wording.HR_ONLY
    assert [row.subject for row in store.audited("escalation.refused")] == [asked]
    trusted = settings.model_copy(update={"roles": {"hr": ("console:hanna",)}})
    conversation.roles = Roles(trusted)
    replied = await conversation.hr_reply(
        platform="console", user="hanna", escalation=asked, text="Yes", in_hr_channel=False
    )
    assert replied == wording.REPLY_SENT


async def test_asking_a_human_twice_sends_it_once(
    conversation: Conversation, store: Store, worker: ScriptedWorker
) -> None:
    paper = Paper()
    question = str(await conversation.ask(QUESTION, paper))
    await until(lambda: paper.ends)
    outcomes = [
        await conversation.escalate(question=question, user=user, address={"user": user}, hr_address={"channel": "hr"})
        for user in ("ana", "ana", "ben")
    ]
    assert outcomes == [wording.SENT_TO_HR, wording.ALREADY_SENT, wording.NOT_YOURS]
    assert len(store.lease_messages("console", 10)) == 1


def _fields(incoming: Incoming) -> dict[str, Any]:
    return {name: getattr(incoming, name) for name in Incoming.__slots__}
