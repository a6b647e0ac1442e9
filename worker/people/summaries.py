"""Summaries: of a topic, of a document that HR dropped into the chat, of what has changed.

Three ideas. A document is gone through section by section, so that nothing is cut because it did not fit; at a short
length the sections that got no sentence are named. Every sentence stands in its section, or is one of its sentences:
what the model writes is checked like an answer, and its number is never believed. And each ends in its source.
"""

import difflib
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from quantahr.messages import Delta, Event, Provenance, Source, Status
from quantahr.messages import Final as FinalEvent
from quantahr.people.versions import Version, Versions
from quantahr.prompt import Excerpt
from quantahr.retrieval import Embedder, Index, SectionLike
from quantahr.retrieval.lexical import stems
from quantahr.retrieval.units import split_units
from worker.people.phrasing import Phrase

SENTENCES: Final = 6
MOST: Final = 60
CHUNK_WORDS: Final = 220
"""What the model is given at once of a long section."""
_LENGTHS: Final = {"short": 3, "brief": 3, "shorter": 3, "long": 20, "longer": 12, "detailed": 25, "full": MOST}
_NUMBER: Final = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "ten": 10}
_LENGTH: Final = re.compile(
    r"\b(?:in|with|as)\s+(?:about\s+|at most\s+|max(?:imum)?\s+)?(\d{1,3}|" + "|".join(_NUMBER) + r")\s+"
    r"(sentences?|lines?|points?|bullets?|words?)\b",
    re.IGNORECASE,
)
_CHANGED: Final = re.compile(
    r"^\s*(?:summari[sz]e\s+)?(?:what(?:'s|’s| is| has| have)?\s+(?:been\s+)?(?:changed|changes|new|different)|"
    r"what changed|changes?|show (?:me )?(?:the )?changes)\s+(?:in|to|with|about|of)\s+(?:the |our )?(.+?)[\s?.!]*$",
    re.IGNORECASE | re.DOTALL,
)
_WEAK: Final = frozenset(stems("policy document handbook guide rules section short brief"))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for: a topic, and how many sentences."""

    topic: str
    sentences: int


def wanted(text: str) -> Wanted:
    """ "summarise parental leave in 5 sentences" → parental leave, 5."""
    text = re.sub(r"^\s*(?:please\s+)?(?:summari[sz]e|summary of|sum up)\b[:\s]*", "", text, flags=re.IGNORECASE)
    sentences = SENTENCES
    if found := _LENGTH.search(text):
        number = _NUMBER.get(found[1].lower()) or int(found[1])
        sentences = max(1, number // 18) if found[2].lower().startswith("word") else number
        text = text[: found.start()] + text[found.end() :]
    elif found := re.search(rf"\b({'|'.join(_LENGTHS)})(?:ly)?\b", text, re.IGNORECASE):
        sentences = _LENGTHS[found[1].lower()]
        text = text[: found.start()] + text[found.end() :]
    topic = re.sub(r"\s+", " ", text).strip(" ?.,:;")
    return Wanted(re.sub(r"^(?:the|our)\s+", "", topic, flags=re.IGNORECASE), min(max(sentences, 1), MOST))


def changed_topic(text: str) -> str | None:
    """What "What changed in the travel policy?" is about; None if it asks something else."""
    found = _CHANGED.match(text)
    return found[1].strip() if found else None


class Summaries:
    """Writes summaries. `index` gives the index in force."""

    def __init__(self, index: Callable[[], Index], embedder: Embedder, versions: Versions, phrase: Phrase) -> None:
        self._index = index
        self._embedder = embedder
        self._versions = versions
        self._phrase = phrase

    def topic(
        self, text: str, roles: Collection[str], emit: Callable[[Event], None], stopped: Callable[[], bool]
    ) -> FinalEvent:
        """The summary of what the documents say about a topic, for somebody with these roles."""
        asked = wanted(text)
        sections = self._about(asked.topic, roles)
        if not sections:
            return _nothing(f"I find nothing about “{asked.topic}” in the HR documents that you may read.")
        return self.sections(sections, asked.sentences, emit, stopped)

    def sections(
        self,
        sections: Sequence[SectionLike],
        sentences: int,
        emit: Callable[[Event], None],
        stopped: Callable[[], bool],
    ) -> FinalEvent:
        """The summary of these sections, one after the other."""
        filled = [section for section in sections if section.text.strip()]
        shares = _shares(filled, sentences)
        lines: list[str] = []
        sources: list[Source] = []
        for number, (section, share) in enumerate(zip(filled, shares, strict=True), 1):
            if stopped():
                break
            if share == 0:
                continue
            emit(Status(text=f"Reading section {number} of {len(filled)}…"))
            chosen = self._sentences(section, share)
            if not chosen:
                continue
            cited = len(sources) + 1
            sources.append(_source(cited, section, " ".join(chosen)))
            line = "\n".join(f"- {sentence.rstrip()} [{cited}]" for sentence in chosen)
            emit(Delta(text=f"{line}\n"))
            lines.append(line)
        if not lines:
            return _nothing("I find no sentences that can be summarised in there.")
        left = [section.heading_path[-1] for section, share in zip(filled, shares, strict=True) if share == 0]
        text = "\n".join(lines) + "\n"
        if left:
            rest = (
                f"\nNot in these {sum(shares)} sentences: {', '.join(dict.fromkeys(left))}. Ask for a longer summary."
            )
            emit(Delta(text=rest))
            text += rest
        return FinalEvent(
            verdict="answered",
            text=text,
            sources=tuple(sources),
            stopped=stopped(),
            provenance=Provenance(model="summary", index=self._index().version, engine="section by section"),
        )

    def changes(self, topic: str, roles: Collection[str], emit: Callable[[Event], None]) -> FinalEvent:
        """What has changed in a document or section, in words, with both versions as sources."""
        pairs = [pair for pair in self._versions.changes() if _visible(pair, roles)]
        about = _matching(topic, pairs)
        if not about:
            known = self._versions.since()
            since = f" since {known}" if known else ""
            return _nothing(f"I know of no change in “{topic}”{since}. I compare the versions that I have read myself.")
        lines: list[str] = []
        sources: list[Source] = []
        for old, new in about[:12]:
            numbers = []
            for version in (old, new):
                if version is not None:
                    sources.append(_version_source(len(sources) + 1, version))
                    numbers.append(f"[{len(sources)}]")
            lines.append(_told(old, new, numbers))
        text = "\n\n".join(lines)
        emit(Delta(text=text))
        return FinalEvent(verdict="answered", text=text, sources=tuple(sources))

    def _about(self, topic: str, roles: Collection[str]) -> list[SectionLike]:
        index = self._index()
        words = set(stems(topic)) - _WEAK
        visible = [one for one in index.sections if {*roles, "employee"}.intersection(one.audience)]
        for part in (lambda one: one.title, lambda one: " ".join(one.heading_path)):
            named = [one for one in visible if words and words <= set(stems(part(one)))]
            if named:
                first = named[0].document
                return [one for one in named if one.document == first]
        found = index.search(topic, audiences=roles, k=4)
        if not found.hits or found.answerable < 0.2:
            return []
        best = found.hits[0].section
        top = best.heading_path[:1]
        return [one for one in visible if one.document == best.document and one.heading_path[:1] == top]

    def _sentences(self, section: SectionLike, share: int) -> list[str]:
        units = [unit.quoted for unit in split_units(section.text) if not re.match(r"^table \d", unit.text, re.I)]
        if not units:
            return []
        if len(units) <= share:
            return units
        label = " > ".join(section.heading_path)
        spoken: list[str] = []
        for chunk in _chunks(units):
            told = self._phrase(f"Summarise: {label}", [Excerpt(1, label, " ".join(chunk))])
            spoken += [re.sub(r"\s*\[\d+\]", "", sentence) for sentence in told]
        if len(spoken) >= share:
            return spoken[:share]
        return self._central(label, units, share)

    def _central(self, label: str, units: Sequence[str], share: int) -> list[str]:
        """The sentences that stand for the section best: near its heading and its middle, different, with facts."""
        vectors = self._embedder.embed([label, *units])
        middle = vectors[1:].mean(axis=0)
        scores = vectors[1:] @ vectors[0] + vectors[1:] @ middle
        scores = [float(s) + (0.1 if re.search(r"\d", unit) else 0.0) for s, unit in zip(scores, units, strict=True)]
        chosen: list[int] = []
        while len(chosen) < share:
            rest = [at for at in range(len(units)) if at not in chosen]
            likeness = {at: max((float(vectors[at + 1] @ vectors[c + 1]) for c in chosen), default=0.0) for at in rest}
            chosen.append(max(rest, key=lambda at: scores[at] - likeness[at]))
        return [units[at] for at in sorted(chosen)]


def _shares(sections: Sequence[SectionLike], sentences: int) -> list[int]:
    """How many sentences each section gets: one each, more for the long ones; at a short length the longest only."""
    words = [len(section.text.split()) for section in sections]
    if sentences <= len(sections):
        longest = sorted(range(len(sections)), key=lambda at: -words[at])[:sentences]
        return [int(at in longest) for at in range(len(sections))]
    shares = [1] * len(sections)
    limits = [len(split_units(section.text)) for section in sections]
    for _ in range(sentences - len(sections)):
        open_ = [at for at in range(len(sections)) if shares[at] < limits[at]]
        if not open_:
            break
        shares[max(open_, key=lambda at: words[at] / shares[at])] += 1
    return shares


def _chunks(units: Sequence[str]) -> list[list[str]]:
    chunks: list[list[str]] = [[]]
    for unit in units:
        if chunks[-1] and sum(len(one.split()) for one in chunks[-1]) + len(unit.split()) > CHUNK_WORDS:
            chunks.append([])
        chunks[-1].append(unit)
    return chunks


def _visible(pair: tuple[Version | None, Version | None], roles: Collection[str]) -> bool:
    """Both versions must be for the asker: what became managers' business is not shown by its past."""
    return all(version is None or {*roles, "employee"}.intersection(version.audience) for version in pair)


