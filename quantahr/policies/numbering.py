"""The label in front of a list item, which Word does not store but computes from numbering.xml.

The idea: play Word's counters. Each abstract list has one counter per level; an item raises its own level and restarts
the deeper ones; its label is the level's pattern ("%1.%2") filled in. Bullets of every shape become "- ".
"""

import re
from dataclasses import dataclass

from lxml import etree

from quantahr.policies.styles import W, integer, value

_ROMAN: tuple[tuple[int, str], ...] = (
    (1000, "m"),
    (900, "cm"),
    (500, "d"),
    (400, "cd"),
    (100, "c"),
    (90, "xc"),
    (50, "l"),
    (40, "xl"),
)
_ROMAN += ((10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"))


@dataclass(frozen=True, slots=True)
class _Level:
    form: str
    pattern: str
    start: int
    style: str | None
    legal: bool


class Numbering:
    """Labels for one pass through one document, in reading order. `root` is w:numbering, or None without lists."""

    def __init__(self, root: etree._Element | None) -> None:
        self._lists: dict[str, tuple[str, dict[int, _Level]]] = {}
        self._counters: dict[str, dict[int, int]] = {}
        self._restarts: dict[str, dict[int, int]] = {}
        self._begun: set[str] = set()
        if root is None:
            return
        abstract = {element.get(W + "abstractNumId", ""): element for element in root.findall(W + "abstractNum")}
        by_style = {value(element, "styleLink"): element for element in abstract.values()}
        for num in root.findall(W + "num"):
            num_id, abstract_id = num.get(W + "numId", ""), value(num, "abstractNumId") or ""
            source = abstract.get(abstract_id)
            if source is not None and source.find(W + "lvl") is None:
                source = by_style.get(value(source, "numStyleLink"), source)
            levels = {} if source is None else _levels(source)
            for override in num.findall(W + "lvlOverride"):
                number = integer(override.get(W + "ilvl")) or 0
                levels |= _levels(override)
                start = integer(value(override, "startOverride"))
                if start is not None:
                    self._restarts.setdefault(num_id, {})[number] = start
            self._lists[num_id] = (abstract_id, levels)

    def level_of_style(self, num_id: str, style_id: str | None) -> int | None:
        """The level that a list ties to a paragraph style, if it does."""
        levels = self._lists.get(num_id, ("", {}))[1]
        return next((number for number, level in levels.items() if style_id and level.style == style_id), None)

    def label(self, num_id: str, number: int) -> str:
        """The label of the next item of list `num_id` at level `number` (0-8) with a space after it; "" without one."""
        abstract_id, levels = self._lists.get(num_id, ("", {}))
        level = levels.get(number)
        if level is None:
            return ""
        counters = self._counters.setdefault(abstract_id, {})
        if num_id not in self._begun:
            self._begun.add(num_id)
            for restarted in self._restarts.get(num_id, {}):
                counters.pop(restarted, None)
        start = self._restarts.get(num_id, {}).get(number, level.start)
        counters[number] = counters[number] + 1 if number in counters else start
        for deeper in [key for key in counters if key > number]:
            del counters[deeper]
        if level.form == "bullet":
            return "- "
        if level.form == "none":
            return ""

        def fill(match: re.Match[str]) -> str:
            index = int(match[1]) - 1
            part = levels.get(index, level)
            form = "decimal" if level.legal else part.form
            return format_number(counters.get(index, part.start), form)

        label = re.sub(r"%(\d)", fill, level.pattern).strip()
        return f"{label} " if label else ""


def _levels(parent: etree._Element) -> dict[int, _Level]:
    found = {}
    for element in parent.findall(W + "lvl"):
        legal = element.find(W + "isLgl") is not None
        start = integer(value(element, "start"))
        found[integer(element.get(W + "ilvl")) or 0] = _Level(
            value(element, "numFmt") or "decimal",
            value(element, "lvlText") or "",
            1 if start is None else start,
            value(element, "pStyle"),
            legal,
        )
    return found


def format_number(number: int, form: str) -> str:
    """`number` (≥ 0) in one of Word's formats; one that is not known is written in digits."""
    if form in {"lowerLetter", "upperLetter"} and number > 0:
        repeat, letter = divmod(number - 1, 26)
        text = chr(ord("a") + letter) * min(repeat + 1, 20)
        return text if form == "lowerLetter" else text.upper()
    if form in {"lowerRoman", "upperRoman"} and 0 < number < 4000:
        text = ""
        for amount, sign in _ROMAN:
            text += sign * (number // amount)
            number %= amount
        return text if form == "lowerRoman" else text.upper()
    if form == "decimalZero":
        return f"{number:02d}"
    if form == "none":
        return ""
    return str(number)
