"""Tables as rows a person can read aloud: "Grade: 3; Country: Germany; Days: 30".

The idea: decide once per table where its keys stand. Header rows on top (marked as such, bold, or words above numbers)
give each cell its key; a two-column table without them is key and value; bold first cells without bold first row mean a
table lying on its side. Merged cells are already repeated in the grid.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """One place in the grid. `bold` when all its text is; `merged` counts the columns that its cell spans."""

    text: str
    bold: bool = False
    merged: int = 1


@dataclass(frozen=True, slots=True)
class GridRow:
    """One row; `header` when the author marked it to repeat on every page."""

    cells: tuple[Cell, ...]
    header: bool = False


def readable_rows(grid: Sequence[GridRow]) -> list[Row]:
    """The table as rows of "Key: value" parts, without its header rows; a one-part row is a caption or a note."""
    rows = [row for row in grid if any(cell.text for cell in row.cells)]
    width = max((len(row.cells) for row in rows), default=0)
    rows = [GridRow(row.cells + (Cell(""),) * (width - len(row.cells)), row.header) for row in rows]
    captions: list[Row] = []
    while rows and _spans_all(rows[0]) and len(rows) > 1:
        captions.append((rows.pop(0).cells[0].text,))
    if not rows:
        return captions
    depth = _header_depth(rows, width)
    if depth:
        keys = [_joined([row.cells[column].text for row in rows[:depth]]) for column in range(width)]
        return captions + [_keyed(keys, row) for row in rows[depth:]]
    if width == 2:
        return captions + [_pair(row) for row in rows]
    if width > 2 and all(row.cells[0].bold and row.cells[0].text for row in rows) and not rows[0].cells[1].bold:
        keys = [row.cells[0].text for row in rows]
        turned = [GridRow(tuple(row.cells[column] for row in rows)) for column in range(1, width)]
        return captions + [_keyed(keys, row) for row in turned if any(cell.text for cell in row.cells)]
    return captions + [_plain(row) for row in rows]


def _spans_all(row: GridRow) -> bool:
    return len(row.cells) > 1 and row.cells[0].merged >= len(row.cells)


def _header_depth(rows: Sequence[GridRow], width: int) -> int:
    """How many rows at the top are headers."""
    if len(rows) < 2:
        return 0
    marked = next((index for index, row in enumerate(rows) if not row.header), len(rows))
    if 0 < marked < len(rows):
        return marked
    first = rows[0].cells
    named = [cell for cell in first[1:] if cell.text]
    if not named or (width == 2 and not first[0].text):
        return 0
    if all(cell.bold for cell in first if cell.text):
        below = rows[1].cells
        grouped = any(cell.merged > 1 for cell in first) and all(cell.bold for cell in below if cell.text)
        return 2 if grouped and len(rows) > 2 else 1
    if all(row.cells[0].bold for row in rows):
        return 0
    texts = [cell.text for cell in first if cell.text]
    wordy = all(len(text) <= 40 and not re.search(r"\d", text) for text in texts) and len(set(texts)) == len(texts)
    numbers_below = any(re.search(r"\d", cell.text) for row in rows[1:] for cell in row.cells[1:])
    return 1 if wordy and (numbers_below or width > 2) else 0


def _joined(parts: Sequence[str]) -> str:
    """Header texts from above to below, a repeated one once."""
    kept: list[str] = []
    for part in parts:
        if part and part not in kept:
            kept.append(part)
    return " – ".join(kept)


def _keyed(keys: Sequence[str], row: GridRow) -> Row:
    if _spans_all(row):
        return (row.cells[0].text,)
    parts: list[str] = []
    for key, cell in zip(keys, row.cells, strict=True):
        part = _part(key, cell.text)
        if part and part not in parts:
            parts.append(part)
    return tuple(parts)


def _part(key: str, text: str) -> str:
    key = key.rstrip(" :")
    if not text or not key:
        return text
    return f"{key}: {text}"


def _pair(row: GridRow) -> Row:
    key, text = row.cells[0].text, row.cells[1].text
    if _spans_all(row) or key == text:
        return (key,)
    return (_part(key, text) or key,)


def _plain(row: GridRow) -> Row:
    parts: list[str] = []
    for cell in row.cells:
        if cell.text and cell.text not in parts[-1:]:
            parts.append(cell.text)
    return tuple(parts)
