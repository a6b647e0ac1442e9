"""A section cut into units: the sentences, list items and table rows that can be quoted.

Two ideas. A unit knows what it cannot stand without: an item keeps the sentence that introduces its list ("You may
claim: train travel"), and a sentence that points back ("This also applies to…") keeps the one before it. And cutting is
plain text in, offsets out: the words of a unit are the words of the section, so that quoting invents nothing.
"""

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["sentence", "item", "row"]

_ABBREVIATIONS = frozenset(
    "e.g i.e etc mr mrs ms dr prof no nos art sec para fig vs approx incl excl max min p.m a.m inc ltd co corp st dept "
    "ext tel hrs hr wk wks yr yrs jan feb mar apr jun jul aug sep sept oct nov dec u.s u.k eg ie ca cf al".split()
)
_END = re.compile(r"[.!?…]['\"”’)\]]*(?=\s)|(?<=[.!?])\s*\[[^\]]*\](?=\s|$)")
_BULLET = re.compile(r"^(\s*)(?:[-–—•*·▪◦‣o]\s+|\(?(?:\d{1,3}|[a-zA-Z]|[ivxIVX]{1,5})[.)]\s+)")
_ROW = re.compile(r"^[^:;]{1,60}: [^;]*; [^:;]{1,60}: ")
_POINTS_BACK = re.compile(
    r"^(?:this|these|those|that|it|they|such|however|also|otherwise|if so|if not|in (?:this|that|these|such) cases?|"
    r"the same|both|neither|after (?:this|that)|then|he|she|instead|in addition|any such|where this|but|and|or|"
    r"therefore|for example|for instance|here|there(?:after)?|likewise|similarly|exceptions?|nor|not all|"
    r"the (?:above|latter|former))\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Unit:
    """One quotable piece of a section.

    `start` and `end` delimit its own words in the section's text, without the bullet; `lead` is what introduces it,
    empty if it stands alone; `needs_previous` says that it points back to the unit before it; `paragraph` numbers the
    line it comes from.
    """

    text: str
    start: int
    end: int
    kind: Kind
    lead: str
    needs_previous: bool
    paragraph: int

    @property
    def quoted(self) -> str:
        """The unit as it can be shown: with its lead-in."""
        return f"{self.lead} {self.text}" if self.lead else self.text


def split_units(text: str) -> tuple[Unit, ...]:
    """The units of a section's text, in order. Lines are paragraphs, items and rows, as `quantahr.policies` writes."""
    units: list[Unit] = []
    leads: list[tuple[int, str]] = []
    previous = ""
    offset = 0
    for number, line in enumerate(text.split("\n")):
        stripped = line.strip()
        if stripped:
            bullet = _BULLET.match(line)
            depth = len(line) - len(line.lstrip()) + (1 if bullet else 0)
            if not bullet:
                leads = []
            while leads and leads[-1][0] >= depth:
                leads.pop()
            if bullet and not leads and _introduces(previous):
                leads.append((depth - 1, _last_sentence(previous)))
            body = line[bullet.end() :] if bullet else line
            start = offset + (bullet.end() if bullet else 0)
            lead = " ".join(text for _, text in leads)
            kind: Kind = "item" if bullet else "row" if _ROW.match(stripped) else "sentence"
            units.extend(_cut(body, start, kind, lead, number))
            if bullet and body.rstrip().endswith(":"):
                leads.append((depth, body.strip()))
            previous = stripped if not bullet else previous
        offset += len(line) + 1
    return tuple(units)


def split_sentences(text: str) -> list[tuple[int, int]]:
    """The (start, end) of the sentences of one paragraph, in characters."""
    spans: list[tuple[int, int]] = []
    start = 0
    for match in _END.finditer(text):
        if match.start() < start or not _ends_sentence(text, match.start(), match.end()):
            continue
        spans.append((start, match.end()))
        start = match.end()
    spans.append((start, len(text)))
    return [
        (a + len(text[a:b]) - len(text[a:b].lstrip()), a + len(text[a:b].rstrip()))
        for a, b in spans
        if text[a:b].strip()
    ]


def _ends_sentence(text: str, at: int, end: int) -> bool:
    rest = text[end:].lstrip()
    if not rest:
        return True
    if rest[0].islower() or rest.startswith("["):
        return False
    before = re.split(r"[\s(\[]", text[:at].rstrip("."))[-1].lower()
    if text[at] == "." and (before in _ABBREVIATIONS or (len(before) == 1 and before.isalpha() and before != "i")):
        return False
    return not (text[at] == "." and before.isdigit() and not text[:at].strip(" 0123456789.()"))


def _cut(body: str, start: int, kind: Kind, lead: str, paragraph: int) -> list[Unit]:
    spans = [(len(body) - len(body.lstrip()), len(body.rstrip()))] if kind == "row" else split_sentences(body)
    found = []
    for number, (a, b) in enumerate(spans):
        words = body[a:b]
        found.append(
            Unit(
                text=words,
                start=start + a,
                end=start + b,
                kind=kind,
                lead=lead if number == 0 else "",
                needs_previous=kind != "row" and (number > 0 or kind == "sentence") and bool(_POINTS_BACK.match(words)),
                paragraph=paragraph,
            )
        )
    return found


def _introduces(line: str) -> bool:
    return bool(line) and (line.endswith(":") or line[-1] not in '.!?…]"”’)') and len(line) < 400


def _last_sentence(line: str) -> str:
    spans = split_sentences(line)
    return line[spans[-1][0] : spans[-1][1]] if spans else line