def _matching(
    topic: str, pairs: Sequence[tuple[Version | None, Version | None]]
) -> list[tuple[Version | None, Version | None]]:
    words = set(stems(topic)) - _WEAK

    def share(pair: tuple[Version | None, Version | None]) -> float:
        version = pair[1] or pair[0]
        assert version is not None  # noqa: S101 - a pair has at least one side
        held = set(stems(f"{version.document} {version.title} {version.heading}".replace("-", " ")))
        return len(words & held) / max(1, len(words))

    best = max((share(pair) for pair in pairs), default=0.0)
    return [pair for pair in pairs if share(pair) == best] if best >= 0.5 else []


def _told(old: Version | None, new: Version | None, numbers: Sequence[str]) -> str:
    """One section's difference, in words."""
    version = new or old
    assert version is not None  # noqa: S101 - a pair has at least one side
    place = f"*{version.document} › {version.heading.replace(' > ', ' › ')}*"
    if old is None:
        return f"{place}: new {numbers[0]}."
    if new is None:
        return f"{place}: removed {numbers[0]}."
    before = [unit.quoted for unit in split_units(old.text)]
    after = [unit.quoted for unit in split_units(new.text)]
    lines = [f"{place}:"]
    for kind, a, b, c, d in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        was, now = " ".join(before[a:b]), " ".join(after[c:d])
        if kind == "replace":
            lines.append(f"- Before: “{was}” {numbers[0]} Now: “{now}” {numbers[1]}")
        elif kind == "delete":
            lines.append(f"- No longer there: “{was}” {numbers[0]}")
        elif kind == "insert":
            lines.append(f"- New: “{now}” {numbers[1]}")
    if len(lines) == 1:
        lines.append(f"- Only its audience, date or layout has changed. {' '.join(numbers)}")
    return "\n".join(lines)


def _source(number: int, section: SectionLike, passage: str) -> Source:
    return Source(
        number=number,
        section=section.id,
        document=section.document,
        heading=" > ".join(section.heading_path),
        passage=passage,
        version=section.content_hash[:12],
    )


def _version_source(number: int, version: Version) -> Source:
    return Source(
        number=number,
        section=version.section,
        document=version.document,
        heading=version.heading,
        passage=version.text,
        version=version.hash[:12],
        effective=version.effective,
    )


def _nothing(text: str) -> FinalEvent:
    return FinalEvent(verdict="abstained", text=text)
