"""Fits the few weights of retrieval: how the views are weighed.

    python -m training.retrieval_fit [--write]

Two ideas. Reading passages of many invented companies are mixed into handbooks of about ninety sections, where only one
passage answers a question and its neighbours distract; passages on nearly the same topic are kept apart. And only the
files that the embedding model was not trained on (training/embedding_fit.py) are used, so that its vectors look here
as they look on a handbook it has never seen; whole handbooks of invented companies (data/left_out_companies), of which
the embedding model knows nothing either, have the headings and the neighbours that real ones have.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from quantahr.grading import read_golden
from quantahr.policies import load_folder
from quantahr.retrieval import EmbeddingCache, Index, SectionLike, load_embedder
from quantahr.retrieval.evidence import pick, worth
from quantahr.retrieval.query import Query, understand
from quantahr.retrieval.scoring import SECTION_FEATURES, UNIT_FEATURES, Scorer, View, default_scorer
from quantahr.retrieval.sections import EVERYONE
from training.dataset.handbooks import holds, matches_source, plain, proofs

READING = Path("data/general_knowledge")
WEIGHTS = Path("quantahr/retrieval/weights.json")
CACHE = Path(".quantahr/fit-embeddings.db")
HANDBOOK = 90
"""Sections in a made-up handbook, about as many as a real one of 13,000 words."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A reading passage in the shape of a section."""

    id: str
    heading_path: tuple[str, ...]
    text: str
    content_hash: str
    document: str = "reading"
    title: str = ""
    audience: tuple[str, ...] = (EVERYONE,)


@dataclass(slots=True)
class Asked:
    """One question of one handbook, with its features. `units` are those that hold the answer, none if nothing does;
    `section` is the place of the right section, -1 if there is none."""

    view: View
    query: Query
    vectors: Any
    unit_features: Any
    section_features: Any
    units: list[int]
    section: int


COMPANIES = Path("data/companies")
LEFT_OUT = Path("data/left_out_companies")
"""Companies that no model learns from: on them it is weighed what the models say."""
CHECKED = "wexley_stores"
"""The one of them that is for checking alone."""


def companies(*, left_out: bool) -> list[Path]:
    """The invented companies that are left out, or those that are learned from."""
    return sorted(path.parent for path in (LEFT_OUT if left_out else COMPANIES).glob("*/questions.jsonl"))


def used_for_embedding(file: Path, files: Sequence[Path]) -> bool:
    """Whether training/embedding_fit.py learns from a file: two in three."""
    return files.index(file) % 3 != 1


def passage_of(row: dict[str, Any]) -> Passage:
    """The passage of a reading row, "Heading > Sub" on its first line."""
    heading, _, text = row["input"].partition("\n")
    path = tuple(part.strip() for part in heading.split(">"))
    return Passage(row["passage_id"], path, text, sha256(row["input"].encode()).hexdigest())


def handbooks(rows: Sequence[dict[str, Any]], vectors_of: Any) -> Iterator[tuple[list[Passage], list[dict[str, Any]]]]:
    """Passages spread over handbooks so that each has a topic once, with the questions about them."""
    by_passage: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_passage.setdefault(row["passage_id"], []).append(row)
    names = sorted(by_passage)
    np.random.default_rng(0).shuffle(names)
    passages = [passage_of(by_passage[name][0]) for name in names]
    topics = vectors_of([f"{passage.heading_path[-1]}. {passage.text[:400]}" for passage in passages])
    books: list[list[int]] = [[] for _ in range(max(1, round(len(names) / HANDBOOK)))]
    for at in range(len(names)):
        nearest = [max((float(topics[at] @ topics[other]) for other in book), default=0.0) for book in books]
        books[min(range(len(books)), key=lambda book: (nearest[book] > 0.72, len(books[book])))].append(at)
    for book in books:
        yield [passages[at] for at in book], [row for at in book for row in by_passage[names[at]]]


def reading_questions(index_of: Any, vectors_of: Any, *, for_embedding: bool = False) -> Iterator[Asked]:
    """Questions about the passages that the embedding model has not learned from, or about those it learns from."""
    files = sorted(READING.glob("part*.json"))
    chosen = [file for file in files if used_for_embedding(file, files) == for_embedding]
    rows = [row for file in chosen for row in json.loads(file.read_text("utf-8"))]
    for passages, questions in handbooks(rows, vectors_of):
        index = index_of(passages)
        for row in questions:
            evidence = [plain(text) for text in row.get("evidence", ())]
            if row["kind"] == "answerable" and not evidence:
                continue
            right = {row["passage_id"]} if evidence else set()
            yield asked_of(index, row["instruction"], right, partial(holds, evidence=evidence, expected=()))


def company_questions(policies: Path, questions: Path, index_of: Any) -> Iterator[Asked]:
    """Questions about a whole handbook, with the sections and sentences that answer them. Rows without evidence (the
    sample company's) take the expected words."""
    sections = [section for section in load_folder(policies).sections if EVERYONE in section.audience]
    index = index_of(sections)
    for row in read_golden(questions):
        evidence, expected = proofs(row)
        right = {section.id for section in sections for source in row.sources if matches_source(section, source)}
        if row.kind == "answerable" and right:
            yield asked_of(index, row.question, right, partial(holds, evidence=evidence, expected=expected))


