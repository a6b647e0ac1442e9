"""What a dataset has read from its files, before prompts are made of it: passages, and questions asked about them.

Policies and ready-made rows become the same two shapes, so that one place decides how evidence is laid out.
"""

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass, field

from training.dataset.example import Example


@dataclass(frozen=True, slots=True)
class Passage:
    """A text that answers questions, cut into quotable `units`; `label` is its heading path joined by " > ".

    Passages of one `family` come from the same company, so their statements do not contradict each other.
    """

    id: str
    label: str
    units: tuple[str, ...]
    family: str


@dataclass(frozen=True, slots=True)
class Ask:
    """A question about one passage. `evidence` are indices of the units that answer it, in the order in which the
    answer cites them as [1], [2]…; without evidence the passage does not answer it and `answer` is empty."""

    passage: str
    kind: str
    question: str
    answer: str
    evidence: tuple[int, ...]


@dataclass(slots=True)
class Material:
    """One dataset.

    `passages` with their `asks`; `held_out` asks that are only for evaluation; `ready` examples that need no evidence;
    `neighbours`, for a passage, the units of other passages that a search for its questions also brings up, as (passage
    id, unit); what was `dropped`, by reason.
    """

    name: str
    weight: float
    passages: dict[str, Passage] = field(default_factory=dict)
    asks: list[Ask] = field(default_factory=list)
    held_out: list[Ask] = field(default_factory=list)
    ready: list[Example] = field(default_factory=list)
    neighbours: dict[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)

    def fingerprint(self) -> str:
        """sha256 of everything that training can see of it, independent of the order of the files."""
        lines = [json.dumps(asdict(passage), sort_keys=True) for passage in self.passages.values()]
        lines += [json.dumps(asdict(ask), sort_keys=True) for ask in self.asks]
        lines += [json.dumps([key, units]) for key, units in self.neighbours.items()]
        lines += [json.dumps(asdict(example), sort_keys=True) for example in self.ready]
        return hashlib.sha256("\n".join([str(self.weight), *sorted(lines)]).encode()).hexdigest()
