"""How evidence is quoted: in reading order, once for each section, tables by the rows that concern the asker.

Two ideas. What stands between two quoted sentences is often what was asked for, so a small gap is closed and a larger
one is shown as one. And a table answers by the row: where the question names a row (a country, a grade) only that is
quoted, and where it names none all of them are, because the asker knows which is theirs and retrieval does not.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from quantahr.retrieval.sections import Evidence, SectionLike
from quantahr.retrieval.units import Unit, split_units

MOST: Final = 3
"""Sections that are quoted."""
GAP_WORDS: Final = 45
"""How much between two quoted sentences of a paragraph is quoted along with them."""
TABLE_ROWS: Final = 8
TABLE_WORDS: Final = 120
_SMALL = frozenset("a an as at by do i if in is it me my no of on or so to up us we".split())
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Quotation:
    """Sentences of one section as they stand there; rows and items on lines of their own, an ellipsis for what is left
    out."""

    section: SectionLike
    text: str


def gather(evidence: Sequence[Evidence], question: str) -> tuple[Quotation, ...]:
    """The evidence as at most MOST quotations, the best first, each section once."""
    sections: dict[str, list[Evidence]] = {}
    for piece in evidence:
        sections.setdefault(piece.section.id, []).append(piece)
    return tuple(_quotation(pieces, question) for pieces in list(sections.values())[:MOST])


def _quotation(pieces: Sequence[Evidence], question: str) -> Quotation:
    section = pieces[0].section
    units = split_units(section.text)
    chosen = {number for piece in pieces for number in _numbers(piece, units)}
    if not chosen:
        return Quotation(section, " … ".join(piece.text for piece in pieces))
    chosen |= {number + 1 for number in chosen if _is_caption(units, number)}
    return Quotation(section, _text(units, _rows(units, _closed(units, chosen), question)))


def _is_caption(units: Sequence[Unit], number: int) -> bool:
    """Whether a unit is the title of the table below it, which says nothing without its rows."""
    below = units[number + 1].kind if number + 1 < len(units) else ""
    return below == "row" and units[number].kind == "sentence" and units[number].text[-1:] not in ".!?"


def _numbers(piece: Evidence, units: Sequence[Unit]) -> list[int]:
    """Which units a piece of evidence is made of."""
    first = next((number for number, unit in enumerate(units) if unit.start == piece.start), None)
    if first is None:
        return []
    found, held = [first], piece.text.find(units[first].text) + len(units[first].text)
    for number in range(first + 1, len(units)):
        at = piece.text.find(units[number].text, held)
        if at < 0:
            break
        found.append(number)
        held = at + len(units[number].text)
    return found


def _closed(units: Sequence[Unit], chosen: set[int]) -> set[int]:
    """The chosen units, and those in the small gaps between two of the same paragraph."""
    result = set(chosen)
    for a, b in itertools.pairwise(sorted(chosen)):
        gap = range(a + 1, b)
        if units[a].paragraph == units[b].paragraph and sum(_words(units[n]) for n in gap) <= GAP_WORDS:
            result.update(gap)
    return result


def _rows(units: Sequence[Unit], chosen: set[int], question: str) -> set[int]:
    """The chosen units, with the rows of each quoted table that concern the asker."""
    asked = {word.casefold() for word in _WORD.findall(question)}
    result = set(chosen)
    for table in _tables(units):
        if not chosen.intersection(table):
            continue
        named = {row for row in table if _names(_key(units[row]), asked)}
        if named and len(named) < len(table):
            result = result.difference(table) | named
        elif len(table) <= TABLE_ROWS and sum(_words(units[row]) for row in table) <= TABLE_WORDS:
            result |= set(table)
    return result


def _tables(units: Sequence[Unit]) -> list[list[int]]:
    """Runs of rows that begin with the same column."""
    tables: list[list[int]] = []
    for number, unit in enumerate(units):
        if unit.kind != "row":
            continue
        last = tables[-1][-1] if tables else None
        if last == number - 1 and _column(units[last]) == _column(unit):
            tables[-1].append(number)
        else:
            tables.append([number])
    return tables


def _words(unit: Unit) -> int:
    return len(unit.text.split())


def _column(row: Unit) -> str:
    return row.text.partition(":")[0]


def _key(row: Unit) -> set[str]:
    """The words of a row's first cell, without those of its column's name ("Grade 3" is called by its 3), and its
    initials ("UK")."""
    column, _, rest = row.text.partition(":")
    words = [word.casefold() for word in _WORD.findall(rest.partition(";")[0])]
    initials = "".join(word[0] for word in words) if len(words) > 1 else ""
    return ({*words, initials} - {word.casefold() for word in _WORD.findall(column)}) - {""}


def _names(key: set[str], asked: set[str]) -> bool:
    """Whether a question names a row. "German" names Germany; a number must be the same."""
    return any(
        word in asked or (len(word) > 4 and any(len(other) > 4 and word[:5] == other[:5] for other in asked))
        for word in key
        if len(word) > 2 or word.isdigit() or word not in _SMALL
    )


def _text(units: Sequence[Unit], chosen: set[int]) -> str:
    text, lead, before = "", "", -2
    for number in sorted(chosen):
        unit = units[number]
        said = not unit.lead or unit.lead == lead or (before == number - 1 and unit.lead in text)
        if text:
            on_line = unit.kind != "sentence" or units[before].kind != "sentence"
            gap = before != number - 1 and unit.kind != "row"
            text += ("\n" if on_line else " ") + ("… " if gap else "")
        text += unit.text if said else unit.quoted
        lead, before = unit.lead or lead, number
    return text
