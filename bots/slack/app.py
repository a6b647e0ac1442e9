"""The Slack bot: Bolt, its connection (a WebSocket that it opens, or HTTP requests that it receives), and what runs
beside it.

`run_slack` needs no public address in Socket Mode, which is the default. What is under way when it ends is taken over
by the next process, or by another one that runs beside it.
"""

import asyncio
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from slack_bolt.adapter.aiohttp import to_aiohttp_response, to_bolt_request
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp
from slack_sdk.http_retry.builtin_async_handlers import (
    AsyncConnectionErrorRetryHandler,
    AsyncRateLimitErrorRetryHandler,
    AsyncServerErrorRetryHandler,
)
from slack_sdk.web.async_client import AsyncWebClient

from bots import wording
from bots.conversation import Conversation
from bots.outbox import Outbox
from bots.slack.access import check_app_token, check_secrets, introduce
from bots.slack.actions.register import register as register_actions
from bots.slack.commands.hr import register as register_commands
from bots.slack.delivery import send
from bots.slack.desk import Desk, Json
from bots.slack.events.register import register as register_events
from bots.slack.office import members
from bots.slack.office import register as register_office
from bots.slack.retrain import board
from bots.slack.retrain import register as register_retrain
from bots.slack.views.register import register as register_views
from quantahr.errors import SettingsError
from quantahr.settings import Secrets, Settings

log = logging.getLogger(__name__)

# With LOG_LEVEL=DEBUG these write every call with what people said.
for _library in ("slack_sdk", "slack_bolt"):
    logging.getLogger(_library).setLevel(logging.INFO)

PATH = "/slack/events"
PING_SECONDS = 5
"""A connection that was cut without a word is noticed after this."""
PAINTER_SECONDS = 10
"""A call that only shows progress must not hold an answer up for long."""
BODY_BYTES = 1 << 20


def make_app(settings: Settings, secrets: Secrets, conversation: Conversation) -> AsyncApp:
    """The Bolt application with every listener. Raises SettingsError if a token is missing."""
    return _make(settings, secrets, conversation)[0]


async def run_slack(
    settings: Settings,
    secrets: Secrets,
    conversation: Conversation,
    ready: Callable[[str], Awaitable[None]] | None = None,
) -> None:
    """Be the Slack bot until cancelled.

    `ready` is called once with where it listens. Raises SettingsError if Slack refuses the tokens or the port is taken.
    The caller owns `conversation` and closes it afterwards.
    """
    app, desk = _make(settings, secrets, conversation)
    await introduce(desk)
    beside = [
        asyncio.create_task(_watch_redis(conversation)),
        asyncio.create_task(conversation.watch("slack", desk.resumed)),
        asyncio.create_task(conversation.roles.follow("slack", functools.partial(members, desk))),
        asyncio.create_task(board(desk).run()),
        asyncio.create_task(Outbox("slack", conversation.store, conversation.bus, functools.partial(send, desk)).run()),
    ]
    try:
        async with contextlib.AsyncExitStack() as stack:
            where = await _connect(app, desk, settings, secrets, stack)
            log.info("the Slack bot listens %s", where)
            if ready:
                await ready(where)
            await asyncio.gather(*beside)
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)


def _make(settings: Settings, secrets: Secrets, conversation: Conversation) -> tuple[AsyncApp, Desk]:
    check_secrets(settings, secrets)
    token = secrets.slack_bot_token.get_secret_value() if secrets.slack_bot_token else ""
    signing = secrets.slack_signing_secret.get_secret_value() if secrets.slack_signing_secret else None
    address = settings.slack.api_url
    patient = [
        AsyncConnectionErrorRetryHandler(),
        AsyncRateLimitErrorRetryHandler(max_retry_count=3),
        AsyncServerErrorRetryHandler(max_retry_count=2),
    ]
    client = AsyncWebClient(token=token, base_url=address, retry_handlers=patient)
    painter = AsyncWebClient(token=token, base_url=address, timeout=PAINTER_SECONDS)
    app = AsyncApp(client=client, signing_secret=signing, request_verification_enabled=settings.slack.mode == "http")
    app.error(_on_error)
    desk = Desk(settings, conversation, client, painter)
    for register in (
        register_office,
        register_events,
        register_retrain,
        register_actions,
        register_views,
        register_commands,
    ):
        register(app, desk)
    return app, desk


async def _connect(
    app: AsyncApp, desk: Desk, settings: Settings, secrets: Secrets, stack: contextlib.AsyncExitStack
) -> str:
    if settings.slack.mode == "http":
        return await _serve(app, settings, stack)
    token = secrets.slack_app_token.get_secret_value() if secrets.slack_app_token else ""
    await check_app_token(desk.client, token)
    handler = AsyncSocketModeHandler(app, token, ping_interval=PING_SECONDS)
    stack.push_async_callback(handler.close_async)
    await handler.connect_async()  # type: ignore[no-untyped-call]
    return "on Slack's Socket Mode"


async def _serve(app: AsyncApp, settings: Settings, stack: contextlib.AsyncExitStack) -> str:
    async def receive(request: web.Request) -> web.Response:
        answer = await app.async_dispatch(await to_bolt_request(request))
        return await to_aiohttp_response(answer)

    application = web.Application(client_max_size=BODY_BYTES)
    application.router.add_post(PATH, receive)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    host, port = settings.slack.host, settings.slack.port
    site = web.TCPSite(runner, host, port)
    try:
        await site.start()
    except OSError as error:
        raise SettingsError(
            f"Port {port} on {host} cannot be opened ({error.strerror}). If another program has it, choose another: "
            f"QUANTAHR_SLACK__PORT={port + 1}."
        ) from None
    bound = runner.addresses[0][1]
    return f"on http://{host}:{bound}{PATH}"


async def _watch_redis(conversation: Conversation) -> None:
    """Say when Redis is away, and when it is back. Until then every question gets an apology at once."""
    down = False
    while True:
        up = await conversation.bus.ping()
        if not up and not down:
            log.error("Redis cannot be reached. Start it, or correct redis_url. Trying again every few seconds.")
        elif up and down:
            log.info("Redis is back")
        down = not up
        await asyncio.sleep(2 if down else 10)


async def _on_error(error: Exception, body: Json, respond: Any) -> None:
    # The type only: Slack's answers and requests hold what people wrote.
    log.error("a Slack event failed (%s)", type(error).__name__)
    if body.get("response_url"):
        with contextlib.suppress(Exception):
            await respond(wording.BROKEN, response_type="ephemeral", replace_original=False)
