"""The conversation, once for all platforms.

A platform brings only its edges: it turns an event into an `Incoming` and shows an answer on a `Surface`, within its
own limits. Everything between lives here: accepting a question exactly once, following the answer, showing it while it
grows, and seeing it through whatever dies in the meantime. Two ideas carry it. Accepting is quick and delivering runs
by itself, so that a platform's event is acknowledged at once. And what a delivery needs to go on after a restart, the
surface's address, is stored before anything is shown.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bots import wording
from bots.roles import Roles
from quantahr.bus import Asking
from quantahr.bus.answering import PASSING
from quantahr.errors import QuantaHRError, QueueError
from quantahr.messages import Delta, Failed, Final, Kind, Platform, Question, Queued, Started, Status, question_id
from quantahr.settings import Settings
from quantahr.store import Store

log = logging.getLogger(__name__)

_BETWEEN_TRIES = 0.5
"""Seconds."""
HOLD_SECONDS = 4
"""How often a delivery says that it is alive; a third of the time after which another bot process takes it over."""


class SurfaceGoneError(QuantaHRError):
    """The place where the answer belongs exists no more (the bot was removed, the conversation deleted)."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A question as a platform delivered it. `event` is the platform's own id, the same for every redelivery."""

    platform: Platform
    tenant: str
    conversation: str
    thread: str
    user: str
    event: str
    text: str
    private: bool
    kind: Kind = "ask"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a surface has to show at the end: the worker's last event, and the question it belongs to."""

    question: str
    end: Final | Failed


class Surface(Protocol):
    """A place where one answer is shown.

    The methods keep the platform's limits themselves (they may sleep, and are never called concurrently) and raise
    SurfaceGoneError if there is nobody to show anything to. `finish` must be repeatable: after a crash it is called
    again, on a surface rebuilt from its address.
    """

    @property
    def address(self) -> Mapping[str, Any]:
        """Enough to rebuild this surface, including what has been shown already; JSON."""

    async def status(self, text: str) -> None:
        """A passing remark while the asker waits."""

    async def show(self, text: str) -> None:
        """The answer so far, whole. Everything in it has been checked and stays."""

    async def finish(self, answer: Answer) -> None:
        """The end: the whole text, sources, buttons. If `answer.end.asker_only`, only the asker may read it."""


SurfaceFactory = Callable[[Mapping[str, Any]], Surface]


