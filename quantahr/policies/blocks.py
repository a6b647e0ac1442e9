"""The common form of a document before it is divided: a flat run of blocks, whichever format it came from.

A block is one paragraph, list item or table row. Footnotes travel inside its text as one private character each (see
`note_character`), so that cutting text into sentences neither breaks nor loses them; `inline_notes` writes them out.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from quantahr.policies.styles import Look

_NOTE_BASE = 0xF0000
_NOTE_LIMIT = 0xFFFD
NOTE = "[\U000f0000-\U000ffffd]"
"""A regular expression for one footnote character."""

_INVISIBLE = re.compile(
    "[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\u0000-\u0008\u000b-\u001f]"
)
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|cf|vs|approx|no|nos|art|para|sec|fig|dr|mr|mrs|ms|prof|st|inc|ltd|co|z\.b|d\.h|ca|bzw|max|min)"
    r"|\b[A-Z])\.$",
    re.IGNORECASE,
)
_BREAK = re.compile(rf"([.!?…؟。](?:[\"'”’)\]]|{NOTE})*)\s+(?=[\w\"'“‘(\[{{<£$€])")


@dataclass(frozen=True, slots=True)
class Block:
    """`level` is 0 for the title, 1-9 for headings, None for text. `marker` is a list label such as "a) ".

    `cells` are a table row's "Key: value" parts. `marks` name what the reader noticed: hidden_text, tracked_changes,
    image, form (an unfilled form field). `contents` says that it belongs to a table of contents.
    """

    text: str
    level: int | None = None
    marker: str = ""
    depth: int = 0
    style: str = ""
    look: Look = field(default_factory=Look)
    contents: bool = False
    cells: tuple[str, ...] = ()
    marks: frozenset[str] = frozenset()


def tidy(text: str) -> str:
    """Text in NFC with single spaces, without invisible characters; tabs and line ends are kept."""
    text = unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
    lines = (re.sub(r" *\t\s*", "\t", re.sub(r"[^\S\n\t]+", " ", line)).strip() for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def note_character(index: int) -> str:
    """The character that stands for footnote `index`; "" beyond the 65,533 that fit."""
    return chr(_NOTE_BASE + index) if index < _NOTE_LIMIT else ""


def strip_notes(text: str) -> str:
    """`text` without its footnote characters."""
    return re.sub(NOTE, "", text)


def sentences(text: str) -> list[str]:
    """The sentences of one paragraph, in order; joined by a space they are the paragraph again."""
    found, start = [], 0
    for match in _BREAK.finditer(text):
        head = text[start : match.end(1)]
        follows = text[match.end()]
        if _ABBREVIATION.search(head[-12:]) or follows.islower():
            continue
        found.append(head)
        start = match.end()
    return [*found, text[start:]] if text[start:].strip() else found


def inline_notes(text: str, notes: Sequence[str]) -> str:
    """`text` with each footnote in [brackets] after the sentence it belongs to."""
    if not re.search(NOTE, text):
        return text
    written = []
    for sentence in sentences(text):
        cited = [notes[ord(character) - _NOTE_BASE] for character in re.findall(NOTE, sentence)]
        bare = re.sub(r"\s+([.,;:!?])", r"\1", re.sub(rf"\s*{NOTE}", "", sentence)).strip()
        written += [bare, *(f"[{note}]" for note in cited if note)]
    return " ".join(part for part in written if part)
