"""kill -9 of the bot, of the worker, and a Redis that restarts: each ends in exactly one complete answer."""

import asyncio
import signal

import pytest

from tests.conftest import RedisServer
from tests.e2e.conftest import QUANTAHR, Launch
from tests.e2e.slow_worker import TEXT
from tests.fakes.fake_slack import FakeSlack
from tests.fakes.people import Shown, answers, until
from tests.fakes.slack_world import SlackPerson, SlackWorld

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

BOT = (*QUANTAHR, "bots", "--only", "slack")
WORKER = ("-m", "tests.e2e.slow_worker")


async def _growing(slack: FakeSlack) -> SlackPerson:
    """Somebody has asked, and sees the answer grow."""
    await asyncio.wait_for(slack.connected(), 30)
    ana = SlackWorld(slack).person("ana")
    await ana.write("How much leave do I get?")
    await until(lambda: any("Sentence 2." in shown.text for shown in ana.sees() if shown.by_bot), 30)
    return ana


async def _one_complete_answer(ana: SlackPerson) -> Shown:
    await until(lambda: answers(ana), 40)
    await asyncio.sleep(1.0)  # time for a second answer, if there were one
    seen = [shown for shown in ana.sees() if shown.by_bot]
    assert len(seen) == 1
    assert seen[0].text.split() == TEXT.split()
    assert "Leave.docx" in seen[0].sources
    return seen[0]


async def test_kill_9_of_the_bot_while_it_streams(slack: FakeSlack, launch: Launch) -> None:
    launch(*WORKER)
    bot = launch(*BOT)
    ana = await _growing(slack)
    bot.kill()
    bot.wait()
    slack._sockets.clear()
    launch(*BOT)
    await _one_complete_answer(ana)


async def test_kill_9_of_the_worker_while_it_answers(slack: FakeSlack, launch: Launch) -> None:
    worker = launch(*WORKER)
    launch(*BOT)
    ana = await _growing(slack)
    worker.kill()
    worker.wait()
    launch(*WORKER)
    await _one_complete_answer(ana)


async def test_a_restart_of_redis_while_an_answer_grows(
    slack: FakeSlack, launch: Launch, own_redis: RedisServer
) -> None:
    launch(*WORKER)
    launch(*BOT)
    ana = await _growing(slack)
    own_redis.stop(kill=True)
    await asyncio.sleep(0.5)
    own_redis.start()
    await _one_complete_answer(ana)


async def test_sigterm_ends_the_bot_cleanly_and_the_next_one_goes_on(slack: FakeSlack, launch: Launch) -> None:
    launch(*WORKER)
    bot = launch(*BOT)
    ana = await _growing(slack)
    bot.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(bot.wait, 20) == 0
    await _one_complete_answer(ana)
    slack._sockets.clear()
    launch(*BOT)
    await asyncio.wait_for(slack.connected(), 30)
    await _one_complete_answer(ana)
