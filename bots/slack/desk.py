"""What every listener has at hand: the conversation, Slack's clients, and who we are in this workspace."""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from slack_sdk.web.async_client import AsyncWebClient

from bots.conversation import Conversation, Incoming
from bots.office import Office
from bots.slack.limits import Workspace
from bots.slack.surface import SlackSurface
from quantahr.messages import Kind, question_id
from quantahr.settings import ChannelMode, Settings

log = logging.getLogger(__name__)

REPEATS_SECONDS = 900
"""Slack redelivers for about five minutes."""

Json = Mapping[str, Any]


@dataclass(slots=True)
class Desk:
    """`client` waits out rate limits, `painter` does not. `team` and `bot` are known once `auth.test` has answered."""

    settings: Settings
    conversation: Conversation
    client: AsyncWebClient
    painter: AsyncWebClient
    workspace: Workspace = field(default_factory=Workspace)
    team: str = ""
    bot: str = ""
    office: Office = field(init=False)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.office = Office(self.conversation)

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` beside the listener; what fails is logged."""

        async def logged() -> None:
            try:
                await work
            except Exception as error:
                log.warning("something beside a listener failed (%s)", type(error).__name__)

        task = asyncio.create_task(logged())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def surface(self, address: Json, *, resumed: bool = False) -> SlackSurface:
        """Where the answer to one question appears."""
        return SlackSurface(
            address, client=self.client, painter=self.painter, workspace=self.workspace, resumed=resumed
        )

    def resumed(self, address: Json) -> SlackSurface:
        """The same, of a question that another process has begun to answer."""
        return self.surface(address, resumed=True)

    def mode(self, channel: str) -> ChannelMode:
        """How the assistant behaves in a channel."""
        modes = self.settings.slack.channels
        return modes.get(channel, modes.get("default", "mention"))

    async def ask(self, *, text: str, thread: str, event: str, address: dict[str, Any], kind: Kind = "ask") -> None:
        """Pass a question on. `thread` is what follow-ups belong to, `event` what redeliveries have in common."""
        tenant = str(address["team"])
        incoming = Incoming(
            platform="slack",
            tenant=tenant,
            conversation=str(address["channel"]),
            thread=thread,
            user=str(address["user"]),
            event=event,
            text=text,
            private=address["kind"] != "channel",
            kind=kind,
        )
        address["question"] = question_id("slack", tenant, event)
        await self.conversation.ask(incoming, self.surface(address))

    async def first(self, name: str) -> bool:
        """True the first time that `name` is seen. Without Redis everything is new: twice is better than never."""
        try:
            return await self.conversation.bus.once(f"slack:{name}", REPEATS_SECONDS)
        except Exception as error:
            log.warning("repeated events cannot be recognised at the moment (%s)", type(error).__name__)
            return True

    async def whisper(self, channel: str, user: str, text: str, thread: str | None = None) -> None:
        """Say something that only `user` sees."""
        await self.client.chat_postEphemeral(channel=channel, user=user, text=text, thread_ts=thread)

    async def joined(self, team: str, channel: str, thread: str) -> bool:
        """Whether the assistant has answered in this thread."""
        return await asyncio.to_thread(self.conversation.store.joined, "slack", team, channel, thread)

    async def stop_here(self, user: str, channel: str, thread: str | None = None) -> bool:
        """Stop what `user` waits for in this channel, or in this thread of it. False if there is nothing."""

        def here(address: Json) -> bool:
            return address.get("channel") == channel and thread in {None, address.get("thread")}

        with contextlib.suppress(Exception):  # without Redis nothing runs that could be stopped
            return await self.conversation.stop_in("slack", user, here)
        return False
