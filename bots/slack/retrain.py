"""`/hr-retrain` in Slack: the command, the buttons, and the one message about a job, edited in place.

The message appears where the command was typed, or in the administrator's direct messages where the app is no member.
The loss curve is posted into the message's thread once the gate has spoken.
"""

import logging
import re
from typing import Any, Final

from slack_bolt.async_app import AsyncApp
from slack_sdk.errors import SlackApiError

from bots.retrain import ACTIONS, Board, Retraining, Shown, UnreachablePlaceError
from bots.retrain_view import View
from bots.slack.blocks import Block
from bots.slack.desk import Desk, Json
from bots.slack.limits import SECTION
from bots.slack.surface import GONE, code_of
from bots.slack.text import escape, plain, preview, split
from quantahr.retrain import Notice

log = logging.getLogger(__name__)

COMMAND: Final = "/hr-retrain"
PREFIX: Final = "retrain_"
_PERSON: Final = re.compile(r"\b(slack|teams|console):([A-Za-z0-9-]+)")
_NO_MEMBER: Final = frozenset({"not_in_channel", "channel_not_found"})
_NO_FILES: Final = frozenset({"missing_scope", "unknown_method", "not_allowed_token_type"})


def register(app: AsyncApp, desk: Desk) -> None:
    """Connect the command and the buttons; before the listener that takes all other buttons."""
    retraining = Retraining(desk.conversation, "slack")

    @app.command(COMMAND)
    async def on_retrain(ack: Any, body: Json, respond: Any) -> None:
        await ack()
        user, channel = body["user_id"], body["channel_id"]
        said = await retraining.command(
            plain(body.get("text") or "", desk.bot),
            user=user,
            place=channel,
            address={"channel": channel, "user": user},
        )
        await respond(people(escape(said)), response_type="ephemeral")

    @app.action(re.compile(f"^{PREFIX}({'|'.join(ACTIONS)})$"))
    async def on_button(ack: Any, action: Json, body: Json, respond: Any) -> None:
        await ack()
        word = str(action["action_id"]).removeprefix(PREFIX)
        said = await retraining.press(word, str(action.get("value", "")), user=body["user"]["id"])
        if said:
            await respond(escape(said), response_type="ephemeral", replace_original=False)


def board(desk: Desk) -> Board:
    """What keeps Slack's messages about jobs up to date."""

    async def show(notice: Notice, view: View, picture: bytes | None) -> Shown:
        return await _show(desk, notice, view, picture)

    return Board(Retraining(desk.conversation, "slack").jobs, "slack", show)


def people(text: str) -> str:
    """Escaped text in which Slack's own people are mentioned."""
    return _PERSON.sub(
        lambda found: f"<@{found[2]}>" if found[1] == "slack" else f"an administrator in {found[1].title()}", text
    )


def blocks_of(view: View) -> list[Block]:
    """The message about a job."""
    text = people(escape("\n".join(line for line in view.lines if line)))
    shown: list[Block] = [{"type": "header", "text": {"type": "plain_text", "text": view.title[:150]}}]
    shown += [_section(piece) for piece in split(text, SECTION) if piece]
    if view.rows:
        shown += [_section(piece) for piece in _table(view.rows)]
    if view.buttons:
        buttons = []
        for button in view.buttons:
            element: Block = {
                "type": "button",
                "action_id": f"{PREFIX}{button.action}",
                "text": {"type": "plain_text", "text": button.label},
                "value": view.job,
            }
            buttons.append({**element, "style": button.style} if button.style else element)
        shown.append({"type": "actions", "elements": buttons})
    return shown


def _table(rows: tuple[tuple[str, str, str], ...]) -> list[str]:
    whole = [("", "live", "candidate"), *rows]
    widths = [max(len(row[column]) for row in whole) for column in range(3)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in whole]
    return [f"```{piece}```" for piece in split(escape("\n".join(lines)), SECTION - 10)]


def _section(text: str) -> Block:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}}


async def _show(desk: Desk, notice: Notice, view: View, picture: bytes | None) -> Shown:
    shown, words = blocks_of(view), preview(view.title)
    try:
        remote = await _edited(desk, notice, shown, words) or await _posted(desk, notice, shown, words)
    except SlackApiError as error:
        if code_of(error) in GONE:
            raise UnreachablePlaceError(f"The place of job {notice.job} is gone.") from None
        raise
    pictured = notice.pictured
    if picture is not None:
        pictured = await _pictured(desk, remote, picture)
    return Shown(remote, pictured)


async def _edited(desk: Desk, notice: Notice, shown: list[Block], words: str) -> str | None:
    """The message, edited; None if there is none (any more)."""
    if notice.remote is None:
        return None
    channel, _, ts = notice.remote.partition(":")
    try:
        await desk.painter.chat_update(channel=channel, ts=ts, text=words, blocks=shown)
    except SlackApiError as error:
        if code_of(error) in {"message_not_found", "cant_update_message"}:
            return None
        raise
    return notice.remote


async def _posted(desk: Desk, notice: Notice, shown: list[Block], words: str) -> str:
    channel = str(notice.address["channel"])
    try:
        posted = await desk.painter.chat_postMessage(channel=channel, text=words, blocks=shown)
    except SlackApiError as error:
        if code_of(error) not in _NO_MEMBER:
            raise
        opened = await desk.painter.conversations_open(users=str(notice.address["user"]))
        channel = str(opened["channel"]["id"])
        posted = await desk.painter.chat_postMessage(channel=channel, text=words, blocks=shown)
    return f"{posted.get('channel') or channel}:{posted['ts']}"


async def _pictured(desk: Desk, remote: str, picture: bytes) -> bool:
    channel, _, ts = remote.partition(":")
    try:
        await desk.painter.files_upload_v2(
            channel=channel, thread_ts=ts, content=picture, filename="loss.png", title="Loss while training"
        )
    except SlackApiError as error:
        log.warning("the loss curve could not be posted (%s); add the scope files:write to the app", code_of(error))
        # It will not work a moment later either; the message itself draws the curve with characters.
        return code_of(error) in _NO_FILES
    return True
