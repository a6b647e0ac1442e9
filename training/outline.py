"""What a run will be like, in a second or two: for the plan that an administrator waits for.

The same documents, questions and groups as in the run itself, but tokens are estimated from the length of the words,
and nothing is searched or written: the sections beside a section stand in for what retrieval would bring up. So numbers
of examples and tokens are within a few percent, while the run's id, its steps and its documents are exact.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from quantahr.prompt import plain_text
from training.config import Dataset, QloraConfig, warnings_for
from training.dataset.alpaca import read_alpaca
from training.dataset.example import Encoded, Example
from training.dataset.handbooks import sketch_handbooks
from training.dataset.material import Material
from training.dataset.neighbours import beside
from training.dataset.policies import read_policies
from training.dataset.schedule import Schedule, build_schedule
from training.identity import run_id
from training.shape import Shape, read_shape

_PIECES: Final = re.compile(r"[A-Za-z]{1,7}|\d|[^\sA-Za-z\d]")
"""About what byte-pair encoding makes of English: most words whole, long ones in two, digits and marks one by one."""


@dataclass(frozen=True, slots=True)
class Outline:
    """`tokens` of all examples, each counted whole; `widest` those of the largest micro-batch."""

    run_id: str
    shape: Shape
    steps: int
    examples: int
    tokens: int
    widest: int
    warnings: tuple[str, ...]


class RoughEncoder:
    """Stands in for a tokenizer where only the number of tokens counts."""

    def __init__(self) -> None:
        self._counted: dict[str, int] = {}

    def encode(self, example: Example) -> Encoded:
        """As many tokens as the example has, about; all of them zero."""
        return Encoded((0,) * self._count(plain_text(example.messages)), (0,) * (self._count(example.answer) + 1))

    def _count(self, text: str) -> int:
        if text not in self._counted:
            self._counted[text] = len(_PIECES.findall(text))
        return self._counted[text]


def outline(config: QloraConfig, *, root: Path = Path()) -> Outline:
    """Reads the data and counts. Raises QuantaHRError for an unreadable file or a base that cannot be found."""
    shape = read_shape(config.model.base_llm_model)
    _, schedule = lay_out(config, root)
    batches = [batch for step in schedule.steps for batch in step]
    return Outline(
        run_id=run_id(config, root=root),
        shape=shape,
        steps=len(schedule.steps),
        examples=schedule.examples,
        tokens=schedule.tokens,
        widest=max(sum(map(len, batch)) for batch in batches),
        warnings=tuple(warnings_for(config, chat_template=shape.chat_template)),
    )


def lay_out(config: QloraConfig, root: Path = Path()) -> tuple[tuple[Material, ...], Schedule]:
    """The datasets and every step, with estimated tokens. Raises QuantaHRError for an unreadable file."""
    materials = tuple(_sketch(dataset, root) for dataset in config.datasets)
    schedule = build_schedule(materials, config.training, RoughEncoder(), max_tokens=config.model.max_sequence_length)
    return materials, schedule


def _sketch(dataset: Dataset, root: Path) -> Material:
    if dataset.type == "alpaca":
        return read_alpaca(dataset, root=root)
    if dataset.type == "handbook":
        return sketch_handbooks(dataset, root=root)
    return read_policies(dataset, root=root, search=beside)
