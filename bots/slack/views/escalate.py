"""The asker has agreed: the question goes to HR."""

import json

from bots.slack.desk import Desk, Json


async def escalate(desk: Desk, user: str, view: Json) -> None:
    """Pass the question on, and say so where HR's reply will appear: in a DM, because only the asker may read it."""
    origin = json.loads(view.get("private_metadata") or "{}")
    channel = origin.get("channel")
    if not channel:
        opened = await desk.client.conversations_open(users=user)
        channel = opened["channel"]["id"]
    thread = origin.get("thread")
    hr_channel = desk.settings.slack.hr_channel
    outcome = await desk.conversation.escalate(
        question=str(origin.get("question", "")),
        user=user,
        address={"channel": channel, "thread": thread, "user": user},
        hr_address={"channel": hr_channel} if hr_channel else None,
    )
    await desk.client.chat_postMessage(channel=channel, thread_ts=thread, text=outcome)
