"""The real Teams bot against the fake Teams, started and ended by a test."""

import contextlib
from collections.abc import AsyncIterator

from pydantic import SecretStr

from bots.conversation import Conversation
from bots.teams.app import serve
from quantahr.bus import Asking
from quantahr.settings import Secrets, Settings, Teams
from quantahr.store import Store
from tests.fakes.fake_connector import FakeTeams
from tests.fakes.teams_world import HR_CHANNEL

PACE, STREAM = 0.25, 100.0
"""Seconds between two steps of a stream here; Teams wants one."""


@contextlib.asynccontextmanager
async def teams_bot(
    settings: Settings, store: Store, teams: FakeTeams, *, stream_seconds: float = STREAM, **changes: object
) -> AsyncIterator[Conversation]:
    """The bot, connected; `changes` are to its settings."""
    values = {**teams.settings, "hr_conversation": HR_CHANNEL, **changes}
    configured = settings.model_copy(update={"teams": Teams.model_validate(values)})
    secrets = Secrets(teams_app_password=SecretStr(teams.password))
    bus = Asking(configured)
    conversation = Conversation(configured, bus, store)
    running = serve(configured, secrets, conversation, pace=PACE + 0.03, stream_seconds=stream_seconds)
    try:
        async with running as address:
            teams.bot_url = address
            yield conversation
    finally:
        await conversation.close(1.0)
        await bus.close()
