"""How a question is matched with sections and sentences: a few views, weighed together.

Each view is blind somewhere: embeddings to rare words and to kinds of answers, BM25 to paraphrase, a sentence to its
heading. A linear model over their scores, fitted once on questions about many companies (training/retrieval_fit.py),
weighs them; its weights ship beside this module.
"""

import functools
import json
import math
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantahr.retrieval.answerable import FEATURES, READ_FEATURES, answer_features
from quantahr.retrieval.cues import KINDS, asked
from quantahr.retrieval.embedder import Vectors
from quantahr.retrieval.evidence import Reading
from quantahr.retrieval.lexical import Bm25
from quantahr.retrieval.order import best_first
from quantahr.retrieval.query import Query
from quantahr.retrieval.sections import Evidence
from quantahr.retrieval.spelling import Speller
from quantahr.retrieval.units import Unit

if TYPE_CHECKING:
    from quantahr.retrieval.index import Prepared

Floats = NDArray[np.float32]


UNIT_FEATURES = (
    "unit", "unit_expanded", "bare", "bare_expanded", "window", "heading", "heading_expanded",
    "unit_words", "section_words", "unit_coverage", "section_coverage", "heading_coverage",
    *(f"cue_{kind}" for kind in KINDS),
)  # fmt: skip
SECTION_FEATURES = (
    "best_unit", "second_unit", "window", "window_expanded", "heading", "heading_expanded",
    "section_words", "section_coverage", "heading_coverage",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What one audience may search. `owner[u]` is the entry of unit u, `first_unit[e]` and
    `first_window[e]` are the first unit and window of entry e."""

    entries: "tuple[Prepared, ...]"
    units: tuple[Unit, ...]
    owner: NDArray[np.int64]
    first_window: NDArray[np.int64]
    first_unit: NDArray[np.int64]
    unit_vectors: Vectors
    bare_vectors: Vectors
    window_vectors: Vectors
    heading_vectors: Vectors
    unit_kinds: Floats
    unit_words: Bm25
    section_words: Bm25
    heading_words: Bm25
    speller: Speller


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Scores of all units and entries of a view, with the features they came from."""

    units: Floats
    sections: Floats
    unit_features: Floats
    section_features: Floats

    def best_sections(self, k: int) -> list[int]:
        return [int(at) for at in best_first(self.sections, k)]


@dataclass(frozen=True, slots=True, eq=False)
class Scorer:
    """Fitted weights: `units` follow UNIT_FEATURES, `sections` SECTION_FEATURES, `answer` answerable.FEATURES with the
    bias last, and `answer_read` the same with READ_FEATURES before the bias."""

    units: Floats
    sections: Floats
    answer: Floats
    answer_read: Floats

    def rank(self, view: View, query: Query, vectors: Vectors) -> Ranking:
        """Scores for a question whose vectors are those of its text and, if it has one, of its expansion."""
        features, sections = self.features(view, query, vectors)
        unit_scores = features @ self.units
        best, second = _two_best(unit_scores, view.first_unit)
        section_features = np.column_stack([best, second, sections]).astype(np.float32)
        return Ranking(unit_scores, section_features @ self.sections, features, section_features)

    def features(self, view: View, query: Query, vectors: Vectors) -> tuple[Floats, Floats]:
        """The features of all units, [units, len(UNIT_FEATURES)], and those of all entries but the first two."""
        owner = view.owner
        # Vector by vector: a product with a matrix of two columns takes twice as long as two products with vectors.
        unit, bare, heading, window = (
            np.column_stack([matrix @ vectors[0], matrix @ vectors[-1]])
            for matrix in (view.unit_vectors, view.bare_vectors, view.heading_vectors, view.window_vectors)
        )
        window = np.maximum.reduceat(window, view.first_window, axis=0)
        own = dict.fromkeys(query.own, 1.0)
        most = sum(weight * view.section_words.idf(term) for term, weight in own.items()) * 2.2 or 1.0
        section_words = view.section_words.scores(query.terms) / most
        section_coverage = view.section_words.coverage(own)
        heading_coverage = view.heading_words.coverage(query.terms)
        cues = view.unit_kinds * asked(query.text)
        features = np.column_stack(
            [
                unit,
                bare,
                window[owner, 0],
                heading[owner],
                view.unit_words.scores(query.terms) / most,
                section_words[owner],
                view.unit_words.coverage(own),
                section_coverage[owner],
                heading_coverage[owner],
                cues,
            ]
        ).astype(np.float32)
        sections = np.column_stack([window, heading, section_words, section_coverage, heading_coverage]).astype(
            np.float32
        )
        return features, sections

    def answerable(
        self, view: View, query: Query, ranking: Ranking, evidence: tuple[Evidence, ...], reading: Reading | None
    ) -> float:
        """The probability that the evidence answers the question."""
        if not evidence:
            return 0.0
        weights = self.answer if reading is None else self.answer_read
        value = float(answer_features(view, query, ranking, evidence, reading) @ weights[:-1] + weights[-1])
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, value))))


@functools.cache
def default_scorer() -> Scorer:
    """The scorer that ships with the package."""
    raw: dict[str, Any] = json.loads(
        resources.files("quantahr.retrieval").joinpath("weights.json").read_text(encoding="utf-8")
    )
    return Scorer(
        units=np.array([raw["units"].get(name, 0.0) for name in UNIT_FEATURES], np.float32),
        sections=np.array([raw["sections"].get(name, 0.0) for name in SECTION_FEATURES], np.float32),
        answer=np.array([raw["answer"][name] for name in (*FEATURES, "bias")], np.float32),
        answer_read=np.array([raw["answer_read"][name] for name in (*FEATURES, *READ_FEATURES, "bias")], np.float32),
    )


def _two_best(values: Floats, first: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """The highest and second highest value of each run of `values`; runs begin at `first`."""
    best = np.maximum.reduceat(values, first)
    owner = np.repeat(np.arange(len(first)), np.diff([*first, len(values)]))
    masked = values.copy()
    at_best = values == best[owner]
    masked[at_best] = -np.inf
    second = np.maximum.reduceat(masked, first)
    return best.astype(np.float32), np.where(np.isfinite(second), second, best - 0.3).astype(np.float32)
