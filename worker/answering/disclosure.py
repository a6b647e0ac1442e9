"""What a disclosure sounds like: a small classifier beside the guard's patterns.

Patterns catch the words somebody thought of; this catches what means the same. A message is seen twice: as the vector
of its meaning and as its words, word pairs and parts of words, which survive bad typing. The weights of one softmax
over the topics are fitted by benchmarks/sensitive_fit.py and ship as disclosure.npz. Its vectors are those of the
packaged model as it is, whatever the documents are searched with: training that brings questions closer to policies
takes them away from what else they may mean. Where that model is not installed the words alone are asked.
"""

import functools
import logging
import re
import zlib
from collections.abc import Iterator
from importlib import resources
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from quantahr.errors import ModelError
from quantahr.retrieval import Embedder
from quantahr.retrieval.embedder import PackagedEmbedder

log = logging.getLogger(__name__)

Features = NDArray[np.float32]

ORDINARY = "ordinary"
SELF_HARM = "self_harm"
DIMENSION = 16384
"""With 4,096, words that have nothing in common fell on one number, and one in thirty self-harm messages was lost."""
CERTAIN = 0.46
"""From this probability on a message is a disclosure whatever the patterns say. A lower one recognises one or two in a
hundred more, and sends everyday questions of the "feeling rough, can't come in" kind to a confidential adviser."""
DANGER = 0.12
"""From this probability of self-harm on the message goes to a human, however likely it is to be harmless. A missed one
may cost a life and a false alarm a click: cross-validation gives 3 % more of them for under 1 % more false alarms."""
UNLIKELY = 0.15
"""Below this a pattern that matched is taken for a word in harmless use. In cross-validation 14 of 1,653
disclosures are lost so, and 34 of the 39 ordinary messages that only a pattern took for one are freed."""
_PART = 0.8
"""One sentence of a longer message has to be surer, for it is judged without the others."""
_LONG = 20
_MEANING = 3.0
_WORDS = 2.0
_PARTS_OF_WORDS = 0.7


@functools.cache
def _weights() -> dict[str, NDArray[np.float32]]:
    with (
        resources.as_file(resources.files("worker.answering").joinpath("disclosure.npz")) as file,
        np.load(file) as arrays,
    ):
        return {
            name: array if (array := arrays[name]).dtype.kind == "U" else array.astype(np.float32) for name in arrays
        }


class Heard(NamedTuple):
    """How a message sounds: the probability that it is a disclosure, its likeliest topic, that of self-harm."""

    sure: float
    topic: str
    danger: float


@functools.cache
def as_packaged() -> Embedder | None:
    """The packaged model as it is, loaded once; None where it is not installed."""
    try:
        return PackagedEmbedder(None)
    except ModelError as error:
        log.warning("disclosures are recognised by their words alone: %s", error)
        return None


class Disclosure:
    """Tells the topic of a disclosure by its meaning. Remembers no message."""

    def __init__(self, embedder: Embedder | None = None) -> None:
        """Loads the weights, in some milliseconds. `embedder` is the packaged one if it is not given."""
        found = _weights()
        embedder = embedder or as_packaged()
        self._embedder = embedder if embedder and str(found["embedder"]) == embedder.name else None
        kind = "both" if self._embedder else "words"
        self._matrix, self._bias = found[f"{kind}_matrix"], found[f"{kind}_bias"]
        self._topics = [str(topic) for topic in found["topics"]]

    def score(self, plain: str) -> Heard:
        """How a message (normalised) sounds; probabilities are 0 to 1."""
        pieces = [plain, *_sentences(plain)]
        features = words(pieces)
        if self._embedder:
            features = combined(self._embedder.embed(pieces), features)
        values = features @ self._matrix + self._bias
        values = np.exp(values - values.max(axis=1, keepdims=True))
        shares = values / values.sum(axis=1, keepdims=True)
        sure = 1.0 - shares[:, self._topics.index(ORDINARY)]
        best = 1 + int(np.argmax(sure[1:])) if len(pieces) > 1 else 0
        chosen = best if sure[best] > _PART and sure[best] > sure[0] else 0
        order = np.argsort(-shares[chosen])
        topic = next(self._topics[number] for number in order if self._topics[number] != ORDINARY)
        return Heard(float(sure[chosen]), topic, float(shares[0, self._topics.index(SELF_HARM)]))


def combined(vectors: Features, counted: Features) -> Features:
    """The features of both views: [messages, dimension of the vectors + DIMENSION]."""
    joined: Features = np.hstack([vectors * _MEANING, counted]).astype(np.float32)
    return joined


def words(texts: list[str]) -> Features:
    """Hashed words, word pairs and triples, and parts of words: float32 of shape [texts, DIMENSION]."""
    rows = np.zeros((len(texts), DIMENSION), np.float32)
    for row, text in zip(rows, texts, strict=True):
        tokens = re.findall(r"[a-z']+|\d+", text)
        for grams, weight in ((set(_runs(tokens)), 1.0), (set(_parts(tokens)), _PARTS_OF_WORDS)):
            for gram in grams:
                row[zlib.crc32(gram.encode()) % DIMENSION] += weight * _WORDS / len(grams) ** 0.5
    return rows


def _runs(tokens: list[str]) -> Iterator[str]:
    for length in (1, 2, 3):
        for start in range(len(tokens) - length + 1):
            yield " ".join(tokens[start : start + length])


def _parts(tokens: list[str]) -> Iterator[str]:
    for token in tokens:
        edged = f"<{token}>"
        for length in (3, 4, 5):
            for start in range(len(edged) - length + 1):
                yield "#" + edged[start : start + length]


def _sentences(plain: str) -> list[str]:
    """The sentences of a long message; nothing for a short one."""
    if len(plain.split()) <= _LONG:
        return []
    pieces = [piece.strip() for piece in re.split(r"(?<=[.!?;])\s+", plain)]
    kept = [piece for piece in pieces if len(piece.split()) >= 4]
    return kept[:8] if len(kept) > 1 else []
