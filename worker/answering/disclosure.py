"""What a disclosure sounds like: a small classifier over sentence embeddings, beside the guard's patterns.

Patterns catch the words somebody thought of; this catches what means the same. It is fitted when it is loaded, on the
examples in guard_examples.yaml, in closed form (ridge regression), so it fits whatever embedding model is configured
and an administrator can teach it by adding a line.
"""

from collections.abc import Callable, Sequence
from importlib import resources

import numpy as np
import yaml
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Embed = Callable[[Sequence[str]], Vectors]

ORDINARY = "ordinary"
_RIDGE = 1.0
_THRESHOLD = 0.6
"""Measured: an ordinary question almost never scores this high, and what the patterns miss mostly does."""


class Disclosure:
    """Tells the topic of a disclosure by its meaning."""

    def __init__(self, embed: Embed, *, remembering: Embed | None = None) -> None:
        """Embeds the examples; about a second, unless `remembering` has them. Messages are never remembered."""
        raw: dict[str, list[str]] = yaml.safe_load(
            resources.files("worker.answering").joinpath("guard_examples.yaml").read_text(encoding="utf-8")
        )
        self._embed = embed
        self._topics = [topic for topic in raw if topic != ORDINARY]
        texts = [text.lower() for examples in raw.values() for text in examples]
        topics = [topic for topic, examples in raw.items() for _ in examples]
        vectors = _with_bias((remembering or embed)(texts))
        targets = np.array([[1.0 if topic == own else -1.0 for own in self._topics] for topic in topics])
        sensitive = np.array([-1.0 if topic == ORDINARY else 1.0 for topic in topics])
        targets = np.column_stack([sensitive, targets])
        # Both sides weigh the same, however many examples each has.
        weight = np.where(sensitive > 0, 0.5 / (sensitive > 0).sum(), 0.5 / (sensitive < 0).sum()) * len(texts)
        weighted = vectors * weight[:, None]
        penalty = _RIDGE * np.eye(vectors.shape[1])
        penalty[-1, -1] = 0.0
        self._weights = np.linalg.solve(weighted.T @ vectors + penalty, weighted.T @ targets)

    def score(self, text: str) -> tuple[float, str]:
        """How much a message sounds like a disclosure (above 0 it is likelier than not), and the likeliest topic."""
        values = (_with_bias(self._embed([text.lower()])) @ self._weights)[0]
        return float(values[0]), self._topics[int(np.argmax(values[1:]))]

    def topic(self, text: str) -> str:
        """The topic of a disclosure, or an empty string."""
        value, topic = self.score(text)
        return topic if value > _THRESHOLD else ""


def _with_bias(vectors: Vectors) -> NDArray[np.float64]:
    return np.column_stack([vectors.astype(np.float64), np.ones(len(vectors))])
