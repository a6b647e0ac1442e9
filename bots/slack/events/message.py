"""Messages: in a DM each is a question; in a channel only follow-ups in threads where the assistant has answered."""

from typing import Any

from bots import commands, wording
from bots.forms import Actor
from bots.slack import files
from bots.slack.desk import Desk, Json
from bots.slack.office import say
from bots.slack.people_blocks import mentions
from bots.slack.text import addressed_to, plain

OURS_TO_READ = frozenset({None, "file_share", "thread_broadcast"})
"""Subtypes that are somebody saying something; the others are edits, deletions, people coming and going."""


async def message(desk: Desk, event: Json, team: str, *, shared: bool = False) -> None:
    """One message of any channel that the app can read. `shared`: another company reads this channel, too."""
    if event.get("subtype") not in OURS_TO_READ or event.get("bot_id") or not event.get("user"):
        return
    if event.get("channel_type") == "im":
        await direct_message(desk, event, team)
    elif event.get("thread_ts"):
        await follow_up(desk, event, team, shared=shared)


async def direct_message(desk: Desk, event: Json, team: str) -> None:
    """A question in a DM. The answer goes under it, in the conversation's thread if there is one."""
    channel, user, ts = event["channel"], event["user"], event["ts"]
    thread = event.get("thread_ts")
    text = plain(event.get("text") or "", desk.bot)
    if _outsider(event, team):
        await desk.client.chat_postMessage(channel=channel, thread_ts=thread, text=wording.OUR_PEOPLE_ONLY)
        return
    if event.get("files") and await files.taken(desk, event, _team_of(event, team), text):
        return
    if commands.is_stop(text) and await desk.stop_here(user, channel, thread):
        return
    if desk.office.concerns(text) and await desk.first(f"office:{channel}:{ts}"):
        actor = Actor("slack", _team_of(event, team), user)
        reply = await desk.office.message(actor, mentions(event.get("text") or ""))
        if reply is not None:
            await say(desk, channel, user, reply, f"{channel}:{ts}", thread or ts)
            return
    # Under one's own message one still talks about the same thing as before it.
    follows = thread if thread and event.get("parent_user_id") != user else channel
    address = {"kind": "dm", "team": _team_of(event, team), "channel": channel, "user": user, "thread": thread or ts}
    await desk.ask(text=text, thread=str(follows), event=f"{channel}:{ts}", address=address)


async def follow_up(desk: Desk, event: Json, team: str, *, shared: bool) -> None:
    """A message without a mention, in a thread. Words to a colleague are not for us."""
    channel, thread = event["channel"], event["thread_ts"]
    if addressed_to(event.get("text") or "") or desk.mode(channel) == "off" or _outsider(event, team):
        return  # a mention of the assistant arrives as an event of its own
    if not plain(event.get("text") or "") or not await desk.joined(_team_of(event, team), channel, thread):
        return
    await in_channel(desk, event, team, shared=shared)


async def in_channel(desk: Desk, event: Json, team: str, *, shared: bool) -> None:
    """A question in a channel, answered in its thread, or to the asker only where the channel wants that.

    What a company's documents say is not for the people of another one.
    """
    channel, user, ts = event["channel"], event["user"], event["ts"]
    thread = event.get("thread_ts")
    text = plain(event.get("text") or "", desk.bot)
    if _outsider(event, team):
        await desk.whisper(channel, user, wording.OUR_PEOPLE_ONLY, thread)
        return
    if commands.is_stop(text) and await desk.stop_here(user, channel, thread):
        return
    address: dict[str, Any] = {"team": _team_of(event, team), "channel": channel, "user": user}
    if shared or desk.mode(channel) == "ephemeral":
        # Slack shows an ephemeral message in a thread only if that thread has begun.
        address |= {"kind": "ephemeral", "thread": thread}
    else:
        address |= {"kind": "channel", "thread": thread or ts}
    await desk.ask(text=text, thread=thread or ts, event=f"{channel}:{ts}", address=address)


def _outsider(event: Json, team: str) -> bool:
    return str(event.get("user_team") or event.get("source_team") or team) != team


def _team_of(event: Json, team: str) -> str:
    return str(event.get("user_team") or event.get("team") or team)
