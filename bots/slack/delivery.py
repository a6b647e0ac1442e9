"""What the outbox sends through Slack: questions to HR's channel, HR's replies to employees."""

import logging

import aiohttp
from slack_sdk.errors import SlackApiError

from bots import wording
from bots.outbox import Retry, Sent, Undeliverable
from bots.slack.blocks import Block, escalation_blocks, hr_reply_blocks
from bots.slack.desk import Desk
from bots.slack.people_blocks import message_blocks
from bots.slack.surface import GONE, code_of
from bots.slack.text import escape, preview
from quantahr.people.words import plain
from quantahr.store import Delivery

log = logging.getLogger(__name__)


async def send(desk: Desk, message: Delivery) -> Sent | Retry | Undeliverable:
    """Send one message of the outbox."""
    rendered = _render(message)
    if rendered is None:
        return Undeliverable(f"unknown kind {message.kind}")
    text, blocks = rendered
    try:
        channel = message.address.get("channel") or await _open(desk, str(message.address["user"]))
        posted = await desk.painter.chat_postMessage(
            channel=channel,
            thread_ts=message.address.get("thread"),
            text=text,
            blocks=blocks,
            metadata={"event_type": "quantahr_outbox", "event_payload": {"id": message.id}},
        )
    except SlackApiError as error:
        return _failed(message, error)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return Retry(type(error).__name__)
    return Sent(str(posted["ts"]))


def _render(message: Delivery) -> tuple[str, list[Block]] | None:
    payload = message.payload
    if message.kind == "escalation":
        shown = escalation_blocks(payload["escalation"], payload["user"], payload["text"])
        return preview(escape(payload["text"])), shown
    if message.kind == "hr_reply":
        return wording.HR_ANSWERED, hr_reply_blocks(payload["question"], payload["text"], payload["by"])
    if message.kind == "people":
        shown = message_blocks(payload)
        return preview(escape(plain(dict(payload)))), shown
    return None


async def _open(desk: Desk, user: str) -> str:
    opened = await desk.painter.conversations_open(users=user)
    return str(opened["channel"]["id"])


def _failed(message: Delivery, error: SlackApiError) -> Retry | Undeliverable:
    code = code_of(error)
    if code == "ratelimited":
        return Retry(code, float(error.response.headers.get("Retry-After", 30)))
    if message.kind == "escalation" and code in {"not_in_channel", "channel_not_found"}:
        log.error(
            "HR's channel cannot be reached (%s): invite the app there (/invite @QuantaHR); it is tried again", code
        )
        return Retry(code)
    return Undeliverable(code) if code in GONE else Retry(code)