def asked_of(index: Index, question: str, right: set[str], states: Callable[[str, str], bool]) -> Asked:
    """A question with its features in an index. `states` says of a unit, with and without the words that it cannot
    stand without, whether it answers."""
    view = index.view((EVERYONE,))
    query = understand(question, view.speller)
    vectors = index.embed([query.text, query.expanded])
    unit_features, section_features = default_scorer().features(view, query, vectors)
    places = [at for at, entry in enumerate(view.entries) if entry.section.id in right]
    units = [
        at
        for at, unit in enumerate(view.units)
        if view.owner[at] in places and states(plain(unit.quoted), plain(unit.text))
    ]
    return Asked(view, query, vectors, unit_features, section_features, units, places[0] if places and units else -1)


def fit_scorer(asked: Sequence[Asked], epochs: int = 8) -> Scorer:
    """Weights under which the right section and unit of every question come first: softmax regression."""
    torch.manual_seed(0)
    start = default_scorer()
    unit_weights = torch.tensor(start.units, requires_grad=True)
    section_weights = torch.tensor(start.sections, requires_grad=True)
    sharpness = torch.tensor(2.5, requires_grad=True)
    prior = [unit_weights.detach().clone(), section_weights.detach().clone()]
    optimizer = torch.optim.Adam([unit_weights, section_weights, sharpness], lr=0.02)
    known = [row for row in asked if row.section >= 0]
    for epoch in range(epochs):
        for batch in np.array_split(np.random.default_rng(epoch).permutation(len(known)), max(1, len(known) // 32)):
            loss = 0.02 * ((unit_weights - prior[0]) ** 2).sum() + 0.02 * ((section_weights - prior[1]) ** 2).sum()
            for at in batch:
                row = known[at]
                owner = torch.from_numpy(row.view.owner)
                units = torch.from_numpy(row.unit_features) @ unit_weights
                best = torch.full((len(row.view.entries),), -9.0).scatter_reduce(0, owner, units, "amax")
                rest = torch.where(units >= best[owner], torch.full_like(units, -9.0), units)
                second = torch.full_like(best, -9.0).scatter_reduce(0, owner, rest, "amax")
                second = torch.where(second < -8, best - 0.3, second)
                features = torch.cat([best[:, None], second[:, None], torch.from_numpy(row.section_features)], 1)
                sections = features @ section_weights
                chances = torch.log_softmax((units + 0.5 * sections[owner]) * sharpness.exp(), 0)
                loss = loss - torch.logsumexp(chances[row.units], 0) / len(batch)
                loss = loss - torch.log_softmax(sections * sharpness.exp(), 0)[row.section] / len(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():  # a view never speaks against a match
                unit_weights.clamp_(min=0)
                section_weights.clamp_(min=0)
    return Scorer(unit_weights.detach().numpy(), section_weights.detach().numpy(), start.answer, start.answer_read)


def recall(asked: Sequence[Asked], scorer: Scorer) -> str:
    """Recall@1 and @3 of sections, and how often the evidence that is picked holds an answering unit."""
    places, held = [], []
    for row in asked:
        if row.section >= 0:
            ranking = scorer.rank(row.view, row.query, row.vectors)
            places.append(int((ranking.sections > ranking.sections[row.section]).sum()))
            held.append(not pick(row.view, worth(row.view, ranking)).keys().isdisjoint(row.units))
    at = np.array(places)
    shares = f"@1 {np.mean(at < 1):.1%}  @3 {np.mean(at < 3):.1%}  evidence {np.mean(held):.1%}"
    return f"{shares}  ({len(places)} questions)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--write", action="store_true", help=f"write {WEIGHTS}")
    chosen = parser.parse_args()
    embedder, cache = load_embedder(), EmbeddingCache(CACHE)

    def index_of(sections: Sequence[SectionLike]) -> Index:
        return Index.build(sections, embedder, cache)

    unseen = companies(left_out=True)
    parts = {
        "sample company": list(company_questions(Path("data/hr_policies"), Path("data/golden/golden.jsonl"), index_of)),
        "reading passages": list(reading_questions(index_of, lambda texts: cache.embed(embedder, texts))),
    } | {
        folder.name: list(company_questions(folder / "policies", folder / "questions.jsonl", index_of))
        for folder in unseen
    }
    scorer = fit_scorer([row for name, rows in parts.items() if name != CHECKED for row in rows])
    for name, rows in parts.items():
        print(f"{name}: before {recall(rows, default_scorer())}; after {recall(rows, scorer)}")
    report = json.loads(WEIGHTS.read_text("utf-8")) | {
        "units": dict(zip(UNIT_FEATURES, _rounded(scorer.units), strict=True)),
        "sections": dict(zip(SECTION_FEATURES, _rounded(scorer.sections), strict=True)),
    }
    print(json.dumps(report, indent=1))
    if chosen.write:
        WEIGHTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _rounded(weights: Any) -> list[float]:
    return [round(float(weight), 4) for weight in weights]


if __name__ == "__main__":
    main()
