"""Which button goes where. Every one is acknowledged first, and counts once however often it arrives."""

import re
from typing import Any

from slack_bolt.async_app import AsyncApp

from bots.slack import blocks
from bots.slack.actions.ask_human import ask_human
from bots.slack.actions.feedback import feedback
from bots.slack.actions.passages import passages
from bots.slack.actions.reply import reply
from bots.slack.desk import Desk, Json


def register(app: AsyncApp, desk: Desk) -> None:
    """Connect the listeners."""

    @app.action(re.compile(f"^{blocks.FEEDBACK}"))
    async def on_feedback(ack: Any, action: Json, body: Json, respond: Any) -> None:
        await ack()
        if await _first(desk, body):
            thanks = await feedback(desk, body["user"], action, body.get("container") or {})
            await respond(thanks, response_type="ephemeral", replace_original=False)

    @app.action(re.compile(f"^{blocks.SHOW_PASSAGES}"))
    async def on_passages(ack: Any, action: Json, body: Json) -> None:
        await ack()
        if await _first(desk, body):
            await passages(desk, body["user"]["id"], action, body["trigger_id"])

    @app.action(blocks.ASK_HUMAN)
    async def on_ask_human(ack: Any, action: Json, body: Json) -> None:
        await ack()
        if await _first(desk, body):
            await ask_human(desk, body["user"]["id"], action, body)

    @app.action(blocks.REPLY)
    async def on_reply(ack: Any, action: Json, body: Json) -> None:
        await ack()
        if await _first(desk, body):
            await reply(desk, action, body)

    @app.action(blocks.STOP)
    async def on_stop(ack: Any, action: Json, body: Json) -> None:
        await ack()
        await desk.conversation.stop(str(action.get("value", "")), body["user"]["id"])

    @app.action(re.compile(".*"))
    async def on_anything_else(ack: Any) -> None:
        await ack()


async def _first(desk: Desk, body: Json) -> bool:
    return await desk.first(f"action:{body.get('trigger_id')}")
