"""Several examples in one row without padding, and what they share only once.

Examples that share their evidence share most of their tokens: the system text, the excerpts. Each distinct prefix
becomes one path of a tree; the tree's tokens are laid out in a row, each at its own position, and a token attends to
its ancestors only. The numbers are those of training every example by itself, the work is a fraction (measured in
benchmarks/training_speed.py). Logits are computed only where an answer is learned: with a vocabulary of 49,000 that is
a third of the work of a small model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from training.dataset.example import Encoded


@dataclass(frozen=True, slots=True)
class Pack:
    """One forward pass. T tokens in a row, N learned tokens.

    `ids` and `positions` [T]; `visible` [T, T], row i marks what token i attends to; `predictors` [N] are places in the
    row whose next token is `targets` [N]. `examples` are in it; `whole` is their length without sharing, in tokens.
    """

    ids: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]
    visible: npt.NDArray[np.bool_]
    predictors: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    examples: int
    whole: int


def pack(examples: Sequence[Encoded]) -> Pack:
    """The examples as one tree. Prompts share equal beginnings; answers are never shared."""
    ids: list[int] = []
    parents: list[int] = []
    children: dict[tuple[int, int], int] = {}
    predictors: list[int] = []
    targets: list[int] = []
    for example in examples:
        at = -1
        for token in example.prompt:
            if (at, token) not in children:
                children[at, token] = len(ids)
                ids.append(token)
                parents.append(at)
            at = children[at, token]
        predictors.append(at)
        targets.append(example.answer[0])
        # The last token, the end of the turn, is learned but predicts nothing: it is not computed.
        for token, following in pairwise(example.answer):
            parents.append(at)
            at = len(ids)
            ids.append(token)
            predictors.append(at)
            targets.append(following)
    positions = np.zeros(len(ids), dtype=np.int64)
    visible = np.zeros((len(ids), len(ids)), dtype=np.bool_)
    for place, parent in enumerate(parents):
        if parent >= 0:
            positions[place] = positions[parent] + 1
            visible[place] = visible[parent]
        visible[place, place] = True
    return Pack(
        np.asarray(ids, dtype=np.int64),
        positions,
        visible,
        np.asarray(predictors, dtype=np.int64),
        np.asarray(targets, dtype=np.int64),
        examples=len(examples),
        whole=sum(len(example) for example in examples),
    )
