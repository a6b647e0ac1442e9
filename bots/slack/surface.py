"""Where one answer appears in Slack: a DM, a thread in a channel, or a message that only its asker sees.

A growing answer is streamed; where Slack does not stream (older workspaces, a used-up budget, a bot that was restarted)
it is posted and updated, or posted once. Two ideas keep it to one answer whatever dies: the address names the message
that shows the answer, so that the next process goes on with it; and what was posted carries the question's id, so that
the next process finds what the last one had no time to write down.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import aiohttp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook.async_client import AsyncWebhookClient

from bots import wording
from bots.conversation import Answer, SurfaceGoneError
from bots.slack import blocks
from bots.slack.limits import MARKDOWN_CALL, PACE_SECONDS, PIECE, Workspace
from bots.slack.status import StatusLine
from bots.slack.text import escape, preview, split
from quantahr.messages import Failed
from quantahr.messages import Final as FinalEvent

log = logging.getLogger(__name__)

UNKNOWN: Final = frozenset({"unknown_method", "method_deprecated", "not_allowed_token_type", "missing_scope"})
"""This workspace has no such method for us."""
GONE: Final = frozenset(
    "channel_not_found not_in_channel is_archived account_inactive user_not_found users_not_found user_disabled "
    "cannot_dm_bot user_not_in_channel".split()
)
ENDED: Final = frozenset({"message_not_in_streaming_state", "streaming_state_conflict", "message_not_owned_by_app"})
ANSWER: Final = "quantahr_answer"
RESPONSES: Final = 4
"""A response_url takes five calls."""


def code_of(error: SlackApiError) -> str:
    """Slack's name for what went wrong."""
    return str(error.response.get("error", "")) if error.response else ""


