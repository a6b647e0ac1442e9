"""What the reader learns from: questions, the sentences that retrieval found for them, and which of these answer.

Two ideas. Candidates come from the same search that serves, in handbooks of real size, so that the reader learns on
what it will be shown. And a question that its own passage does not answer may be answered by another company's passage
in a mixed handbook: for the reading passages, only its own passage's sentences count as not answering it.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quantahr.grading import read_golden
from quantahr.policies import load_folder
from quantahr.retrieval import Index
from quantahr.retrieval.evidence import passage, standing, worth
from quantahr.retrieval.order import best_first
from quantahr.retrieval.query import understand
from quantahr.retrieval.scoring import default_scorer
from quantahr.retrieval.sections import EVERYONE
from training.dataset.handbooks import holds, matches_source, plain, proofs
from training.retrieval_fit import READING, handbooks, used_for_embedding

CANDIDATES = 16
"""Units a question, best first: more than are read when it serves, for there may be more than one way to miss."""


Pair = tuple[str, bool]
"""A sentence as it is read, under its heading, and whether it answers."""


@dataclass(slots=True)
class Read:
    """A question as the reader meets it: cleaned and as it was typed. `origin` is where it comes from."""

    question: str
    typed: str
    answerable: bool
    origin: str
    pairs: list[Pair]


def reading_rows(*, held_out: bool) -> list[dict[str, Any]]:
    """The rows of the reading files: those the embedding learned from, or the third that is kept for checking."""
    files = sorted(READING.glob("part*.json"))
    chosen = [file for file in files if used_for_embedding(file, files) != held_out]
    return [row for file in chosen for row in json.loads(file.read_text("utf-8"))]


def of_passages(rows: Sequence[dict[str, Any]], index_of: Any, vectors_of: Any) -> Iterator[Read]:
    """Questions about reading passages, in made-up handbooks."""
    for passages, questions in handbooks(rows, vectors_of):
        index = index_of(passages)
        for row in questions:
            evidence = [plain(text) for text in row.get("evidence", ())]
            answerable = row["kind"] == "answerable"
            if answerable == bool(evidence):
                yield read(index, row["instruction"], {row["passage_id"]}, evidence, "reading")


def of_company(policies: Path, questions: Path, index_of: Any) -> Iterator[Read]:
    """Questions about a whole handbook. Rows without evidence (the sample company's) take the expected words."""
    sections = [section for section in load_folder(policies).sections if EVERYONE in section.audience]
    index = index_of(sections)
    for row in read_golden(questions):
        right = {section.id for section in sections for source in row.sources if matches_source(section, source)}
        evidence, expected = proofs(row)
        if row.kind == "unanswerable":
            yield read(index, row.question, set(), [], policies.parent.name)
        elif row.kind == "answerable" and right:
            yield read(index, row.question, right, evidence, policies.parent.name, expected)


def read(
    index: Index, question: str, own: set[str], evidence: Sequence[str], origin: str, expected: Sequence[str] = ()
) -> Read:
    """A question with what retrieval finds for it. `own` are the sections it is about, if it is known to be about any;
    an unanswered one then sees only these."""
    view = index.view((EVERYONE,))
    query = understand(question, view.speller)
    vectors = index.embed([query.text, query.expanded])
    ranking = default_scorer().rank(view, query, vectors)
    places = {at for at, entry in enumerate(view.entries) if entry.section.id in own}
    inside = np.isin(view.owner, list(places))
    answerable = bool(evidence or expected)
    right = {
        int(at)
        for at in np.flatnonzero(inside)
        if holds(plain(view.units[at].quoted), plain(view.units[at].text), evidence, expected)
    }
    scores = worth(view, ranking)
    if not answerable and own:
        scores = np.where(inside, scores, -np.inf).astype(np.float32)
    order = [int(at) for at in best_first(scores, CANDIDATES) if np.isfinite(scores[at])]
    order += [int(at) for at in right if at not in order]
    pairs = [(passage(view, standing(view, at)), not right.isdisjoint(standing(view, at))) for at in order]
    return Read(query.text, question, answerable and bool(right), origin, pairs)
