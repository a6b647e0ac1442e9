"""HR has written a reply."""

import asyncio
import contextlib
import json

from slack_sdk.errors import SlackApiError

from bots import wording
from bots.slack.blocks import answered_blocks
from bots.slack.desk import Desk, Json


async def reply(desk: Desk, user: str, view: Json) -> None:
    """Send it on its way, and mark the question in HR's channel as answered."""
    origin = json.loads(view.get("private_metadata") or "{}")
    identifier, channel = str(origin.get("escalation", "")), origin.get("channel")
    text = view["state"]["values"]["reply"]["text"]["value"] or ""
    in_hr_channel = bool(channel) and channel == desk.settings.slack.hr_channel
    outcome = await desk.conversation.hr_reply(
        platform="slack", user=user, escalation=identifier, text=text, in_hr_channel=in_hr_channel
    )
    if outcome == wording.REPLY_SENT and origin.get("ts"):
        escalation = await asyncio.to_thread(desk.conversation.store.escalation, identifier)
        if escalation:
            shown = answered_blocks(escalation.user, escalation.text, user)
            with contextlib.suppress(SlackApiError):  # somebody deleted the message; the reply goes out all the same
                await desk.client.chat_update(channel=channel, ts=origin["ts"], text=wording.REPLY_SENT, blocks=shown)
    if channel:
        await desk.whisper(channel, user, outcome)
