"""A Word document as blocks in reading order.

Three ideas. python-docx opens the cleaned package and knows its parts; the body is then walked on the XML itself,
because what handbooks are made of (content controls, text boxes, fields, footnotes, tracked changes) python-docx leaves
out. Text is what the author would see with changes accepted and hidden text off. Everything left out leaves a mark.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import docx
from lxml import etree

from quantahr.policies.blocks import Block, note_character, tidy
from quantahr.policies.numbering import Numbering
from quantahr.policies.safety import Package
from quantahr.policies.styles import Look, StyleSheet, W, flag, integer, look_of, value
from quantahr.policies.tables import Cell, GridRow, readable_rows

_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_MATH_TEXT = "{http://schemas.openxmlformats.org/officeDocument/2006/math}t"
_IMAGES = ("{http://schemas.openxmlformats.org/drawingml/2006/main}blip", "{urn:schemas-microsoft-com:vml}imagedata")
_SKIPPED = {
    W + tag for tag in ("del", "moveFrom", "instrText", "delText", "rt", "pPr", "rPr", "sdtPr", "commentReference")
}
_DELETED = {W + "del", W + "moveFrom"}
_INSERTED = {W + "ins", W + "moveTo"}
_TABS = {W + "tab", W + "ptab"}
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/"


@dataclass(frozen=True, slots=True)
class WordContent:
    """What a docx says: its blocks, its footnotes by index, and the properties that concern policies."""

    blocks: list[Block]
    notes: list[str]
    core_title: str
    keywords: str
    custom: dict[str, str]
    language: str


@dataclass(slots=True)
class _Collected:
    """What one paragraph gathers while its runs are read."""

    text: list[str] = field(default_factory=list)
    looks: list[tuple[Look, int]] = field(default_factory=list)
    marks: set[str] = field(default_factory=set)
    boxes: list[etree._Element] = field(default_factory=list)
    contents: bool = False


def read_word(package: Package) -> WordContent:
    """The content of a cleaned package. Raises whatever python-docx or lxml make of damaged XML."""
    document = docx.Document(io.BytesIO(package.data))
    related = {relation.reltype: relation.target_part for relation in document.part.rels.values()}
    reader = _Reader(related)
    blocks = list(reader.blocks(document.element.body))
    properties = document.core_properties
    keywords = "; ".join(filter(None, (properties.keywords, properties.category)))
    title = properties.title or ""
    custom = _custom_properties(document.part.package)
    return WordContent(blocks, reader.notes, title, keywords, custom, reader.styles.language)


def _custom_properties(package: Any) -> dict[str, str]:
    for relation in package.rels.values():
        if relation.reltype == _OFFICE + "custom-properties":
            root = _parse(relation.target_part.blob)
            return {
                item.get("name", "").strip().lower(): "".join(str(part) for part in item.itertext()).strip()
                for item in root
            }
    return {}


def _parse(blob: bytes) -> etree._Element:
    return etree.fromstring(blob, etree.XMLParser(resolve_entities=False, no_network=True))


class _Reader:
    def __init__(self, related: dict[str, Any]) -> None:
        styles, numbering = related.get(_OFFICE + "styles"), related.get(_OFFICE + "numbering")
        self.styles = StyleSheet(styles.element if styles is not None else None)
        self.notes: list[str] = []
        self._numbering = Numbering(numbering.element if numbering is not None else None)
        self._fields: list[str] = []
        self._merged: _Collected | None = None
        self._note_texts: dict[str, dict[str, str]] = {"footnote": {}, "endnote": {}}
        for kind in self._note_texts:
            self._note_texts[kind] = self._read_notes(related.get(f"{_OFFICE}{kind}s"), kind)

    def _read_notes(self, part: Any, kind: str) -> dict[str, str]:
        if part is None:
            return {}
        found = {}
        for note in _parse(part.blob).findall(W + kind):
            if note.get(W + "type") in {None, "normal"}:
                lines = [" ".join(block.text.split()) for block in self.blocks(note)]
                found[note.get(W + "id", "")] = " ".join(filter(None, lines))
        return found

    def blocks(self, parent: etree._Element, contents: bool = False) -> Iterator[Block]:
        """The blocks under a body, cell, content control, note or text box."""
        for child in parent.iterchildren(etree.Element):
            tag = child.tag
            if tag == W + "p":
                yield from self._paragraph(child, contents)
            elif tag == W + "tbl":
                yield from self._table(child, contents)
            elif tag == W + "sdt":
                gallery = value(child.find(W + "sdtPr"), "docPartObj/docPartGallery") or ""
                inner = child.find(W + "sdtContent")
                if inner is not None:
                    yield from self.blocks(inner, contents or "table of contents" in gallery.lower())
            elif tag == _MC + "AlternateContent":
                chosen = _alternative(child)
                if chosen is not None:
                    yield from self.blocks(chosen, contents)
            elif tag in {W + "customXml", W + "smartTag", W + "ins", W + "moveTo"}:
                yield from self.blocks(child, contents)

    def _paragraph(self, paragraph: etree._Element, contents: bool) -> Iterator[Block]:
        properties = paragraph.find(W + "pPr")
        style_id = value(properties, "pStyle")
        style = self.styles.paragraph(style_id)
        if style.level is not None:
            self._fields = [code for code in self._fields if not code.strip().upper().startswith("TOC")]
        collected = self._merged or _Collected(contents=contents)
        self._merged = None
        self._collect(paragraph, style.look, collected)
        mark = properties.find(W + "rPr") if properties is not None else None
        if mark is not None and mark.find(W + "del") is not None:
            collected.marks.add("tracked_changes")
            self._merged = collected
            return
        text = tidy(_unwrap("".join(collected.text)))
        level = style.level
        outline = integer(value(properties, "outlineLvl"))
        if outline is not None:
            level = outline + 1 if 0 <= outline <= 8 else None
        toc_style = any(name.startswith(("toc ", "table of contents", "contents heading")) for name in style.names)
        is_contents = collected.contents or (toc_style and bool(text))
        marker, depth = "", 0
        num_id = value(properties, "numPr/numId") or style.num_id
        if num_id not in {None, "0"} and not is_contents and num_id is not None and (text or collected.boxes):
            listed = integer(value(properties, "numPr/ilvl"))
            if listed is None:
                tied = self._numbering.level_of_style(num_id, style_id)
                listed = tied if tied is not None else style.list_level or 0
            depth = min(max(listed, 0), 8)
            marker = self._numbering.label(num_id, depth)
        look = _overall(collected.looks, style.look)
        marks = frozenset(collected.marks)
        if text or marks:
            yield Block(text, level, marker, depth, " / ".join(style.names), look, is_contents, marks=marks)
        for box in collected.boxes:
            yield from self.blocks(box, contents)

    def _collect(self, parent: etree._Element, base: Look, into: _Collected) -> None:
        for child in parent.iterchildren(etree.Element):
            tag = child.tag
            if tag == W + "r":
                self._run(child, base, into)
            elif tag in _DELETED:
                into.marks.add("tracked_changes")
            elif tag in _SKIPPED:
                continue
            elif tag == W + "sdt":
                self._control(child, base, into)
            elif tag == W + "fldSimple":
                if (child.get(W + "instr") or "").strip().upper().startswith("TOC"):
                    into.contents = True
                self._collect(child, base, into)
            elif tag == _MC + "AlternateContent":
                chosen = _alternative(child)
                if chosen is not None:
                    self._collect(chosen, base, into)
            elif tag == _MATH_TEXT:
                into.text.append(child.text or "")
            else:
                if tag in _INSERTED:
                    into.marks.add("tracked_changes")
                self._collect(child, base, into)

    def _control(self, control: etree._Element, base: Look, into: _Collected) -> None:
        """A content control inside a paragraph; one that still shows its prompt is an unfilled form field."""
        inner = control.find(W + "sdtContent")
        if inner is None:
            return
        if flag(control.find(W + "sdtPr"), "showingPlcHdr"):
            prompt = "".join(node.text or "" for node in inner.iter(W + "t")).strip()
            into.text.append("{" + prompt.strip("{}[]<>") + "}" if prompt else "")
            return
        self._collect(inner, base, into)

    def _run(self, run: etree._Element, base: Look, into: _Collected) -> None:
        properties = run.find(W + "rPr")
        look = base
        if properties is not None:
            look = look_of(properties).over(self.styles.character(value(properties, "rStyle")).look).over(base)
        before = len(into.text)
        self._run_content(run, look, into)
        written = "".join(into.text[before:])
        if look.hidden and written.strip():
            del into.text[before:]
            into.marks.add("hidden_text")
        elif written.strip():
            into.looks.append((look, len(written.strip())))

    def _run_content(self, run: etree._Element, look: Look, into: _Collected) -> None:
        for child in run.iterchildren(etree.Element):
            tag = child.tag
            if tag == W + "t":
                into.text.append(child.text or "")
                into.contents = into.contents or self._in_contents()
            elif tag in _TABS:
                into.text.append("\t")
            elif tag in {W + "br", W + "cr"}:
                into.text.append("\n" if child.get(W + "type", "textWrapping") == "textWrapping" else " ")
            elif tag == W + "noBreakHyphen":
                into.text.append("-")
            elif tag == W + "fldChar":
                self._field(child.get(W + "fldCharType"))
            elif tag == W + "instrText" and self._fields:
                self._fields[-1] += child.text or ""
            elif tag in {W + "footnoteReference", W + "endnoteReference"}:
                kind = "footnote" if tag == W + "footnoteReference" else "endnote"
                text = self._note_texts[kind].get(child.get(W + "id", ""), "")
                if text and not look.hidden:
                    self.notes.append(text)
                    into.text.append(note_character(len(self.notes) - 1))
            elif tag in {W + "drawing", W + "pict", W + "object"}:
                self._drawing(child, into)
            elif tag == _MC + "AlternateContent":
                chosen = _alternative(child)
                if chosen is not None:
                    self._run_content(chosen, look, into)
            elif tag == W + "ruby":
                base = child.find(W + "rubyBase")
                if base is not None:
                    self._collect(base, look, into)

    def _field(self, kind: str | None) -> None:
        if kind == "begin":
            self._fields.append("")
        elif kind == "end" and self._fields:
            self._fields.pop()

    def _in_contents(self) -> bool:
        return any(code.strip().upper().startswith("TOC") for code in self._fields)

    def _drawing(self, drawing: etree._Element, into: _Collected) -> None:
        """A picture leaves a mark; a text box is read after its paragraph (one inside another with the outer one)."""
        boxes = list(drawing.iter(W + "txbxContent"))
        into.boxes += [
            box for box in boxes if not any(parent in boxes for parent in box.iterancestors(W + "txbxContent"))
        ]
        if not boxes and any(next(drawing.iter(image), None) is not None for image in _IMAGES):
            into.marks.add("image")

    def _table(self, table: etree._Element, contents: bool) -> Iterator[Block]:
        rows = list(_rows(table))
        if all(len(list(_cells(row))) <= 1 for row in rows):
            for row in rows:
                for only in _cells(row):
                    yield from self.blocks(only, contents)
            return
        marks: set[str] = set()
        grid: list[GridRow] = []
        above: dict[int, Cell] = {}
        for row in rows:
            properties = row.find(W + "trPr")
            if properties is not None and properties.find(W + "del") is not None:
                marks.add("tracked_changes")
                continue
            column = max(0, min(integer(value(properties, "gridBefore")) or 0, 63))
            cells = [Cell("")] * column
            for element in _cells(row):
                cell = self._cell(element, marks)
                merge = element.find(f"{W}tcPr/{W}vMerge")
                if merge is not None and merge.get(W + "val", "continue") == "continue":
                    cell = replace(above.get(len(cells), cell), merged=cell.merged)
                for _ in range(cell.merged):
                    above[len(cells)] = cell
                    cells.append(cell)
            grid.append(GridRow(tuple(cells), bool(flag(properties, "tblHeader"))))
        for parts in readable_rows(grid):
            yield Block("; ".join(parts), cells=parts, contents=contents, marks=frozenset(marks))
            marks = set()

    def _cell(self, element: etree._Element, marks: set[str]) -> Cell:
        text, bold = "", True
        for block in self.blocks(element):
            marks |= block.marks
            if not block.text:
                continue
            bold = bold and bool(block.look.bold) and not block.cells
            words = f"({block.text})" if block.cells else " ".join(block.text.split())
            words = words if block.marker == "- " else block.marker + words
            glue = "" if not text else " " if text.endswith((".", ":", ";", ",", "!", "?")) else ", "
            text += glue + words
        span = integer(value(element, "tcPr/gridSpan")) or 1
        return Cell(text, bold and bool(text), max(1, min(span, 63)))


def _alternative(element: etree._Element) -> etree._Element | None:
    """The one branch of an mc:AlternateContent that is read: the first choice, else the fallback."""
    choice = element.find(_MC + "Choice")
    return choice if choice is not None else element.find(_MC + "Fallback")


def _rows(table: etree._Element) -> Iterator[etree._Element]:
    yield from _inside(table, W + "tr")


def _cells(row: etree._Element) -> Iterator[etree._Element]:
    yield from _inside(row, W + "tc")


def _inside(parent: etree._Element, wanted: str) -> Iterator[etree._Element]:
    """Rows of a table or cells of a row, also those wrapped in content controls."""
    for child in parent.iterchildren(etree.Element):
        if child.tag == wanted:
            yield child
        elif child.tag in {W + "sdt", W + "sdtContent", W + "customXml", *_INSERTED}:
            yield from _inside(child, wanted)


def _unwrap(text: str) -> str:
    """Manual line breaks that end a thought stay; those that only wrap a line become spaces."""
    lines = [line.strip() for line in text.split("\n")]
    joined = lines[0]
    for line in lines[1:]:
        ends = joined.endswith((".", ":", ";", "!", "?")) or line[:2] in {"- ", "• ", "– "}
        joined += ("\n" if ends else " ") + line
    return joined


def _overall(looks: list[tuple[Look, int]], base: Look) -> Look:
    """The look of a paragraph: what holds for all of its text, and the size that most of it has."""
    if not looks:
        return base
    sizes: dict[float, int] = {}
    for look, length in looks:
        sizes[look.size or 0.0] = sizes.get(look.size or 0.0, 0) + length
    return Look(
        all(look.bold for look, _ in looks),
        all(look.italic for look, _ in looks),
        False,
        all(look.caps for look, _ in looks),
        max(sizes, key=lambda size: sizes[size]) or None,
        looks[0][0].colour if all(look.grey for look, _ in looks) else None,
    )
