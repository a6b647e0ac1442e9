"""A Markdown handbook as the same blocks as a Word one: headings, lists, tables, front matter.

The idea: a line-based reader of what handbooks use. Inline marks are taken off, links keep their words, pictures
leave a mark, code fences stay as text, HTML comments are the author's and are left out.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from quantahr.policies.blocks import Block, tidy
from quantahr.policies.styles import Look
from quantahr.policies.tables import Cell, GridRow, readable_rows

_ATX = re.compile(r"^ {0,3}(#{1,6})(?:\s+(.*?))?(?:\s+#+)?\s*$")
_SETEXT = re.compile(r"^ {0,3}(=+|-{2,})\s*$")
_ITEM = re.compile(r"^(\s*)([-*+]|\d{1,3}[.)]|[a-z][.)])\s+(.*)$")
_RULE = re.compile(r"^ {0,3}(?:(?:-\s*){3,}|(?:\*\s*){3,}|(?:_\s*){3,})$")
_DIVIDER = re.compile(r"^\s*\|?\s*:?-{2,}:?\s*(?:\|\s*:?-{2,}:?\s*)*\|?\s*$")
_FENCE = re.compile(r"^\s*(?:```|~~~)")
_PICTURE = re.compile(r"!\[[^\]]*\]\([^)]*\)")
_NOTE = re.compile(r"^\[\^([^\]]+)\]:\s*(.*)$")


@dataclass(frozen=True, slots=True)
class MarkdownContent:
    """What a Markdown file says: its blocks, and its front matter as lower-case keys and plain values."""

    blocks: list[Block]
    front: dict[str, str]


def read_markdown(text: str) -> MarkdownContent:
    """The content of a Markdown file; any text is one."""
    text = re.sub(r"<!--.*?-->", "", text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff"), flags=re.DOTALL)
    lines = text.split("\n")
    front: dict[str, str] = {}
    if lines and lines[0].strip() == "---" and "---" in (line.strip() for line in lines[1:]):
        end = next(index for index, line in enumerate(lines[1:], 1) if line.strip() == "---")
        for line in lines[1:end]:
            key, colon, content = line.partition(":")
            if colon:
                front[key.strip().lower()] = content.strip().strip("[]\"'")
        lines = lines[end + 1 :]
    notes = {match[1]: inline(match[2]) for line in lines if (match := _NOTE.match(line))}
    lines = [_cite(line, notes) for line in lines if not _NOTE.match(line)]
    return MarkdownContent(list(_blocks(lines)), front)


def inline(text: str) -> str:
    """A line without emphasis, code and link marks."""
    text = _PICTURE.sub("", text)
    text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"<(https?://[^>]+|[^>\s]+@[^>\s]+)>", r"\1", text)
    text = re.sub(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1", r"\2", text)
    text = re.sub(
        r"(?<![\w*])\*(?=\S)(.+?)(?<=\S)\*(?!\w)|(?<![\w_])_(?=[^\s_])(.+?)(?<=[^\s_])_(?![\w_])", _either, text
    )
    text = re.sub(r"`([^`]+)`", r"\1", text)
    return tidy(re.sub(r"\\([\\`*_{}\[\]()#+.!|<>-])", r"\1", text))


def _either(match: re.Match[str]) -> str:
    return match[1] or match[2] or ""


def _cite(line: str, notes: dict[str, str]) -> str:
    return re.sub(r"\s?\[\^([^\]]+)\]", lambda match: f" [{notes[match[1]]}]" if notes.get(match[1]) else "", line)


def _blocks(lines: list[str]) -> Iterator[Block]:
    paragraph: list[str] = []
    item: tuple[str, int] | None = None
    indents: list[int] = []
    index = 0

    def flush() -> Iterator[Block]:
        nonlocal item
        raw = " ".join(part.strip() for part in paragraph)
        marks = frozenset({"image"}) if _PICTURE.search(raw) else frozenset()
        bold = bool(re.fullmatch(r"(\*\*|__)[^*_]+\1:?", raw.strip()))
        text = inline(raw)
        if text or marks:
            marker, depth = item or ("", 0)
            yield Block(text, marker=marker, depth=depth, look=Look(bold=bold), marks=marks)
        paragraph.clear()
        item = None

    while index < len(lines):
        line = lines[index].expandtabs(4).rstrip()
        following = lines[index + 1] if index + 1 < len(lines) else ""
        if not line.strip():
            yield from flush()
        elif _FENCE.match(line):
            yield from flush()
            index += 1
            while index < len(lines) and not _FENCE.match(lines[index]):
                yield Block(tidy(lines[index]))
                index += 1
        elif heading := _ATX.match(line):
            yield from flush()
            yield Block(inline(heading[2] or ""), level=len(heading[1]))
            indents = []
        elif paragraph and item is None and len(paragraph) == 1 and (under := _SETEXT.match(line)):
            text = inline(paragraph.pop())
            yield Block(text, level=1 if under[1].startswith("=") else 2)
            indents = []
        elif _RULE.match(line):
            yield from flush()
        elif "|" in line and _DIVIDER.match(following) and "|" in following:
            yield from flush()
            rows = [GridRow(_row(line), header=True)]
            index += 2
            while index < len(lines) and "|" in lines[index]:
                rows.append(GridRow(_row(lines[index])))
                index += 1
            yield from (Block("; ".join(parts), cells=parts) for parts in readable_rows(rows))
            continue
        elif found := _ITEM.match(line):
            yield from flush()
            indent = len(found[1])
            indents = [known for known in indents if known < indent]
            item = ("- " if found[2] in "-*+" else f"{found[2]} ", len(indents))
            indents.append(indent)
            paragraph.append(found[3])
        else:
            if not line.startswith((" ", ">")) and not paragraph:
                indents = []
            paragraph.append(re.sub(r"^\s*>\s?", "", line))
        index += 1
    yield from flush()


def _row(line: str) -> tuple[Cell, ...]:
    parts = re.split(r"(?<!\\)\|", line.strip().removeprefix("|").removesuffix("|"))
    return tuple(Cell(inline(part)) for part in parts)
