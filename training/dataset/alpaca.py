"""Rows of {"instruction", "input", "output"}: JSON arrays or JSONL.

Two kinds of rows. With `evidence` (sentences copied from the input) a row is a question about a passage: the input's
first line is the passage's label, the rest its text, and the row is laid out like the worker's prompts. Without it a
row is taken as it stands.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from quantahr.errors import QuantaHRError
from quantahr.prompt import Message
from quantahr.retrieval.units import split_units
from training.config import AlpacaDataset, dataset_files
from training.dataset.example import Example
from training.dataset.material import Ask, Material, Passage


class DatasetError(QuantaHRError):
    """A dataset file cannot be used; the message names the file and the row, never its text."""


class Row(BaseModel):
    """One row. `kind` is "answerable" or "unanswerable" where there is a passage."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    instruction: str
    input: str = ""
    output: str
    evidence: tuple[str, ...] | None = None
    passage_id: str | None = None
    kind: str = "row"


def read_alpaca(dataset: AlpacaDataset, *, root: Path = Path()) -> Material:
    """All rows of the dataset's files. Raises DatasetError for a file that is not JSON or a row without its keys."""
    material = Material("alpaca", dataset.weight)
    for path in dataset_files(dataset, root):
        for number, row in read_rows(path):
            if not row.instruction.strip() or not row.output.strip():
                material.dropped["row with an empty instruction or output"] += 1
            elif row.evidence is not None and dataset.include_prompt_inputs:
                _add_question(material, path, row)
            else:
                text = row.instruction.strip()
                if dataset.include_prompt_inputs and row.input.strip():
                    text = f"{text}\n{row.input.strip()}"
                chat = (Message(role="user", content=text),)
                material.ready.append(Example(f"{path.stem}:{number}", "row", chat, row.output.strip()))
    return material


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """The rows of one file with their numbers, from 1. Raises DatasetError."""
    try:
        text = path.read_text(encoding="utf-8")
        values: list[Any]
        if path.suffix.lower() == ".jsonl":
            values = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            values = json.loads(text)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DatasetError(f"{path} is not readable JSON ({type(error).__name__}). Mend or remove the file.") from None
    if not isinstance(values, list):
        raise DatasetError(f"{path} must be a JSON array of rows, or JSONL with one row a line.")
    for number, value in enumerate(values, 1):
        try:
            yield number, Row.model_validate(value)
        except ValidationError as error:
            where = ", ".join(sorted({".".join(map(str, problem["loc"])) for problem in error.errors()}))
            raise DatasetError(f"{path}, row {number}: the keys {where or 'instruction, output'} are wrong.") from None


def _add_question(material: Material, path: Path, row: Row) -> None:
    label, _, text = row.input.partition("\n")
    key = f"{path.stem}:{row.passage_id or label}"
    units = tuple(unit.quoted for unit in split_units(text))
    if not units:
        material.dropped["row whose input has a label but no text"] += 1
        return
    passage = material.passages.setdefault(key, Passage(key, label.strip(), units, family=key))
    found = [_locate(sentence, passage.units) for sentence in row.evidence or ()]
    if any(index is None for index in found):
        material.dropped["row whose evidence is not in its input"] += 1
        return
    evidence = tuple(dict.fromkeys(index for index in found if index is not None))
    kind = "answer" if evidence else "abstain"
    answer = re.sub(r"\s*\[\d+\]", "", row.output).strip() if evidence else ""
    material.asks.append(Ask(key, kind, row.instruction.strip(), answer, evidence))


def _locate(sentence: str, units: tuple[str, ...]) -> int | None:
    """The unit that holds the sentence: all of it, or else most of its words."""
    wanted = _words(sentence)
    for index, unit in enumerate(units):
        if " ".join(wanted) in " ".join(_words(unit)):
            return index
    overlap = [len(set(wanted) & set(_words(unit))) / max(1, len(set(_words(unit)))) for unit in units]
    best = max(range(len(units)), key=overlap.__getitem__)
    return best if overlap[best] >= 0.8 else None


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
