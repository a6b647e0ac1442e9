"""A Slack of our own, strict where the real one is: Web API, signed HTTP requests, Socket Mode over a real WebSocket.

It enforces tokens, scopes, tiers (429 with Retry-After), the states of streams, sizes, trigger ids and the three
seconds in which an event has to be acknowledged. `refused` records the calls that were turned down, `calls` all.
"""

import asyncio
import itertools
import json
import time
from typing import Any

import aiohttp
from aiohttp import web

from tests.fakes.slack_files import Hosted, SlackFiles
from tests.fakes.slack_limits import MARKDOWN, TEXT, UPDATE_TEXT, Tiers, refuse_blocks, refuse_view
from tests.fakes.slack_shapes import Message, RefusalError
from tests.fakes.slack_wire import arguments_of, encoded, signed

BOT_TOKEN, APP_TOKEN = "xoxb-1-real", "xapp-1-real"
TEAM, BOT, APP = "T0COMPANY", "U0BOT", "A0APP"
STREAM_METHODS = {"chat.startStream", "chat.appendStream", "chat.stopStream"}
STREAM_SECONDS = 300.0


class FakeSlack:
    """One workspace. `bot_url` switches from Socket Mode to HTTP deliveries."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.refused: list[tuple[str, str]] = []
        self.statuses: dict[tuple[str, str], str] = {}
        self.status_history: list[str] = []
        self.prompts: list[tuple[str, str | None]] = []
        self.titles: dict[str, str] = {}
        self.views: list[dict[str, Any]] = []
        self.deliveries: list[dict[str, Any]] = []
        self.acks: list[float] = []
        """Seconds until each delivery was acknowledged."""
        self.unacked = 0
        self.members: dict[str, set[str]] = {}
        self.channels_of_bot: set[str] = set()
        self.shared_channels: set[str] = set()
        """With another company."""
        self.unknown: set[str] = set()
        """Methods that this workspace does not know; `old` makes it one of years ago."""
        self.modern = True
        self.failing: dict[str, list[int]] = {}
        """Method → HTTP statuses of its next calls."""
        self.scopes_missing: set[str] = set()
        self.bot_token, self.app_token = BOT_TOKEN, APP_TOKEN
        self.tiers = Tiers()
        self.stream_seconds = STREAM_SECONDS
        self.ack_seconds = 3.0
        self.bot_url: str | None = None
        self._counter = itertools.count(1)
        self._triggers: dict[str, float] = {}
        self._responses: dict[str, tuple[str, str, int]] = {}
        self._sockets: list[web.WebSocketResponse] = []
        self._acked: dict[str, asyncio.Event] = {}
        self.answers: dict[str, Any] = {}
        self.drive = SlackFiles(self._shows, self._reach)
        self._runner: web.AppRunner | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self.url = ""

    def old(self) -> None:
        """A workspace without streams, statuses, markdown blocks and feedback buttons."""
        self.unknown |= STREAM_METHODS | {"assistant.threads.setStatus"}
        self.modern = False

    @property
    def api_url(self) -> str:
        return f"{self.url}/api/"

    async def start(self, port: int = 0) -> None:
        application = web.Application()
        application.router.add_route("*", "/api/{method}", self._api)
        application.router.add_post("/response/{id}", self._response)
        application.router.add_get("/link", self._link)
        self.drive.routes(application)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self.url = self.drive.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for socket in list(self._sockets):
            await socket.close()
        if self._runner:
            await self._runner.cleanup()

    # Web API

    async def _api(self, request: web.Request) -> web.Response:
        method = request.match_info["method"]
        arguments = await arguments_of(request)
        self.calls.append((method, arguments))
        if statuses := self.failing.get(method):
            return web.Response(status=statuses.pop(0), headers={"Retry-After": "1"})
        try:
            self._authorise(method, request, arguments)
            wait = self.tiers.retry_after(method, str(arguments.get("channel", "")))
            if wait is not None:
                self.refused.append((method, "ratelimited"))
                body = {"ok": False, "error": "ratelimited"}
                return web.json_response(body, status=429, headers={"Retry-After": str(wait)})
            return web.json_response({"ok": True, **(self._handler(method)(arguments) or {})})
        except RefusalError as refusal:
            self.refused.append((method, refusal.code))
            return web.json_response({"ok": False, "error": refusal.code, **refusal.more})

    def _handler(self, method: str) -> Any:
        owner, prefix = (self.drive, "") if method.startswith("files.") else (self, "_")
        handler = getattr(owner, prefix + method.replace(".", "_"), None)
        if handler is None or method in self.unknown:
            raise RefusalError("unknown_method")
        return handler

    def _authorise(self, method: str, request: web.Request, arguments: dict[str, Any]) -> None:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ") or str(arguments.get("token", ""))
        wanted = self.app_token if method == "apps.connections.open" else self.bot_token
        if not token:
            raise RefusalError("not_authed")
        if token != wanted:
            raise RefusalError("invalid_auth")
        if method in self.scopes_missing:
            raise RefusalError("missing_scope", needed="chat:write", provided="commands")

    def _shows(self, request: web.Request) -> bool:
        """Whether a download shows the bot's token, and the app may read files."""
        shown = request.headers.get("Authorization") == f"Bearer {self.bot_token}"
        return shown and "files:read" not in self.scopes_missing

    @property
    def files(self) -> list[dict[str, Any]]:
        """The files that the bot shared."""
        return self.drive.shared

    def _auth_test(self, _: dict[str, Any]) -> dict[str, Any]:
        return {
            "team_id": TEAM,
            "user_id": BOT,
            "bot_id": "B0BOT",
            "team": "Company",
            "user": "quantahr",
            "url": self.url,
        }

    def _apps_connections_open(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"url": self.url.replace("http", "ws") + f"/link?ticket={next(self._counter)}"}

    def _chat_postMessage(self, a: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        message = self._checked(a, TEXT)
        self.messages.append(message)
        self._clear_status(message)
        return {"channel": message.channel, "ts": message.ts, "message": {"ts": message.ts}}

    def _chat_postEphemeral(self, a: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        message = self._checked(a, TEXT)
        if a["user"] not in self.members[message.channel]:
            raise RefusalError("user_not_in_channel")
        message.ephemeral_to = a["user"]
        self.messages.append(message)
        return {"message_ts": message.ts}

    def _chat_update(self, a: dict[str, Any]) -> dict[str, Any]:
        message = self._message(a)
        if message.streaming:
            raise RefusalError("streaming_state_conflict")
        changed = self._checked(a, UPDATE_TEXT)
        message.text, message.blocks = changed.text, changed.blocks
        return {"channel": message.channel, "ts": message.ts, "text": message.text}

    def _chat_startStream(self, a: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self._reach(a["channel"])
        if not a.get("thread_ts"):
            raise RefusalError("invalid_thread_ts")
        if not a["channel"].startswith("D") and not (a.get("recipient_user_id") and a.get("recipient_team_id")):
            raise RefusalError("missing_recipient_user_id")
        message = Message(
            a["channel"], self._ts(), BOT, thread_ts=a["thread_ts"], streaming=True, began=time.monotonic()
        )
        message.text = _markdown(a)
        self.messages.append(message)
        self._clear_status(message)
        return {"channel": message.channel, "ts": message.ts}

    def _chat_appendStream(self, a: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        message = self._streaming(a)
        if not a.get("markdown_text"):
            raise RefusalError("no_text")
        message.text += _markdown(a)
        return {"channel": message.channel, "ts": message.ts}

    def _chat_stopStream(self, a: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        message = self._streaming(a)
        blocks = a.get("blocks") or []
        if code := refuse_blocks(blocks, modern=self.modern):
            raise RefusalError(code)
        message.text += _markdown(a)
        message.blocks, message.streaming, message.metadata = blocks, False, a.get("metadata")
        return {"channel": message.channel, "ts": message.ts}

    def _streaming(self, a: dict[str, Any]) -> Message:
        message = self._message(a)
        if message.streaming and time.monotonic() - message.began > self.stream_seconds:
            message.streaming = False
        if not message.streaming:
            raise RefusalError("message_not_in_streaming_state")
        return message

    def _assistant_threads_setStatus(self, a: dict[str, Any]) -> None:  # noqa: N802
        self._reach(a["channel_id"])
        if not a.get("thread_ts"):
            raise RefusalError("invalid_arguments")
        if len(a.get("loading_messages") or []) > 10:
            raise RefusalError("invalid_arguments")
        self.status_history.append(a["status"])
        if a["status"]:
            self.statuses[a["channel_id"], a["thread_ts"]] = a["status"]
        else:
            self.statuses.pop((a["channel_id"], a["thread_ts"]), None)

    def _assistant_threads_setSuggestedPrompts(self, a: dict[str, Any]) -> None:  # noqa: N802
        if not 0 < len(a["prompts"]) <= 4:
            raise RefusalError("invalid_arguments")
        self.prompts.append((a["channel_id"], a.get("thread_ts")))

    def _assistant_threads_setTitle(self, a: dict[str, Any]) -> None:  # noqa: N802
        self.titles[a["thread_ts"]] = a["title"]

    def _conversations_open(self, a: dict[str, Any]) -> dict[str, Any]:
        user = a["users"] if isinstance(a["users"], str) else a["users"][0]
        return {"channel": {"id": self.dm_of(user)}}

    def _conversations_replies(self, a: dict[str, Any]) -> dict[str, Any]:
        return self._listed(a, lambda message: a["ts"] in {message.ts, message.thread_ts})

    def _conversations_history(self, a: dict[str, Any]) -> dict[str, Any]:
        return self._listed(a, lambda message: message.thread_ts is None)

    def _listed(self, a: dict[str, Any], wanted: Any) -> dict[str, Any]:
        found = [m for m in self.messages if m.channel == a["channel"] and not m.ephemeral_to and wanted(m)]
        listed = [{"ts": m.ts, "user": m.user, "text": m.text, "metadata": m.metadata} for m in found]
        return {"messages": listed[-int(a.get("limit", 100)) :]}

    def _users_info(self, a: dict[str, Any]) -> dict[str, Any]:
        return {"user": {"id": a["user"], "team_id": TEAM, "profile": {"display_name": a["user"].title()}}}

    def _views_open(self, a: dict[str, Any]) -> dict[str, Any]:
        if time.monotonic() - self._triggers.pop(a["trigger_id"], -10.0) > 3.0:
            raise RefusalError("expired_trigger_id")
        view = a["view"]
        if code := refuse_view(view):
            raise RefusalError(code)
        view = {**view, "id": f"V{next(self._counter)}", "team_id": TEAM}
        self.views.append(view)
        return {"view": view}

    def _checked(self, a: dict[str, Any], longest: int) -> Message:
        self._reach(a["channel"])
        blocks = a.get("blocks") or []
        if not a.get("text") and not blocks:
            raise RefusalError("no_text")
        if len(a.get("text") or "") > longest:
            raise RefusalError("msg_too_long")
        if code := refuse_blocks(blocks, modern=self.modern):
            raise RefusalError(code)
        return Message(
            a["channel"], self._ts(), BOT, a.get("text") or "", blocks, a.get("thread_ts"), a.get("metadata")
        )

    def _reach(self, channel: str) -> None:
        if channel not in self.members:
            raise RefusalError("channel_not_found")
        if not channel.startswith("D") and channel not in self.channels_of_bot:
            raise RefusalError("not_in_channel")

    def _message(self, a: dict[str, Any]) -> Message:
        for message in self.messages:
            if (message.channel, message.ts) == (a["channel"], a["ts"]) and not message.ephemeral_to:
                if message.deleted:
                    break
                return message
        raise RefusalError("message_not_found")

    def _clear_status(self, message: Message) -> None:
        self.statuses.pop((message.channel, message.thread_ts or ""), None)

    async def _response(self, request: web.Request) -> web.Response:
        identifier = request.match_info["id"]
        channel, user, left = self._responses[identifier]
        if left <= 0:
            return web.Response(status=404, text="used_url")
        self._responses[identifier] = (channel, user, left - 1)
        body = await request.json()
        if code := refuse_blocks(body.get("blocks") or [], modern=self.modern):
            return web.Response(status=400, text=code)
        message = Message(channel, self._ts(), BOT, body.get("text", ""), body.get("blocks") or [])
        message.ephemeral_to = user if body.get("response_type", "ephemeral") == "ephemeral" else None
        self.messages.append(message)
        return web.Response(text="ok")

    # Deliveries

    async def _link(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets.append(socket)
        await socket.send_json({"type": "hello", "num_connections": len(self._sockets)})
        async for frame in socket:
            if frame.type is aiohttp.WSMsgType.TEXT:
                told = json.loads(frame.data)
                if event := self._acked.get(told.get("envelope_id", "")):
                    self.answers[told["envelope_id"]] = told.get("payload")
                    event.set()
        if socket in self._sockets:
            self._sockets.remove(socket)
        return socket

    async def connected(self) -> None:
        """Wait until a bot listens."""
        while not self._sockets and not self.bot_url:
            await asyncio.sleep(0.01)

    async def refresh(self) -> None:
        """Slack asks the bot to connect anew, as it does every few hours."""
        for socket in list(self._sockets):
            self._sockets.remove(socket)
            await socket.send_json({"type": "disconnect", "reason": "refresh_requested"})

    async def deliver(self, kind: str, payload: dict[str, Any]) -> Any:
        """Deliver once, and again if it is not acknowledged in time. Returns the body of the acknowledgement."""
        self.deliveries.append({"kind": kind, "payload": payload})
        for attempt in range(3):
            began = time.monotonic()
            send = self._by_http if self.bot_url else self._by_socket
            acked, body = await send(kind, payload, attempt)
            if acked:
                self.acks.append(time.monotonic() - began)
                return body
            self.unacked += 1
        return None

    async def deliver_again(self) -> None:
        """The last event once more, as after a lost acknowledgement."""
        last = next(one for one in reversed(self.deliveries) if one["kind"] == "events_api")
        await self.deliver(last["kind"], last["payload"])

    async def _by_socket(self, kind: str, payload: dict[str, Any], attempt: int) -> tuple[bool, Any]:
        await asyncio.wait_for(self.connected(), 60)
        identifier = f"E{next(self._counter)}"
        self._acked[identifier] = asyncio.Event()
        envelope = {"type": kind, "envelope_id": identifier, "payload": payload, "accepts_response_payload": True}
        envelope |= {"retry_attempt": attempt} if attempt else {}
        try:
            await self._sockets[-1].send_json(envelope)
            await asyncio.wait_for(self._acked[identifier].wait(), self.ack_seconds)
        except (TimeoutError, ConnectionError, IndexError):
            return False, None
        return True, self.answers.get(identifier)

    async def _by_http(self, kind: str, payload: dict[str, Any], attempt: int) -> tuple[bool, Any]:
        body, content_type = encoded(kind, payload)
        headers = {"Content-Type": content_type, **signed(body)}
        headers |= {"X-Slack-Retry-Num": str(attempt)} if attempt else {}
        timeout = aiohttp.ClientTimeout(total=self.ack_seconds)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(str(self.bot_url), data=body, headers=headers) as answer,
            ):
                return answer.status == 200, await answer.text()
        except (TimeoutError, aiohttp.ClientError):
            return False, None

    # What people do; Slack's side of it

    def dm_of(self, user: str) -> str:
        channel = f"D{user}"
        self.members.setdefault(channel, {user})
        return channel

    def channel(self, name: str, *members: str, with_bot: bool = True) -> str:
        self.members.setdefault(name, set()).update(members)
        if with_bot:
            self.channels_of_bot.add(name)
        return name

    async def event(self, event: dict[str, Any]) -> None:
        """Something happened that the app has subscribed to."""
        payload: dict[str, Any] = {"type": "event_callback", "team_id": TEAM, "api_app_id": APP, "event": event}
        payload |= {"event_id": f"Ev{next(self._counter)}", "event_time": int(time.time())}
        payload["is_ext_shared_channel"] = event.get("channel") in self.shared_channels
        await self.deliver("events_api", payload)

    async def say(self, user: str, channel: str, text: str, thread: str | None = None, **more: Any) -> str:
        """Somebody writes. Returns the message's ts."""
        message = Message(channel, self._ts(), user, text, thread_ts=thread)
        self.messages.append(message)
        kind = "im" if channel.startswith("D") else "channel"
        event = {"type": "message", "channel": channel, "channel_type": kind, "user": user, "text": text, "team": TEAM}
        event |= {"ts": message.ts, "event_ts": message.ts, **more}
        if thread:
            root = next((m for m in self.messages if m.ts == thread), None)
            event |= {"thread_ts": thread, "parent_user_id": root.user if root else BOT}
        if kind == "channel" and f"<@{BOT}>" in text:
            mention = {name: value for name, value in event.items() if name != "channel_type"}
            await self.event({**mention, "type": "app_mention"})
        await self.event(event)
        return message.ts

    async def drop(self, user: str, channel: str, *files: Hosted, text: str = "", whole: bool = True) -> str:
        """Somebody drops files. Not `whole`: the event only names them, as those from another company do."""
        named = [{"id": file.id, "mode": "file_access", "file_access": "check_file_info"} for file in files]
        told = [file.described() for file in files] if whole else named
        return await self.say(user, channel, text, subtype="file_share", files=told, upload=True)

    async def slash(self, user: str, channel: str, text: str, command: str = "/hr") -> str:
        """Somebody types a slash command. Returns what the acknowledgement showed."""
        payload = {"command": command, "text": text, "user_id": user, "channel_id": channel, "team_id": TEAM}
        payload |= {"trigger_id": self._trigger(), "response_url": self._response_url(channel, user), "api_app_id": APP}
        body = await self.deliver("slash_commands", payload)
        shown = body if isinstance(body, str) else (body or {}).get("text", "")
        if shown:
            self.messages.append(Message(channel, self._ts(), BOT, shown, ephemeral_to=user))
        return str(shown)

    async def click(self, user: str, message: Message, action: dict[str, Any], *, team: str = TEAM) -> None:
        """Somebody presses a button; in a shared channel perhaps somebody of another company's `team`."""
        container: dict[str, Any] = {"type": "message", "channel_id": message.channel, "message_ts": message.ts}
        container |= {"is_ephemeral": message.ephemeral_to is not None}
        container |= {"thread_ts": message.thread_ts} if message.thread_ts else {}
        shown = {"ts": message.ts, "text": message.text, "user": BOT, "thread_ts": message.thread_ts}
        payload: dict[str, Any] = {
            "type": "block_actions",
            "user": {"id": user, "team_id": team},
            "team": {"id": TEAM},
            "api_app_id": APP,
        }
        payload |= {"actions": [{**action, "action_ts": self._ts()}], "container": container, "message": shown}
        payload |= {"channel": {"id": message.channel}, "trigger_id": self._trigger()}
        payload |= {"response_url": self._response_url(message.channel, user)}
        await self.deliver("interactive", payload)

    async def submit(self, user: str, view: dict[str, Any], values: dict[str, Any] | None = None) -> Any:
        """Somebody sends a form. Returns the acknowledgement, which may say what is wrong with it."""
        filled = {**view, "state": {"values": values or {}}}
        payload = {
            "type": "view_submission",
            "user": {"id": user, "team_id": TEAM},
            "team": {"id": TEAM},
            "view": filled,
        }
        return await self.deliver("interactive", {**payload, "trigger_id": self._trigger(), "api_app_id": APP})

    def _ts(self) -> str:
        return f"{int(time.time())}.{next(self._counter):06d}"

    def _trigger(self) -> str:
        trigger = f"{next(self._counter)}.trigger"
        self._triggers[trigger] = time.monotonic()
        return trigger

    def _response_url(self, channel: str, user: str) -> str:
        identifier = f"R{next(self._counter)}"
        self._responses[identifier] = (channel, user, 5)
        return f"{self.url}/response/{identifier}"


def _markdown(a: dict[str, Any]) -> str:
    text = str(a.get("markdown_text") or "")
    if len(text) > MARKDOWN:
        raise RefusalError("msg_too_long")
    return text
