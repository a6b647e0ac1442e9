"""The bot's side of the bus: ask, follow the answer, and make sure that it comes.

Asynchronous, and without polling: a blocking read wakes up with the event. The same watchfulness serves three
failures: a worker that died (the question is enqueued again), a bot that died (its pending deliveries are taken over),
and a Redis that restarts (the reader goes on from the last id it saw).
"""

import asyncio
import contextlib
import json
import logging
import os
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import redis.asyncio
from celery import Celery
from kombu.exceptions import OperationalError

from quantahr import queue
from quantahr.bus import scripts
from quantahr.bus.answering import PASSING, tcp_options
from quantahr.errors import QueueError
from quantahr.messages import Accepted, Event, Failed, Final, Platform, Question, dump_event, load_event
from quantahr.settings import Settings

log = logging.getLogger(__name__)

Address = Mapping[str, Any]
"""Where an answer goes, in the platform's own terms; JSON."""

DELIVERY_SECONDS = 12
"""How long a bot process may be silent before another one takes over its deliveries."""


@dataclass(frozen=True, slots=True)
class Pending:
    """An accepted question whose answer has not been delivered."""

    id: str
    address: Address


class Asking:
    """A bot's connection to the bus. One per process; `close` it."""

    def __init__(self, settings: Settings, application: Celery | None = None) -> None:
        self._settings = settings.queue
        self._celery = application or queue.make_celery(settings)
        self.owner = f"{os.getpid()}-{secrets.token_hex(4)}"
        # Readers block for seconds; the library's default timeout of five seconds would cut them off.
        self._redis: Any = redis.asyncio.Redis.from_url(
            settings.redis_url,
            socket_timeout=None,
            **tcp_options(settings.redis_url),
            health_check_interval=15,
            max_connections=10_000,
            # Each reader has a connection, and naming the library on each one reads the package's metadata anew.
            driver_info=None,
        )

    async def ask(self, question: Question, address: Address) -> bool:
        """Accept a question: from here on it ends in an answer or an apology.

        With an empty address nobody else takes the delivery over.

        Returns False if this question is known already (the platform delivered its event again). Raises QueueError, and
        then nothing was accepted.
        """
        keys = [
            scripts.question_key(question.id),
            scripts.answer_key(question.id),
            scripts.pending_key(question.platform),
            scripts.WAITING,
            scripts.ARRIVALS,
        ]
        arguments = [
            question.id,
            question.model_dump_json(),
            json.dumps(address) if address else "",
            dump_event(Accepted()),
            self._settings.keep_answers_seconds,
        ]
        try:
            ahead = await self._redis.eval(scripts.ACCEPT, len(keys), *keys, *arguments)
        except PASSING as error:
            raise QueueError("Redis cannot be reached. Start it, or correct redis_url; then ask again.") from error
        if ahead < 0:
            return False
        await self._enqueue(question.id)
        return True

    async def follow(self, question: str, after: str = "0-0") -> AsyncIterator[tuple[str, Event]]:
        """The events of an answer, each with its stream id, up to and including the last one.

        Enqueues the question again if its worker died, and closes it with an apology when `queue.give_up_seconds` have
        passed. Cancelling the iteration is safe; `after` resumes it.
        """
        stream = scripts.answer_key(question)
        deadline = asyncio.get_running_loop().time() + self._settings.give_up_seconds
        while True:
            entries = await self._read(stream, after)
            for identifier, fields in entries:
                after = identifier.decode()
                event = load_event(fields[b"e"])
                yield after, event
                if event.type in {"final", "error"}:
                    return
            if not entries:
                if asyncio.get_running_loop().time() > deadline:
                    await self.close_with(question, _gave_up())
                elif not await self._alive(question):
                    yield after, _gave_up()
                    return

    async def _read(self, stream: str, after: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
        try:
            answer = await self._redis.xread({stream: after}, block=self._settings.silent_seconds * 1000, count=100)
        except PASSING:
            await asyncio.sleep(0.2)
            return []
        # RESP2 gives [[stream, entries]], RESP3 {stream: [entries]}.
        if not answer:
            return []
        entries = answer[0][1] if isinstance(answer, list) else next(iter(answer.values()))[0]
        return cast("list[tuple[bytes, dict[bytes, bytes]]]", entries)

    async def _alive(self, question: str) -> bool:
        """Enqueue a lost question again. Returns False if its stream is gone, so that nothing can come any more."""
        keys = [
            scripts.question_key(question),
            scripts.lease_key(question),
            scripts.closed_key(question),
            scripts.WAITING,
        ]
        try:
            lost = await self._redis.eval(scripts.LOST, len(keys), *keys, question, queue.ASK_QUEUE)
            if lost:
                log.warning("question %s was lost by its worker and is enqueued again", question)
                await self._enqueue(question)
            return bool(await self._redis.exists(scripts.answer_key(question)))
        except PASSING:
            return True

    async def _enqueue(self, question: str) -> None:
        # Publishing blocks for milliseconds: long enough to be felt by every other conversation of this process.
        # If it fails, the question is accepted all the same and the watch in `follow` enqueues it.
        try:
            await asyncio.to_thread(
                self._celery.send_task,
                queue.ASK,
                args=[question],
                queue=queue.ASK_QUEUE,
                retry=False,
                ignore_result=True,
            )
        except (OperationalError, *PASSING):
            log.warning("question %s could not be enqueued yet", question)

    async def close_with(self, question: str, event: Failed) -> bool:
        """Close a question with an apology. Returns False if it was closed before: its end is in the stream."""
        keys = [
            scripts.closed_key(question),
            scripts.answer_key(question),
            scripts.question_key(question),
            scripts.lease_key(question),
            scripts.WAITING,
            scripts.cancel_key(question),
        ]
        arguments = [question, dump_event(event), self._settings.keep_answers_seconds, ""]
        try:
            return bool(await self._redis.eval(scripts.CLOSE, len(keys), *keys, *arguments))
        except PASSING:
            return False

    async def stop(self, question: str, user: str) -> bool:
        """The asker pressed Stop: the worker ends the generation and closes with what it has.

        Returns False if there is nothing to stop, or if it is somebody else's question.
        """
        asked = await self._redis.get(scripts.question_key(question))
        if asked is None or Question.model_validate_json(asked).user != user:
            return False
        await self._redis.set(scripts.cancel_key(question), "1", ex=self._settings.keep_answers_seconds)
        await self._redis.publish(scripts.CANCELLED, question)
        return True

    async def checkpoint(self, platform: Platform, question: str, address: Address) -> None:
        """Remember what has been shown where, so that a restarted bot goes on there."""
        await self._redis.hset(scripts.pending_key(platform), question, json.dumps(address))

    async def delivered(self, platform: Platform, question: str) -> None:
        """The answer has reached the asker."""
        await self._redis.hdel(scripts.pending_key(platform), question)
        await self._redis.delete(scripts.delivering_key(question))

    async def hold(self, question: str) -> bool:
        """Take or renew the right to deliver this answer. Returns False if another process has it."""
        key = scripts.delivering_key(question)
        if await self._redis.set(key, self.owner, nx=True, ex=DELIVERY_SECONDS):
            return True
        if await self._redis.get(key) != self.owner.encode():
            return False
        await self._redis.expire(key, DELIVERY_SECONDS)
        return True

    async def release(self, question: str) -> None:
        """Give the right to deliver back, so that another process need not wait until it has run out."""
        key = scripts.delivering_key(question)
        with contextlib.suppress(*PASSING):
            if await self._redis.get(key) == self.owner.encode():
                await self._redis.delete(key)

    async def kept(self, question: str) -> bool:
        """Whether the events of an answer are still there (`queue.keep_answers_seconds`)."""
        return bool(await self._redis.exists(scripts.answer_key(question)))

    async def pending(self, platform: Platform) -> list[Pending]:
        """Accepted questions of `platform` whose answers have not been delivered."""
        kept = await self._redis.hgetall(scripts.pending_key(platform))
        return [Pending(identifier.decode(), json.loads(address)) for identifier, address in kept.items()]

    async def abandoned(self, platform: Platform) -> list[Pending]:
        """Those of them that no bot process is delivering."""
        kept = await self.pending(platform)
        return [one for one in kept if not await self._redis.exists(scripts.delivering_key(one.id))]

    async def undelivered(self, platform: Platform, question: str) -> bool:
        """Whether an answer still has to be delivered; certain for whoever holds the delivery."""
        return bool(await self._redis.hexists(scripts.pending_key(platform), question))

    async def ended(self, question: str) -> Final | Failed | None:
        """How a question ended, for as long as its answer is kept (`queue.keep_answers_seconds`); None after that."""
        newest = await self._redis.xrevrange(scripts.answer_key(question), count=1)
        event = load_event(newest[0][1][b"e"]) if newest else None
        return event if isinstance(event, Final | Failed) else None

    async def once(self, name: str, seconds: int) -> bool:
        """True the first time in `seconds` that anyone asks for `name`: drops repeated events and clicks."""
        return bool(await self._redis.set(f"qhr:once:{name}", "1", nx=True, ex=seconds))

    async def remember(self, name: str, value: str, seconds: int) -> None:
        """Keep a short value (an id) under `name` for a while."""
        await self._redis.set(f"qhr:kept:{name}", value, ex=seconds)

    async def recall(self, name: str) -> str | None:
        """What was kept under `name`."""
        kept = await self._redis.get(f"qhr:kept:{name}")
        return kept.decode() if kept is not None else None

    async def put_upload(self, question: str, data: bytes, seconds: int) -> None:
        """Keep a document for the worker that answers `question`, for a short while."""
        await self._redis.set(scripts.upload_key(question), data, ex=seconds)

    async def subscribe(self, channel: str) -> AsyncIterator[str]:
        """Messages on a channel, for as long as the caller iterates; reconnects by itself, yielding "" when it did."""
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as listener:
                    await listener.subscribe(channel)
                    yield ""
                    async for message in listener.listen():
                        yield message["data"].decode()
            except PASSING:
                await asyncio.sleep(0.5)

    async def announce(self, channel: str, text: str = "") -> None:
        """Wake whoever listens on `channel`."""
        await self._redis.publish(channel, text)

    async def ping(self) -> bool:
        """Whether Redis answers."""
        try:
            return bool(await self._redis.ping())
        except (*PASSING, OSError):
            return False

    async def waiting(self) -> int:
        """How many accepted questions no worker has started."""
        return int(await self._redis.zcard(scripts.WAITING))

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()
        await asyncio.to_thread(self._celery.close)


def _gave_up() -> Failed:
    return Failed(
        code="timeout",
        text="I am sorry: I could not get to your question in time. Please ask it again in a few minutes, or ask HR.",
    )
