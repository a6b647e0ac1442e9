"""Which sentences are put before the model, and before the asker.

Few and enough: the model's time goes into reading them. The nearest sentences are read beside the question, which
sorts them anew. The best one comes with the words it cannot stand without; others follow while they are nearly as good
or stand right beside it, within a budget.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from quantahr.retrieval.order import best_first
from quantahr.retrieval.reader import Reads, as_read
from quantahr.retrieval.sections import Evidence

if TYPE_CHECKING:
    from quantahr.retrieval.scoring import Ranking, View

BUDGET_WORDS = 90
"""About 120 tokens."""
MAX_UNITS = 5
_SECTION_SHARE = 1.2
_NEIGHBOUR_SHARE = 0.4
_NEAR = 0.6
_READ_SHARE = 0.2
READ_UNITS = 5
"""Units that are read. Reading is what a search costs most, and more of them find little more."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the reader makes of a question: log-odds that each of the nearest units answers it, nearest first."""

    units: tuple[float, ...]


def choose(
    view: "View", question: str, ranking: "Ranking", reader: Reads | None
) -> tuple[tuple[Evidence, ...], Reading | None]:
    """The evidence for a question, and what the reader, if there is one, makes of what is nearest to it."""
    scores, reading = weighed(view, question, ranking, reader)
    return joined(view, pick(view, scores)), reading


def weighed(
    view: "View", question: str, ranking: "Ranking", reader: Reads | None
) -> tuple[NDArray[np.float32], Reading | None]:
    """How much every unit is worth showing once the nearest have been read, and what the reader made of these."""
    scores = worth(view, ranking)
    if reader is None or not len(scores):
        return scores, None
    nearest = best_first(scores, READ_UNITS)
    odds = reader.log_odds(question, [passage(view, standing(view, int(at))) for at in nearest])
    # What was read only rises: nothing unread passes it because the reader has doubts about everything.
    scores[nearest] += _READ_SHARE * (odds - odds.min())
    return scores, Reading(tuple(float(value) for value in odds))


def standing(view: "View", at: int) -> list[int]:
    """A unit, after the one that it cannot stand without if there is one."""
    points_back = view.units[at].needs_previous and at - 1 >= int(view.first_unit[view.owner[at]])
    return [at - 1, at] if points_back else [at]


def passage(view: "View", units: Sequence[int]) -> str:
    """Units of one section as the reader sees them together."""
    return " ".join(as_read(piece) for piece in joined(view, dict.fromkeys(units, 0.0)))


def worth(view: "View", ranking: "Ranking") -> NDArray[np.float32]:
    """How much every unit is worth reading: itself, its section and the better of its neighbours."""
    scores = ranking.units + _SECTION_SHARE * ranking.sections[view.owner] + _NEIGHBOUR_SHARE * _beside(view, ranking)
    return np.asarray(scores, np.float32)


def pick(view: "View", scores: NDArray[np.float32]) -> dict[int, float]:
    """The units to show, with their scores. Minus infinity says that a unit is not to be shown."""
    order = best_first(scores, MAX_UNITS * 4)
    chosen: dict[int, float] = {}
    seen: set[str] = set()
    spent = 0
    for at in order:
        number = int(at)
        if not np.isfinite(scores[number]):
            break
        new = [unit for unit in standing(view, number) if unit not in chosen]
        cost = sum(len(view.units[unit].quoted.split()) for unit in new)
        repeated = view.units[number].quoted.lower() in seen
        # A sentence that only introduces a list says nothing without it; the items bring it along.
        if not new or repeated or (view.units[number].text.endswith(":") and chosen):
            continue
        if chosen and (
            float(scores[number]) < _NEAR * float(scores[order[0]])
            or spent + cost > BUDGET_WORDS
            or len(chosen) + len(new) > MAX_UNITS
        ):
            continue
        for unit in new:
            chosen[unit] = float(scores[number])
            seen.add(view.units[unit].quoted.lower())
        spent += cost
    return chosen


def _beside(view: "View", ranking: "Ranking") -> NDArray[np.float32]:
    """The score of the better neighbour of every unit: an answer often goes on in the next sentence."""
    units, owner = ranking.units, view.owner
    lowest = np.float32(units.min(initial=0.0))
    before = np.where(owner[1:] == owner[:-1], units[:-1], lowest)
    after = np.where(owner[1:] == owner[:-1], units[1:], lowest)
    beside = np.full_like(units, lowest)
    beside[1:] = np.maximum(beside[1:], before)
    beside[:-1] = np.maximum(beside[:-1], after)
    return beside


def joined(view: "View", chosen: Mapping[int, float]) -> tuple[Evidence, ...]:
    """Chosen units as evidence, best first. Neighbouring sentences come as one piece."""
    pieces: list[list[int]] = []
    for at in sorted(chosen):
        if pieces and at == pieces[-1][-1] + 1 and view.owner[at] == view.owner[pieces[-1][0]]:
            pieces[-1].append(at)
        else:
            pieces.append([at])
    found = []
    for piece in pieces:
        lead = ""
        parts: list[str] = []
        for number in piece:
            unit = view.units[number]
            said = unit.lead in (lead, " ".join(parts[-1:]))
            parts.append(unit.text if said else unit.quoted)
            lead = unit.lead or lead
        found.append(
            Evidence(
                section=view.entries[int(view.owner[piece[0]])].section,
                text=" ".join(parts),
                score=max(chosen[number] for number in piece),
                start=view.units[piece[0]].start,
            )
        )
    return tuple(sorted(found, key=lambda item: -item.score))
