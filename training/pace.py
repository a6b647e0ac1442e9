"""How fast a training goes: as measured in the last one like it, else guessed from how fast the machine multiplies."""

import math
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from quantahr.retrain import Job
from training.estimate import A10G_FLOPS, Instance, work

LEAST_STEPS: Final = 5
"""Fewer say little: the first ones also warm up."""
SHARE: Final = 1.2
"""Of what this machine multiplies at, per token counted whole, as in the training of the demo's adapter: more than all,
because examples that share a prompt are computed once."""


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
    """FLOP/s of all cores at products of float32 matrices, by processor time: what else runs now is not counted."""
    import numpy as np

    size = 1024
    one = np.ones((size, size), np.float32)
    best = math.inf
    for _ in range(5):
        began = time.process_time()
        one @ one
        best = min(best, time.process_time() - began)
    return 2 * size**3 / max(best, 1e-4) * (os.cpu_count() or 1)
