"""What retrieval takes and gives: sections in, hits and evidence out.

Retrieval depends on the shape of a section, not on how documents are read, so that training and evaluation can feed it
passages that never were a file.
"""

from dataclasses import dataclass
from typing import Protocol

EVERYONE = "employee"
"""The audience whose sections everybody may read."""


class SectionLike(Protocol):
    """The part of `quantahr.policies.Section` that retrieval reads."""

    @property
    def id(self) -> str: ...
    @property
    def document(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def heading_path(self) -> tuple[str, ...]: ...
    @property
    def text(self) -> str: ...
    @property
    def audience(self) -> tuple[str, ...]: ...
    @property
    def content_hash(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Hit:
    """A section that may hold the answer; `score` orders hits of one search and means nothing between searches."""

    section: SectionLike
    score: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """One to a few sentences of a section, as it states them, with the words they cannot stand without.

    `start` is where the first of them begins in `section.text`, in characters.
    """

    section: SectionLike
    text: str
    score: float
    start: int


@dataclass(frozen=True, slots=True)
class Retrieval:
    """The outcome of one search: sections and evidence, best first.

    `answerable` is the probability, between 0 and 1, that the evidence answers the question.
    """

    hits: tuple[Hit, ...]
    evidence: tuple[Evidence, ...]
    answerable: float
