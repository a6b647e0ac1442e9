"""Model swaps under load, through the real path: Redis, Celery, a worker process, llama.cpp, three adapters.

    python -m benchmarks.swap [--swaps 100] [--clients 8] [--minutes 30] [--quote] [--adapter A.gguf …]

Clients ask without a pause, and the model phrases every answer; with --quote the documents are quoted, as it ships.
Three versions take turns, so that each is loaded anew: a worker keeps the one before. Rounds with swaps and rounds of
the same length without take turns, so that whatever else the machine does weighs on both. An answer is mixed if it
began twice, if its pieces do not join to its text, or if its text is what only another version says; it is saved if the
model was taken away under it and the documents were quoted instead. Memory is the worker's resident set.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import redis

from quantahr.bus import Asking, scripts
from quantahr.embedded_redis import EmbeddedRedis
from quantahr.grading import read_golden
from quantahr.messages import Delta, Failed, Final, Question, Started
from quantahr.registry import Registry
from quantahr.registry.activation import activate, wait_for_workers
from quantahr.settings import Settings

ROOT = Path(__file__).parents[1]
WEAKER = (0.05, 0.02)
"""How much of the shipped adapter the other versions keep: little, so that their words differ. With 0.7, answers that
were computed side by side turned into another version's by rounding."""
PER_ROUND = 5
"""Swaps in a round."""
_START_SECONDS = 600.0


@dataclass(slots=True)
class Asked:
    """One question and what came back. `first_ms` and `total_ms` are measured by the client, from asking."""

    text: str
    swapping: bool
    pieces: list[str] = field(default_factory=list)
    begun: int = 0
    end: Final | Failed | None = None
    first_ms: float | None = None
    total_ms: float = 0.0

    @property
    def version(self) -> str | None:
        made = self.end.provenance if isinstance(self.end, Final) else None
        return made.adapter if made else None


@dataclass(slots=True)
class Outcome:
    """Everything that was seen. `memory` in bytes, after each round; `swap_seconds` from activating to serving."""

    answers: list[Asked]
    alone: dict[tuple[str, str], str]
    """What each version says to each question while nothing else happens."""
    swap_seconds: list[float]
    memory: list[int]

    def failed(self) -> list[Asked]:
        return [asked for asked in self.answers if not isinstance(asked.end, Final)]

    def mixed(self) -> list[Asked]:
        return self.begun_twice() + self.torn() + self.in_other_words()

    def begun_twice(self) -> list[Asked]:
        """Answers whose worker fell silent for so long that they were given to another attempt."""
        return [asked for asked in self.answers if isinstance(asked.end, Final) and asked.begun != 1]

    def torn(self) -> list[Asked]:
        """Answers whose pieces do not join to their text."""
        return [
            asked
            for asked in self.answers
            if isinstance(asked.end, Final)
            and asked.begun == 1
            and asked.pieces
            and "".join(asked.pieces) != asked.end.text
        ]

    def in_other_words(self) -> list[Asked]:
        """Answers given during a swap in words that only another version has.

        A version's own words are what it said alone and while nothing was swapped: four answers computed together
        differ a little from one computed alone, and near a tie that turns a word.
        """
        own: dict[tuple[str, str], set[str]] = {key: {said} for key, said in self.alone.items()}
        for asked in self.answers:
            if not asked.swapping and isinstance(asked.end, Final) and asked.version:
                own.setdefault((asked.version, asked.text), set()).add(asked.end.text)
        return [
            asked
            for asked in self.answers
            if asked.swapping
            and isinstance(asked.end, Final)
            and asked.end.verdict == "answered"  # a quotation has the documents' words, whoever falls back to it
            and asked.begun == 1
            and asked.end.text not in own.get((asked.version or "", asked.text), {asked.end.text})
            and any(
                asked.end.text in said
                for (version, about), said in own.items()
                if about == asked.text and version != asked.version
            )
        ]

    def turned_without_a_swap(self) -> int:
        """How many answers have another version's words though nothing was swapped: the measure's own noise."""
        return sum(
            1
            for asked in self.answers
            if not asked.swapping
            and isinstance(asked.end, Final)
            and asked.end.text != self.alone.get((asked.version or "", asked.text))
            and any(
                asked.end.text == said
                for (version, about), said in self.alone.items()
                if about == asked.text and version != asked.version
            )
        )

    def told_apart(self) -> int:
        """How many questions the versions answer differently."""
        questions = {about for _, about in self.alone}
        return sum(len({said for (_, about), said in self.alone.items() if about == text}) > 1 for text in questions)

    def first_ms(self, *, swapping: bool) -> list[float]:
        return [a.first_ms for a in self.answers if a.swapping is swapping and a.first_ms is not None]


