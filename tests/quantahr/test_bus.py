"""The bus over a real Redis: accepted once, answered once, never lost."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from quantahr.bus import Answering, Asking, Claim, LeaseLostError, scripts
from quantahr.errors import QueueError
from quantahr.messages import Delta, Event, Failed, Final, Question, Queued, Started
from quantahr.queue import ASK_QUEUE
from quantahr.settings import Settings
from tests.conftest import RedisServer


def question(number: int = 1, user: str = "U1") -> Question:
    return Question(
        id=f"{number:024x}",
        platform="slack",
        tenant="T1",
        conversation="D1",
        thread="D1",
        user=user,
        text="how many days do I get?",
        private=True,
        asked_at=1.0,
    )


@pytest.fixture
async def asking(settings: Settings) -> AsyncIterator[Asking]:
    bus = Asking(settings)
    yield bus
    await bus.close()


@pytest.fixture
def answering(settings: Settings) -> Iterator[Answering]:
    bus = Answering(settings)
    yield bus
    bus.close_connection()


async def collect(bus: Asking, identifier: str, after: str = "0-0") -> list[Event]:
    async with asyncio.timeout(20):
        return [event async for _, event in bus.follow(identifier, after)]


def claimed(bus: Answering, identifier: str) -> contextlib.AbstractContextManager[Claim]:
    @contextlib.contextmanager
    def held() -> Iterator[Claim]:
        with bus.claim(identifier) as claim:
            assert isinstance(claim, Claim), claim
            yield claim

    return held()


def stopped(claim: Claim) -> bool:
    return claim.stopped


def answer(bus: Answering, identifier: str, text: str = "28 days.") -> None:
    with claimed(bus, identifier) as claim:
        claim.emit(Delta(text=text))
        assert claim.close(Final(verdict="answered", text=text))


async def test_an_answer_arrives_in_order_and_ends(asking: Asking, answering: Answering) -> None:
    assert await asking.ask(question(), {"channel": "D1"})
    await asyncio.to_thread(answer, answering, question().id)
    events = await collect(asking, question().id)
    assert [event.type for event in events] == ["accepted", "started", "delta", "final"]


async def test_a_redelivered_event_is_the_same_question(asking: Asking, settings: Settings) -> None:
    assert await asking.ask(question(), {"channel": "D1"})
    assert not await asking.ask(question(), {"channel": "D1"})
    with redis.Redis.from_url(settings.redis_url) as client:
        assert client.llen(ASK_QUEUE) == 1


async def test_the_queue_carries_the_id_and_never_the_words(asking: Asking, settings: Settings) -> None:
    await asking.ask(question(), {"channel": "D1"})
    with redis.Redis.from_url(settings.redis_url) as client:
        (message,) = client.lrange(ASK_QUEUE, 0, -1)
    assert question().id.encode() in message
    assert b"days" not in message


async def test_those_who_wait_hear_their_place_and_how_it_shrinks(asking: Asking, answering: Answering) -> None:
    for number in (1, 2, 3):
        await asking.ask(question(number), {})
    await asyncio.to_thread(answer, answering, question(1).id)
    await asyncio.to_thread(answer, answering, question(2).id)
    await asyncio.to_thread(answer, answering, question(3).id)
    events = await collect(asking, question(3).id)
    assert [event.position for event in events if isinstance(event, Queued)] == [2, 1, 0]


async def test_a_question_is_claimed_by_one_worker_only(
    asking: Asking, answering: Answering, settings: Settings
) -> None:
    await asking.ask(question(), {})
    other = Answering(settings)
    with claimed(answering, question().id), other.claim(question().id) as second:
        assert second == "leased"
    other.close_connection()


async def test_a_worker_that_lost_its_lease_cannot_talk_into_the_answer(
    asking: Asking, answering: Answering, settings: Settings
) -> None:
    await asking.ask(question(), {})
    with redis.Redis.from_url(settings.redis_url) as client, claimed(answering, question().id) as slow:
        client.set(scripts.lease_key(question().id), "somebody else")
        with pytest.raises(LeaseLostError):
            slow.emit(Delta(text="late"))
        assert not slow.close(Final(verdict="answered", text="late"))
        client.delete(scripts.lease_key(question().id))
    await asyncio.to_thread(answer, answering, question().id, "right")
    events = await collect(asking, question().id)
    assert [event.text for event in events if isinstance(event, Delta | Final)] == ["right", "right"]
    assert [event.attempt for event in events if isinstance(event, Started)] == [1, 2]


async def test_a_lease_is_kept_alive_for_as_long_as_it_takes(
    asking: Asking, answering: Answering, settings: Settings
) -> None:
    await asking.ask(question(), {})
    with claimed(answering, question().id) as claim:
        await asyncio.sleep(settings.queue.lease_seconds * 1.6)
        claim.emit(Delta(text="still here"))
        assert not claim.stopped


async def test_a_question_whose_worker_died_is_enqueued_again(asking: Asking, settings: Settings) -> None:
    await asking.ask(question(), {})
    with redis.Redis.from_url(settings.redis_url) as client:
        client.delete(ASK_QUEUE)  # taken by a worker that is no more
        follower = asyncio.create_task(collect(asking, question().id))
        for _ in range(100):
            await asyncio.sleep(0.1)
            if client.llen(ASK_QUEUE):
                break
        assert client.llen(ASK_QUEUE) == 1
        follower.cancel()


async def test_a_question_that_waits_in_a_living_queue_is_not_enqueued_twice(
    asking: Asking, settings: Settings
) -> None:
    await asking.ask(question(), {})
    follower = asyncio.create_task(collect(asking, question().id))
    await asyncio.sleep(settings.queue.silent_seconds * 1.5)
    follower.cancel()
    with redis.Redis.from_url(settings.redis_url) as client:
        assert client.llen(ASK_QUEUE) == 1


async def test_what_nobody_answers_ends_in_one_apology(settings: Settings) -> None:
    hurried = settings.model_copy(update={"queue": settings.queue.model_copy(update={"give_up_seconds": 1})})
    bus = Asking(hurried)
    await bus.ask(question(), {})
    events = await collect(bus, question().id)
    assert isinstance(events[-1], Failed)
    assert events[-1].code == "timeout"
    late = Answering(hurried)
    with late.claim(question().id) as claim:
        assert claim == "closed"
    late.close_connection()
    await bus.close()


async def test_stop_reaches_the_worker_but_only_from_the_asker(asking: Asking, answering: Answering) -> None:
    await asking.ask(question(), {})
    with claimed(answering, question().id) as claim:
        assert not await asking.stop(question().id, "U2")
        await asyncio.sleep(0.7)
        assert not stopped(claim)
        assert await asking.stop(question().id, "U1")
        for _ in range(50):
            if stopped(claim):
                break
            await asyncio.sleep(0.1)
        assert stopped(claim)


async def test_a_stop_before_the_start_is_not_forgotten(asking: Asking, answering: Answering) -> None:
    await asking.ask(question(), {})
    await asking.stop(question().id, "U1")
    with claimed(answering, question().id) as claim:
        assert claim.stopped


async def test_the_words_of_a_question_leave_redis_with_its_answer(
    asking: Asking, answering: Answering, settings: Settings
) -> None:
    await asking.ask(question(), {})
    await asyncio.to_thread(answer, answering, question().id, "28")
    with redis.Redis.from_url(settings.redis_url) as client:
        for key in client.keys("*"):
            assert b"how many" not in (client.dump(key) or b"")


async def test_a_dead_bots_delivery_is_found_and_taken_over_by_one(asking: Asking, settings: Settings) -> None:
    await asking.ask(question(), {"channel": "D1"})
    other = Asking(settings)
    assert [pending.address for pending in await other.abandoned("slack")] == [{"channel": "D1"}]
    assert await other.hold(question().id)
    assert not await asking.hold(question().id)
    assert await other.abandoned("slack") == []
    await other.delivered("slack", question().id)
    assert await asking.abandoned("slack") == []
    await other.close()


async def test_without_redis_nothing_is_accepted_and_that_is_said(settings: Settings) -> None:
    bus = Asking(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
    with pytest.raises(QueueError, match="Start it"):
        await bus.ask(question(), {})
    assert not await bus.ping()
    await bus.close()


async def test_a_restart_of_redis_in_the_middle_loses_nothing(settings: Settings, own_redis: RedisServer) -> None:
    own = settings.model_copy(update={"redis_url": own_redis.url})
    asking, answering = Asking(own), Answering(own)
    try:
        await asking.ask(question(), {})
        follower = asyncio.create_task(collect(asking, question().id))

        def work() -> None:
            with claimed(answering, question().id) as claim:
                claim.emit(Delta(text="28 "))
                own_redis.stop(kill=True)
                time.sleep(0.3)
                own_redis.start()
                claim.emit(Delta(text="days."))
                assert claim.close(Final(verdict="answered", text="28 days."))

        await asyncio.to_thread(work)
        events = await follower
        assert "".join(event.text for event in events if isinstance(event, Delta)) == "28 days."
        assert isinstance(events[-1], Final)
    finally:
        answering.close_connection()
        await asking.close()
