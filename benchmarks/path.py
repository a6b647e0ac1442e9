"""Speed and memory of the whole path, against the engine alone and against what a user would pick instead.

    python benchmarks/path.py [--questions 24] [--adapter FILE]

Every part runs in a process of its own, one after the other, on the same questions (data/golden) and documents
(data/hr_policies), with the adapter that ships unless another is named; compare figures of one run only. The whole path
is measured as it ships, quoting, and once more with the model phrasing. Prints a table in Markdown, writes nothing.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from quantahr.bus import Asking
from quantahr.cli.stack import Stack
from quantahr.messages import Delta, Final, Question, Started, question_id
from quantahr.policies import load_folder
from quantahr.prompt import Excerpt, Message, build_messages
from quantahr.registry.registry import find_shipped
from quantahr.settings import Settings, load_settings

ROOT = Path(__file__).parents[1]
POLICIES = ROOT / "data/hr_policies"
GOLDEN = ROOT / "data/golden/golden.jsonl"
USERS = 8
SLOTS = 4
Report = dict[str, Any]


def questions(count: int) -> list[str]:
    rows = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]
    return [row["question"] for row in rows if row["kind"] == "answerable"][:count]


def percentile(values: Iterable[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def resident_mb(process: psutil.Process | None = None) -> float:
    return float((process or psutil.Process()).memory_info().rss) / 2**20


def settings_for(state: str, adapter: str | None, *, phrase: bool) -> Settings:
    model: dict[str, Any] = {"slots": SLOTS}
    if adapter:
        model["adapter"] = adapter
    base = load_settings(environ={}).model_dump() | {"state_dir": state, "policies_dir": POLICIES}
    return Settings.model_validate(base | {"model": model, "answering": {"phrase": phrase}})


def adapter_file(adapter: str | None) -> Path | None:
    """The adapter to measure with: the one that is named, else the one that ships."""
    shipped = find_shipped()
    return Path(adapter) if adapter else shipped / "adapter.gguf" if shipped else None


# The whole path: publish → worker → stream → reader


def phrased_path(count: int, adapter: str | None) -> Report:
    return whole_path(count, adapter, phrase=True)


def whole_path(count: int, adapter: str | None, *, phrase: bool = False) -> Report:
    state = tempfile.mkdtemp(prefix="bench-")
    os.environ |= {
        "QUANTAHR_STATE_DIR": state,
        "QUANTAHR_POLICIES_DIR": str(POLICIES),
        "QUANTAHR_ANSWERING__PHRASE": str(phrase).lower(),
        "QUANTAHR_MODEL__SLOTS": str(SLOTS),
        **({"QUANTAHR_MODEL__ADAPTER": adapter} if adapter else {}),
    }
    settings = settings_for(state, adapter, phrase=phrase)
    with Stack(settings) as stack:
        stack.wait_for_worker()
        report = asyncio.run(_drive(settings.model_copy(update={"redis_url": stack.url}), questions(count)))
        workers = [child for child in psutil.Process().children() if "worker" in " ".join(child.cmdline())]
        report["worker resident MB"] = max(resident_mb(worker) for worker in workers)
        report["asking process resident MB"] = resident_mb()
    return report


async def _drive(settings: Settings, asked: list[str]) -> Report:
    bus = Asking(settings)
    greetings = [await _one(bus, "hello", f"hello-{n}") for n in range(200)]
    alone = [await _one(bus, text, f"alone-{n}") for n, text in enumerate(asked)]
    cached = [await _one(bus, text, f"cached-{n}") for n, text in enumerate(asked[-SLOTS:])]
    began = time.monotonic()
    waits: list[Report] = []
    todo = list(enumerate(asked * 2))

    async def user() -> None:
        while todo:
            number, text = todo.pop()
            waits.append(await _one(bus, text, f"crowd-{number}"))

    await asyncio.gather(*(user() for _ in range(USERS)))
    seconds = time.monotonic() - began
    await bus.close()
    totals = [wait["total"] for wait in waits]
    return {
        "overhead p50 ms": percentile([g["started"] for g in greetings], 0.5),
        "overhead p99 ms": percentile([g["started"] for g in greetings], 0.99),
        "first token p50 ms, one user": percentile([a["first"] for a in alone], 0.5),
        "first token p50 ms, prefix cached": percentile([a["first"] for a in cached], 0.5),
        "total p50 ms, one user": percentile([a["total"] for a in alone], 0.5),
        "answers a minute, one user": 60_000 / statistics.mean(a["total"] for a in alone),
        "answers a minute, 8 users": 60 * len(waits) / seconds,
        "longest wait / mean, 8 users": max(totals) / statistics.mean(totals),
        "quoted or phrased": sum(a["verdict"] in ("quoted", "answered") for a in alone) / len(alone),
    }


async def _one(bus: Asking, text: str, event: str) -> Report:
    identifier = question_id("batch", "bench", f"{os.getpid()}-{event}")
    began = time.monotonic()
    question = Question(
        id=identifier,
        platform="batch",
        tenant="bench",
        conversation=event,
        thread=event,
        user="bench",
        text=text,
        private=True,
        asked_at=time.time(),
    )
    await bus.ask(question, {})
    seen: Report = {}
    async for _, event_ in bus.follow(identifier):
        now = (time.monotonic() - began) * 1000
        if isinstance(event_, Started):
            seen.setdefault("started", now)
        if isinstance(event_, Delta | Final):
            seen.setdefault("first", now)
        if isinstance(event_, Final):
            seen |= {"total": now, "verdict": event_.verdict}
    return seen


# The engine alone, on the same prompts


Prompts = list[list[Message]]


def _prompts(asked: list[str]) -> tuple[Prompts, Prompts]:
    """The prompts with evidence, as the worker makes them, and those with three whole excerpts."""
    from quantahr.retrieval import Index, load_embedder
    from quantahr.retrieval.quotation import gather

    index = Index.build(load_folder(POLICIES).sections, load_embedder())
    lean: Prompts = []
    whole: Prompts = []
    for text in asked:
        found = index.search(text, audiences=["employee"])
        evidence = [(piece.section.heading_path, piece.text) for piece in gather(found.evidence, text)]
        sections = [(hit.section.heading_path, hit.section.text) for hit in found.hits[:3]]
        for prompts, pieces in ((lean, evidence), (whole, sections)):
            excerpts = [Excerpt(n, " > ".join(path), piece) for n, (path, piece) in enumerate(pieces, 1)]
            prompts.append(build_messages(text, excerpts))
    return lean, whole


def engine_alone(count: int, adapter: str | None) -> Report:
    from worker.engines.llamacpp import LlamaCppEngine
    from worker.model_files import find_model

    state = Path(tempfile.mkdtemp(prefix="bench-"))
    asked = questions(count)
    lean, whole = _prompts(asked)
    model = find_model(None, state)

    def run(
        slots: int, users: int, prompts: list[list[Message]], lengths: list[int]
    ) -> tuple[float, list[float], list[int]]:
        engine = LlamaCppEngine(model, adapter=adapter_file(adapter), slots=slots, context_tokens=2048, threads=None)
        firsts: list[float] = []
        made: list[int] = []
        lock = threading.Lock()

        def one(job: tuple[list[Message], int]) -> None:
            began = time.monotonic()
            generation = engine.generate(job[0], max_tokens=job[1])
            with lock:
                firsts.append(generation.ms_first_token or (time.monotonic() - began) * 1000)
                made.append(generation.completion_tokens)

        began = time.monotonic()
        with ThreadPoolExecutor(users) as pool:
            list(pool.map(one, zip(prompts, lengths, strict=True)))
        seconds = time.monotonic() - began
        engine.close()
        return seconds, firsts, made

    length = [40] * len(asked)
    lean_many, _, lean_tokens = run(SLOTS, USERS, lean * 2, length * 2)
    whole_many, _, _ = run(SLOTS, USERS, whole * 2, length * 2)
    one_seconds, one_firsts, _ = run(1, 1, whole, length)
    return {
        "evidence prompts, 8 users: answers a minute": 60 * 2 * len(asked) / lean_many,
        "evidence prompts, 8 users: tokens/s": sum(lean_tokens) / lean_many,
        "whole excerpts, 8 users: answers a minute": 60 * 2 * len(asked) / whole_many,
        "llama.cpp one at a time, whole excerpts: answers a minute": 60 * len(asked) / one_seconds,
        "llama.cpp one at a time: first token p50 ms": percentile(one_firsts, 0.5),
        "resident MB": resident_mb(),
    }


def tokens_ratio(count: int, adapter: str | None) -> Report:
    """Tokens a second through the worker's own code and Redis, over the engine called directly on the same prompts."""
    from quantahr.embedded_redis import EmbeddedRedis
    from worker.engines.llamacpp import LlamaCppEngine
    from worker.model_files import find_model

    state = Path(tempfile.mkdtemp(prefix="bench-"))
    server = EmbeddedRedis(state / "redis")
    server.start(lambda _: None)
    settings = settings_for(str(state), adapter, phrase=True).model_copy(update={"redis_url": server.url})
    lean, _ = _prompts(questions(count))
    engine = LlamaCppEngine(
        find_model(None, state),
        adapter=adapter_file(adapter),
        slots=SLOTS,
        context_tokens=1024,
        threads=None,
    )

    def throughput(one: Callable[[int, list[Message]], int]) -> float:
        began = time.monotonic()
        with ThreadPoolExecutor(USERS) as pool:
            made = sum(pool.map(one, range(len(lean)), lean))
        return made / (time.monotonic() - began)

    def direct(_: int, prompt: list[Message]) -> int:
        return engine.generate(prompt, max_tokens=60, on_text=lambda _: False).completion_tokens

    async def streamed(run: str) -> float:
        from quantahr.bus import Answering

        asking, answering = Asking(settings), Answering(settings)

        def publish(number: int, prompt: list[Message]) -> int:
            from quantahr.bus import Claim

            with answering.claim(question_id("batch", run, str(number))) as claim:
                assert isinstance(claim, Claim)

                def on_text(piece: str) -> bool:
                    claim.emit(Delta(text=piece))
                    return claim.stopped

                generation = engine.generate(prompt, max_tokens=60, on_text=on_text)
                claim.close(Final(verdict="answered", text=generation.text))
                return generation.completion_tokens

        for number in range(len(lean)):
            question = Question(
                id=question_id("batch", run, str(number)),
                platform="batch",
                tenant="bench",
                conversation=run,
                thread=run,
                user="bench",
                text="?",
                private=True,
                asked_at=time.time(),
            )
            await asking.ask(question, {})

        async def read(number: int) -> None:
            async for _ in asking.follow(question_id("batch", run, str(number))):
                pass

        readers = [asyncio.create_task(read(number)) for number in range(len(lean))]
        rate = await asyncio.to_thread(throughput, publish)
        await asyncio.gather(*readers)
        answering.close_connection()
        await asking.close()
        return rate

    rounds = [(throughput(direct), asyncio.run(streamed(f"run{n}"))) for n in range(3)]
    engine.close()
    server.stop()
    return {"tokens/s through the bus / engine directly": statistics.median(path / alone for alone, path in rounds)}


