"""What the documents say about a question, for one person: their country's rule and nobody else's.

The sentences are picked and cut to the person's place first; the model only ever sees those, so it cannot mix in
another country's number. Without a model they are quoted.
"""

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from quantahr.people.countries import Places
from quantahr.prompt import Excerpt
from quantahr.retrieval import Embedder, Index, SectionLike
from quantahr.retrieval.units import split_units
from worker.answering import verify
from worker.people.phrasing import Phrase, quote_only

SENTENCES = 3
_HITS = 4
_NEAR = 0.12
_OWN = 0.2
_ANSWERABLE = 0.35
_LIKE = 0.4


@dataclass(frozen=True, slots=True)
class Passage:
    """Sentences for one person, and where they stand: "Leave.docx › Annual leave"."""

    text: str
    where: tuple[str, ...]
    sections: tuple[str, ...]


class Personal:
    """Reads the documents for one person at a time. `index` gives the index in force."""

    def __init__(self, index: Callable[[], Index], embedder: Embedder, phrase: Phrase = quote_only) -> None:
        self._index = index
        self._embedder = embedder
        self._phrase = phrase

    def read(
        self, question: str, places: Places, *, roles: Collection[str] = ("employee",), document: str | None = None
    ) -> Passage | None:
        """Two or three sentences for this person; None if the documents say nothing about it for their place."""
        found = self._index().search(f"{question} ({places.country})", audiences=roles, k=_HITS * 3)
        sections = [hit.section for hit in found.hits if document is None or hit.section.document == document]
        candidates = [(section, text) for section in sections[:_HITS] for text in _for_person(section, places)]
        # Asked as it stands: the country's name alone makes many a sentence look like an answer.
        if not candidates or self._index().search(question, audiences=roles, k=1).answerable < _ANSWERABLE:
            return None
        vectors = self._embedder.embed([question, *(f"{_heading(s)}: {text}" for s, text in candidates)])
        likeness = vectors[1:] @ vectors[0]
        if float(likeness.max()) < _LIKE:
            return None
        scores = [
            float(score) + _OWN * places.own(text) - 0.03 * sections.index(section)
            for score, (section, text) in zip(likeness, candidates, strict=True)
        ]
        best = max(scores)
        order = sorted(range(len(scores)), key=lambda at: -scores[at])
        home = candidates[order[0]][0]
        # Neighbours of the best sentence complete it; a sentence from elsewhere has to be nearly as good.
        chosen = sorted(
            at for at in order[:SENTENCES] if scores[at] >= best - (_NEAR * 1.5 if candidates[at][0] is home else _NEAR)
        )
        return self._passage(question, [candidates[at] for at in chosen], places)

    def _passage(self, question: str, chosen: list[tuple[SectionLike, str]], places: Places) -> Passage:
        sections = list({section.id: section for section, _ in chosen}.values())
        excerpts = [
            Excerpt(number, _heading(section), " ".join(text for owner, text in chosen if owner is section))
            for number, section in enumerate(sections, 1)
        ]
        sentences = self._phrase(f"{question} ({places.country})", excerpts)
        # The excerpts name no other country; a model that does has made it up.
        sentences = [sentence for sentence in sentences if places.keep(sentence) == sentence]
        plain = [re.sub(r"\s*\[\d+\]", "", sentence) for sentence in sentences]
        text = " ".join(plain) if plain else " ".join(text for _, text in chosen)
        cited = {number for sentence in sentences for number in verify.citations(sentence)}
        used = [section for number, section in enumerate(sections, 1) if not cited or number in cited]
        where = tuple(f"{section.document} › {_heading(section)}" for section in used)
        return Passage(text, where, tuple(section.id for section in used))


def _for_person(section: SectionLike, places: Places) -> Iterator[str]:
    """The sentences, rows and whole lists of a section that hold for a person."""
    heading = section.heading_path[-1] if section.heading_path else section.title
    # What stands under a heading about another place is that place's rule, whether it says so again or not.
    if any(places.foreign(part) and not places.own(part) for part in section.heading_path):
        return
    lines = section.text.split("\n")
    items: list[str] = []
    lead = ""
    for unit in split_units(section.text):
        if re.match(r"^table \d", lines[unit.paragraph].strip(), re.IGNORECASE):
            continue  # a caption
        foreign_lead = places.foreign(unit.lead) and not places.own(unit.lead)
        kept = None if foreign_lead else places.keep(unit.text.rstrip(" ,;"), heading)
        if unit.kind == "item" and unit.lead:
            root = unit.lead.partition(":")[0]
            if root != lead:
                yield from _list(lead, items)
                items, lead = [], root
            if kept and not kept.endswith(":"):
                items.append(kept)
            continue
        yield from _list(lead, items)
        items, lead = [], ""
        if kept and len(kept.split()) > 2 and not kept.rstrip().endswith(":"):
            yield _spoken(kept, places)
    yield from _list(lead, items)


def _list(lead: str, items: list[str]) -> Iterator[str]:
    if items:
        yield f"{lead}: {'; '.join(item.rstrip('.') for item in items)}."


def _spoken(text: str, places: Places) -> str:
    """A table row as a sentence begins: "In Germany: grades 1–2: 28 days."."""
    subject, separator, rest = text.partition(";")
    label, colon, value = subject.partition(":")
    if not separator or not colon or ":" not in rest:
        return text if text[-1:] in ".!?:" else f"{text}."
    if places.own(value) and not places.own(label):
        return f"In {places.said}: {rest.strip().rstrip('.')}."
    return f"{text.rstrip('.')}."


def _heading(section: SectionLike) -> str:
    return " › ".join(section.heading_path)
