"""kill -9 of the bot, of the worker, and a Redis that restarts: each ends in exactly one complete answer."""

import asyncio
import signal

import pytest

from tests.conftest import RedisServer
from tests.e2e.conftest import QUANTAHR, Launch, growing, one_complete_answer
from tests.fakes.fake_slack import FakeSlack
from tests.fakes.slack_world import SlackPerson, SlackWorld

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

BOT = (*QUANTAHR, "bots", "--only", "slack")
WORKER = ("-m", "tests.e2e.slow_worker")


async def _growing(slack: FakeSlack) -> SlackPerson:
    """Somebody has asked, and sees the answer grow."""
    await asyncio.wait_for(slack.connected(), 90)
    ana = SlackWorld(slack).person("ana")
    await growing(ana)
    return ana


async def test_kill_9_of_the_bot_while_it_streams(slack: FakeSlack, launch: Launch) -> None:
    launch(*WORKER)
    bot = launch(*BOT)
    ana = await _growing(slack)
    bot.kill()
    bot.wait()
    slack._sockets.clear()
    launch(*BOT)
    await one_complete_answer(ana)


async def test_kill_9_of_the_worker_while_it_answers(slack: FakeSlack, launch: Launch) -> None:
    worker = launch(*WORKER)
    launch(*BOT)
    ana = await _growing(slack)
    worker.kill()
    worker.wait()
    launch(*WORKER)
    await one_complete_answer(ana)


@pytest.mark.parametrize("seconds", [0.1, 3.0], ids=["at-once", "after-the-lease"])
async def test_a_restart_of_redis_while_an_answer_grows(
    slack: FakeSlack, launch: Launch, own_redis: RedisServer, seconds: float
) -> None:
    """Also when it is away for longer than a lease (2 s) and than Celery's own client tries to reconnect."""
    worker, bot = launch(*WORKER), launch(*BOT)
    ana = await _growing(slack)
    await _restart(own_redis, seconds)
    await one_complete_answer(ana)
    assert worker.poll() is None
    assert bot.poll() is None


async def test_a_restart_of_redis_while_nobody_asks(slack: FakeSlack, launch: Launch, own_redis: RedisServer) -> None:
    """A worker that was idle takes questions again afterwards, also after the second restart."""
    worker = launch(*WORKER)
    launch(*BOT)
    await asyncio.wait_for(slack.connected(), 90)
    for name in ("ana", "ben"):
        await asyncio.sleep(0.5)  # idle
        await _restart(own_redis, 1.5)
        person = SlackWorld(slack).person(name)
        await growing(person)
        await one_complete_answer(person)
    assert worker.poll() is None


async def _restart(server: RedisServer, seconds: float) -> None:
    """kill -9 of Redis, and a new one on the same files `seconds` later."""
    server.stop(kill=True)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(server.start)


async def test_sigterm_ends_the_bot_cleanly_and_the_next_one_goes_on(slack: FakeSlack, launch: Launch) -> None:
    launch(*WORKER)
    bot = launch(*BOT)
    ana = await _growing(slack)
    bot.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(bot.wait, 20) == 0
    await one_complete_answer(ana)
    slack._sockets.clear()
    launch(*BOT)
    await asyncio.wait_for(slack.connected(), 90)
    await one_complete_answer(ana)
