"""Somebody opens the conversation with the assistant: today's Messages tab, or the older assistant pane."""

import contextlib

from slack_sdk.errors import SlackApiError

from bots import wording
from bots.slack.blocks import suggested_prompts
from bots.slack.desk import Desk, Json

TITLE_CHARACTERS = 60


async def opened(desk: Desk, event: Json) -> None:
    """The Messages tab: offer a few questions."""
    if event.get("tab") == "messages" and event.get("channel"):
        await _offer(desk, event["channel"], None)


async def thread_started(desk: Desk, event: Json) -> None:
    """A new conversation in the assistant pane: say what this is, and offer a few questions."""
    thread = event["assistant_thread"]
    channel, ts = thread["channel_id"], thread["thread_ts"]
    if await desk.first(f"thread:{channel}:{ts}"):
        await desk.client.chat_postMessage(channel=channel, thread_ts=ts, text=wording.WELCOME)
        await _offer(desk, channel, ts)


async def name_thread(desk: Desk, event: Json, text: str) -> None:
    """Name a conversation of the assistant pane after its question, so that it is found again."""
    title = " ".join(text.split())
    if title:
        with contextlib.suppress(SlackApiError):  # a thread outside the pane has no title
            await desk.painter.assistant_threads_setTitle(
                channel_id=event["channel"], thread_ts=event["thread_ts"], title=title[:TITLE_CHARACTERS]
            )


async def _offer(desk: Desk, channel: str, thread: str | None) -> None:
    with contextlib.suppress(SlackApiError):  # workspaces without the assistant have no prompts
        await desk.painter.assistant_threads_setSuggestedPrompts(
            channel_id=channel, thread_ts=thread, prompts=suggested_prompts()
        )
