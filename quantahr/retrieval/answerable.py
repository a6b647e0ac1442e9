"""Whether the evidence answers the question: a probability, from what a near miss looks like.

A near miss is about the same thing and yet says nothing to the question: the right topic, and a word that matters (a
country, a grade, a kind of employee) missing. So the features are how near the best sentence is, how far it stands out,
what of the question is left over, and what the reader says, who has read both; a logistic regression weighs them
(training/answer_fit.py). Without a reader the rest decides, with weights of its own.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from quantahr.retrieval.cues import asked
from quantahr.retrieval.evidence import Reading
from quantahr.retrieval.lexical import stems
from quantahr.retrieval.order import best_first
from quantahr.retrieval.query import Query
from quantahr.retrieval.sections import Evidence

if TYPE_CHECKING:
    from quantahr.retrieval.scoring import Ranking, View

FEATURES = (
    "best", "second_best", "margin", "bare", "bare_expanded", "unit", "window", "heading", "section", "section_margin",
    "same_section", "covered", "covered_expanded", "rarest_missing", "missing", "own_terms", "corpus_missing",
    "cue_asked", "cue_missing", "number_missing",
)  # fmt: skip
READ_FEATURES = ("read_nearest", "read_best", "read_second", "read_third")
"""What there is besides FEATURES when there is a reader."""
_TOP = 3


def answer_features(
    view: "View", query: Query, ranking: "Ranking", evidence: tuple[Evidence, ...], reading: Reading | None
) -> NDArray[np.float32]:
    """What `FEATURES` names, for one search, and what `READ_FEATURES` names if the evidence was read."""
    order = best_first(ranking.units, _TOP + 1)
    top = ranking.unit_features[order[0]]
    sections = ranking.sections[best_first(ranking.sections, 2)]
    text = " ".join(f"{' '.join(piece.section.heading_path)} {piece.text}" for piece in evidence[:_TOP])
    held = set(stems(text))
    rarity = {term: view.section_words.idf(term) for term in query.own}
    whole = sum(rarity.values()) or 1.0
    missing = [value for term, value in rarity.items() if term not in held]
    wide = {term: weight * view.section_words.idf(term) for term, weight in query.terms.items()}
    wanted = asked(query.text)
    given = view.unit_kinds[order[:_TOP]].max(axis=0)
    numbers = {term for term in query.own if term.isdigit()}
    values = (
        ranking.units[order[0]],
        ranking.units[order[min(1, len(order) - 1)]],
        ranking.units[order[0]] - ranking.units[order[-1]],
        top[2],
        top[3],
        top[0],
        top[4],
        top[5],
        sections[0],
        sections[0] - sections[min(1, len(sections) - 1)],
        float(len({int(view.owner[at]) for at in order[:_TOP]}) == 1),
        1.0 - sum(missing) / whole,
        sum(value for term, value in wide.items() if term in held) / (sum(wide.values()) or 1.0),
        max(missing, default=0.0) / 6.0,
        len(missing) / 4.0,
        len(rarity) / 6.0,
        sum(term not in view.section_words for term in query.own) / 3.0,
        wanted.sum() / 3.0,
        float((wanted * (1 - given)).sum()),
        float(bool(numbers - held)),
    )
    return np.array((*values, *_read(reading)), np.float32)


def _read(reading: Reading | None) -> tuple[float, ...]:
    if reading is None:
        return ()
    best, second, third, *_ = *sorted(reading.units, reverse=True), -9.0, -9.0, -9.0
    return reading.units[0] / 4.0, best / 4.0, second / 4.0, third / 4.0
