"""Whose rule is this? Countries in policy text, and what of a sentence holds for one of them.

A handbook gives several countries' rules in one table, one sentence or one list. A person must only ever read their
own: rows and cells of other countries go, a sentence about others only goes, and of "38 hours in Germany, 39 hours in
Ireland" one half stays. When in doubt it is left out: a rule too few sends people to the document, a wrong one
misleads them.
"""

import functools
import re
from collections.abc import Iterable

from quantahr.people.country_names import NAMES

_NEXT = r"(?=\s+(?:in\b|for\b|at\b|on\b|with\b|without\b|up to\b|from\b|one\b|two\b|three\b|four\b|[€£$\d]))"
_CLAUSE = re.compile(rf"(?:;|,(?!\d)|\b(?:and|or){_NEXT}|\bbut\b|\bwhile\b|\bwhereas\b|(?=\bexcept\b)|\s[–—]\s)\s*")
_LINK = re.compile(r"^(?:and|or|but|while|whereas)\s+", re.IGNORECASE)
_GLUE = re.compile(r"\b(?:in|for|the|and|or|of|at|to|both|also)\b|[\s,.;:()&/]+", re.IGNORECASE)
_WITH_ARTICLE = frozenset({"United Kingdom", "United States", "Netherlands", "Philippines", "United Arab Emirates"})
_EXCEPTION = re.compile(r"^\s*(?:except|but not|other than|apart from)\b", re.IGNORECASE)


@functools.cache
def _pattern() -> re.Pattern[str]:
    words = sorted((name for names in NAMES.values() for name in names), key=len, reverse=True)
    return re.compile(r"(?<![\w-])(" + "|".join(re.escape(word) for word in words) + r")(?!\w)")


@functools.cache
def _country_by_name() -> dict[str, str]:
    return {name: country for country, names in NAMES.items() for name in names}


def country(name: str) -> str:
    """The one name that a country goes by here: "UK" and "Great Britain" are the United Kingdom."""
    cleaned = " ".join(name.split())
    known = _country_by_name()
    return known.get(cleaned) or known.get(cleaned.title()) or known.get(cleaned.upper()) or cleaned


class Places:
    """One person's country, and all other places that the company's documents may speak of.

    `own` are the person's location and country, `others` the company's other locations; other countries are known.
    """

    def __init__(self, own_country: str, own_location: str = "", others: Iterable[str] = ()) -> None:
        self.country = country(own_country)
        self._own_location = own_location
        named = [re.escape(place) for place in others if place and place != own_location]
        self._others = re.compile(r"(?<!\w)(?:" + "|".join(named) + r")(?!\w)") if named else None

    @property
    def said(self) -> str:
        """The country as it stands in a sentence: "the United Kingdom"."""
        return f"the {self.country}" if self.country in _WITH_ARTICLE else self.country

    def own(self, text: str) -> bool:
        """Whether the person's own country or location is named."""
        if self._own_location and re.search(rf"(?<!\w){re.escape(self._own_location)}(?!\w)", text):
            return True
        return any(_country_by_name()[found] == self.country for found in _pattern().findall(text))

    def foreign(self, text: str) -> bool:
        """Whether another country, or another location of the company, is named."""
        if any(_country_by_name()[found] != self.country for found in _pattern().findall(text)):
            return True
        return bool(self._others and self._others.search(text))

    def keep(self, line: str, heading: str = "") -> str | None:
        """What of one sentence, item or table row holds for this person; None if nothing does.

        `heading` introduces a part that cannot stand alone.
        """
        if not self.foreign(line):
            return line
        if _is_row(line):
            return self._row(line)
        return self._sentence(line, heading)

    def _row(self, line: str) -> str | None:
        kept: list[str] = []
        for number, cell in enumerate(_cells(line)):
            label, _, value = cell.partition(":")
            if self.foreign(label) and not self.own(label):
                continue  # the column of another country
            if self.foreign(value) and not (self.own(value) or self.own(label)):
                if number == 0:
                    return None  # the row of another country
                continue
            if self.foreign(cell):
                continue
            kept.append(cell)
        return "; ".join(kept) if len(kept) > 1 else None

    def _sentence(self, line: str, heading: str) -> str | None:
        end = line.rstrip()[-1:] if line.rstrip()[-1:] in ".!?" else ""
        plain = self._with_own_only(line.rstrip().rstrip(".!?"))
        if not self.foreign(plain):
            # "Only where we have a company: A, B or C" is no longer true of one of them.
            return None if re.search(r"\bonly\b", plain) and plain != line.rstrip(".!? ") else plain + end
        groups = self._groups(plain)
        if not self.own(plain):
            # A rule for all with an exception for others is still the rule for all.
            at = next((number for number, group in enumerate(groups) if _EXCEPTION.match(group)), 0)
            return None if not at or self.foreign(" ".join(groups[:at])) else _joined(groups[:at]) + end
        mine = next(number for number, group in enumerate(groups) if self.own(group))
        if self.foreign(groups[mine]):
            return None
        first = last = mine
        while first > 0 and not self.foreign(groups[first - 1]):
            first -= 1
        while last + 1 < len(groups) and not self.foreign(groups[last + 1]):
            last += 1
        text = _joined(groups[first : last + 1])
        if first > 0:
            text = f"{heading}: {text}" if heading and not self.foreign(heading) else text[:1].upper() + text[1:]
        return text + end

    def _groups(self, line: str) -> list[str]:
        """The clauses of a line; one that only adds countries belongs to the clause before it."""
        groups: list[str] = []
        for clause in (part for part in _CLAUSE.split(line) if part and part.strip()):
            if groups and not _GLUE.sub("", _pattern().sub("", clause)):
                groups[-1] += f", {clause.strip()}"
            else:
                groups.append(_LINK.sub("", clause.strip()) if groups else clause.strip())
        return groups or [line]

    def _with_own_only(self, text: str) -> str:
        """The text with each list of countries that holds the own one reduced to it: the rule is the same."""
        return _several().sub(lambda found: self.said if self.own(found.group()) else found.group(), text)


@functools.cache
def _several() -> re.Pattern[str]:
    name = _pattern().pattern
    return re.compile(rf"(?:the\s+)?{name}(?:\s*(?:,|\band\b|\bor\b|&|/)+\s*(?:and\s+|or\s+)?(?:the\s+)?{name})+")


def _joined(groups: list[str]) -> str:
    text = ", ".join(groups).strip(" ,;")
    return text if text.count("(") == text.count(")") else text.replace("(", "").replace(")", "")


def _cells(line: str) -> list[str]:
    """The cells of a table row; a semicolon inside a cell does not end it."""
    cells: list[str] = []
    for part in (part.strip() for part in line.split(";")):
        if cells and not re.match(r"^[^:]{1,80}: ", part):
            cells[-1] += f"; {part}"
        else:
            cells.append(part)
    return cells


def _is_row(line: str) -> bool:
    cells = _cells(line)
    return len(cells) > 1 and all(re.match(r"^[^:]{1,80}: ", cell) for cell in cells)