class Conversation:
    """What the platforms share. One per process; `close` waits for the deliveries under way."""

    patience = 15.0
    """Seconds that a question waits for a Redis that cannot be reached."""

    def __init__(self, settings: Settings, bus: Asking, store: Store) -> None:
        self.settings = settings
        self.bus = bus
        self.store = store
        self.roles = Roles(settings)
        self._deliveries: set[asyncio.Task[None]] = set()
        self._delivering: set[str] = set()

    async def ask(self, incoming: Incoming, surface: Surface) -> str | None:
        """Accept a question and answer it on `surface`, in the background.

        Returns the question's id at once, or None if this event was delivered before.
        """
        identifier = question_id(incoming.platform, incoming.tenant, incoming.event)
        try:
            if not await self.accept(incoming, surface.address):
                return None
        except QueueError:
            self._spawn(self._keep_asking(incoming, identifier, surface))
            return identifier
        self._spawn(self._deliver(incoming.platform, identifier, surface))
        return identifier

    async def _keep_asking(self, incoming: Incoming, identifier: str, surface: Surface) -> None:
        """Redis cannot be reached. It may only be restarting, so an apology waits until it has had the time."""
        for _ in range(math.ceil(self.patience / _BETWEEN_TRIES)):
            await asyncio.sleep(_BETWEEN_TRIES)
            try:
                fresh = await self.accept(incoming, surface.address)
            except QueueError:
                continue
            # Known already: an earlier try was accepted and only Redis's reply was lost, or the platform delivered the
            # event again in the meantime. Then it is delivered unless somebody did.
            await self._deliver(incoming.platform, identifier, surface, again=not fresh)
            return
        log.error("question %s was not accepted: Redis cannot be reached", identifier)
        # Redis is away, so a redelivery cannot be recognised; saying so twice is better than silence.
        await surface.finish(Answer(identifier, Failed(code="unavailable", text=wording.UNREACHABLE)))

    async def accept(self, incoming: Incoming, address: Mapping[str, Any]) -> bool:
        """Put a question into the queue, for a reader that follows the answer by itself.

        An empty address says that nobody takes the delivery over after a crash. Returns False if this event was
        accepted before. Raises QueueError, and then nothing was accepted.
        """
        question = Question(
            id=question_id(incoming.platform, incoming.tenant, incoming.event),
            platform=incoming.platform,
            tenant=incoming.tenant,
            conversation=incoming.conversation,
            thread=incoming.thread,
            user=incoming.user,
            text=incoming.text,
            private=incoming.private,
            roles=self.roles.of(incoming.platform, incoming.user),
            asked_at=time.time(),
            kind=incoming.kind,
        )
        return await self.bus.ask(question, address)

    async def take_over(self, platform: Platform, surface_at: SurfaceFactory) -> int:
        """Continue deliveries that no process is working on (a bot died). Returns how many."""
        taken = 0
        for pending in await self.bus.abandoned(platform):
            log.info("delivery of question %s is taken over", pending.id)
            self._spawn(self._deliver(platform, pending.id, surface_at(pending.address), again=True))
            taken += 1
        return taken

    async def watch(self, platform: Platform, surface_at: SurfaceFactory, seconds: float = 5.0) -> None:
        """Look for abandoned deliveries until cancelled; at once the first time, for a bot that has restarted."""
        while True:
            try:
                await self.take_over(platform, surface_at)
            except Exception as error:
                log.warning("looking for abandoned deliveries failed: %s", type(error).__name__)
            await asyncio.sleep(seconds)

    async def stop(self, question: str, user: str) -> None:
        """The asker wants no more of this answer."""
        if await self.bus.stop(question, user):
            log.info("question %s was stopped by its asker", question)

    async def stop_in(self, platform: Platform, user: str, here: Callable[[Mapping[str, Any]], bool]) -> bool:
        """Stop what `user` is waiting for where `here` says so of the address. Returns False if there is nothing."""
        waiting = [one.id for one in await self.bus.pending(platform) if here(one.address)]
        stopped = [await self.bus.stop(question, user) for question in waiting]
        return any(stopped)

    async def ended(self, question: str) -> Final | Failed | None:
        """How a question ended, to unfold its passages; None once that is no longer kept."""
        return await self.bus.ended(question)

    async def feedback(
        self,
        question: str,
        user: str,
        rating: int,
        reasons: Sequence[str] = (),
        comment: str | None = None,
        *,
        private: bool,
    ) -> str:
        """Keep a rating, +1 or -1; a person's last one counts. Returns what to tell the user.

        Where others can read the answer they may rate it, too; what is `private` is rated by its asker only.
        """
        asked = await asyncio.to_thread(self.store.question, question)
        if asked is not None and asked.user != user and (private or asked.text is None):
            return wording.ONLY_THE_ASKER_RATES
        kept = await asyncio.to_thread(self.store.record_feedback, question, user, rating, reasons, comment)
        if not kept:
            return wording.UNKNOWN_QUESTION
        return wording.THANKS_UP if rating > 0 else wording.THANKS_DOWN

    async def escalate(
        self, *, question: str, user: str, address: Mapping[str, Any], hr_address: Mapping[str, Any] | None
    ) -> str:
        """Pass a question on to HR; the user has consented. Returns what to tell the user.

        `address` is where HR's reply goes; `hr_address` where HR reads, None if nobody configured that.
        """
        asked = await asyncio.to_thread(self.store.question, question)
        if asked is None or asked.text is None:
            return wording.UNKNOWN_QUESTION
        if asked.user != user:
            return wording.NOT_YOURS
        if hr_address is None:
            contact = self.settings.contacts.hr
            return wording.no_hr_channel(contact.name, contact.detail)

        def open_escalation() -> bool:
            opened = self.store.open_escalation(
                question=question,
                platform=asked.platform,  # type: ignore[arg-type]
                tenant=asked.tenant,
                user=user,
                text=asked.text or "",
                address=address,
                hr_address=hr_address,
            )
            return opened is not None

        opened = await asyncio.to_thread(open_escalation)
        await self._wake_outbox()
        return wording.SENT_TO_HR if opened else wording.ALREADY_SENT

    async def hr_reply(self, *, platform: Platform, user: str, escalation: str, text: str, in_hr_channel: bool) -> str:
        """HR answers a question that was passed on. Returns what to tell HR."""
        if not in_hr_channel and not self.roles.holds(platform, user, "hr", "admin"):
            await asyncio.to_thread(self.store.audit, f"{platform}:{user}", "escalation.refused", escalation)
            return wording.HR_ONLY
        answered = await asyncio.to_thread(self.store.answer_escalation, escalation, user, text)
        if answered is None:
            return wording.REPLY_TOO_LATE
        await self._wake_outbox()
        return wording.REPLY_SENT

    async def close(self, seconds: float = 8.0) -> None:
        """Give the deliveries under way `seconds` to end; what is left is taken over by the next process."""
        if self._deliveries:
            _, left = await asyncio.wait(self._deliveries, timeout=seconds)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _wake_outbox(self) -> None:
        with contextlib.suppress(Exception):  # only a wake-up: the bots look by themselves every few seconds
            await self.bus.announce("qhr:outbox")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(_logged(work))
        self._deliveries.add(task)
        task.add_done_callback(self._deliveries.discard)

    async def _deliver(self, platform: Platform, question: str, surface: Surface, *, again: bool = False) -> None:
        # The hold keeps other processes away; between accepting and holding, this one's own watch may look, too.
        if question in self._delivering:
            return
        self._delivering.add(question)
        try:
            if not await self.bus.hold(question):
                return
            if again and not await self.bus.undelivered(platform, question):
                # It was delivered between the look at what is abandoned and taking hold of it.
                await self.bus.release(question)
                return
            await self._see_through(platform, question, surface)
        except asyncio.CancelledError:
            await self.bus.release(question)  # so that the next process goes on at once
            raise
        except Exception:
            if not await self.bus.kept(question):
                log.error("question %s: its answer could not be delivered for as long as it was kept", question)  # noqa: TRY400
                await self.bus.delivered(platform, question)
            raise
        finally:
            self._delivering.discard(question)

    async def _see_through(self, platform: Platform, question: str, surface: Surface) -> None:
        keeper = asyncio.create_task(self._keep(question))
        try:
            try:
                end = await self._follow(platform, question, surface)
                await surface.finish(Answer(question, end))
            except SurfaceGoneError:
                log.info("question %s: there is nobody to deliver the answer to", question)
            await self._record(platform, question)
        finally:
            keeper.cancel()

    async def _record(self, platform: Platform, question: str) -> None:
        """It has been said. A Redis that is away just now hears of that when it is back, or it would be said again."""
        while True:
            try:
                await self.bus.delivered(platform, question)
            except PASSING:
                await asyncio.sleep(0.3)
            else:
                return

    async def _keep(self, question: str) -> None:
        while True:
            await asyncio.sleep(HOLD_SECONDS)
            with contextlib.suppress(Exception):  # Redis may be restarting; the next round renews it
                await self.bus.hold(question)

    async def _follow(self, platform: Platform, question: str, surface: Surface) -> Final | Failed:
        async def remember() -> None:
            with contextlib.suppress(Exception):  # without it a restarted bot posts anew instead of going on
                await self.bus.checkpoint(platform, question, surface.address)

        painter = _Painter(surface, remember)
        text = ""
        painter.say(wording.LOOKING)
        try:
            async for _, event in self.bus.follow(question):
                match event:
                    case Started():
                        text = ""
                    case Queued(position=position):
                        painter.say(wording.waiting(position))
                    case Status(text=remark):
                        painter.say(remark)
                    case Delta(text=more):
                        text += more
                        painter.paint(text)
                    case Final() | Failed():
                        return event
                    case _:
                        pass
        finally:
            await painter.end()
        return Failed(code="internal", text=wording.BROKEN)


