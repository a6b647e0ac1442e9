"""How the packaged model should be stored to be served: speed, size, memory and agreement, type by type.

    python benchmarks/quantization.py [--rounds 3]

Every variant is made from the packaged Q4_1 file and runs in a process of its own, in turn, several rounds over; the
best round counts, because other programs on the machine only ever make it slower. F16 holds the packaged weights
exactly (to float16), so it is the reference: "same answers" is the share of greedy answers equal to F16's, word for
word, and "KL" the mean divergence (nats) of the first answer word's distribution over the options looked at.
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quantahr.gguf import file_sha256, packaged_gguf
from quantahr.prompt import Excerpt, Message, build_messages

REFERENCE = "F16"
KINDS = ("Q4_1", "Q4_0", "Q8_0", REFERENCE)
OPTIONS = ("I", "The", "You", "Yes", "No", "Your", "A", "According", "Employees", "If")
ROOT = Path(__file__).resolve().parents[1]


def prompts(count: int) -> list[list[Message]]:
    """Questions with their passage, from the reading examples, spread over the files."""
    examples = [
        example
        for file in sorted((ROOT / "data/general_knowledge").glob("*.json"))
        for example in json.loads(file.read_text(encoding="utf-8"))[:12]
        if example["input"]
    ]
    step = max(1, len(examples) // max(1, count))
    return [
        build_messages(example["instruction"], [Excerpt(1, "Handbook", example["input"])])
        for example in examples[::step][:count]
    ]


def measure(model: Path, count: int) -> dict[str, Any]:
    """One variant, in this process: tokens a second, resident memory in MB, answers and first-word probabilities."""
    import psutil

    from worker.engines.llamacpp import LlamaCppEngine

    began = time.monotonic()
    engine = LlamaCppEngine(model, slots=1, context_tokens=2048)
    load = time.monotonic() - began
    filler = " ".join(message["content"] for chat in prompts(6) for message in chat)[:1800]
    prefill = decode = 0.0
    for number in range(5):
        began = time.monotonic()
        answer = engine.generate([{"role": "user", "content": f"{number} {filler}"}], max_tokens=48)
        total = time.monotonic() - began
        first = (answer.ms_first_token or math.inf) / 1000
        prefill = max(prefill, (answer.prompt_tokens - answer.cached_tokens) / first)
        decode = max(decode, (answer.completion_tokens - 1) / (total - first))
    memory = psutil.Process().memory_info().rss / 2**20
    answers, shares = [], []
    for chat in prompts(count):
        answers.append(engine.generate(chat, max_tokens=24).text)
        shares.append(list(engine.choose(chat, OPTIONS).values()))
    engine.close()
    return {"load": load, "prefill": prefill, "decode": decode, "memory": memory, "answers": answers, "shares": shares}


def divergence(reference: Sequence[float], other: Sequence[float]) -> float:
    """Kullback-Leibler divergence in nats; what is in no option is one more option."""
    floor = 1e-6
    ours = [max(share, floor) for share in (*reference, 1 - sum(reference))]
    theirs = [max(share, floor) for share in (*other, 1 - sum(other))]
    return sum(p * math.log(p / q) for p, q in zip(ours, theirs, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--one", type=Path, help="measure one file and print JSON")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments.prompts)))
        return

    from worker.model_files import requantize

    with tempfile.TemporaryDirectory() as scratch:
        files, seconds = {"Q4_1": packaged_gguf()}, {"Q4_1": 0.0}
        for kind in KINDS[1:]:
            files[kind] = Path(scratch) / f"{kind}.gguf"
            began = time.monotonic()
            requantize(packaged_gguf(), files[kind], kind, file_sha256(packaged_gguf()))
            seconds[kind] = time.monotonic() - began
        best: dict[str, dict[str, Any]] = {}
        for turn in range(arguments.rounds):
            for kind, file in files.items():
                count = arguments.prompts if turn == 0 else 0
                command = [sys.executable, __file__, "--one", str(file), "--prompts", str(count)]
                environment = {**os.environ, "PYTHONPATH": str(ROOT)}
                found = json.loads(subprocess.run(command, check=True, capture_output=True, env=environment).stdout)
                kept = best.setdefault(kind, found)
                for key in ("prefill", "decode"):
                    kept[key] = max(kept[key], found[key])
                kept["load"] = min(kept["load"], found["load"])
        print(
            f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, best of {arguments.rounds} rounds\n"
        )
        columns = ("type", "prefill tokens/s", "decode tokens/s", "file MB", "resident MB", "load s", "made in s")
        print(f"| {' | '.join(columns)} | same answers | KL |")
        print("|---|---|---|---|---|---|---|---|---|")
        reference = best[REFERENCE]
        for kind, row in best.items():
            same = sum(a == b for a, b in zip(row["answers"], reference["answers"], strict=True)) / len(row["answers"])
            pairs = zip(reference["shares"], row["shares"], strict=True)
            kl = sum(divergence(ours, theirs) for ours, theirs in pairs) / len(row["shares"])
            print(
                f"| {kind} | {row['prefill']:.0f} | {row['decode']:.0f} | {files[kind].stat().st_size / 1e6:.0f} "
                f"| {row['memory']:.0f} | {row['load']:.2f} | {seconds[kind]:.1f} | {same:.0%} | {kl:.4f} |"
            )


if __name__ == "__main__":
    main()
