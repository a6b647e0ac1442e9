"""One process for whichever of Slack, Teams and the console has credentials; each can also run alone."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from bots.conversation import Conversation
from quantahr.bus import Asking
from quantahr.errors import SettingsError
from quantahr.settings import Secrets, Settings, load_secrets
from quantahr.store import Store

log = logging.getLogger(__name__)

Runner = Callable[[Settings, Secrets, Conversation], Coroutine[Any, Any, None]]
NAMES = ("slack", "teams", "console")


def configured(settings: Settings, secrets: Secrets) -> list[str]:
    """The platforms that have what they need to start; the console always has, on loopback."""
    found = []
    if secrets.slack_bot_token:
        found.append("slack")
    if settings.teams.app_id or settings.teams.development:
        found.append("teams")
    if settings.console.enabled:
        found.append("console")
    return found


def run_bots(settings: Settings, *, only: Sequence[str] = ()) -> None:
    """Run until SIGTERM or SIGINT. Raises SettingsError if nothing can run."""
    secrets = load_secrets()
    if unknown := [name for name in only if name not in NAMES]:
        raise SettingsError(f"There is no platform {unknown[0]}. Choose from {', '.join(NAMES)}.")
    names = list(only) or configured(settings, secrets)
    if not names:
        raise SettingsError(
            "No platform is configured. Set SLACK_BOT_TOKEN and SLACK_APP_TOKEN for Slack, or teams.app_id and "
            "TEAMS_APP_PASSWORD for Teams, or console.enabled; the README shows each step."
        )
    asyncio.run(_run(settings, secrets, names))


async def _run(settings: Settings, secrets: Secrets, names: Sequence[str]) -> None:
    store = await asyncio.to_thread(Store.open, settings)
    bus = Asking(settings)
    conversation = Conversation(settings, bus, store)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    if not await bus.ping():
        log.warning("Redis cannot be reached at the configured redis_url; I keep trying")
    tasks = [asyncio.create_task(_runner(name)(settings, secrets, conversation), name=name) for name in names]
    waiter = asyncio.create_task(ended.wait())
    try:
        # A platform that ends, ends with an error: the process ends with it, so that its supervisor sees it.
        done, _ = await asyncio.wait([waiter, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in [waiter, *tasks]:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
        await conversation.close()
        await bus.close()
        store.close()


def _runner(name: str) -> Runner:
    if name == "slack":
        from bots.slack.app import run_slack

        return run_slack
    if name == "teams":
        from bots.teams.app import run_teams

        return run_teams
    from bots.console.web import run_console

    return run_console
