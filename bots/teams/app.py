"""The Teams bot as a running service: aiohttp on /api/messages, the outbox, and the watch for abandoned answers."""

import asyncio
import ipaddress
import logging
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import web

from bots.conversation import Conversation
from bots.outbox import Outbox
from bots.teams.adapter import TeamsAdapter
from bots.teams.bot import TeamsBot
from bots.teams.connector import Connector
from bots.teams.desk import PACE_SECONDS, STREAM_SECONDS, Desk
from bots.teams.groups import Groups
from bots.teams.place import Place
from bots.teams.proactive import Deliveries
from bots.teams.retrain import board
from bots.teams.surface import TeamsSurface
from quantahr.errors import SettingsError
from quantahr.settings import Secrets, Settings, Teams

log = logging.getLogger(__name__)

# With LOG_LEVEL=DEBUG these write every request with what people said, or the tokens.
for _library in ("msrest", "msal", "botbuilder", "botframework"):
    logging.getLogger(_library).setLevel(logging.INFO)

LARGEST: Final = 256 * 1024
"""Bytes of an activity; Teams' own stay far below."""
GUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


async def run_teams(settings: Settings, secrets: Secrets, conversation: Conversation) -> None:
    """Serve Teams until cancelled. Raises SettingsError if it cannot start."""
    async with serve(settings, secrets, conversation) as address:
        log.warning("Teams: listening on %s/api/messages", address)
        await asyncio.Event().wait()


@asynccontextmanager
async def serve(
    settings: Settings,
    secrets: Secrets,
    conversation: Conversation,
    *,
    pace: float = PACE_SECONDS,
    stream_seconds: float = STREAM_SECONDS,
) -> AsyncIterator[str]:
    """The running bot, as the address it listens on. `pace` and `stream_seconds`: see Desk.

    Raises SettingsError.
    """
    check(settings.teams, secrets)
    password = secrets.teams_app_password.get_secret_value() if secrets.teams_app_password else None
    adapter = TeamsAdapter(settings.teams, password)

    async def lost(place: Place) -> None:
        await desk.lost(place)

    desk = Desk(settings, conversation, Connector(adapter, lost), pace=pace, stream_seconds=stream_seconds)
    bot = TeamsBot(desk, settings.teams.tenant_id if settings.teams.app_type != "MultiTenant" else "")

    def surface_at(address: Mapping[str, Any]) -> TeamsSurface:
        return TeamsSurface.at(desk, address)

    outbox = Outbox("teams", conversation.store, conversation.bus, Deliveries(desk).send)
    runner = web.AppRunner(_application(adapter, bot), access_log=None)
    tasks = [
        asyncio.create_task(adapter.warm()),
        asyncio.create_task(outbox.run()),
        asyncio.create_task(conversation.watch("teams", surface_at)),
        asyncio.create_task(conversation.roles.follow("teams", Groups(adapter.graph.get).members)),
        asyncio.create_task(board(desk).run()),
    ]
    try:
        yield await _listen(runner, settings.teams)
    finally:
        await runner.cleanup()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # The deliveries under way speak through this adapter.
        await conversation.close()
        await desk.close()
        await adapter.close()


def check(teams: Teams, secrets: Secrets) -> None:
    """Raise SettingsError if the bot would be open to anyone, or could not say a word."""
    if not teams.app_id:
        if not teams.development:
            raise SettingsError(
                "teams.app_id is empty, so anybody could talk to the bot. Set it to the Microsoft App ID of your Azure "
                "Bot (docs/teams.md shows each step), or teams.development: true to try it on this machine only."
            )
        if not _loopback(teams.host):
            raise SettingsError(
                f"teams.development accepts anonymous messages, so teams.host must be 127.0.0.1 and not {teams.host}."
            )
        return
    if not GUID.fullmatch(teams.app_id):
        raise SettingsError("teams.app_id is not an id like 01234567-89ab-cdef-0123-456789abcdef. Copy it from Azure.")
    if teams.app_type != "MultiTenant" and not GUID.fullmatch(teams.tenant_id):
        raise SettingsError(
            f"teams.app_type {teams.app_type} needs teams.tenant_id: the Directory (tenant) ID that Azure shows beside "
            "the App ID."
        )
    if teams.app_type != "UserAssignedMSI" and not secrets.teams_app_password:
        raise SettingsError(
            "TEAMS_APP_PASSWORD is not set. Create a client secret for the app in Azure (Certificates & secrets), and "
            "set its value as TEAMS_APP_PASSWORD, or the path of a file with it as TEAMS_APP_PASSWORD_FILE."
        )


def _application(adapter: TeamsAdapter, bot: TeamsBot) -> web.Application:
    async def messages(request: web.Request) -> web.Response:
        return await adapter.process(request, bot.on_turn)

    async def healthz(request: web.Request) -> web.Response:
        del request
        return web.Response(text="ok")

    application = web.Application(client_max_size=LARGEST)
    application.router.add_post("/api/messages", messages)
    application.router.add_get("/healthz", healthz)
    return application


async def _listen(runner: web.AppRunner, teams: Teams) -> str:
    await runner.setup()
    try:
        await web.TCPSite(runner, teams.host, teams.port).start()
    except OSError as error:
        raise SettingsError(
            f"Teams cannot listen on {teams.host}:{teams.port} ({error.strerror}). Stop what listens there, or set "
            "teams.port to a free one and the messaging endpoint of your Azure Bot accordingly."
        ) from None
    return f"http://{teams.host}:{runner.addresses[0][1]}"


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