class Clients:
    """Askers that never pause; each takes the next question as soon as it has its answer."""

    def __init__(self, settings: Settings, questions: Sequence[str], count: int) -> None:
        self._settings = settings
        self._questions = itertools.cycle(questions)
        self._count = count
        self.answers: list[Asked] = []
        self.swapping = False

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """Ask until the block ends; then every question that was asked is waited for."""
        bus = Asking(self._settings)
        stop = asyncio.Event()
        tasks = [asyncio.create_task(self._client(bus, stop)) for _ in range(self._count)]
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(*tasks)
            await bus.close()

    async def one(self, bus: Asking, text: str) -> Asked:
        """Ask once and read the answer to its end."""
        asked = Asked(text, self.swapping)
        mark = secrets.token_hex(12)
        question = Question(
            id=mark, platform="batch", tenant="benchmark", conversation=mark, thread=mark, user="client", text=text,
            private=True, asked_at=time.time(),
        )  # fmt: skip
        began = time.monotonic()
        await bus.ask(question, {})
        async for _, event in bus.follow(mark):
            if isinstance(event, Started):
                asked.begun += 1
            elif isinstance(event, Delta):
                asked.first_ms = asked.first_ms or (time.monotonic() - began) * 1000
                asked.pieces.append(event.text)
            elif isinstance(event, Final | Failed):
                asked.end = event
        asked.total_ms = (time.monotonic() - began) * 1000
        # An answer that overlapped a swap at either end counts as one under swapping.
        asked.swapping = asked.swapping or self.swapping
        return asked

    async def _client(self, bus: Asking, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self.answers.append(await self.one(bus, next(self._questions)))


@contextlib.contextmanager
def worker_process(folder: Path, policies: Path, *, phrase: bool = True) -> Iterator[tuple[Settings, psutil.Process]]:
    """A Redis and a worker in `folder`, ready to answer."""
    server = EmbeddedRedis(folder / "redis")
    server.start(lambda _: None)
    settings = Settings(state_dir=folder / "state", policies_dir=policies, redis_url=server.url)
    environment = os.environ | {
        "QUANTAHR_REDIS_URL": server.url,
        "QUANTAHR_STATE_DIR": str(settings.state_dir),
        "QUANTAHR_POLICIES_DIR": str(policies),
        # Tokens are what a swap could disturb or mix; quoting would show none of the model's.
        "QUANTAHR_ANSWERING__PHRASE": str(phrase).lower(),
        "LOG_LEVEL": "INFO",
    }
    with (folder / "worker.log").open("wb") as log:
        child = subprocess.Popen([sys.executable, "-m", "quantahr", "worker"], env=environment, stdout=log, stderr=log)
    try:
        _wait_until_ready(server.url, child, folder / "worker.log")
        yield settings, psutil.Process(child.pid)
    finally:
        child.terminate()
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        server.stop()


def _wait_until_ready(url: str, child: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    with redis.Redis.from_url(url) as client:
        while not client.exists(scripts.READY):
            if child.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"The worker did not get ready:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)


async def run(
    settings: Settings,
    worker: psutil.Process,
    adapters: Sequence[Path],
    questions: Sequence[str],
    *,
    swaps: int,
    clients: int,
    minutes: float = 600.0,
    after_round: Callable[[Outcome], None] = lambda _: None,
) -> Outcome:
    """Swap between the adapters `swaps` times under load, and measure as much time without swaps.

    After `minutes` it ends with the round under way. `after_round` sees what was measured so far.
    """
    registry = Registry.open(settings)
    versions = [registry.add(adapter).id for adapter in adapters]
    load = Clients(settings, questions, clients)
    turn = itertools.cycle(versions)
    alone: dict[tuple[str, str], str] = {}
    bus = Asking(settings)
    for version in versions:
        await asyncio.to_thread(swap_to, settings, next(turn))
        for text in dict.fromkeys(questions):
            asked = await load.one(bus, text)
            alone[version, text] = asked.end.text if asked.end else ""
    await bus.close()
    outcome = Outcome(load.answers, alone, [], [])
    seconds, memory = outcome.swap_seconds, outcome.memory
    end = time.monotonic() + minutes * 60
    async with load.asking():
        while len(seconds) < swaps and time.monotonic() < end:
            load.swapping = True
            began = time.monotonic()
            for _ in range(min(PER_ROUND, swaps - len(seconds))):
                seconds.append(await asyncio.to_thread(swap_to, settings, next(turn)))
            length = time.monotonic() - began
            load.swapping = False
            await asyncio.sleep(length)
            memory.append(worker.memory_info().rss)
            after_round(outcome)
    return outcome


def swap_to(settings: Settings, version: str) -> float:
    """Activate a version and wait until the worker serves it. Returns the seconds that took."""
    began = time.monotonic()
    pointer = activate(settings, version, actor="benchmark", reason="benchmark", override=True)
    for state in wait_for_workers(settings, pointer.serial, 120):
        if state.serving != version:
            raise SystemExit(f"The worker serves {state.serving} instead of {version}: {state.problem or 'too slow'}")
    return time.monotonic() - began


def three_adapters(folder: Path) -> list[Path]:
    """The shipped adapter and two weaker copies of it; without one, three that change next to nothing."""
    from quantahr.registry.registry import find_shipped

    shipped = find_shipped()
    if shipped:
        whole = shipped / "adapter.gguf"
        return [whole, *(weaker(whole, folder / f"weaker-{share}.gguf", share) for share in WEAKER)]
    from tests.fakes.tiny_adapter import write_adapter

    return [write_adapter(folder / f"adapter-{seed}.gguf", seed=seed) for seed in (1, 2, 3)]


def weaker(source: Path, target: Path, factor: float) -> Path:
    """A copy of a GGUF LoRA whose changes are multiplied by `factor`."""
    import gguf

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", reader.fields["adapter.lora.alpha"].contents() * factor)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie; 0 without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def added_ms(quiet: Sequence[float], busy: Sequence[float], share: float) -> tuple[float, float, float]:
    """How much later the first token comes while swapping, at this percentile: (difference, 95% interval), in ms."""
    found = percentile(busy, share) - percentile(quiet, share)
    draw = np.random.default_rng(0)
    drawn = [
        percentile(list(draw.choice(busy, len(busy))), share) - percentile(list(draw.choice(quiet, len(quiet))), share)
        for _ in range(500)
    ]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return found, float(low), float(high)


def saved_by_quoting(log: Path) -> int:
    """How many answers the model was taken away from."""
    text = log.read_text(encoding="utf-8", errors="replace")
    return text.count("the model failed (") + text.count("the model gave no opinion (")


def report(outcome: Outcome, clients: int, saved: int) -> list[str]:
    """A table for benchmarks/RESULTS.md."""
    quiet, busy = outcome.first_ms(swapping=False), outcome.first_ms(swapping=True)
    memory = [size >> 20 for size in outcome.memory]
    fifth = max(1, len(memory) // 5)
    rows = [
        ("swaps", f"{len(outcome.swap_seconds)} under {clients} clients"),
        ("a swap takes (median, longest)", f"{median(outcome.swap_seconds):.1f} s, {max(outcome.swap_seconds):.1f} s"),
        ("answers (quiet, swapping)", f"{len(quiet)}, {len(busy)}"),
        ("failed answers", f"{len(outcome.failed())}"),
        ("answers whose pieces do not join", f"{len(outcome.torn())}"),
        ("answers begun twice", f"{len(outcome.begun_twice())}"),
        (
            "answers in words that only another version has",
            f"{len(outcome.in_other_words())} ({outcome.told_apart()} questions tell the versions apart; without a "
            f"swap {outcome.turned_without_a_swap()} of {len(quiet)} have the words that another version has alone)",
        ),
        ("answers that lost the model and quoted", f"{saved}"),
    ]
    if quiet and busy:
        for name, share in (("median", 0.5), ("p99", 0.99)):
            added, low, high = added_ms(quiet, busy, share)
            rows.append(
                (
                    f"first token, {name} (quiet, swapping)",
                    f"{percentile(quiet, share):.0f} ms, {percentile(busy, share):.0f} ms: "
                    f"{added:+.0f} ms (95%: {low:+.0f} to {high:+.0f}), "
                    f"× {percentile(busy, share) / percentile(quiet, share):.2f}",
                )
            )
    rows.append(
        (
            "worker's memory (first fifth, last fifth, most)",
            f"{median(memory[:fifth]):.0f} MB, {median(memory[-fifth:]):.0f} MB, {max(memory)} MB",
        )
    )
    return ["| Measured | Result |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=600.0, help="end after this, with fewer swaps")
    parser.add_argument("--questions", type=int, default=12, help="how many different questions")
    parser.add_argument("--quote", action="store_true", help="quote the documents, as it ships: short answers")
    parser.add_argument("--adapter", type=Path, action="append", help="a GGUF LoRA; give three")
    parser.add_argument("--out", type=Path, help="write the table here, anew after every round")
    chosen = parser.parse_args()
    # Told to stop, it ends its worker and its Redis, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    lines: list[str] = []

    def note(outcome: Outcome) -> None:
        saved = saved_by_quoting(folder / "worker.log")
        lines[:] = [*report(outcome, chosen.clients, saved), "", f"Load of the machine: {os.getloadavg()[1]:.1f}."]
        memory = outcome.memory[-1] >> 20
        print(f"{len(outcome.swap_seconds)} swaps, {len(outcome.answers)} answers, {memory} MB", file=sys.stderr)
        if chosen.out:
            chosen.out.write_text("\n".join(lines) + "\n", encoding="utf-8")

    with tempfile.TemporaryDirectory(prefix="quantahr-swap-") as name:
        folder = Path(name)
        adapters = chosen.adapter or three_adapters(folder)
        golden = [one.question for one in read_golden(ROOT / "data/golden/golden.jsonl") if one.kind == "answerable"]
        with worker_process(folder, ROOT / "data/hr_policies", phrase=not chosen.quote) as (settings, worker):
            outcome = asyncio.run(
                run(
                    settings,
                    worker,
                    adapters,
                    golden[: chosen.questions],
                    swaps=chosen.swaps,
                    clients=chosen.clients,
                    minutes=chosen.minutes,
                    after_round=note,
                )
            )
        note(outcome)  # with the answers that were still on their way
    print("\n".join(lines))
    wrong = [
        json.dumps({"end": str(type(a.end).__name__), "begun": a.begun}) for a in outcome.failed() + outcome.mixed()
    ]
    if wrong:
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()
