"""`make simulate`: a company's day of questions through a real Redis and the real bus, with simulated engines.

    python benchmarks/simulate.py --employees 5000 --workers 1 2 4 8

Every question is accepted, enqueued as a Celery task, taken, claimed, closed and read back, as in production; only the
model is replaced, by the time that an answer takes. And the clock is the day's: it jumps to the next arrival or the
next end of an answer, so eight hours pass as fast as Redis works, and no waiting time depends on how busy this machine
is. People ask most on Monday morning, and once more within the minutes after a mail to everybody.
"""

import argparse
import asyncio
import base64
import contextlib
import heapq
import json
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import redis

from quantahr import queue
from quantahr.bus import Answering, Asking, Claim
from quantahr.messages import Final, Question
from quantahr.settings import Settings

DAY_SECONDS = 8 * 3600.0
MAIL_AT = 14 * 3600.0 - 9 * 3600.0
"""Nine to five; the mail goes out at two."""
SHARE_OF_MAIL = 0.03
"""Of everybody ask something within half an hour of it."""


@dataclass(frozen=True)
class Load:
    """How many questions when. `per_employee`: questions a Monday, without those after the mail."""

    employees: int
    per_employee: float
    seed: int

    def arrivals(self) -> list[float]:
        """The moments of the day, in seconds after nine, at which somebody asks."""
        random_ = random.Random(self.seed)
        moments = []
        for _ in range(round(self.employees * self.per_employee)):
            # Two of five ask in the first hour and a half, the others evenly over the day.
            early = random_.random() < 0.4
            moments.append(
                min(random_.expovariate(1 / 2700), DAY_SECONDS - 1) if early else random_.uniform(0, DAY_SECONDS)
            )
        for _ in range(round(self.employees * SHARE_OF_MAIL)):
            moments.append(min(MAIL_AT + random_.expovariate(1 / 600), DAY_SECONDS - 1))
        return sorted(moments)


def busiest(moments: list[float], seconds: float = 300.0) -> float:
    """Questions a second in the busiest five minutes."""
    counts: dict[int, int] = {}
    for moment in moments:
        counts[int(moment / seconds)] = counts.get(int(moment / seconds), 0) + 1
    return max(counts.values()) / seconds


class Day:
    """The day of one company with so many slots. `waits`: for every answered question, how many seconds it waited
    for a slot."""

    def __init__(self, settings: Settings, moments: list[float], slots: int, seconds: float, seed: int) -> None:
        self.waits: dict[str, float] = {}
        self._asking, self._answering = Asking(settings), Answering(settings)
        self._redis = redis.Redis.from_url(settings.redis_url)
        self._moments = moments
        self._free = slots
        self._seconds = seconds
        self._random = random.Random(seed)
        self._asked: dict[str, float] = {}
        self._begun: dict[str, float] = {}
        self._ends: list[tuple[float, str, contextlib.ExitStack, Claim]] = []

    async def live(self) -> None:
        """From the first question to the last answer."""
        try:
            for number, moment in enumerate(self._moments):
                while self._ends and self._ends[0][0] <= moment:
                    await self._end()
                await self._ask(f"simulated-{number}", moment)
                self._begin(moment)
            while self._ends:
                await self._end()
        finally:
            self._answering.close_connection()
            await self._asking.close()
            self._redis.close()

    async def _ask(self, identifier: str, moment: float) -> None:
        question = Question(
            id=identifier,
            platform="batch",
            tenant="t",
            conversation="c",
            thread=identifier,
            user=identifier,
            text="how many days of leave do I get?",
            private=True,
            asked_at=time.time(),
        )
        self._asked[identifier] = moment
        await self._asking.ask(question, {})

    def _begin(self, now: float) -> None:
        """Let free slots take what waits, in the order in which the queue gives it."""
        while self._free and (message := self._redis.rpop(queue.ASK_QUEUE)):
            identifier = json.loads(base64.b64decode(json.loads(cast(bytes, message))["body"]))[0][0]
            held = contextlib.ExitStack()
            claim = held.enter_context(self._answering.claim(identifier))
            if not isinstance(claim, Claim):
                raise SystemExit(f"{identifier} could not be claimed: {claim}")
            self._free -= 1
            self._begun[identifier] = now
            # Some answers quote a line, some compare three sections: the mean is `seconds`.
            ends = now + self._seconds * self._random.lognormvariate(-0.125, 0.5)
            heapq.heappush(self._ends, (ends, identifier, held, claim))

    async def _end(self) -> None:
        now, identifier, held, claim = heapq.heappop(self._ends)
        claim.close(Final(verdict="quoted", text="30 days [1]"))
        held.close()
        self._free += 1
        async for _, event in self._asking.follow(identifier):
            if event.type == "final":
                self.waits[identifier] = self._begun[identifier] - self._asked[identifier]
        self._begin(now)


def start_redis(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        raise SystemExit("make simulate needs redis-server on PATH: apt-get install redis-server")
    socket = folder / "redis.sock"
    arguments = ["--port", "0", "--unixsocket", str(socket), "--dir", str(folder), "--appendonly", "yes", "--save", ""]
    server = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL)
    url = f"unix://{socket}"
    while server.poll() is None:
        with contextlib.suppress(redis.ConnectionError), redis.Redis.from_url(url) as client:
            client.ping()
            return server, url
        time.sleep(0.02)
    raise SystemExit("redis-server ended before it answered")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--employees", type=int, default=5000)
    options.add_argument("--per-employee", type=float, default=0.2, help="questions a Monday")
    options.add_argument("--seconds", type=float, default=4.0, help="one answer in one slot, the others being busy")
    options.add_argument("--slots", type=int, default=4, help="of a worker")
    options.add_argument("--workers", type=int, nargs="+", default=[1, 2, 3])
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args()

    moments = Load(chosen.employees, chosen.per_employee, chosen.seed).arrivals()
    peak = busiest(moments)
    print(f"{chosen.employees} employees, {len(moments)} questions, at most {peak:.3f} a second over five minutes;")
    print(f"one answer takes a slot {chosen.seconds} s on average\n")
    print(
        "| workers | slots | busy at the peak | wait, median s | 99% s | longest s | unanswered | real ms a question |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for workers in chosen.workers:
        slots = workers * chosen.slots
        began = time.monotonic()
        waits = simulate(moments, slots, chosen.seconds, chosen.seed)
        real = (time.monotonic() - began) * 1000 / len(moments)
        ranked = statistics.quantiles(waits, n=100)
        cells = [f"{ranked[49]:.1f}", f"{ranked[98]:.1f}", f"{max(waits):.1f}", str(len(moments) - len(waits))]
        print(
            f"| {workers} | {slots} | {peak * chosen.seconds / slots:.0%} | {' | '.join(cells)} | {real:.1f} |",
            flush=True,
        )


def simulate(moments: list[float], slots: int, seconds: float, seed: int) -> list[float]:
    """How many seconds each answered question waited for a slot."""
    with tempfile.TemporaryDirectory() as folder:
        server, url = start_redis(Path(folder))
        try:
            day = Day(Settings(redis_url=url, state_dir=Path(folder)), moments, slots, seconds, seed)
            asyncio.run(day.live())
        finally:
            server.terminate()
            server.wait(timeout=10)
        return list(day.waits.values())


if __name__ == "__main__":
    main()
