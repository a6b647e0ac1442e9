"""The chat in the browser: a page without a build step, and three addresses behind it.

Answers stream over server-sent events, whose ids are the bus's own: a browser that lost the connection goes on where it
was, by itself. On loopback everybody on this machine is trusted; anywhere else a token is needed. Requests from other
sites are refused in both cases.
"""

import asyncio
import contextlib
import errno
import hmac
import ipaddress
import json
import logging
import secrets as randomness
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import web

from bots import wording
from bots.conversation import Conversation, Incoming
from quantahr.errors import QueueError, SettingsError
from quantahr.messages import question_id
from quantahr.settings import Secrets, Settings

log = logging.getLogger(__name__)

PAGE: Final = Path(__file__).with_name("page")
FILES: Final = {"chat.js": "text/javascript", "chat.css": "text/css", "icon.svg": "image/svg+xml"}
TENANT: Final = "local"
MAX_BODY: Final = 256 * 1024
PING_SECONDS: Final = 15.0
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)

CONVERSATION: Final = web.AppKey("conversation", Conversation)
TOKEN: Final = web.AppKey("token", str)
HOSTS: Final = web.AppKey("hosts", frozenset[str])
ENDED: Final = web.AppKey("ended", asyncio.Event)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(settings: Settings, secrets: Secrets, conversation: Conversation) -> web.Application:
    """The page and its addresses. Raises SettingsError if it would be open to the network without a token."""
    host = settings.console.host
    token = secrets.quantahr_console_token.get_secret_value() if secrets.quantahr_console_token else ""
    if needs_token(host) and not token:
        raise SettingsError(
            f"console.host is {host}, which others can reach. Set QUANTAHR_CONSOLE_TOKEN to a long random word (for "
            "example from `openssl rand -hex 24`), or use 127.0.0.1."
        )
    application = web.Application(middlewares=[_shield], client_max_size=MAX_BODY)
    application[CONVERSATION] = conversation
    application[TOKEN] = token
    application[HOSTS] = frozenset() if token else frozenset({"127.0.0.1", "localhost", "::1", host})
    application[ENDED] = asyncio.Event()
    application.add_routes(
        [
            web.get("/", _page),
            web.get("/{name:chat.js|chat.css|icon.svg}", _file),
            web.get("/api/start", _start),
            web.post("/api/questions", _ask),
            web.get("/api/answers/{id:[0-9a-f]{24}}", _answer),
            web.post("/api/answers/{id:[0-9a-f]{24}}/stop", _stop),
            web.post("/api/answers/{id:[0-9a-f]{24}}/feedback", _feedback),
        ]
    )
    application.on_shutdown.append(_end_streams)
    return application


@contextlib.asynccontextmanager
async def serve(settings: Settings, secrets: Secrets, conversation: Conversation) -> AsyncIterator[str]:
    """Serve the page while the context lasts; yields its address. Raises SettingsError if the port is taken."""
    application = make_app(settings, secrets, conversation)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    host, port = settings.console.host, settings.console.port
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield f"http://{'[' + host + ']' if ':' in host else host}:{runner.addresses[0][1]}/"
    except OSError as error:
        if error.errno not in {errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL}:
            raise
        why = "is used by another program" if error.errno == errno.EADDRINUSE else "cannot be opened"
        raise SettingsError(
            f"Port {port} on {host} {why}. Choose another one: QUANTAHR_CONSOLE__PORT={port + 1}, or console.port in "
            "the settings file."
        ) from None
    finally:
        await runner.cleanup()


async def run_console(settings: Settings, secrets: Secrets, conversation: Conversation) -> None:
    """Serve the page until cancelled."""
    async with serve(settings, secrets, conversation) as address:
        log.warning("the chat in the browser is at %s", address)
        await asyncio.Event().wait()


@web.middleware
async def _shield(request: web.Request, handler: Handler) -> web.StreamResponse:
    hosts = request.app[HOSTS]
    # A page of another site can make this browser send requests here, under a name that resolves to this machine.
    if hosts and (urlsplit(f"//{request.host}").hostname or "") not in hosts:
        raise web.HTTPForbidden(text="This chat is only served under its own address.")
    origin = request.headers.get("Origin")
    if origin and urlsplit(origin).netloc != request.host:
        raise web.HTTPForbidden(text="This chat takes no requests from other sites.")
    token = request.app[TOKEN]
    if token and not _has_token(request, token):
        raise web.HTTPUnauthorized(text="Open this page with ?token=… as your administrator gave it to you.")
    response = await handler(request)
    if not response.prepared:
        response.headers.update(
            {
                "Content-Security-Policy": POLICY,
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "no-referrer",
                "Cache-Control": "no-store",
            }
        )
        if token and "token" in request.query:
            response.set_cookie("quantahr_token", token, httponly=True, samesite="Strict")
    return response


