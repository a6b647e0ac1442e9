"""A question in Teams, through the real bot, queue, worker and model, and back; and kill -9 in the middle of it."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.conftest import RedisServer
from tests.e2e.conftest import QUANTAHR, Launch, growing, one_complete_answer
from tests.fakes.fake_connector import FakeTeams
from tests.fakes.people import answers, until
from tests.fakes.teams_world import HR_CHANNEL, TeamsPerson, TeamsWorld

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(170)]

POLICIES = Path(__file__).resolve().parents[2] / "data" / "hr_policies"
BOT = (*QUANTAHR, "bots", "--only", "teams")
WORKER = ("-m", "tests.e2e.slow_worker")


@pytest.fixture
async def teams() -> AsyncIterator[FakeTeams]:
    fake = FakeTeams()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
def environment(own_redis: RedisServer, teams: FakeTeams, tmp_path: Path) -> dict[str, str]:
    """What the processes share."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    teams.bot_url = f"http://127.0.0.1:{port}"
    settings = teams.settings
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "TEAMS_APP_PASSWORD": teams.password,
        "QUANTAHR_REDIS_URL": own_redis.url,
        "QUANTAHR_STATE_DIR": str(tmp_path),
        "QUANTAHR_POLICIES_DIR": str(POLICIES),
        "QUANTAHR_TEAMS__APP_ID": settings["app_id"],
        "QUANTAHR_TEAMS__TENANT_ID": settings["tenant_id"],
        "QUANTAHR_TEAMS__PORT": str(port),
        "QUANTAHR_TEAMS__SERVICE_URLS": settings["service_urls"][0],
        "QUANTAHR_TEAMS__OPENID_URL": settings["openid_url"],
        "QUANTAHR_TEAMS__LOGIN_URL": settings["login_url"],
        "QUANTAHR_TEAMS__HR_CONVERSATION": HR_CHANNEL,
        "QUANTAHR_QUEUE__SILENT_SECONDS": "2",
        "QUANTAHR_QUEUE__LEASE_SECONDS": "2",
        "QUANTAHR_QUEUE__VISIBILITY_SECONDS": "5",
    }


@pytest.mark.model
async def test_a_question_is_answered_from_the_documents_and_a_sensitive_one_in_private(
    teams: FakeTeams, launch: Launch
) -> None:
    launch(*QUANTAHR, "worker")
    launch(*BOT)
    await _listening(teams)
    ana, ben = TeamsWorld(teams).person("ana"), TeamsWorld(teams).person("ben")

    await ana.write("how many days of annual leave do i get??")
    await until(lambda: answers(ana), 120)
    first = answers(ana)[0]
    assert "[1]" in first.text
    assert ".docx" in first.sources
    assert {"sources", "human", "up", "down"} <= set(first.buttons)
    (stream,) = teams.rules.streams.values()
    assert [kind for kind, _ in stream.steps][-1] == "final"
    assert "streaming" in [kind for kind, _ in stream.steps], "it grew before her eyes"

    await ana.press("sources", first)
    assert await ana.unfolded()

    await ana.write("and for part-timers?")
    await until(lambda: len(answers(ana)) == 2, 60)
    assert ".docx" in answers(ana)[1].sources or "closest" in answers(ana)[1].buttons

    await ana.write("my manager touches me and I am afraid", "channel")
    await until(lambda: len(answers(ana, "private")) == 3 and answers(ana, "channel"), 60)
    assert answers(ana, "private")[2].text != answers(ana, "channel")[-1].text
    assert [shown.where for shown in answers(ben)] == ["channel"]

    assert teams.refused == []
    assert teams.identity.token_requests == 1


async def test_kill_9_of_the_bot_while_it_streams(teams: FakeTeams, launch: Launch) -> None:
    launch(*WORKER)
    bot = launch(*BOT)
    ana = await _growing(teams)
    bot.kill()
    bot.wait()
    launch(*BOT)
    await one_complete_answer(ana)


async def test_sigterm_ends_the_bot_cleanly_and_the_next_one_goes_on(teams: FakeTeams, launch: Launch) -> None:
    launch(*WORKER)
    bot = launch(*BOT)
    ana = await _growing(teams)
    bot.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(bot.wait, 25) == 0
    launch(*BOT)
    await one_complete_answer(ana)


async def test_kill_9_of_the_worker_while_it_answers(teams: FakeTeams, launch: Launch) -> None:
    worker = launch(*WORKER)
    launch(*BOT)
    ana = await _growing(teams)
    worker.kill()
    worker.wait()
    launch(*WORKER)
    await one_complete_answer(ana)


async def _listening(teams: FakeTeams) -> None:
    async def healthy() -> bool:
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{teams.bot_url}/healthz") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    for _ in range(600):
        if await healthy():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the bot does not listen")


async def _growing(teams: FakeTeams) -> TeamsPerson:
    """Somebody has asked, and sees the answer grow."""
    await _listening(teams)
    ana = TeamsWorld(teams).person("ana")
    await growing(ana)
    return ana
