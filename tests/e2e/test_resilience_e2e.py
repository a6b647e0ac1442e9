"""kill -9 of the bot, of the worker, and a Redis that restarts: each ends in exactly one complete answer."""

import asyncio
import signal

import pytest

from tests.conftest import RedisServer
from tests.e2e.conftest import QUANTAHR, Launch, growing, one_complete_answer
from tests.fakes.fake_slack import FakeSlack
from tests.fakes.slack_world import SlackPerson, SlackWorld

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

BOT = (*QUANTAHR, "bots", "--only", "slack")
WORKER = ("-m", "tests.e2e.slow_worker")


async def _growing(slack: FakeSlack) -> SlackPerson:
    """Somebody has asked, and sees the answer grow."""
    await asyncio.wait_for(slack.connected(), 30)
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


async def test_a_restart_of_redis_while_an_answer_grows(
    slack: FakeSlack, launch: Launch, own_redis: RedisServer
) -> None:
    launch(*WORKER)
    launch(*BOT)
    ana = await _growing(slack)
    own_redis.stop(kill=True)
    await asyncio.sleep(0.5)
    own_redis.start()
    await one_complete_answer(ana)


async def test_sigterm_ends_the_bot_cleanly_and_the_next_one_goes_on(slack: FakeSlack, launch: Launch) -> None:
    launch(*WORKER)
    bot = launch(*BOT)
    ana = await _growing(slack)
    bot.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(bot.wait, 20) == 0
    await one_complete_answer(ana)
    slack._sockets.clear()
    launch(*BOT)
    await asyncio.wait_for(slack.connected(), 30)
    await one_complete_answer(ana)
