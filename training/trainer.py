"""The training loop: plain PyTorch, the same on a CPU and on a GPU.

Three ideas. The loss of a step is the sum over its learned tokens divided by their number, so that how a step is cut
into forward passes changes the memory and nothing else: when memory runs out, passes are halved and the step redone.
Everything random in a step comes from (seed, step), so that a resumed run draws what it would have drawn. And the loop
knows nothing of files: it hands out a `TrainingState` to be saved, and takes one to continue from.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional

from quantahr.errors import QuantaHRError
from training.base import Base
from training.config import Training
from training.dataset.example import Encoded
from training.packing import Pack, pack

Step = Sequence[Sequence[Encoded]]
"""The micro-batches of one optimizer step."""


def _ignore(_: object) -> None:
    """What is done with news that nobody asked for."""


class OutOfMemoryError(QuantaHRError):
    """One example alone does not fit into the memory."""


class DivergedError(QuantaHRError):
    """The loss is no longer a number."""


class LoraMismatchError(QuantaHRError):
    """A checkpoint does not fit the configured LoRA."""


@dataclass(frozen=True, slots=True)
class Point:
    """One step of the training curve.

    `loss` is nats per learned token; `tokens` those of the step's `examples`, each counted whole; `computed` those that
    went through the model; `seconds` how long the step took.
    """

    step: int
    loss: float
    learning_rate: float
    grad_norm: float
    examples: int
    tokens: int
    computed: int
    seconds: float


@dataclass(slots=True)
class TrainingState:
    """What a run continues from.

    `step` steps are done; `adapter` are the LoRA weights by name, `optimizer` and `scaler` the state dicts, `batch` the
    examples per forward pass that fit.
    """

    step: int
    adapter: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    batch: int
    curve: list[Point] = field(default_factory=list)


def train(
    base: Base,
    steps: Sequence[Step],
    training: Training,
    *,
    resume: TrainingState | None = None,
    on_step: Callable[[Point], None] = _ignore,
    on_save: Callable[[TrainingState], None] = _ignore,
    say: Callable[[str], None] = _ignore,
) -> TrainingState:
    """Trains the base's LoRA through `steps`, in place, and returns the final state.

    `on_save` is called every `save_steps` and after the last step. Raises OutOfMemoryError when a single example is too
    much, DivergedError when the loss is not finite.
    """
    model = base.model
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), lr=training.learning_rate, weight_decay=0.0)
    scaler = torch.amp.GradScaler(base.device, enabled=base.device == "cuda" and base.dtype == "float16")
    first, batch, curve = 0, training.per_device_train_batch_size, []
    if resume:
        restore(base, resume)
        optimizer.load_state_dict(resume.optimizer)
        scaler.load_state_dict(resume.scaler)
        first, batch, curve = resume.step, resume.batch, list(resume.curve)

    def state(done: int) -> TrainingState:
        weights = {name: weight.detach().cpu().clone() for name, weight in trained.items()}
        return TrainingState(done, weights, optimizer.state_dict(), scaler.state_dict(), batch, list(curve))

    for number in range(first, len(steps)):
        started = time.monotonic()
        rate = training.learning_rate * schedule_factor(number, len(steps), training)
        for group in optimizer.param_groups:
            group["lr"] = rate
        while True:
            try:
                torch.manual_seed(training.seed * 1_000_003 + number)
                optimizer.zero_grad(set_to_none=True)
                packs = list(_cut(steps[number], batch))
                loss = _accumulate(base, packs, scaler)
                break
            except (torch.OutOfMemoryError, MemoryError):
                batch = _halve(batch, base, say)
        if not math.isfinite(loss):
            raise DivergedError(
                f"The loss is not a number at step {number + 1}. Lower training.learning_rate, or use bf16 or float32 "
                "instead of fp16; the last checkpoint is still good."
            )
        scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(trained.values(), training.max_grad_norm)
        scaler.step(optimizer)
        scaler.update()
        point = Point(
            step=number + 1,
            loss=loss,
            learning_rate=rate,
            grad_norm=float(norm),
            examples=sum(item.examples for item in packs),
            tokens=sum(item.whole for item in packs),
            computed=sum(len(item.ids) for item in packs),
            seconds=time.monotonic() - started,
        )
        curve.append(point)
        on_step(point)
        done = number + 1
        if done == len(steps) or (training.save_strategy == "steps" and done % training.save_steps == 0):
            on_save(state(done))
    return state(max(first, len(steps)))


def schedule_factor(step: int, total: int, training: Training) -> float:
    """The share of the learning rate in force in `step` (from 0): warm-up from 1/warmup_steps, then the schedule."""
    if step < training.warmup_steps:
        return (step + 1) / training.warmup_steps
    progress = (step - training.warmup_steps) / max(1, total - training.warmup_steps)
    if training.lr_scheduler_type == "constant":
        return 1.0
    if training.lr_scheduler_type == "linear":
        return 1.0 - progress
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def summed_loss(base: Base, packed: Pack) -> torch.Tensor:
    """The cross-entropy of a pack's learned tokens, summed, in nats; with its graph."""

    def tensor(values: Any) -> torch.Tensor:
        return torch.from_numpy(values).to(base.device)

    logits = base.model(
        input_ids=tensor(packed.ids)[None],
        position_ids=tensor(packed.positions)[None],
        attention_mask=tensor(packed.visible)[None, None],
        logits_to_keep=tensor(packed.predictors),
        use_cache=False,
    ).logits
    return functional.cross_entropy(logits[0].float(), tensor(packed.targets), reduction="sum")


def _accumulate(base: Base, packs: Sequence[Pack], scaler: torch.amp.GradScaler) -> float:
    learned = sum(len(item.targets) for item in packs)
    total = 0.0
    for item in packs:
        loss = summed_loss(base, item) / learned
        scaler.scale(loss).backward()
        total += loss.item()
    return total


def _cut(step: Step, batch: int) -> Iterator[Pack]:
    for micro in step:
        for at in range(0, len(micro), batch):
            yield pack(micro[at : at + batch])


def _halve(batch: int, base: Base, say: Callable[[str], None]) -> int:
    if batch == 1:
        raise OutOfMemoryError(
            "The memory does not hold a single example. Lower model.max_sequence_length, set "
            "training.gradient_checkpointing or model.quantization.load_in_4bit to true, or take a larger machine."
        )
    if base.device == "cuda":
        torch.cuda.empty_cache()
    say(f"Out of memory: {batch // 2} instead of {batch} examples at a time, twice as many passes a step.")
    return batch // 2


def restore(base: Base, state: TrainingState) -> None:
    """Puts the state's adapter into the base's LoRA. Raises LoraMismatchError when their shapes differ."""
    trained = {name: weight for name, weight in base.model.named_parameters() if weight.requires_grad}
    shapes = {name: tuple(weight.shape) for name, weight in trained.items()}
    if shapes != {name: tuple(weight.shape) for name, weight in state.adapter.items()}:
        raise LoraMismatchError(
            "The checkpoint is of another kind of LoRA. Use the configuration of its run, or start without --resume."
        )
    with torch.no_grad():
        for name, weight in trained.items():
            weight.copy_(state.adapter[name])
