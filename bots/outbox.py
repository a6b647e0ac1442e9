"""Delivery of what nobody asked for: escalations, HR's replies, onboarding, the progress of a retraining.

The database holds the messages and their state; Redis only wakes the deliverer. A message is leased before it is sent
and settled afterwards, so that several bot processes share the work and a crash costs a repetition at most.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from quantahr.bus import Asking
from quantahr.bus.scripts import OUTBOX
from quantahr.messages import Platform
from quantahr.store import Delivery, Store

log = logging.getLogger(__name__)

LEASE_SECONDS = 60.0
LOOK_SECONDS = 5.0
LAST_ATTEMPT = 12


@dataclass(frozen=True, slots=True)
class Sent:
    """Delivered; `remote` is the platform's id of the message."""

    remote: str | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """Not now. `after` seconds is what the platform asked for; None leaves it to us."""

    reason: str
    after: float | None = None


@dataclass(frozen=True, slots=True)
class Undeliverable:
    """Never: the bot was removed, the conversation is gone."""

    reason: str


Sender = Callable[[Delivery], Awaitable[Sent | Retry | Undeliverable]]


class Outbox:
    """Delivers the outbox of one platform through `send` until cancelled."""

    def __init__(self, platform: Platform, store: Store, bus: Asking, send: Sender) -> None:
        self._platform = platform
        self._store = store
        self._bus = bus
        self._send = send
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Deliver what is due, and then whatever comes."""
        listener = asyncio.create_task(self._listen())
        try:
            while True:
                self._wake.clear()
                while await self.deliver():
                    pass
                # Python 3.11's wait_for forgets that it was cancelled when what it waits for comes in the same moment.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._wake.wait()
        finally:
            listener.cancel()

    async def deliver(self) -> int:
        """Deliver what is due now. Returns how many messages were taken."""
        try:
            taken = await asyncio.to_thread(self._store.lease_messages, self._platform, LEASE_SECONDS)
        except Exception as error:
            log.warning("the outbox cannot be read (%s); trying again in a moment", type(error).__name__)
            return 0
        await asyncio.gather(*(self._one(message) for message in taken))
        return len(taken)

    async def _listen(self) -> None:
        async for _ in self._bus.subscribe(OUTBOX):
            self._wake.set()

    async def _one(self, message: Delivery) -> None:
        try:
            result = await self._send(message)
        except Exception as error:
            result = Retry(type(error).__name__)
        if isinstance(result, Retry) and message.attempts >= LAST_ATTEMPT:
            result = Undeliverable(result.reason)
        match result:
            case Sent(remote=remote):
                await asyncio.to_thread(self._store.message_sent, message.id, remote)
            case Retry(reason=reason, after=after):
                wait = after if after is not None else min(300.0, 2.0**message.attempts) * random.uniform(0.5, 1.0)  # noqa: S311
                log.info("message %s is tried again in %.0f s (%s)", message.id, wait, reason)
                await asyncio.to_thread(self._store.message_retry, message.id, wait, reason)
            case Undeliverable(reason=reason):
                log.warning("message %s cannot be delivered (%s)", message.id, reason)
                await asyncio.to_thread(self._store.message_undeliverable, message.id, reason)
