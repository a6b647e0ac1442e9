"""The reader: the packaged MiniLM reading a question and sentences together, and saying whether these answer it.

An embedding hears that question and sentence are about the same thing; only reading them side by side tells that one
speaks of part-timers and the other of apprentices. What was learned (training/reader_fit.py) is a difference of low
rank to the packaged model's matrices, a megabyte in `reader.npz`; it is laid over them when the reader is loaded.
"""

import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from quantahr.errors import ModelError
from quantahr.retrieval.minilm import CLS, SEP, Session, Text, encoder, mean, packaged_base, packaged_words, widened
from quantahr.retrieval.onnx_file import Graph
from quantahr.retrieval.sections import Evidence

log = logging.getLogger(__name__)

MAX_TOKENS = 176
"""Of question and sentences together."""
QUESTION_TOKENS = 56
_LEARNED = Path(__file__).with_name("reader.npz")

LogOdds = NDArray[np.float32]
Pair = tuple[str, str]


class Reads(Protocol):
    """What the search needs of a reader."""

    def log_odds(self, question: str, passages: Sequence[str]) -> LogOdds: ...


class Reader:
    """Scores how well passages answer a question. Safe to call from several threads."""

    def __init__(self, learned: Path = _LEARNED) -> None:
        """`learned` holds what training learned. Raises ModelError when the packaged model or `learned` is missing or
        damaged."""
        self._session = _trained(learned)

    def log_odds(self, question: str, passages: Sequence[str]) -> LogOdds:
        """For each passage, the log-odds that it answers the question: float32, [len(passages)].

        What is longer than MAX_TOKENS together is cut at the end.
        """
        found = np.empty(len(passages), np.float32)
        for places, odds in self._session.run(tokens_of([(question, passage) for passage in passages])):
            found[places] = odds[:, 0]
        return found


def tokens_of(pairs: Sequence[Pair]) -> list[Text]:
    """Questions with passages as they are read together, cut to MAX_TOKENS."""
    encoded = packaged_words().ids([text for pair in pairs for text in pair])
    found: list[Text] = []
    for question, passage in zip(encoded[::2], encoded[1::2], strict=True):
        first = [CLS, *question[:QUESTION_TOKENS], SEP]
        found.append((first, [*passage[: MAX_TOKENS - len(first) - 1], SEP]))
    return found


@functools.cache
def default_reader() -> Reader | None:
    """The reader that ships with the package, loaded once; None where the packaged model is not installed."""
    if not _LEARNED.is_file():
        return None
    try:
        return Reader()
    except ModelError as error:
        log.warning("questions are not read together with the evidence, which makes abstaining less sure: %s", error)
        return None


def as_read(piece: Evidence) -> str:
    """Evidence as the reader sees it: under its heading and the one above, without the document's title."""
    path = piece.section.heading_path
    below = [part for part in path if part != piece.section.title] or list(path)
    return f"{' - '.join(below[-2:])}: {piece.text}"


def _trained(learned: Path) -> Session:
    try:
        with np.load(learned) as arrays:
            changed = {name: widened(arrays[name]) for name in arrays}
        graph = Graph()
        encoded = encoder(graph, packaged_base(), changed)
        first = graph.add("Gather", [encoded.states, graph.array("first", np.array(0))], axis=1)
        both = graph.add("Concat", [first, mean(graph, encoded)], axis=1)
        head = [graph.array(name, changed[name]) for name in ("hidden", "hidden_bias", "verdict", "verdict_bias")]
        hidden = graph.add("Gelu", [graph.add("Gemm", [both, *head[:2]])], domain="com.microsoft")
        return Session(graph, {graph.add("Gemm", [hidden, *head[2:]]): 2})
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"The reader {learned} cannot be loaded ({type(error).__name__}). Install QuantaHR again."
        ) from None
