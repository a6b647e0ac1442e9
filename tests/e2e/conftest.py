"""Real processes: a bot, a worker, Redis; and a Slack of our own to talk through."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import RedisServer
from tests.e2e.slow_worker import TEXT
from tests.fakes.fake_slack import APP_TOKEN, BOT_TOKEN, FakeSlack
from tests.fakes.people import Person, answers, until
from tests.fakes.slack_world import HR_CHANNEL

QUANTAHR = ("-c", "from quantahr.cli.main import main; main()")
Launch = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    fake = FakeSlack()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
def environment(own_redis: RedisServer, slack: FakeSlack, tmp_path: Path) -> dict[str, str]:
    """What the processes share; a test may add to it."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "SLACK_BOT_TOKEN": BOT_TOKEN,
        "SLACK_APP_TOKEN": APP_TOKEN,
        "QUANTAHR_REDIS_URL": own_redis.url,
        "QUANTAHR_STATE_DIR": str(tmp_path),
        "QUANTAHR_SLACK__API_URL": slack.api_url,
        "QUANTAHR_SLACK__HR_CHANNEL": HR_CHANNEL,
        "QUANTAHR_QUEUE__SILENT_SECONDS": "2",
        "QUANTAHR_QUEUE__LEASE_SECONDS": "2",
        "QUANTAHR_QUEUE__VISIBILITY_SECONDS": "5",
    }


@pytest.fixture
def launch(environment: dict[str, str], tmp_path: Path) -> Iterator[Launch]:
    """Start a process: `launch(*QUANTAHR, "worker")`. Whatever it says goes to a file named after it."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        log = (tmp_path / f"{arguments[-1]}-{len(running)}.log").open("wb")
        process = subprocess.Popen([sys.executable, *arguments], env=environment, stdout=log, stderr=log)
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.wait(timeout=10)


async def growing(person: Person) -> None:
    """Ask tests.e2e.slow_worker something, and wait until its answer can be seen to grow."""
    await person.write("How much leave do I get?")
    await until(lambda: any("Sentence 2." in shown.text for shown in person.sees() if shown.by_bot), 90)


async def one_complete_answer(person: Person) -> None:
    """The answer has been seen through, whole, and no second one follows."""
    await until(lambda: answers(person), 90)
    await asyncio.sleep(1.0)  # time for a second answer, if there were one
    [seen] = [shown for shown in person.sees() if shown.by_bot]
    assert seen.text.split() == TEXT.split()
    assert "Leave.docx" in seen.sources
