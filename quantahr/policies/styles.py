"""What Word's styles say about a paragraph or run: heading level, list, and how it looks.

The idea: a style inherits along `basedOn`, and only the resolved answer matters. Built-in headings keep their English
name in the file ("heading 1") whatever language Word runs in; other writers localise the name, so both are known.
"""

import re
from dataclasses import dataclass, field, replace

from lxml import etree

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
VAL = W + "val"
TITLE_LEVEL = 0
_HEADING = re.compile(
    r"^(?:heading|überschrift|titre|título|titulo|titolo|kop|rubrik|overskrift|otsikko|nagłówek|nadpis|заголовок|"
    r"cím|başlık|标题|見出し|제목|عنوان|כותרת)\s*(\d)\b",
    re.IGNORECASE,
)
_OFF = {"0", "false", "off", "none"}


@dataclass(frozen=True, slots=True)
class Look:
    """How text is drawn; None means "not said here". `size` in points, `colour` as RRGGBB or None for automatic."""

    bold: bool | None = None
    italic: bool | None = None
    hidden: bool | None = None
    caps: bool | None = None
    size: float | None = None
    colour: str | None = None

    def over(self, base: "Look") -> "Look":
        """This look where it says something, else `base`."""
        return Look(
            self.bold if self.bold is not None else base.bold,
            self.italic if self.italic is not None else base.italic,
            self.hidden if self.hidden is not None else base.hidden,
            self.caps if self.caps is not None else base.caps,
            self.size if self.size is not None else base.size,
            self.colour if self.colour is not None else base.colour,
        )

    @property
    def grey(self) -> bool:
        """Whether the colour is a mid or light grey, as templates use for instructions."""
        if not self.colour or not re.fullmatch(r"[0-9A-Fa-f]{6}", self.colour):
            return False
        red, green, blue = (int(self.colour[i : i + 2], 16) for i in (0, 2, 4))
        return max(red, green, blue) - min(red, green, blue) <= 24 and 0x50 <= red <= 0xD0


@dataclass(frozen=True, slots=True)
class Style:
    """A resolved style. `names` are its own and its ancestors' names in lower case; `level` 0 is the title."""

    names: tuple[str, ...] = ()
    level: int | None = None
    num_id: str | None = None
    list_level: int | None = None
    look: Look = field(default_factory=Look)


def flag(parent: etree._Element | None, tag: str) -> bool | None:
    """An on/off property such as <w:b/>; None when it is absent."""
    found = parent.find(W + tag) if parent is not None else None
    return None if found is None else found.get(VAL, "1").lower() not in _OFF


def value(parent: etree._Element | None, path: str) -> str | None:
    """The w:val of a descendant named like "numPr/numId"; None when it is absent."""
    found = parent.find("/".join(W + step for step in path.split("/"))) if parent is not None else None
    return None if found is None else found.get(VAL)


def look_of(rpr: etree._Element | None) -> Look:
    """The look that a w:rPr states by itself."""
    if rpr is None:
        return Look()
    size, colour = value(rpr, "sz"), value(rpr, "color")
    points = int(size) / 2 if size and size.isdigit() else None
    colour = None if colour == "auto" else colour
    return Look(flag(rpr, "b"), flag(rpr, "i"), flag(rpr, "vanish"), flag(rpr, "caps"), points, colour)


def integer(text: str | None) -> int | None:
    """A whole number from an attribute; None when it is absent or not one."""
    return int(text) if text and re.fullmatch(r"-?\d{1,9}", text) else None


class StyleSheet:
    """The resolved styles of one document, by style id."""

    def __init__(self, root: etree._Element | None) -> None:
        self._elements: dict[str, etree._Element] = {}
        self._resolved: dict[str, Style] = {}
        self._paragraphs: dict[str, Style] = {}
        self._default_id = ""
        self._base = Look()
        self.language = ""
        if root is None:
            return
        defaults = root.find(f"{W}docDefaults/{W}rPrDefault/{W}rPr")
        self._base = look_of(defaults)
        self.language = value(defaults, "lang") or ""
        for element in root.findall(W + "style"):
            identity = element.get(W + "styleId", "")
            self._elements[identity] = element
            if element.get(W + "type") == "paragraph" and element.get(W + "default") in {"1", "true"}:
                self._default_id = identity

    def paragraph(self, style_id: str | None) -> Style:
        """The style of a paragraph; without an id, the document's default. Its look includes the document defaults."""
        identity = style_id or self._default_id
        if identity not in self._paragraphs:
            style = self._resolve(identity, 0)
            self._paragraphs[identity] = replace(style, look=style.look.over(self._base))
        return self._paragraphs[identity]

    def character(self, style_id: str | None) -> Style:
        """A character style; its look holds only what it says itself."""
        return self._resolve(style_id, 0) if style_id else Style()

    def _resolve(self, style_id: str, depth: int) -> Style:
        if style_id in self._resolved:
            return self._resolved[style_id]
        element = self._elements.get(style_id)
        if element is None or depth > 20:
            return Style()
        parent_id = value(element, "basedOn")
        parent = self._resolve(parent_id, depth + 1) if parent_id else Style()
        name = (value(element, "name") or style_id).strip().lower()
        num_id, list_level = value(element, "pPr/numPr/numId"), integer(value(element, "pPr/numPr/ilvl"))
        style = Style(
            (name, *parent.names),
            self._level(name, element, parent),
            num_id if num_id is not None else parent.num_id,
            list_level if list_level is not None else parent.list_level,
            look_of(element.find(W + "rPr")).over(parent.look),
        )
        self._resolved[style_id] = style
        return style

    @staticmethod
    def _level(name: str, element: etree._Element, parent: Style) -> int | None:
        if name in {"title", "titel", "dokumenttitel"}:
            return TITLE_LEVEL
        outline = integer(value(element, "pPr/outlineLvl"))
        if outline is not None:
            return outline + 1 if 0 <= outline <= 8 else None
        if match := _HEADING.match(name):
            return max(1, int(match[1]))
        return None if name == "subtitle" or parent.level == TITLE_LEVEL else parent.level
