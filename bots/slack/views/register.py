"""Which form goes where. Acknowledging closes the form."""

from typing import Any

from slack_bolt.async_app import AsyncApp

from bots.slack import blocks
from bots.slack.desk import Desk, Json
from bots.slack.views.escalate import escalate
from bots.slack.views.reply import reply


def register(app: AsyncApp, desk: Desk) -> None:
    """Connect the listeners."""

    @app.view(blocks.ESCALATE_VIEW)
    async def on_escalate(ack: Any, body: Json, view: Json) -> None:
        await ack()
        if await desk.first(f"view:{view['id']}"):
            await escalate(desk, body["user"]["id"], view)

    @app.view(blocks.REPLY_VIEW)
    async def on_reply(ack: Any, body: Json, view: Json) -> None:
        await ack()
        if await desk.first(f"view:{view['id']}"):
            await reply(desk, body["user"]["id"], view)
