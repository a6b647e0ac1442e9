"""The best of many scores, without sorting them all: there are thousands, and a search asks several times."""

import numpy as np
from numpy.typing import NDArray


def best_first(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The places of the `k` highest scores, highest first; of equal ones the earlier first."""
    if k >= len(scores):
        return np.argsort(-scores, kind="stable")
    least = np.partition(scores, len(scores) - k)[len(scores) - k]
    # All that equal the least are candidates, else which of them is taken would be left to chance.
    candidates = np.flatnonzero(scores >= least)
    return candidates[np.argsort(-scores[candidates], kind="stable")[:k]]