class _Painter:
    """Shows the newest text at the surface's own pace: while one call is under way, what arrives is collected."""

    def __init__(self, surface: Surface, remember: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._surface = surface
        self._remember = remember
        self._changed = asyncio.Event()
        self._ending = asyncio.Event()
        self._remark = ""
        self._text = ""
        self._task = asyncio.create_task(self._run())

    def say(self, remark: str) -> None:
        self._remark = remark
        self._changed.set()

    def paint(self, text: str) -> None:
        # A second attempt begins anew, but what is on the screen stays until there is more to show.
        if len(text) > len(self._text):
            self._text = text
            self._changed.set()

    async def end(self) -> None:
        """Stop after the call under way. Raises what the surface raised."""
        self._ending.set()
        self._changed.set()
        await self._task

    async def _run(self) -> None:
        shown = ""
        known = dict(self._surface.address)
        while not self._ending.is_set():
            await self._changed.wait()
            self._changed.clear()
            if self._ending.is_set():
                return
            if self._remark and not self._text:
                remark, self._remark = self._remark, ""
                await self._surface.status(remark)
            if self._text != shown:
                shown = self._text
                await self._surface.show(shown)
            if known != self._surface.address:
                known = dict(self._surface.address)
                await self._remember()


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except asyncio.CancelledError:
        raise
    except Exception as error:
        # The type only: a platform's message may quote what was sent.
        log.warning("a delivery failed (%s); it is tried again", type(error).__name__)