def _has_token(request: web.Request, token: str) -> bool:
    given = request.query.get("token") or request.cookies.get("quantahr_token", "")
    return hmac.compare_digest(given.encode(), token.encode())


async def _page(_: web.Request) -> web.Response:
    return web.Response(text=_read("index.html"), content_type="text/html")


async def _file(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    return web.Response(text=_read(name), content_type=FILES[name])


def _read(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")


async def _start(request: web.Request) -> web.Response:
    """What the page says before the first question."""
    contact = request.app[CONVERSATION].settings.contacts.hr
    return web.json_response(
        {
            "welcome": wording.WELCOME,
            "notice": wording.NOTICE,
            "prompts": wording.PROMPTS,
            "contact": {"name": contact.name, "detail": contact.detail},
        }
    )


async def _ask(request: web.Request) -> web.Response:
    """{"text", "thread", "event"} → {"id"}. The event is the page's own id of the question: sent twice, asked once."""
    body = await _body(request)
    text, thread, event = body.get("text"), body.get("thread"), body.get("event")
    if not isinstance(text, str) or not _is_name(thread) or not _is_name(event):
        raise web.HTTPBadRequest(text='Expected {"text": "…", "thread": "…", "event": "…"}.')
    user = request.cookies.get("quantahr_user") or randomness.token_hex(12)
    incoming = Incoming(
        platform="console",
        tenant=TENANT,
        conversation="browser",
        thread=f"{user}-{thread}",
        user=user,
        event=f"{user}-{event}",
        text=text,
        private=True,
    )
    try:
        await request.app[CONVERSATION].accept(incoming, {})
    except QueueError:
        return web.json_response({"error": wording.UNREACHABLE}, status=503)
    response = web.json_response({"id": question_id("console", TENANT, incoming.event)})
    response.set_cookie("quantahr_user", user, httponly=True, samesite="Strict", max_age=30 * 86_400)
    return response


async def _answer(request: web.Request) -> web.StreamResponse:
    """The events of an answer, as they come; `Last-Event-ID` resumes."""
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
    await response.prepare(request)
    after = request.headers.get("Last-Event-ID") or "0-0"
    if not _is_stream_id(after):
        after = "0-0"
    sender = asyncio.create_task(_send(request, response, after))
    ended = asyncio.create_task(request.app[ENDED].wait())
    try:
        while not sender.done() and not ended.done():
            await asyncio.wait([sender, ended], timeout=PING_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not sender.done():
                await response.write(b": still here\n\n")
        if sender.done():
            sender.result()
    except (ConnectionResetError, ConnectionError):
        pass  # the page was closed; the answer is kept for when it comes back
    finally:
        sender.cancel()
        ended.cancel()
    return response


async def _send(request: web.Request, response: web.StreamResponse, after: str) -> None:
    async for identifier, event in request.app[CONVERSATION].bus.follow(request.match_info["id"], after):
        await response.write(f"id: {identifier}\ndata: {event.model_dump_json()}\n\n".encode())


async def _stop(request: web.Request) -> web.Response:
    await request.app[CONVERSATION].stop(request.match_info["id"], request.cookies.get("quantahr_user", ""))
    return web.json_response({})


async def _feedback(request: web.Request) -> web.Response:
    """{"rating": 1 or -1, "comment"?} → {"text"}."""
    body = await _body(request)
    comment = body.get("comment")
    if body.get("rating") not in {1, -1} or not isinstance(comment, str | None):
        raise web.HTTPBadRequest(text='Expected {"rating": 1 or -1, "comment": "…"}.')
    text = await request.app[CONVERSATION].feedback(
        request.match_info["id"],
        request.cookies.get("quantahr_user", ""),
        body["rating"],
        comment=comment[:2000] if comment else None,
        private=True,
    )
    return web.json_response({"text": text})


async def _body(request: web.Request) -> dict[str, Any]:
    # Only JSON: a form of another site cannot send it without being asked first.
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="Send JSON.")
    try:
        body = await request.json()
    except json.JSONDecodeError:
        raise web.HTTPBadRequest(text="This is not JSON.") from None
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(text="Send a JSON object.")
    return body


async def _end_streams(application: web.Application) -> None:
    application[ENDED].set()


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 64


def _is_stream_id(value: str) -> bool:
    left, dash, right = value.partition("-")
    return bool(dash) and left.isdigit() and right.isdigit()


def needs_token(host: str) -> bool:
    """Whether a page on `host` can be reached by others than this machine's own people."""
    if host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True
