"""Which examples are seen in which step: datasets mixed by weight, each walked through again and again.

The whole schedule is computed before the first step from (material, config, seed), so that a resumed run continues with
the very next micro-batch, and so that it can be said beforehand how often every section will be seen.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from training.config import Training
from training.dataset.alpaca import DatasetError
from training.dataset.arrange import Group, arrange
from training.dataset.example import Encoded, Example
from training.dataset.material import Material


@dataclass(frozen=True, slots=True)
class Schedule:
    """`steps[s][a]` is a micro-batch: a tuple of encoded examples that share most of their prompt.

    `seen` counts the examples per (dataset, source id), `kinds` per (dataset, kind), `dropped` what was left out, by
    reason.
    """

    steps: tuple[tuple[tuple[Encoded, ...], ...], ...]
    seen: Counter[tuple[str, str]]
    kinds: Counter[tuple[str, str]]
    dropped: Counter[str]

    @property
    def examples(self) -> int:
        return sum(self.seen.values())

    @property
    def tokens(self) -> int:
        """Tokens of all examples, each counted whole, without padding and without sharing."""
        return sum(len(example) for step in self.steps for batch in step for example in batch)


class Encodes(Protocol):
    """What makes tokens of an example."""

    def encode(self, example: Example) -> Encoded: ...


def build_schedule(
    materials: Sequence[Material],
    training: Training,
    encoder: Encodes,
    *,
    max_tokens: int,
    max_steps: int | None = None,
) -> Schedule:
    """`max_steps` (the configured number) steps of `gradient_accumulation_steps` micro-batches each.

    Examples longer than `max_tokens` are left out and counted. Raises DatasetError when nothing is left.
    """
    queues = [_Queue(material, training, encoder, max_tokens) for material in materials]
    queues = [queue for queue in queues if queue.fill()]
    if not queues:
        raise DatasetError(
            f"No example fits into model.max_sequence_length = {max_tokens} tokens, or the files hold none. "
            "Raise it, or look at `quantahr dataset --preview`."
        )
    steps = []
    for _ in range(max_steps or training.max_steps):
        batches = []
        for _ in range(training.gradient_accumulation_steps):
            queue = min(queues, key=lambda queue: queue.taken / queue.material.weight)
            batches.append(queue.take())
        steps.append(tuple(batches))
    dropped: Counter[str] = Counter()
    seen: Counter[tuple[str, str]] = Counter()
    kinds: Counter[tuple[str, str]] = Counter()
    for queue in queues:
        dropped.update(queue.material.dropped)
        dropped.update(queue.dropped)
        seen.update({(queue.material.name, source): count for source, count in queue.seen.items()})
        kinds.update({(queue.material.name, kind): count for kind, count in queue.kinds.items()})
    return Schedule(tuple(steps), seen, kinds, dropped)


class _Queue:
    """One dataset's groups, epoch after epoch."""

    def __init__(self, material: Material, training: Training, encoder: Encodes, max_tokens: int) -> None:
        self.material, self.taken, self.epoch = material, 0, 0
        self.seen: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self._training, self._encoder, self._max_tokens = training, encoder, max_tokens
        self._waiting: list[tuple[Group, tuple[Encoded, ...]]] = []

    def fill(self) -> bool:
        """Lays out the next epoch; False when it holds nothing that fits."""
        size, seed = self._training.per_device_train_batch_size, self._training.seed
        too_long = 0
        for group in arrange(self.material, size=size, seed=seed, epoch=self.epoch):
            encoded = [(example, self._encoder.encode(example)) for example in group]
            fitting = [(example, ids) for example, ids in encoded if len(ids) <= self._max_tokens]
            too_long += len(encoded) - len(fitting)
            if fitting:
                self._waiting.append((tuple(item[0] for item in fitting), tuple(item[1] for item in fitting)))
        if too_long and not self.epoch:
            self.dropped[f"example longer than {self._max_tokens} tokens"] = too_long
        self.epoch += 1
        return bool(self._waiting)

    def take(self) -> tuple[Encoded, ...]:
        if not self._waiting:
            self.fill()
        group, encoded = self._waiting.pop(0)
        self.taken += len(group)
        self.seen.update(example.source for example in group)
        self.kinds.update(example.kind for example in group)
        return encoded
