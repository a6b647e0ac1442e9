"""Blocks become sections: find the headings, leave out what is no policy, keep the rest whole under its heading path.

The idea: headings are what the author meant as such. Styles say so where they are used; else a short line in bold,
large or capital type that stands alone above text does, ranked by its number, then by size. Sections are never cut:
retrieval works on sentences and needs the whole passage to quote from.
"""

import datetime
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from quantahr.policies.blocks import Block, inline_notes, strip_notes
from quantahr.policies.dates import audience_line, effective_date
from quantahr.policies.hygiene import (
    contents_blocks,
    gaps,
    guidance_blocks,
    heading_without_gaps,
    is_contents_heading,
    row_without_gaps,
    without_gaps,
    without_guidance,
)
from quantahr.policies.model import Finding

_LABELS = {
    "note",
    "notes",
    "important",
    "warning",
    "example",
    "examples",
    "please note",
    "tip",
    "attention",
    "nb",
    "remember",
}
_NUMBER = re.compile(r"^(\d{1,2}(?:\.\d{1,2})*)\.?\s+\S")
_CAPTION = re.compile(r"^(?:table|figure|fig\.|box|chart|tabelle|abbildung|tableau|tabla)\s*\d+\b", re.IGNORECASE)
_BULLET = re.compile(r"^(?:[•·▪◦‣●○■□➢✓*]|[–—-])\s+(?=\S)")
_CONTROL = re.compile(
    r"^document (?:control|information|details|history|properties)|^version(?: history| control)?$|^revision", re.I
)
MAX_FINDINGS = 1000
"""Findings per document: what is left of a template after that many is not read one by one."""
_FIXES = {
    "hidden_text": "Make the text visible, or delete it.",
    "tracked_changes": "Accept or reject the changes in Word (Review), then save.",
    "image": "Write what the picture says as text beside it.",
}
_MARKS = {
    "hidden_text": "Hidden text was left out.",
    "tracked_changes": "Tracked changes: insertions were read as text, deletions were left out.",
}


@dataclass(slots=True)
class Passage:
    """A section before it gets its document's audience, title and hash. `effective_date` is only its own."""

    path: tuple[str, ...]
    lines: list[str] = field(default_factory=list)
    effective_date: datetime.date | None = None
    pictures: bool = False
    left_out: bool = False
    caption: int | None = None
    rows_left_out: bool = False


@dataclass(frozen=True, slots=True)
class Outline:
    """A document divided; `effective_date` and `audience` are what its opening or document control states."""

    title: str
    passages: list[Passage]
    findings: list[Finding]
    effective_date: datetime.date | None
    audience: tuple[str, ...]


def outline(
    name: str, fallback_title: str, blocks: Sequence[Block], notes: Sequence[str], *, month_first: bool = False
) -> Outline:
    """The sections and findings of the document `name`. `notes` are its footnotes, by the index in the text."""
    builder = _Builder(name, notes)
    blocks = with_headings(blocks)
    contents, guidance = contents_blocks(blocks), guidance_blocks(blocks)
    return builder.build(fallback_title, blocks, contents, guidance, month_first)


def with_headings(blocks: Sequence[Block]) -> list[Block]:
    """The blocks with headings recognised: styled ones checked, and lines that only look like one raised to one."""
    checked = [replace(block, level=None) if _too_long(block) else block for block in blocks]
    styled = any(block.level for block in checked)
    body = _body_size(checked)
    candidates = [index for index in range(len(checked)) if _looks_like_heading(checked, index, body)]
    if styled:
        return _raised_below(checked, set(candidates))
    return _raised_by_rank(checked, candidates, body)


def _too_long(block: Block) -> bool:
    words = len(block.text.split())
    return bool(block.level) and (words > 30 or (words > 14 and block.text.endswith((".", ";"))))


def _body_size(blocks: Sequence[Block]) -> float:
    sizes: Counter[float] = Counter()
    for block in blocks:
        if block.level is None and not block.cells:
            sizes[block.look.size or 0.0] += len(block.text)
    return sizes.most_common(1)[0][0] if sizes else 0.0


def _looks_like_heading(blocks: Sequence[Block], index: int, body: float) -> bool:
    block = blocks[index]
    text = strip_notes(block.text)
    if (
        block.level is not None
        or block.cells
        or block.contents
        or block.marker == "- "
        or not re.search(r"[^\W\d_]", text)
    ):
        return False
    if len(text) > 100 or len(text.split()) > 12 or text.endswith((".", ",", ";")) or "\t" in text or "\n" in text:
        return False
    if text.rstrip(":").casefold() in _LABELS or (block.look.italic and block.look.grey) or text.startswith("["):
        return False
    if "caption" in block.style or _CAPTION.match(text):
        return False
    shouted = text.isupper() and len(text) > 3
    large = (block.look.size or 0.0) >= body + 1.5 > 1.5
    follows = blocks[index + 1] if index + 1 < len(blocks) else None
    return follows is not None and bool(block.look.bold or block.look.caps or shouted or large)


