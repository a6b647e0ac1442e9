"""How fast a training goes: as measured in the last one like it, else guessed from how fast the machine multiplies."""

import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from quantahr.retrain import Job
from training.estimate import A10G_FLOPS, Instance, work

LEAST_STEPS: Final = 5
"""Fewer say little: the first ones also warm up."""
SHARE: Final = 0.8
"""Of what this machine multiplies at, per token counted whole: examples that share a prompt are computed once."""


class Pace(BaseModel):
    """`seconds` for a token of the plan, on this base and at this place."""

    model_config = ConfigDict(frozen=True)

    base: str
    where: str
    seconds: float


def measured(history: Iterable[Job]) -> tuple[Pace, ...]:
    """What earlier jobs took, newest first, as `history` gives them."""
    found = []
    for job in history:
        plan, progress = job.plan, job.progress
        if plan and plan.tokens and progress and progress.step_seconds and progress.step >= LEAST_STEPS:
            found.append(
                Pace(base=plan.base, where=plan.where, seconds=progress.step_seconds * plan.steps / plan.tokens)
            )
    return tuple(found)


def rented(parameters: int, tokens: int, instance: Instance) -> float:
    """Seconds on a rented machine, from its recorded speed."""
    return work(parameters, tokens) / (A10G_FLOPS * instance.relative_speed)


def guessed(parameters: int, tokens: int) -> float:
    """Seconds on this machine; a GPU counts as an A10G."""
    speed = A10G_FLOPS if Path("/dev/nvidia0").exists() else SHARE * _multiplies_at()
    return work(parameters, tokens) / speed


def _multiplies_at() -> float:
    """FLOP/s of this machine at products of float32 matrices, the best of five."""
    import numpy as np

    size = 768
    one = np.ones((size, size), np.float32)
    best = math.inf
    for _ in range(5):
        began = time.perf_counter()
        one @ one
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / max(best, 1e-6)
