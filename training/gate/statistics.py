"""How sure one can be of a share or a mean, and whether two versions differ by more than chance.

Both versions answer the same questions, so they are compared question by question: only where they differ is there
anything to learn. Pure Python on a few hundred numbers; the bootstrap's draws are always the same ones.
"""

import math
import random
from collections.abc import Callable, Sequence

_Z95 = 1.959964
_DRAWS = 2000


def wilson(right: int, of: int, z: float = _Z95) -> tuple[float, float]:
    """Wilson's interval for a share: (low, high), 95% by default. Without observations: (0, 1)."""
    if of == 0:
        return 0.0, 1.0
    share = right / of
    denominator = 1 + z * z / of
    middle = share + z * z / (2 * of)
    spread = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return max(0.0, (middle - spread) / denominator), min(1.0, (middle + spread) / denominator)


def mcnemar(lost: int, won: int) -> float:
    """How likely at least `lost` of lost + won questions go that way if both versions are equally good (one-sided).

    McNemar's exact test: `lost` questions only the old version got right, `won` only the new one.
    """
    of = lost + won
    return math.fsum(math.comb(of, k) / 2**of for k in range(lost, of + 1))


def interval(values: Sequence[float], middle: Callable[[Sequence[float]], float]) -> tuple[float, float]:
    """The 95% bootstrap interval of the mean or median of `values`: (low, high). Without values: (0, 0)."""
    if not values:
        return 0.0, 0.0
    rng = random.Random(len(values))  # noqa: S311 (the same draws every time)
    found = sorted(middle(rng.choices(values, k=len(values))) for _ in range(_DRAWS))
    return found[int(_DRAWS * 0.025)], found[int(_DRAWS * 0.975) - 1]
