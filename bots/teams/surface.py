"""Where one answer appears in Teams: streamed in a personal chat, one message in a channel's thread or a group.

Teams' rules for streams are kept here: one per chat, one request a second, each after the other and with the whole
text so far, and an end within two minutes. So a stream is closed at 100 seconds with what there is, and its message is
completed by an update. A Stop by the user is Teams' refusal of the next request; it ends the generation in the worker.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from typing import Any, Final, Literal

from botbuilder.schema import Activity

from bots import wording
from bots.conversation import Answer
from bots.teams import activities, cards
from bots.teams.activities import StreamType
from bots.teams.connector import GoneError, RefusedError, UnavailableError
from bots.teams.desk import Desk
from bots.teams.place import Place
from quantahr.messages import Failed, Source
from quantahr.messages import Final as FinalEvent

log = logging.getLogger(__name__)

SILENT_VERDICTS: Final = frozenset({"smalltalk", "invalid"})
"""Not answers: nothing to rate."""

State = Literal["none", "open", "closed", "canceled", "refused"]
"""Of the stream. none: may be begun; closed: ended in time, its message is updated; refused: post instead."""


class TeamsSurface:
    """See bots.conversation.Surface.

    The address is the place, the question's id and, once there is one, the stream. `resumed`: another process may have
    shown something, and how far its stream came is not known.
    """

    def __init__(
        self, desk: Desk, place: Place, question: str, *, stream: str | None = None, resumed: bool = False
    ) -> None:
        self._desk = desk
        self._place = place
        self._question = question
        self._stream = stream
        self._state: State = "open" if stream else "refused" if resumed or not place.private else "none"
        self._resumed = resumed
        self._claimed = False
        self._ending = False
        self._sequence = 0
        self._sent = ""
        self._text = ""
        self._remark = ""
        self._last = 0.0
        self._later: asyncio.Task[None] | None = None
        self._closer: asyncio.Task[None] | None = None
        self._busy = asyncio.Lock()

    @classmethod
    def at(cls, desk: Desk, address: Mapping[str, Any]) -> "TeamsSurface":
        """The surface at an address that an earlier process left."""
        question, stream = str(address.get("question", "")), address.get("stream")
        return cls(desk, Place.load(address), question, stream=stream, resumed=True)

    @property
    def address(self) -> Mapping[str, Any]:
        return {**self._place.dump(), "question": self._question, "stream": self._stream}

    async def status(self, text: str) -> None:
        """See Surface.status. In channels and groups these are the three dots, once."""
        if not self._place.private:
            if not self._remark:
                self._remark = text
                await self._dots()
            return
        self._remark = text
        await self._soon()

    async def show(self, text: str) -> None:
        """See Surface.show. What comes faster than Teams allows goes with the next request."""
        if self._place.private:
            self._text = activities.escape(text)
            await self._soon()

    async def finish(self, answer: Answer) -> None:
        """See Surface.finish."""
        self._question = self._question or answer.question
        self._ending = True  # a step that waits for its turn must not come after the end
        for task in (self._later, self._closer):
            if task is not None:
                task.cancel()
        end = answer.end
        try:
            async with self._busy:
                if self._state == "canceled":
                    return  # Teams shows the user what there was when they pressed Stop
                if isinstance(end, FinalEvent) and end.asker_only and not self._place.private:
                    await self._privately(end)
                else:
                    await self._complete(end)
        finally:
            self._release()

    # The stream: a luxury. Whatever fails here, `finish` shows the whole answer.

    async def _soon(self) -> None:
        if self._resumed or self._state not in {"none", "open"}:
            return
        wait = self._last + self._desk.pace - time.monotonic()
        if wait <= 0:
            await self._paint()
        elif self._later is None or self._later.done():
            self._later = asyncio.create_task(self._paint_after(wait))

    async def _paint_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        with contextlib.suppress(GoneError):  # `finish` will meet it, too
            # Once a request has begun it is not interrupted: `finish` has to know what was sent.
            await asyncio.shield(self._paint())

    async def _paint(self) -> None:
        async with self._busy:
            if self._ending:
                return
            if self._state == "none" and not self._claim():
                self._state = "refused"
                await self._dots()
            if self._state not in {"none", "open"}:
                return
            if self._text:
                # A second attempt may phrase it differently; what stands on the screen only grows.
                if self._text != self._sent and self._text.startswith(self._sent) and self._fits(self._text):
                    await self._step(self._text, "streaming")
            elif self._remark:
                remark, self._remark = self._remark, ""
                await self._step(remark, "informative")

    async def _step(self, text: str, kind: StreamType) -> None:
        sequence = self._sequence + 1
        step = activities.stream(self._place, text, kind=kind, sequence=sequence, stream_id=self._stream)
        pause = 0.0
        try:
            identifier = await self._desk.connector.send(self._place, step, tries=1)
        except UnavailableError as error:
            pause = error.after or 0.0
        except RefusedError as error:
            await self._refused(error)
        else:
            self._sequence = sequence
            if kind == "streaming":
                self._sent = text
            if self._state == "none":
                self._stream, self._state = identifier, "open"
                self._closer = asyncio.create_task(self._close_in_time())
        # From the answer on: Teams counts from when a request reached it, and the way there may take a while.
        self._last = time.monotonic() + pause

    async def _refused(self, error: RefusedError) -> None:
        if error.canceled:
            self._state = "canceled"
            await self._desk.conversation.stop(self._question, self._place.user)
        else:
            log.info("a stream is not possible there (%s); the answer comes as one message", error.code)
            self._state = "closed" if self._stream else "refused"
            await self._dots()

    async def _close_in_time(self) -> None:
        await asyncio.sleep(self._desk.stream_seconds)
        with contextlib.suppress(GoneError):
            await asyncio.shield(self._close())

    async def _close(self) -> None:
        async with self._busy:
            if self._state != "open" or self._ending:
                return
            await self._wait_for_pace()
            text = self._sent or wording.LOOKING
            last = activities.ending(
                activities.message(self._place, text, generated=bool(self._sent)), str(self._stream)
            )
            try:
                await self._desk.connector.send(self._place, last, tries=1)
            except RefusedError as error:
                await self._refused(error)
            except UnavailableError:
                return  # Teams closes it by itself; `finish` tries the final message and then an update
            else:
                self._state = "closed"
            self._release()

    async def _dots(self) -> None:
        with contextlib.suppress(RefusedError, UnavailableError):
            await self._desk.connector.send(self._place, activities.typing(self._place), tries=1)

    def _claim(self) -> bool:
        if not self._claimed and self._place.conversation in self._desk.streaming:
            return False
        self._claimed = True
        self._desk.streaming.add(self._place.conversation)
        return True

    def _release(self) -> None:
        if self._claimed:
            self._claimed = False
            self._desk.streaming.discard(self._place.conversation)

    @staticmethod
    def _fits(text: str) -> bool:
        return len(activities.split(text)) == 1

    async def _wait_for_pace(self) -> None:
        await asyncio.sleep(max(0.0, self._last + self._desk.pace - time.monotonic()))

    # The end

    async def _complete(self, end: FinalEvent | Failed) -> None:
        pieces = activities.split(_text(end))
        first = self._message(self._place, pieces, 0, end)
        identifier = await self._first(first)
        if self._state == "canceled":
            return
        await self._desk.showed(self._place, identifier, self._question)
        await self._rest(self._place, pieces, end)

    async def _first(self, message: Activity) -> str:
        """Show the first message where the stream was, else anew; returns its id."""
        if self._stream and self._state == "open":
            await self._wait_for_pace()
            try:
                await self._desk.connector.send(self._place, activities.ending(message, self._stream))
            except RefusedError as error:
                if error.canceled:
                    await self._refused(error)
                    return ""
            else:
                return self._stream
        if self._stream:
            try:
                await self._desk.connector.update(self._place, self._stream, message)
            except RefusedError as error:
                log.info("a streamed message could not be completed (%s); it is sent anew", error.code)
            else:
                return self._stream
        return await self._desk.connector.send(self._place, message)

    async def _rest(self, place: Place, pieces: list[str], end: FinalEvent | Failed) -> None:
        for part in range(1, len(pieces)):
            identifier = await self._desk.connector.send(place, self._message(place, pieces, part, end))
            await self._desk.showed(place, identifier, self._question)

    async def _privately(self, end: FinalEvent) -> None:
        """The answer in the personal chat, and a line without any of it where others read."""
        line = wording.ELSEWHERE
        try:
            chat = await self._desk.personal(self._place)
            # First the answer: after a crash in between there is a repetition at worst, never silence.
            pieces = activities.split(_text(end))
            identifier = await self._desk.connector.send(chat, self._message(chat, pieces, 0, end))
            await self._desk.showed(chat, identifier, self._question)
            await self._rest(chat, pieces, end)
        except (GoneError, RefusedError) as error:
            log.info("question %s: the asker has no personal chat with the bot (%s)", self._question, error.code)
            line = wording.WRITE_TO_ME
        await self._desk.connector.send(self._place, activities.message(self._place, line))

    def _message(self, place: Place, pieces: list[str], part: int, end: FinalEvent | Failed) -> Activity:
        """One message of the answer; the last one carries the card and the thumbs."""
        last = part == len(pieces) - 1
        if isinstance(end, Failed):
            return activities.message(place, pieces[part])
        card = cards.answer_card(self._question, end) if last else None
        return activities.message(
            place,
            pieces[part],
            cards=[card] if card else [],
            sources=_cited(pieces[part], end),
            generated=True,
            feedback=last and end.verdict not in SILENT_VERDICTS,
        )


def _text(end: FinalEvent | Failed) -> str:
    text = activities.escape(end.text)
    if isinstance(end, Failed) or not end.stopped:
        return text
    return f"{text}\n\n_{wording.STOPPED}_" if text else wording.STOPPED


def _cited(text: str, end: FinalEvent) -> list[Source]:
    return [source for source in end.sources if f"[{source.number}]" in text]
