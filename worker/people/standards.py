"""Standard answers: what HR approved is said before anything else is searched.

A question has to mean the same as the approved one (or a way in which it was asked before), and every section that the
answer rests on has to be in force and for this asker. Otherwise the answer is silent, and the documents speak.
"""

import datetime
import hashlib
import threading
import time
from collections.abc import Callable, Collection
from typing import Final

import numpy as np

from quantahr.messages import Source
from quantahr.people.loop import Loop, Standard
from quantahr.retrieval import Embedder, Index
from quantahr.retrieval.embedder import Vectors
from quantahr.retrieval.lexical import stems
from worker.answering.facts import facts

LIKE: Final = 0.80
"""Cosine from which two questions mean the same; a number or name that only one of them has speaks against it."""
LOOK_SECONDS: Final = 5.0


class Standards:
    """The standard answers in force, looked up every few seconds."""

    def __init__(self, loop: Loop, embedder: Embedder, clock: Callable[[], float] = time.monotonic) -> None:
        self._loop = loop
        self._embedder = embedder
        self._clock = clock
        self._lock = threading.Lock()
        self._read = -LOOK_SECONDS
        self._known: list[tuple[Standard, str]] = []
        self._vectors: Vectors = np.empty((0, 0), np.float32)

    def find(self, question: str, roles: Collection[str], index: Index) -> Standard | None:
        """The answer that HR approved for this question; None if there is none in force for this asker."""
        known, vectors = self._current()
        if not known:
            return None
        likeness = vectors @ self._embedder.embed([question])[0]
        for at in np.argsort(-likeness)[:5]:
            standard, asked = known[int(at)]
            if float(likeness[at]) < LIKE:
                return None
            if facts(question) == facts(asked) and set(stems(question)) & set(stems(asked)):
                return standard if _in_force(standard, roles, index) else None
        return None

    def _current(self) -> tuple[list[tuple[Standard, str]], Vectors]:
        with self._lock:
            if self._clock() - self._read >= LOOK_SECONDS:
                known = [(one, asked) for one in self._loop.standards() for asked in (one.question, *one.variants)]
                if known != self._known:
                    self._vectors = self._embedder.embed([asked for _, asked in known])
                    self._known = known
                self._read = self._clock()
            return self._known, self._vectors


def source_of(standard: Standard) -> Source:
    """How a standard answer is cited: as HR's, with the day of its approval."""
    approved = datetime.datetime.fromtimestamp(standard.approved_at, datetime.UTC).date()
    return Source(
        number=1,
        section=f"standard:{standard.id}",
        document="Standard answer by HR",
        heading=standard.question,
        passage=standard.text,
        version=hashlib.sha256(standard.text.encode()).hexdigest()[:12],
        effective=approved.isoformat(),
    )


def _in_force(standard: Standard, roles: Collection[str], index: Index) -> bool:
    held = {*roles, "employee"}
    if not held.intersection(standard.audience):
        return False
    current = {section.id: section for section in index.sections if section.id in standard.sections}
    return all(
        identifier in current and held.intersection(current[identifier].audience) for identifier in standard.sections
    )
