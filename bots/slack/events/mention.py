"""Somebody mentions the assistant in a channel."""

from bots import wording
from bots.slack.desk import Desk, Json
from bots.slack.events.message import in_channel


async def mention(desk: Desk, event: Json, team: str, *, shared: bool) -> None:
    """Answer, unless this channel does not want it."""
    if event.get("bot_id") or event.get("edited") or not event.get("user") or event.get("channel_type") == "im":
        return
    channel, user = event["channel"], event["user"]
    if desk.mode(channel) == "off":
        if await desk.first(f"off:{channel}:{event['ts']}"):
            await desk.whisper(channel, user, wording.OFF_HERE, event.get("thread_ts"))
        return
    await in_channel(desk, event, team, shared=shared)
