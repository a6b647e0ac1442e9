"""How often retrieval finds the right section and sentences, beside what a simpler retrieval would find.

    python -m benchmarks.retrieval_eval POLICIES QUESTIONS.jsonl [--threshold P] [--misses]

Questions are lines {"id", "question", "kind", "expect": [[alternatives], …], "sources": ["Heading > Sub", …]}.
An answer by quoting is right when the evidence holds one alternative of every group. Everything is measured as an
employee asks it.
"""

import argparse
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from quantahr.policies import load_folder
from quantahr.retrieval import Index, SectionLike, load_embedder
from quantahr.retrieval.lexical import Bm25, bag
from quantahr.settings import Answering

TOP = (1, 3, 5)


def matches(section: SectionLike, source: str) -> bool:
    """Whether a section is the one that a source names; the document's title may be left out, or a parent heading."""
    wanted = _plain(source)
    path = [_plain(part) for part in section.heading_path]
    whole = " > ".join(path)
    wanted_joined = " > ".join(_plain(part) for part in source.split(">"))
    titled = f"{_plain(section.title)} > {whole}"
    return bool(wanted) and (
        wanted_joined in (whole, titled)
        or titled.endswith(f" > {wanted_joined}")
        or wanted_joined.endswith(f" > {whole}")
    )


def is_right(text: str, expect: Sequence[Sequence[str]]) -> bool:
    """Whether a text holds one alternative of every group."""
    held = _plain(text)
    return all(any(_plain(alternative) in held for alternative in group) for group in expect)


def evaluate(policies: Path, questions: Path, threshold: float, *, misses: bool = False) -> list[str]:
    """The lines of the report."""
    rows: list[dict[str, Any]] = [
        json.loads(line) for line in questions.read_text("utf-8").splitlines() if line.strip()
    ]
    sections = [section for section in load_folder(policies).sections if "employee" in section.audience]
    embedder = load_embedder()
    began = time.perf_counter()
    index = Index.build(sections, embedder)
    indexing = len(sections) / (time.perf_counter() - began)
    texts = [f"{' - '.join(section.heading_path)}. {section.text}" for section in sections]
    vectors = embedder.embed(texts)
    lexical = Bm25([bag([(text, 1.0)]) for text in texts])

    answerable = [row for row in rows if row["kind"] == "answerable"]
    unanswerable = [row for row in rows if row["kind"] == "unanswerable"]
    ranks: dict[str, list[int]] = {"BM25": [], "MiniLM": [], "fused": [], "ours": []}
    held: list[bool] = []
    answered: list[bool] = []
    times: list[float] = []
    report = []
    for row in answerable:
        right = [
            at for at, section in enumerate(sections) if any(matches(section, source) for source in row["sources"])
        ]
        if not right:
            report.append(f"no section is {row['sources']} ({row['id']})")
            continue
        words = lexical.scores(bag([(row["question"], 1.0)]))
        dense = vectors @ embedder.embed([row["question"]])[0]
        both = -_rank(words) - _rank(dense)
        began = time.perf_counter()
        found = index.search(row["question"], audiences=("employee",), k=10)
        times.append(time.perf_counter() - began)
        place = {hit.section.id: at for at, hit in enumerate(found.hits)}
        ranks["BM25"].append(min(_rank(words)[right]))
        ranks["MiniLM"].append(min(_rank(dense)[right]))
        ranks["fused"].append(min(_rank(both)[right]))
        ranks["ours"].append(min(place.get(sections[at].id, 99) for at in right))
        held.append(is_right(" ".join(piece.text for piece in found.evidence), row["expect"]))
        answered.append(found.answerable >= threshold)
        if misses and ranks["ours"][-1] > 2:
            nearest = [hit.section.heading_path[-1] for hit in found.hits[:3]]
            report.append(f"MISS {row['question']} | {row['sources']} | {nearest}")
        elif misses and not held[-1]:
            report.append(f"TEXT {row['question']} | {row['expect']} | {[piece.text for piece in found.evidence]}")
        elif misses and not answered[-1]:
            report.append(f"SHY {found.answerable:.2f} {row['question']} | {[piece.text for piece in found.evidence]}")
    abstained = []
    for row in unanswerable:
        found = index.search(row["question"], audiences=("employee",))
        abstained.append(found.answerable < threshold)
        if misses and not abstained[-1]:
            report.append(f"BOLD {found.answerable:.2f} {row['question']} | {[piece.text for piece in found.evidence]}")
    count = len(held)
    report.append(f"{len(sections)} sections, {count} answerable and {len(unanswerable)} unanswerable questions")
    for name, places in ranks.items():
        shares = "  ".join(f"@{top} {np.mean([place < top for place in places]):.1%}" for top in TOP)
        report.append(f"{name:8} recall {shares}")
    good = [a and b for a, b in zip(held, answered, strict=True)]
    report.append(
        f"evidence holds the answer: {np.mean(held):.1%}; and is offered (>= {threshold}): {np.mean(good):.1%}"
    )
    if unanswerable:
        report.append(f"abstains where nothing answers: {np.mean(abstained):.1%}")
        total = (sum(good) + sum(abstained)) / (count + len(abstained))
        report.append(f"right of all: {total:.1%}")
    report.append(f"{indexing:.0f} sections/s indexed, {1000 * float(np.median(times)):.1f} ms a search (median)")
    return report


def _rank(scores: Any) -> Any:
    """The place of each score, 0 for the best."""
    places = np.empty(len(scores), int)
    places[np.argsort(-scores, kind="stable")] = np.arange(len(scores))
    return places


def _plain(text: str) -> str:
    text = text.lower().replace("’", "'").replace("\u00a0", " ").replace("–", "-")
    return re.sub(r"\s+", " ", re.sub(r"[^\w%€$£.,'-]+", " ", text)).strip(" .,")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("policies", type=Path)
    parser.add_argument("questions", type=Path)
    parser.add_argument("--threshold", type=float, default=Answering().min_support)
    parser.add_argument("--misses", action="store_true", help="print the questions that went wrong")
    chosen = parser.parse_args()
    print("\n".join(evaluate(chosen.policies, chosen.questions, chosen.threshold, misses=chosen.misses)))


if __name__ == "__main__":
    main()
