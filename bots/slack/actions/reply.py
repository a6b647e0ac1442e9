"""HR presses “Reply” under a question that was passed on."""

import asyncio

from bots import wording
from bots.slack.blocks import note_view, reply_view
from bots.slack.desk import Desk, Json


async def reply(desk: Desk, action: Json, body: Json) -> None:
    """Open the form for the reply, unless somebody was quicker."""
    identifier = str(action.get("value", ""))
    escalation = await asyncio.to_thread(desk.conversation.store.escalation, identifier)
    container = body.get("container") or {}
    if escalation is None or escalation.state != "open":
        view = note_view(wording.REPLY_TOO_LATE)
    else:
        origin = {"channel": container.get("channel_id"), "ts": container.get("message_ts")}
        view = reply_view(identifier, escalation.text, origin)
    await desk.client.views_open(trigger_id=body["trigger_id"], view=view)
