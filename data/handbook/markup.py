"""The plain-text notation in which the sample handbook is written, read into blocks.

A source file has a header of ``key: value`` lines, a line ``---``, and then one block per line: ``#`` headings, ``- ``
and ``1. `` lists (two spaces deeper for a nested item), ``| a | b |`` tables (``<`` joins the cell with its left
neighbour, ``^`` with the one above), ``= `` captions, ``!! `` template guidance, ``[[box]]`` text boxes and
``[[control]]`` content controls. Writers work in this notation so that a change of policy is a readable diff; Word
sees only what ``data.handbook.word`` makes of it.
"""

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

ParagraphKind = Literal["body", "caption", "guidance", "box", "control"]
Headings = Literal["styles", "numbered", "bold"]

_HEADING = re.compile(r"(#{1,3}) (.+)")
_ITEM = re.compile(r"(?P<indent>(?:  )*)(?:(?P<bullet>-)|(?P<number>\d+|[a-z])\.) (?P<text>.+)")
_PREFIXES: tuple[tuple[str, ParagraphKind], ...] = (
    ("= ", "caption"),
    ("!! ", "guidance"),
    ("[[box]] ", "box"),
    ("[[control]] ", "control"),
)
_KNOWN_KEYS = {"file", "title", "subject", "author", "version", "audience", "headings", "toc"}


class MarkupError(ValueError):
    """A source file breaks the notation; the message names the file and the line."""


@dataclass(frozen=True, slots=True)
class Heading:
    level: int  # 1 to 3
    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    text: str
    kind: ParagraphKind = "body"


@dataclass(frozen=True, slots=True)
class ListItem:
    text: str
    ordered: bool
    level: int  # 0 is the outermost
    starts_list: bool  # numbering begins again here


@dataclass(frozen=True, slots=True)
class Table:
    rows: tuple[tuple[str, ...], ...]
    header_rows: int  # 0: a table of keys and values


Block = Heading | Paragraph | ListItem | Table


@dataclass(frozen=True, slots=True)
class Source:
    """One document of the handbook: where it is written to (relative to the policies folder), and its blocks."""

    file: str
    title: str
    subject: str
    author: str
    version: str
    audience: str
    headings: Headings
    toc: bool
    blocks: tuple[Block, ...]


def read(path: Path) -> Source:
    """Parse one source file. Raises MarkupError for an unknown key, a missing one or a ragged table."""
    head, _, body = path.read_text(encoding="utf-8").partition("\n---\n")
    keys = dict(line.split(": ", 1) for line in head.splitlines())
    if unknown := set(keys) - _KNOWN_KEYS:
        raise MarkupError(f"{path.name}: unknown header key {sorted(unknown)[0]!r}; allowed: {sorted(_KNOWN_KEYS)}")
    styles: dict[str, Headings] = {"styles": "styles", "numbered": "numbered", "bold": "bold"}
    style = keys.get("headings", "styles")
    if style not in styles:
        raise MarkupError(f"{path.name}: headings is {style!r}; allowed: {', '.join(styles)}")
    try:
        return Source(
            file=keys["file"],
            title=keys["title"],
            subject=keys["subject"],
            author=keys["author"],
            version=keys["version"],
            audience=keys.get("audience", "employee"),
            headings=styles[style],
            toc=keys.get("toc") == "yes",
            blocks=parse(body, name=path.name),
        )
    except KeyError as missing:
        raise MarkupError(f"{path.name}: the header lacks {missing}") from missing


def parse(body: str, *, name: str = "text") -> tuple[Block, ...]:
    """Turn the lines of a body into blocks, in order."""
    blocks: list[Block] = []
    rows: list[tuple[str, ...]] = []
    for line in [*body.splitlines(), ""]:
        if line.startswith("|"):
            rows.append(tuple(cell.strip() for cell in line.strip().strip("|").split("|")))
            continue
        if rows:
            blocks.append(_table(rows, captioned=bool(blocks) and _is_caption(blocks[-1]), name=name))
            rows = []
        if line.strip():
            blocks.append(_block(line, blocks))
    return tuple(blocks)


def _is_caption(block: Block) -> bool:
    return isinstance(block, Paragraph) and block.kind == "caption"


def _block(line: str, before: list[Block]) -> Block:
    if heading := _HEADING.fullmatch(line):
        return Heading(len(heading[1]), heading[2])
    if item := _ITEM.fullmatch(line):
        level = len(item["indent"]) // 2
        return ListItem(item["text"], ordered=item["bullet"] is None, level=level, starts_list=_starts(level, before))
    for prefix, kind in _PREFIXES:
        if line.startswith(prefix):
            return Paragraph(line.removeprefix(prefix), kind)
    return Paragraph(line)


def _starts(level: int, before: list[Block]) -> bool:
    return level == 0 and not (before and isinstance(before[-1], ListItem))


def _table(rows: list[tuple[str, ...]], *, captioned: bool, name: str) -> Table:
    for first, second in pairwise(rows):
        if len(first) != len(second):
            raise MarkupError(f"{name}: the table row {' | '.join(second)!r} has {len(second)} cells, not {len(first)}")
    header_rows = 0
    if captioned:  # a caption announces a table of data; a bare one lists keys and values
        header_rows = 2 if len(rows) > 1 and "^" in rows[1] else 1
    return Table(tuple(rows), header_rows)