def transformers_alone(count: int, adapter: str | None) -> Report:
    """How a first attempt serves: float32 on the CPU, one at a time, three whole excerpts."""
    from worker.engines.transformers import TransformersEngine

    del adapter
    state = Path(tempfile.mkdtemp(prefix="bench-"))
    asked = questions(min(count, 8))
    _, whole = _prompts(asked)
    engine = TransformersEngine(
        None, state_dir=state, adapter=None, context_tokens=2048, load_in_4bit=False, threads=None
    )
    engine.generate(whole[0], max_tokens=4)
    began = time.monotonic()
    firsts = [engine.generate(prompt, max_tokens=40).ms_first_token or 0.0 for prompt in whole]
    seconds = time.monotonic() - began
    return {
        "answers a minute": 60 * len(asked) / seconds,
        "first token p50 ms": percentile(firsts, 0.5),
        "resident MB": resident_mb(),
    }


def retrieval(count: int, adapter: str | None) -> Report:
    import dataclasses

    from quantahr.retrieval import Index, load_embedder

    del adapter
    embedder = load_embedder()
    sections = load_folder(POLICIES).sections
    began = time.monotonic()
    Index.build(sections, embedder)
    indexing = len(sections) / (time.monotonic() - began)
    copies = [
        dataclasses.replace(section, id=f"{section.id}-{n}", text=f"{section.text}", document=f"{n}-{section.document}")
        for n in range(-(-2000 // len(sections)))
        for section in sections
    ][:2000]
    state = Path(tempfile.mkdtemp(prefix="bench-"))
    from quantahr.retrieval import EmbeddingCache

    cache = EmbeddingCache(state / "cache.db")
    index = Index.build(copies, embedder, cache)
    asked = questions(count)
    index.search(asked[0], audiences=["employee"])
    times = []
    for text in asked:
        began = time.monotonic()
        index.search(text, audiences=["employee"])
        times.append((time.monotonic() - began) * 1000)
    return {
        "sections indexed a second": indexing,
        "search over 2,000 sections p50 ms": percentile(times, 0.5),
        "search over 2,000 sections p95 ms": percentile(times, 0.95),
    }


PARTS: dict[str, Callable[[int, str | None], Report]] = {
    "The whole path (publish, worker, stream, reader)": whole_path,
    "The same, the model phrasing": phrased_path,
    "The engine alone (llama.cpp)": engine_alone,
    "Through the bus": tokens_ratio,
    "transformers, float32, one at a time": transformers_alone,
    "Retrieval": retrieval,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--adapter")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(PARTS[options.part](options.questions, options.adapter)))
        return
    reports: dict[str, Report] = {}
    for name in PARTS:
        command = [sys.executable, __file__, "--part", name, "--questions", str(options.questions)]
        command += ["--adapter", options.adapter] if options.adapter else []
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        reports[name] = json.loads(done.stdout.strip().splitlines()[-1])
    print("| part | measure | value |\n|---|---|---|")
    for name, report in reports.items():
        for measure, value in report.items():
            print(f"| {name} | {measure} | {value:,.2f} |")
    path, alone, slow = (list(reports.values())[n] for n in (0, 2, 4))
    ratios = {
        "answers a minute with 8 users / the engine given three whole excerpts": path["answers a minute, 8 users"]
        / alone["whole excerpts, 8 users: answers a minute"],
        "answers a minute with 8 users / transformers": path["answers a minute, 8 users"] / slow["answers a minute"],
        "answers a minute, one user / llama.cpp one at a time": path["answers a minute, one user"]
        / alone["llama.cpp one at a time, whole excerpts: answers a minute"],
        "first token, one user / transformers": path["first token p50 ms, one user"] / slow["first token p50 ms"],
    }
    for measure, value in ratios.items():
        print(f"| Ratio | {measure} | {value:,.2f} |")


if __name__ == "__main__":
    main()
