"""Which sentences are put before the model, and before the asker.

Few and enough: the model's time goes into reading them. The best sentence comes with the words it cannot stand
without; others follow while they are nearly as good or stand right beside it, within a budget.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from quantahr.retrieval.sections import Evidence

if TYPE_CHECKING:
    from quantahr.retrieval.scoring import Ranking, View

BUDGET_WORDS = 90
"""About 120 tokens."""
MAX_UNITS = 5
_SECTION_SHARE = 1.2
_NEIGHBOUR_SHARE = 0.4
_NEAR = 0.6


def pick(view: "View", ranking: "Ranking") -> tuple[Evidence, ...]:
    """The evidence for a ranking, best first, without repetitions. Neighbouring sentences come as one piece."""
    scores = ranking.units + _SECTION_SHARE * ranking.sections[view.owner] + _NEIGHBOUR_SHARE * _beside(view, ranking)
    order = np.argsort(-scores, kind="stable")[: MAX_UNITS * 4]
    if not len(order):
        return ()
    top = float(scores[order[0]])
    chosen: dict[int, float] = {}
    seen: set[str] = set()
    spent = 0
    for at in order:
        number = int(at)
        group = [number]
        if view.units[number].needs_previous and number - 1 >= int(view.first_unit[view.owner[number]]):
            group.insert(0, number - 1)
        new = [unit for unit in group if unit not in chosen]
        cost = sum(len(view.units[unit].quoted.split()) for unit in new)
        repeated = view.units[number].quoted.lower() in seen
        # A sentence that only introduces a list says nothing without it; the items bring it along.
        if not new or repeated or (view.units[number].text.endswith(":") and chosen):
            continue
        if chosen and (
            float(scores[number]) < _NEAR * top or spent + cost > BUDGET_WORDS or len(chosen) + len(new) > MAX_UNITS
        ):
            continue
        for unit in new:
            chosen[unit] = float(scores[number])
            seen.add(view.units[unit].quoted.lower())
        spent += cost
    return _joined(view, chosen)


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


def _joined(view: "View", chosen: dict[int, float]) -> tuple[Evidence, ...]:
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
