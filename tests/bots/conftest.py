"""The real bots against the fake platforms, a real Redis and a worker that follows a script."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from bots.conversation import Conversation
from bots.slack.app import run_slack
from quantahr.bus import Asking
from quantahr.messages import Contact
from quantahr.settings import Contacts, Queue, Secrets, Settings, Slack
from quantahr.store import Store
from tests.fakes.fake_connector import FakeTeams
from tests.fakes.fake_slack import APP_TOKEN, BOT_TOKEN, FakeSlack
from tests.fakes.people import World
from tests.fakes.scripted_worker import ScriptedWorker
from tests.fakes.slack_wire import SIGNING_SECRET
from tests.fakes.slack_world import HR_CHANNEL, SlackWorld
from tests.fakes.teams_bot import PACE, teams_bot
from tests.fakes.teams_world import TeamsWorld

SECRETS = Secrets(
    slack_bot_token=SecretStr(BOT_TOKEN),
    slack_app_token=SecretStr(APP_TOKEN),
    slack_signing_secret=SecretStr(SIGNING_SECRET),
)
Start = Callable[..., contextlib.AbstractAsyncContextManager[Conversation]]


@pytest.fixture
def patience() -> int:
    """Seconds after which a question ends in an apology; a test that waits for one parametrises it."""
    return 20


@pytest.fixture
def settings(redis_url: str, tmp_path: Path, patience: int) -> Settings:
    return Settings(
        redis_url=redis_url,
        state_dir=tmp_path,
        contacts=Contacts(hr=Contact(name="Hanna of HR", detail="hr@example.com")),
        queue=Queue(silent_seconds=2).model_copy(update={"give_up_seconds": patience}),
    )


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    opened = Store.open(settings)
    yield opened
    opened.close()


@pytest.fixture
def worker(settings: Settings, store: Store) -> Iterator[ScriptedWorker]:
    running = ScriptedWorker(settings, store)
    running.start()
    yield running
    running.stop()


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    fake = FakeSlack()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
def start_slack(settings: Settings, store: Store, slack: FakeSlack) -> Start:
    """Start the Slack bot; keyword arguments change its settings."""

    @contextlib.asynccontextmanager
    async def start(**changes: object) -> AsyncIterator[Conversation]:
        values = {"api_url": slack.api_url, "hr_channel": HR_CHANNEL, "port": 0, **changes}
        redis_url = values.pop("redis_url", settings.redis_url)
        configured = settings.model_copy(update={"slack": Slack.model_validate(values), "redis_url": redis_url})
        bus = Asking(configured)
        conversation = Conversation(configured, bus, store)
        listens: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def ready(where: str) -> None:
            listens.set_result(where)

        running = asyncio.create_task(run_slack(configured, SECRETS, conversation, ready))
        try:
            while not listens.done() and not running.done():
                await asyncio.sleep(0.005)
            if running.done():
                running.result()
            if values.get("mode") == "http":
                slack.bot_url = listens.result().removeprefix("on ")
            else:
                await slack.connected()
            yield conversation
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await conversation.close(1.0)
            await bus.close()

    return start


@pytest.fixture
async def teams() -> AsyncIterator[FakeTeams]:
    fake = FakeTeams(pace=PACE)
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture(params=["slack over a WebSocket", "slack over HTTP", "an old slack", "teams"])
async def world(
    request: pytest.FixtureRequest,
    slack: FakeSlack,
    start_slack: Start,
    teams: FakeTeams,
    settings: Settings,
    store: Store,
) -> AsyncIterator[World]:
    """A platform with people on it and the bot connected."""
    if request.param == "teams":
        async with teams_bot(settings, store, teams):
            yield TeamsWorld(teams)
        assert teams.refused == []
        return
    if "old" in request.param:
        slack.old()
    people = SlackWorld(slack)
    async with start_slack(mode="http" if "HTTP" in request.param else "socket"):
        yield people
    unexpected = [refusal for refusal in slack.refused if refusal[1] not in {"unknown_method", "invalid_blocks"}]
    assert unexpected == []
    assert slack.unacked == 0
