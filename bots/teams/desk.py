"""What all of the Teams bot shares: how to send, where people can be reached, and which message showed which answer."""

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Coroutine, Mapping
from typing import Any, Final

from bots.conversation import Conversation
from bots.office import Office
from bots.teams.connector import Connector
from bots.teams.place import Place
from quantahr.settings import Settings

log = logging.getLogger(__name__)

FEEDBACK_SECONDS: Final = 30 * 86_400
"""How long a thumb finds its answer."""
REPEATS_SECONDS: Final = 900
PACE_SECONDS: Final = 1.05
"""Between two requests of one stream; Teams allows one a second."""
STREAM_SECONDS: Final = 100.0
"""Teams ends a stream after two minutes."""


class Desk:
    """One per process. `pace` and `stream_seconds` are Teams' rules for streams; tests shorten them."""

    def __init__(
        self,
        settings: Settings,
        conversation: Conversation,
        connector: Connector,
        *,
        pace: float = PACE_SECONDS,
        stream_seconds: float = STREAM_SECONDS,
    ) -> None:
        self.settings = settings
        self.conversation = conversation
        self.connector = connector
        self.pace = pace
        self.stream_seconds = stream_seconds
        self.office = Office(conversation)
        self.streaming: set[str] = set()
        """Chats with a stream under way: each may have one."""
        self._writing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def seen(self, place: Place) -> None:
        """Remember how to reach this place unasked."""
        if not place.tenant:
            return
        user = place.user if place.private else ""
        remember = self.conversation.store.remember_reference
        # One at a time: a database that is busy must not hold all the threads that publishing questions needs.
        async with self._writing:
            await asyncio.to_thread(remember, "teams", place.tenant, place.channel, user, _kept(place).dump())

    async def lost(self, place: Place) -> None:
        """The bot was removed there: nothing is sent until it hears from there again."""
        log.info("the bot cannot write to one of its conversations any more")
        await asyncio.to_thread(self.conversation.store.unreachable, "teams", place.tenant, place.channel)

    async def personal(self, place: Place) -> Place:
        """The personal chat with the user of `place`, opened if need be. Raises what the connector raises."""
        store = self.conversation.store
        known = await asyncio.to_thread(store.reference_of_user, "teams", place.tenant, place.user)
        if known is not None:
            return Place.load(known.reference)
        chat = place.beside()
        opened = Place.load({**chat.dump(), "conversation": await self.connector.open(chat)})
        with contextlib.suppress(Exception):  # it can be opened again
            await self.seen(opened)
        return opened

    async def hr_place(self, asker: Place) -> dict[str, Any] | None:
        """The address of the HR team's conversation, with the asker's name; None if nobody configured one."""
        conversation = self.settings.teams.hr_conversation
        if not conversation:
            return None
        known = await asyncio.to_thread(self.conversation.store.reference, "teams", asker.tenant, conversation)
        reference: Mapping[str, Any] = known.reference if known else asker.dump()
        place = Place.load({**reference, "conversation": conversation, "kind": "channel", "member": "", "user": ""})
        return {**place.dump(), "asker": asker.name}

    def is_hr(self, place: Place) -> bool:
        """Whether this is the HR team's conversation."""
        return bool(place.channel) and place.channel == self.settings.teams.hr_conversation

    async def showed(self, place: Place, message: str, question: str) -> None:
        """Keep which answer a message shows; feedback names the message only."""
        if message:
            with contextlib.suppress(Exception):  # the answer is there; only its thumbs would lead nowhere
                await self.conversation.bus.remember(_name(place, message), question, FEEDBACK_SECONDS)

    async def shown_in(self, place: Place, message: str) -> str | None:
        """The question that `message` answers."""
        return await self.conversation.bus.recall(_name(place, message)) if message else None

    async def first(self, event: str) -> bool:
        """Whether this activity is new. Without Redis everything is: twice is better than never."""
        try:
            return await self.conversation.bus.once(f"teams:{event}", REPEATS_SECONDS)
        except Exception as error:
            log.warning("repeated activities cannot be recognised at the moment (%s)", type(error).__name__)
            return True

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` beside the turn; what fails is logged."""
        task = asyncio.create_task(_logged(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self, seconds: float = 3.0) -> None:
        """Give what was begun `seconds` to end."""
        if self._tasks:
            _, left = await asyncio.wait(self._tasks, timeout=seconds)
            for task in left:
                task.cancel()


def _kept(place: Place) -> Place:
    """A channel is kept without its thread and without who happened to speak."""
    if place.private:
        return place
    return Place.load({**place.dump(), "conversation": place.channel, "member": "", "user": "", "name": ""})


def _name(place: Place, message: str) -> str:
    digest = hashlib.sha256(f"{place.tenant}\0{place.channel}\0{message}".encode()).hexdigest()[:32]
    return f"teams:shown:{digest}"


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception as error:
        log.warning("something beside a turn failed (%s)", type(error).__name__)
