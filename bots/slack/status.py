"""The line "… is thinking" under a conversation: kept alive while somebody waits, cleared at the end.

Slack forgets a status after two minutes, and one that is never cleared locks the composer.
"""

import asyncio
import contextlib

import aiohttp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bots.slack.limits import STATUS_SECONDS, Workspace

UNAVAILABLE = frozenset({"unknown_method", "missing_scope", "not_allowed_token_type", "method_not_supported"})


class StatusLine:
    """The status of one thread."""

    def __init__(self, client: AsyncWebClient, workspace: Workspace, channel: str, thread: str | None) -> None:
        self._client = client
        self._workspace = workspace
        self._channel = channel
        self._thread = thread
        self._text = ""
        self._refresh: asyncio.Task[None] | None = None

    async def say(self, text: str) -> bool:
        """Show `text`. Returns False if there are no statuses here."""
        if not self._workspace.statuses or not self._thread:
            return False
        self._text = text
        if self._workspace.take("status"):
            await self._send(text)
        if self._refresh is None:
            self._refresh = asyncio.create_task(self._keep())
        return self._workspace.statuses

    async def clear(self) -> None:
        """Take it away. Nothing happens if there is none."""
        if self._refresh is not None:
            self._refresh.cancel()
            self._refresh = None
            await self._send("")

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(STATUS_SECONDS)
            await self._send(self._text)

    async def _send(self, text: str) -> None:
        with contextlib.suppress(TimeoutError, OSError, aiohttp.ClientError):
            try:
                await self._client.assistant_threads_setStatus(
                    channel_id=self._channel, thread_ts=self._thread or "", status=text
                )
            except SlackApiError as error:
                if error.response.get("error") in UNAVAILABLE:
                    self._workspace.statuses = False