def _raised_below(blocks: list[Block], candidates: set[int]) -> list[Block]:
    """In a document with heading styles, a bold line above text is one level below the style's heading before it."""
    level, result = 0, []
    for index, block in enumerate(blocks):
        if block.level is not None:
            level = block.level
        follows = blocks[index + 1] if index + 1 < len(blocks) else None
        alone = follows is not None and follows.level is None and index + 1 not in candidates
        if index in candidates and level and alone and not block.marker and bool(block.look.bold):
            result.append(replace(block, level=min(level + 1, 9), text=block.text.rstrip(" :")))
        else:
            result.append(block)
    return result


def _raised_by_rank(blocks: list[Block], candidates: list[int], body: float) -> list[Block]:
    """In a document without heading styles, levels come from typed or list numbers, else from size and capitals."""
    if not candidates:
        return blocks

    def rank(block: Block) -> tuple[float, bool]:
        size = (block.look.size or 0.0) if (block.look.size or 0.0) >= body + 1 else 0.0
        return (-size, not (bool(block.look.caps) or block.text.isupper()))

    def number(block: Block) -> int:
        match = _NUMBER.match(block.marker + block.text)
        return match[1].count(".") + 1 if match else 0

    result = list(blocks)
    first, *rest = candidates
    ranks = Counter(rank(blocks[index]) for index in candidates)
    top = rank(blocks[first]) == min(ranks) and ranks[rank(blocks[first])] == 1
    titled = any(block.level == 0 for block in blocks)
    if rest and first == 0 and not titled and not number(blocks[0]) and (top or rest[0] == 1):
        result[first] = replace(blocks[first], level=0)
        candidates = rest
    numbered = sum(1 for index in candidates if number(blocks[index])) * 2 >= len(candidates)
    order = sorted({rank(blocks[index]) for index in candidates if not (numbered and number(blocks[index]))})
    deepest = max((number(blocks[index]) for index in candidates), default=0) if numbered else 0
    for index in candidates:
        block = blocks[index]
        level = number(block) if numbered else 0
        if not level:
            level = deepest + 1 if numbered and len(order) == 1 else order.index(rank(block)) + 1
        result[index] = replace(block, level=min(level, 9), text=block.text.rstrip(" :"))
    return result


