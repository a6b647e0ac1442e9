"""The reading examples in data/general_knowledge teach the model to read, to cite and to admit that it does not know.

A wrong example teaches a wrong habit, so every row is held to what its own passage says: evidence copied word for
word, numbers that stand in the passage, and one fixed sentence where the passage has no answer.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from quantahr.prompt import NO_ANSWER

FOLDER = Path(__file__).parents[2] / "data" / "general_knowledge"
FILES = sorted(FOLDER.glob("*.json"))
KEYS = {"instruction", "input", "output", "evidence", "passage_id", "kind"}
NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
CITATION = " [1]"


def load(path: Path) -> list[dict[str, Any]]:
    rows = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(rows, list)
    return rows


def where(row: dict[str, Any]) -> str:
    return f"{row['passage_id']}: {row['instruction']}"


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return [row for path in FILES for row in load(path)]


@pytest.fixture(scope="module")
def answerable(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["kind"] == "answerable"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_row_has_the_agreed_keys_and_types(path: Path) -> None:
    for row in load(path):
        assert set(row) == KEYS
        assert all(isinstance(row[key], str) and row[key].strip() for key in KEYS - {"evidence"}), where(row)
        assert isinstance(row["evidence"], list), where(row)
        assert row["kind"] in {"answerable", "unanswerable"}, where(row)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_input_is_a_heading_path_above_its_passage(path: Path) -> None:
    for row in load(path):
        heading, _, passage = row["input"].partition("\n")
        assert heading.strip(), where(row)
        assert passage.strip(), where(row)


def test_there_are_enough_examples_over_enough_different_passages(rows: list[dict[str, Any]]) -> None:
    assert len(rows) >= 1500
    assert len({row["input"] for row in rows}) >= 300


def test_one_passage_id_names_one_passage(rows: list[dict[str, Any]]) -> None:
    pairs = {(row["passage_id"], row["input"]) for row in rows}
    assert len(pairs) == len({row["passage_id"] for row in rows}) == len({row["input"] for row in rows})


def test_every_passage_is_asked_about_several_times(rows: list[dict[str, Any]]) -> None:
    asked = Counter(row["passage_id"] for row in rows)
    assert [name for name, count in asked.items() if count < 5] == []


def test_no_question_is_asked_twice_of_one_passage(rows: list[dict[str, Any]]) -> None:
    asked = Counter((row["instruction"].casefold(), row["input"]) for row in rows)
    assert [question for (question, _), count in asked.items() if count > 1] == []


def test_evidence_is_copied_word_for_word_from_the_passage(answerable: list[dict[str, Any]]) -> None:
    for row in answerable:
        passage = row["input"].partition("\n")[2]
        assert row["evidence"], where(row)
        assert all(quote.strip() and quote in passage for quote in row["evidence"]), where(row)


def test_every_number_in_an_answer_stands_in_its_passage(answerable: list[dict[str, Any]]) -> None:
    for row in answerable:
        stated = set(NUMBER.findall(row["output"].removesuffix(CITATION)))
        assert stated <= set(NUMBER.findall(row["input"])), where(row)


def test_every_answer_is_short_and_ends_with_its_citation(answerable: list[dict[str, Any]]) -> None:
    for row in answerable:
        assert row["output"].endswith(CITATION), where(row)
        assert 4 <= len(row["output"].split()) <= 45, where(row)


def test_where_the_passage_has_no_answer_the_model_says_so_in_one_fixed_sentence(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert (row["kind"] == "unanswerable") == (row["output"] == NO_ANSWER), where(row)
        assert row["kind"] == "answerable" or row["evidence"] == [], where(row)


def test_between_a_fifth_and_a_third_of_the_examples_have_no_answer(rows: list[dict[str, Any]]) -> None:
    share = sum(row["kind"] == "unanswerable" for row in rows) / len(rows)
    assert 0.20 <= share <= 0.35
