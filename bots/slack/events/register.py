"""Which event goes where."""

import re
from typing import Any

from slack_bolt.async_app import AsyncApp, AsyncAssistant

from bots.slack.desk import Desk, Json
from bots.slack.events.home import name_thread, opened, thread_started
from bots.slack.events.mention import mention
from bots.slack.events.message import message
from bots.slack.text import plain


def register(app: AsyncApp, desk: Desk) -> None:
    """Connect the listeners. Bolt acknowledges events before it calls them."""
    assistant = AsyncAssistant()

    @assistant.thread_started
    async def on_thread_started(event: Json) -> None:
        await thread_started(desk, event)

    @assistant.thread_context_changed
    async def on_context_changed() -> None:
        """Which channel somebody looks at is none of our business."""

    @assistant.user_message
    async def on_thread_message(event: Json, body: Json) -> None:
        await message(desk, event, _team(desk, body))
        if event.get("parent_user_id") == desk.bot:
            await name_thread(desk, event, plain(event.get("text") or "", desk.bot))

    app.assistant(assistant)

    @app.event("app_mention")
    async def on_mention(event: Json, body: Json) -> None:
        await mention(desk, event, _team(desk, body), shared=_shared(body))

    @app.event("app_home_opened")
    async def on_home(event: Json) -> None:
        await opened(desk, event)

    @app.event("message")
    async def on_message(event: Json, body: Json) -> None:
        await message(desk, event, _team(desk, body), shared=_shared(body))

    @app.event(re.compile(".*"))
    async def on_anything_else() -> None:
        """Acknowledged, so that Slack does not deliver it again."""


def _team(desk: Desk, body: Json) -> str:
    team: Any = body.get("team_id")
    return str(team or desk.team)


def _shared(body: Json) -> bool:
    return bool(body.get("is_ext_shared_channel"))