class SlackSurface:
    """See bots.conversation.Surface.

    The address holds: question (its id), kind (dm, channel, ephemeral, slash), team, channel, user, thread (the ts
    under which the answer goes), url (of a slash command), and once there is one, ts and mode (stream, post) of the
    message with the answer.
    `painter` is a client that does not wait out rate limits. `resumed`: another process may have shown something.
    """

    def __init__(
        self,
        address: Mapping[str, Any],
        *,
        client: AsyncWebClient,
        painter: AsyncWebClient,
        workspace: Workspace,
        resumed: bool = False,
    ) -> None:
        self._address = dict(address)
        self._client = client
        self._painter = painter
        self._workspace = workspace
        self._resumed = resumed
        self._finished = False
        self._sent = ""
        self._diverged = resumed
        self._painted = 0.0
        self._text = ""
        self._later: asyncio.Task[None] | None = None
        self._busy = asyncio.Lock()
        self._status = StatusLine(painter, workspace, self._channel, self._thread)

    @property
    def address(self) -> Mapping[str, Any]:
        return self._address

    @property
    def _channel(self) -> str:
        return str(self._address["channel"])

    @property
    def _question(self) -> str:
        return str(self._address["question"])

    @property
    def _thread(self) -> str | None:
        return self._address.get("thread")

    @property
    def _hidden(self) -> bool:
        return self._address["kind"] in {"ephemeral", "slash"}

    async def status(self, text: str) -> None:
        """See Surface.status. Where there is no status line, a message with a Stop button takes its place."""
        if self._hidden or self._address.get("ts"):
            return
        if not await self._status.say(text):
            async with self._busy:
                await self._placeholder(escape(text))

    async def show(self, text: str) -> None:
        """See Surface.show. Slack is called about once a second; what comes in between goes with the next call."""
        if self._hidden:
            return
        self._text = escape(text)
        wait = self._painted + PACE_SECONDS - time.monotonic()
        if wait <= 0:
            await self._paint()
        elif self._later is None or self._later.done():
            self._later = asyncio.create_task(self._paint_after(wait))

    async def finish(self, answer: Answer) -> None:
        """See Surface.finish."""
        if self._later is not None:
            self._later.cancel()
        async with self._busy:
            self._finished = True
            try:
                await self._finish(answer.end)
            except SlackApiError as error:
                if code_of(error) in GONE:
                    raise SurfaceGoneError(f"Slack says {code_of(error)}; nothing can be delivered there.") from error
                raise
            finally:
                await self._status.clear()

    # Painting: a luxury. Whatever fails here, `finish` shows the whole answer.

    async def _paint_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        # Once painting has begun it is not interrupted: `finish` has to know what was sent.
        await asyncio.shield(self._paint())

    async def _paint(self) -> None:
        async with self._busy:
            if self._finished or len(self._text) > PIECE:
                return
            self._painted = time.monotonic()
            with contextlib.suppress(TimeoutError, OSError, aiohttp.ClientError):
                if self._resumed and self._mode == "stream":
                    await self._leave_stream()
                if self._mode is None:
                    await self._begin(self._text)
                elif self._mode == "stream" and not self._diverged:
                    await self._append()
                else:
                    await self._update_painting()

    @property
    def _mode(self) -> str | None:
        return self._address.get("mode")

    async def _begin(self, text: str) -> None:
        if self._resumed or not self._workspace.streams:
            await self._placeholder(text)
        elif self._thread and self._workspace.take("start"):
            recipient = {"recipient_user_id": self._address["user"], "recipient_team_id": self._address["team"]}
            try:
                begun = await self._painter.chat_startStream(
                    channel=self._channel, thread_ts=self._thread, markdown_text=text, **recipient
                )
            except SlackApiError as error:
                if code_of(error) in UNKNOWN:
                    self._workspace.streams = False
                    await self._placeholder(text)
                else:
                    self._rest("start", error)
                return
            self._address |= {"ts": begun["ts"], "mode": "stream"}
            self._sent = text

    async def _append(self) -> None:
        text = self._text  # what arrives during the call goes with the next one
        if not text.startswith(self._sent):
            self._diverged = True  # a second attempt that phrased it differently
            return
        more = text[len(self._sent) :]
        if not more or not self._workspace.take("append"):
            return
        try:
            await self._painter.chat_appendStream(channel=self._channel, ts=self._address["ts"], markdown_text=more)
        except SlackApiError as error:
            self._diverged = self._diverged or code_of(error) in ENDED
            self._rest("append", error)
        else:
            self._sent = text

    async def _placeholder(self, text: str) -> None:
        if self._address.get("ts") or not self._workspace.take("update"):
            return
        there = await self._found(self._channel, self._thread) if self._resumed else {}
        if 0 in there:
            self._address |= {"ts": there[0], "mode": "post"}
            return
        with contextlib.suppress(SlackApiError):
            self._address |= {"ts": await self._post(text, self._growing(text)), "mode": "post"}

    async def _leave_stream(self) -> None:
        """End a stream whose message is from now on updated; that it has ended already does not matter."""
        with contextlib.suppress(SlackApiError):
            await self._client.chat_stopStream(channel=self._channel, ts=self._address["ts"])
        self._address["mode"] = "post"

    async def _update_painting(self) -> None:
        if not self._workspace.take("update"):
            return
        try:
            await self._painter.chat_update(
                channel=self._channel,
                ts=self._address["ts"],
                text=preview(self._text),
                blocks=self._growing(self._text),
            )
        except SlackApiError as error:
            self._rest("update", error)

    def _growing(self, text: str) -> list[blocks.Block]:
        return blocks.stop_blocks(text, self._question)

    def _rest(self, call: Any, error: SlackApiError) -> None:
        if code_of(error) == "ratelimited":
            self._workspace.pause(call, float(error.response.headers.get("Retry-After", 30)))
        else:
            log.info("painting an answer failed: %s", code_of(error))

    # Finishing

    async def _finish(self, end: FinalEvent | Failed) -> None:
        text = blocks.answer_text(end)
        if self._hidden:
            await self._whisper(text, end)
        elif isinstance(end, FinalEvent) and end.asker_only and self._address["kind"] == "channel":
            # First the answer: after a crash in between there is a repetition at worst, never silence.
            await self._direct(text, end)
            await self._complete(wording.ELSEWHERE, None)
        else:
            await self._complete(text, end)

    async def _complete(self, text: str, end: FinalEvent | Failed | None) -> None:
        """Bring the message with the answer, and further ones if it is long, to their last state."""
        if self._mode == "stream" and not self._diverged and text.startswith(self._sent):
            pieces = split(text[len(self._sent) :], PIECE, max(PIECE - len(self._sent), 1000))
            if await self._stop_stream(pieces[0], end if len(pieces) == 1 else None):
                await self._post_all(pieces[1:], end, self._channel, self._thread, begun=1)
                return
        elif self._mode == "stream":
            await self._leave_stream()
        pieces = split(text, PIECE)
        begun = 0
        if ts := self._address.get("ts"):
            begun = int(await self._update(self._channel, ts, pieces[0], end if len(pieces) == 1 else None))
        await self._post_all(pieces[begun:], end, self._channel, self._thread, begun=begun)

    async def _stop_stream(self, rest: str, end: FinalEvent | Failed | None) -> bool:
        while True:
            modern = self._workspace.modern_blocks
            more: dict[str, Any] = {"markdown_text": rest[:MARKDOWN_CALL]} if rest else {}
            if tail := self._tail(end, modern):
                more["blocks"] = tail
            try:
                await self._client.chat_stopStream(channel=self._channel, ts=self._address["ts"], **more)
            except SlackApiError as error:
                if not self._older(error, modern):
                    log.info("a stream could not be ended (%s); its message is updated instead", code_of(error))
                    return False
            else:
                return True

    async def _update(self, channel: str, ts: str, text: str, end: FinalEvent | Failed | None) -> bool:
        """Returns False if the message was deleted in the meantime."""
        while True:
            modern = self._workspace.modern_blocks
            shown = [*blocks.text_blocks(text, modern=modern), *self._tail(end, modern)]
            try:
                await self._client.chat_update(channel=channel, ts=ts, text=preview(text), blocks=shown)
            except SlackApiError as error:
                if code_of(error) in {"message_not_found", "cant_update_message", "edit_window_closed"}:
                    return False
                if not self._older(error, modern):
                    raise
            else:
                return True

    async def _post_all(
        self,
        pieces: Sequence[str],
        end: FinalEvent | Failed | None,
        channel: str,
        thread: str | None,
        *,
        begun: int = 0,
    ) -> None:
        """Post what is missing of an answer. `begun`: how many of its pieces stand already."""
        there = await self._found(channel, thread) if self._resumed and pieces else {}
        for part, piece in enumerate(pieces, begun):
            last = end if part == begun + len(pieces) - 1 else None
            if part in there and await self._update(channel, there[part], piece, last):
                continue
            await self._post_piece(piece, last, channel, thread, part)

    async def _post_piece(
        self, text: str, end: FinalEvent | Failed | None, channel: str, thread: str | None, part: int
    ) -> None:
        while True:
            modern = self._workspace.modern_blocks
            shown = [*blocks.text_blocks(text, modern=modern), *self._tail(end, modern)]
            try:
                await self._post(text, shown, channel=channel, thread=thread, part=part)
            except SlackApiError as error:
                if not self._older(error, modern):
                    raise
            else:
                return

    async def _post(
        self,
        text: str,
        shown: list[blocks.Block],
        *,
        channel: str | None = None,
        thread: str | None = None,
        part: int = 0,
    ) -> str:
        posted = await self._client.chat_postMessage(
            channel=channel or self._channel,
            thread_ts=thread if channel else self._thread,
            text=preview(text),
            blocks=shown,
            metadata={"event_type": ANSWER, "event_payload": {"question": self._question, "part": part}},
            unfurl_links=False,
            unfurl_media=False,
        )
        return str(posted["ts"])

    async def _found(self, channel: str, thread: str | None) -> dict[int, str]:
        """What a process before this one posted of this answer: part → ts."""
        try:
            if thread:
                answer = await self._painter.conversations_replies(
                    channel=channel, ts=thread, limit=100, include_all_metadata=True
                )
            else:
                answer = await self._painter.conversations_history(channel=channel, limit=15, include_all_metadata=True)
        except SlackApiError as error:
            log.info("what was posted before cannot be looked up (%s)", code_of(error))
            return {}
        found: dict[int, str] = {}
        for message in answer.get("messages") or []:
            mark = message.get("metadata") or {}
            payload = mark.get("event_payload") or {}
            if mark.get("event_type") == ANSWER and payload.get("question") == self._question:
                found[int(payload.get("part", 0))] = message["ts"]
        return found

    async def _direct(self, text: str, end: FinalEvent | Failed) -> None:
        opened = await self._client.conversations_open(users=self._address["user"])
        await self._post_all(split(text, PIECE), end, opened["channel"]["id"], None)

    async def _whisper(self, text: str, end: FinalEvent | Failed) -> None:
        """Show an answer to its asker only."""
        pieces = split(text, PIECE)
        url = self._address.get("url")
        if url and len(pieces) <= RESPONSES and await self._respond(str(url), pieces, end):
            return
        if self._address["kind"] == "slash":
            await self._direct(text, end)
            return
        for number, piece in enumerate(pieces, 1):
            modern = self._workspace.modern_blocks
            tail = self._tail(end if number == len(pieces) else None, modern)
            await self._client.chat_postEphemeral(
                channel=self._channel,
                user=self._address["user"],
                thread_ts=self._thread,
                text=preview(piece),
                blocks=[*blocks.text_blocks(piece, modern=modern), *tail],
            )

    async def _respond(self, url: str, pieces: Sequence[str], end: FinalEvent | Failed) -> bool:
        webhook = AsyncWebhookClient(url, retry_handlers=self._client.retry_handlers)
        for number, piece in enumerate(pieces, 1):
            tail = self._tail(end if number == len(pieces) else None, modern=False)
            answer = await webhook.send(
                text=preview(piece),
                blocks=[*blocks.text_blocks(piece, modern=False), *tail],
                response_type="ephemeral",
                replace_original=number == 1,
            )
            if answer.status_code != 200:
                return False  # expired or used up: the answer goes to the direct messages instead
        return True

    def _tail(self, end: FinalEvent | Failed | None, modern: bool) -> list[blocks.Block]:
        return [] if end is None else blocks.tail_blocks(self._question, end, modern=modern)

    def _older(self, error: SlackApiError, modern: bool) -> bool:
        """Whether it is worth trying again with the blocks that every workspace knows."""
        if modern and code_of(error) in {"invalid_blocks", "invalid_blocks_format", "unknown_block_type"}:
            self._workspace.modern_blocks = False
            return True
        return False
