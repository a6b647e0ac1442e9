"""How long Teams waits for its 202: a real bot process, a real Redis, signed activities over loopback.

    python benchmarks/teams_turn.py [--turns 400]

What is timed is authentication, accepting the question and the reply to Teams, while the bot streams the answers of a
worker without a model into as many chats. The token requests of the whole run are counted.
"""

import argparse
import asyncio
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import aiohttp

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from quantahr.messages import Final, Question
from quantahr.settings import load_settings
from quantahr.store import Store
from tests.conftest import RedisServer
from tests.fakes.fake_connector import FakeTeams
from tests.fakes.scripted_worker import SOURCE, ScriptedWorker, Step

BOT = ("-m", "quantahr", "bots", "--only", "teams")
WORKER = (str(Path(__file__).resolve()), "--worker")


async def measure(turns: int) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        redis, teams = RedisServer(Path(folder)), FakeTeams()
        redis.start()
        await teams.start()
        processes = [_start(teams, redis.url, folder, *command) for command in (BOT, WORKER)]
        try:
            await _ready(teams)
            await _ask(teams, 20, 4, "warm")
            print("| users at once | turns | p50 ms | p99 ms | worst ms | /healthz p99 ms |")
            print("|---|---|---|---|---|---|")
            for users in (1, 8):
                beside: list[float] = []
                other = asyncio.create_task(_health(teams, beside))
                times = await _ask(teams, turns, users, f"u{users}")
                other.cancel()
                row = (statistics.median(times), _p99(times), max(times), _p99(beside))
                print(f"| {users} | {len(times)} | " + " | ".join(f"{1000 * value:.1f}" for value in row) + " |")
            print(f"\nToken requests: {teams.identity.token_requests}; requests for signing keys: ", end="")
            print(f"{teams.identity.key_requests}; refused by the fake Teams: {Counter(teams.refused)}.")
        finally:
            for process in processes:
                process.terminate()
                process.wait(timeout=30)
            await teams.stop()
            redis.stop()


async def _health(teams: FakeTeams, times: list[float]) -> None:
    async with aiohttp.ClientSession() as session:
        while True:
            begun = time.perf_counter()
            async with session.get(f"{teams.bot_url}/healthz") as answer:
                await answer.read()
            times.append(time.perf_counter() - begun)
            await asyncio.sleep(0.02)


async def _ask(teams: FakeTeams, turns: int, users: int, name: str) -> list[float]:
    times: list[float] = []

    async def user(number: int) -> None:
        for turn in range(turns // users):
            who = f"29:{name}-{number}-{turn}"
            activity = teams.activity(who, teams.personal(who).id, type="message", text="How much leave do I get?")
            header = teams.identity.key.sign(teams.service_url)
            begun = time.perf_counter()
            status, _ = await teams.deliver(activity, header)
            times.append(time.perf_counter() - begun)
            assert status == 202

    await asyncio.gather(*(user(number) for number in range(users)))
    return times


def _p99(times: Sequence[float]) -> float:
    return sorted(times)[min(len(times) - 1, int(len(times) * 0.99))]


def _start(teams: FakeTeams, redis_url: str, folder: str, *command: str) -> subprocess.Popen[bytes]:
    if not teams.bot_url:
        with socket.create_server(("127.0.0.1", 0)) as free:
            teams.bot_url = f"http://127.0.0.1:{free.getsockname()[1]}"
    named = {name.upper(): value for name, value in teams.settings.items() if isinstance(value, str)}
    environment = {
        **os.environ,
        **{f"QUANTAHR_TEAMS__{name}": value for name, value in named.items()},
        "QUANTAHR_TEAMS__PORT": teams.bot_url.rsplit(":", 1)[1],
        "QUANTAHR_TEAMS__SERVICE_URLS": teams.settings["service_urls"][0],
        "QUANTAHR_REDIS_URL": redis_url,
        "QUANTAHR_STATE_DIR": folder,
        "TEAMS_APP_PASSWORD": teams.password,
    }
    return subprocess.Popen([sys.executable, *command], env=environment, stderr=subprocess.DEVNULL)


def _work() -> None:
    """A worker that answers at once."""

    def answer(_question: Question, _store: Store) -> Iterator[Step]:
        yield Final(verdict="answered", text="You get 30 days of leave. [1]", sources=(SOURCE,))

    settings = load_settings()
    ScriptedWorker(settings, Store.open(settings), answer).start()
    signal.pause()


async def _ready(teams: FakeTeams) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(600):
            try:
                async with session.get(f"{teams.bot_url}/healthz"):
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)
    raise SystemExit("the bot did not start")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=400)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        _work()
    else:
        asyncio.run(measure(arguments.turns))
