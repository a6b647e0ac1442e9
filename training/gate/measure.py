"""What is measured of a version, each with its interval, and old against new.

A measure is a share of the questions that it concerns, a mean over all answers, or a median, which one slow answer
(the first after loading, say) does not move. Answers come as the rows that `quantahr batch` writes.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from quantahr.grading import Golden, Grade, grade
from training.gate.statistics import interval, mcnemar, wilson


@dataclass(frozen=True, slots=True)
class Measure:
    """`field` is the Grade's for a share, the answer's for others. Shares should be high, the others low."""

    name: str
    label: str
    field: str
    shape: Literal["share", "mean", "median"] = "share"

    def middle(self, values: Sequence[float]) -> float:
        """The value of the measure over `values`."""
        return statistics.median(values) if self.shape == "median" else statistics.fmean(values)


MEASURES = (
    Measure("correct", "Correct", "correct"),
    Measure("cited", "Right section cited", "cited"),
    Measure("correct_cited", "Correct with the right citation", "correct_cited"),
    Measure("abstained", "Unanswerable, and said so", "abstained"),
    Measure("routed", "Sensitive, routed to a human", "routed"),
    Measure("refused", "Injected instruction not obeyed", "refused"),
    Measure("words", "Words per answer", "words", "mean"),
    Measure("ms_first_token", "Milliseconds to the first word", "ms_first_token", "median"),
    Measure("ms_total", "Milliseconds to the last word", "ms_total", "median"),
)


@dataclass(frozen=True, slots=True)
class Graded:
    """One question with its answer and grade."""

    golden: Golden
    answer: str
    verdict: str
    sources: tuple[str, ...]
    grade: Grade
    words: float
    ms_first_token: float | None
    ms_total: float | None

    def value(self, measure: Measure) -> float | None:
        """What this answer contributes to a measure; None if it does not concern it."""
        found = getattr(self.grade if measure.shape == "share" else self, measure.field)
        return None if found is None else float(found)


@dataclass(frozen=True, slots=True)
class Line:
    """A measure's value with its 95% interval over `count` answers. Shares between 0 and 1."""

    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class Difference:
    """New against old on the same questions.

    For a share, `lost` and `won` count the questions that only the old or only the new version got right, and `chance`
    is how likely as many would be lost if both were equally good. For others, `low` and `high` bound the change.
    """

    change: float
    lost: int = 0
    won: int = 0
    chance: float = 1.0
    low: float = 0.0
    high: float = 0.0


def grade_rows(questions: Sequence[Golden], rows: Mapping[str, Mapping[str, Any]]) -> list[Graded]:
    """Grade the answers (batch rows by id) to all questions. Raises KeyError for a question without an answer."""
    graded = []
    for golden in questions:
        row = rows[golden.id]
        answer, verdict, sources = str(row["answer"]), str(row["verdict"]), tuple(row["sources"])
        graded.append(
            Graded(
                golden=golden,
                answer=answer,
                verdict=verdict,
                sources=sources,
                grade=grade(golden, answer=answer, verdict=verdict, sources=sources),
                words=float(len(answer.split())),
                ms_first_token=row.get("ms_first_token"),
                ms_total=row.get("ms_total"),
            )
        )
    return graded


def measure_all(graded: Sequence[Graded]) -> dict[str, Line]:
    """Every measure that any answer contributes to, by name."""
    lines = {}
    for measure in MEASURES:
        values = [value for one in graded if (value := one.value(measure)) is not None]
        if not values:
            continue
        share = measure.shape == "share"
        low, high = wilson(round(sum(values)), len(values)) if share else interval(values, measure.middle)
        lines[measure.name] = Line(measure.middle(values), low, high, len(values))
    return lines


def compare(old: Sequence[Graded], new: Sequence[Graded]) -> dict[str, Difference]:
    """New against old, by measure, over the answers that both contribute to. Both graded the same questions."""
    differences = {}
    for measure in MEASURES:
        pairs = [
            (before, after)
            for one, other in zip(old, new, strict=True)
            if (before := one.value(measure)) is not None and (after := other.value(measure)) is not None
        ]
        if not pairs:
            continue
        changes = [after - before for before, after in pairs]
        change = measure.middle(changes)
        if measure.shape == "share":
            lost, won = sum(step < 0 for step in changes), sum(step > 0 for step in changes)
            differences[measure.name] = Difference(change, lost, won, mcnemar(lost, won) if lost else 1.0)
        else:
            low, high = interval(changes, measure.middle)
            differences[measure.name] = Difference(change, low=low, high=high)
    return differences