class _Builder:
    def __init__(self, name: str, notes: Sequence[str]) -> None:
        self._name = name
        self._notes = [self._clean_note(note) for note in notes]
        self._findings: list[Finding] = []
        self._reported: set[tuple[str, str]] = set()
        self._list_lines: list[tuple[int, int]] = []

    @staticmethod
    def _clean_note(note: str) -> str:
        return without_gaps(without_guidance(note)[0])[0]

    def build(
        self, fallback: str, blocks: Sequence[Block], contents: set[int], guidance: set[int], month_first: bool
    ) -> Outline:
        titles = [heading_without_gaps(strip_notes(block.text))[0] for block in blocks if block.level == 0]
        tops = [heading_without_gaps(strip_notes(block.text))[0] for block in blocks if block.level == 1]
        only_top = tops[0] if len(tops) == 1 else ""
        title = next((text for text in titles if text), "") or fallback or only_top or _from_name(self._name)
        title = " ".join(title.split())
        stack: list[tuple[int, str]] = []
        passage = Passage((title,))
        passages = [passage]
        document_date = None
        audience: tuple[str, ...] = ()
        headings = 0
        for index, block in enumerate(blocks):
            where = " > ".join(passage.path)
            if index in contents:
                self._report("table_of_contents", where, "Left out of the index.", "Nothing to do.")
                continue
            if index in guidance:
                quoted = _quote(block.text or block.style)
                self._add("guidance", where, quoted, "Delete the note to the template's user before publishing.")
                passage.left_out = True
                continue
            if block.level and not is_contents_heading(block.text):
                headings += 1
                stack = [(level, text) for level, text in stack if level < block.level]
                stack.append((block.level, self._heading(block, where)))
                self._close(passage)
                passage = Passage(tuple(text for _, text in stack if text) or (title,))
                passages.append(passage)
                self._mark(block, passage)
                passage.lines += [f"[{note}]" for note in self._cited(block.text)]
                continue
            if block.level == 0 and block.text:
                self._report_gaps(gaps(block.text), where)
                continue
            if block.level is None or block.text:
                self._add_text(block, passage)
            opening = not headings or bool(_CONTROL.match(passage.path[-1]))
            audience = audience or (audience_line(block.text) if opening else ())
            stated = effective_date(block.text, month_first=month_first)
            if stated and opening:
                document_date = max(filter(None, (document_date, stated)))
            elif stated and passage.effective_date is None:
                passage.effective_date = stated
        self._close(passage)
        self._empty(passages)
        full = [passage for passage in passages if passage.lines]
        if not headings and full:
            fix = "Give its headings Word's styles Heading 1, 2, 3, so that answers can name the place."
            self._add("no_headings", title, "The whole document is one section.", fix)
        return Outline(title, full, self._findings, document_date, audience)

    def _heading(self, block: Block, where: str) -> str:
        text, holes = heading_without_gaps(" ".join(strip_notes(block.text).split()))
        self._report_gaps(holes, where)
        return text.rstrip(":").strip()

    def _cited(self, text: str) -> list[str]:
        cited = inline_notes("".join(character for character in text if not strip_notes(character)), self._notes)
        return [cited.strip("[]")] if cited.strip("[]") else []

    def _add_text(self, block: Block, passage: Passage) -> None:
        where = " > ".join(passage.path)
        self._mark(block, passage)
        for written in block.text.split("\n"):
            line = " ".join(written.split())
            marker, depth = block.marker, block.depth if block.marker else 0
            if not marker and not block.cells and (bullet := _BULLET.match(line)):
                marker, line = "- ", line[bullet.end() :]
            if block.cells:
                cells, holes = row_without_gaps([" ".join(cell.split()) for cell in block.cells])
                line = "; ".join(cells)
            else:
                line, taken = without_guidance(line)
                for text in taken:
                    self._add(
                        "guidance", where, _quote(text), "Delete the note to the template's user before publishing."
                    )
                line, holes = without_gaps(line)
                passage.left_out = passage.left_out or bool(taken)
            self._report_gaps(holes, where)
            passage.left_out = passage.left_out or bool(holes)
            line = inline_notes(line, self._notes).strip()
            if not re.search(r"\w", line):
                passage.rows_left_out = passage.rows_left_out or bool(block.cells)
                continue
            if block.cells:
                passage.caption = None
            else:
                self._drop_lone_caption(passage)
                passage.caption = len(passage.lines) if _CAPTION.match(line) else None
            if marker:
                self._list_lines.append((len(passage.lines), depth))
            passage.lines.append(marker + line)

    @staticmethod
    def _drop_lone_caption(passage: Passage) -> None:
        """A caption goes when every row of its table was left out."""
        if passage.rows_left_out and passage.caption is not None and passage.caption == len(passage.lines) - 1:
            del passage.lines[passage.caption]
        passage.rows_left_out, passage.caption = False, None

    def _close(self, passage: Passage) -> None:
        """Indent the finished passage's list items, counted from its shallowest one."""
        self._drop_lone_caption(passage)
        shallowest = min((depth for _, depth in self._list_lines), default=0)
        for line, depth in self._list_lines:
            passage.lines[line] = "  " * (depth - shallowest) + passage.lines[line]
        self._list_lines = []

    def _mark(self, block: Block, passage: Passage) -> None:
        where = " > ".join(passage.path)
        passage.pictures = passage.pictures or "image" in block.marks
        for mark in sorted(block.marks & _MARKS.keys()):
            self._report(mark, where, _MARKS[mark], _FIXES[mark])

    def _empty(self, passages: Sequence[Passage]) -> None:
        parents = {passage.path[:depth] for passage in passages for depth in range(1, len(passage.path))}
        for passage in passages:
            where = " > ".join(passage.path)
            if passage.lines:
                continue
            if passage.pictures:
                self._add("image_only", where, "The section has only a picture, which cannot be read.", _FIXES["image"])
            elif passage is not passages[0] and passage.path not in parents and not passage.left_out:
                self._add("empty_section", where, "No text stands under this heading.", "Write the text or delete it.")

    def _report_gaps(self, holes: Sequence[str], where: str) -> None:
        for hole in holes:
            self._add("placeholder", where, _quote(hole), "Fill it in; until then its sentence is left out.")

    def _report(self, kind: str, where: str, detail: str, fix: str) -> None:
        """A finding once per place (a table of contents once per document)."""
        key = (kind, "" if kind == "table_of_contents" else where)
        if key not in self._reported:
            self._reported.add(key)
            self._add(kind, where, detail, fix)

    def _add(self, kind: str, where: str, detail: str, fix: str) -> None:
        if len(self._findings) < MAX_FINDINGS:
            self._findings.append(Finding(self._name, kind, where, detail, fix))


def _quote(text: str) -> str:
    text = " ".join(strip_notes(text).split())
    return text if len(text) <= 120 else text[:117].rstrip() + "…"


def _from_name(name: str) -> str:
    stem = re.sub(r"\.\w+$", "", name.rsplit("/", 1)[-1])
    words = re.sub(r"[_-]+", " ", stem).strip()
    return words[:1].upper() + words[1:] or stem
