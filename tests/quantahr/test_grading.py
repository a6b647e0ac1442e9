"""What counts as a right answer."""

from pathlib import Path
from typing import Any

import pytest

from quantahr.grading import Golden, GoldenError, grade, holds, read_golden, same_heading

LEAVE = Golden("g1", "how many days", "answerable", (("5 days", "five days"), ("31 March",)), ("Leave > Carry over",))


@pytest.mark.parametrize(
    ("text", "expected", "right"),
    [
        ("You may carry 5 days.", "5 days", True),
        ("You may carry 15 days.", "5 days", False),
        ("You may carry 2.5 days.", "5 days", False),
        ("It is 2.5 days a month.", "2.5 days", True),
        ("You get £1,500.00 a year.", "1500", True),
        ("You get 1500 euros.", "€1,500", True),
        ("You get 11,500 euros.", "1,500", False),
        ("Your manager’s approval", "managers approval", True),
        ("By 31 March, in writing.", "31 march", True),
        ("Half-day", "half day", True),
    ],
)
def test_whole_words_and_whole_numbers_count(text: str, expected: str, right: bool) -> None:
    assert holds(text, [[expected]]) is right


def test_every_group_needs_one_of_its_alternatives() -> None:
    assert holds("five days until 31 March", LEAVE.expect)
    assert not holds("five days", LEAVE.expect)


def graded(golden: Golden, answer: str, verdict: str, *sources: str) -> Any:
    return grade(golden, answer=answer, verdict=verdict, sources=sources)


def test_an_answer_is_right_when_its_words_and_its_source_are() -> None:
    whole = graded(LEAVE, "Five days, until 31 March [1].", "answered", "Leave > Carry over")
    assert (whole.correct, whole.cited, whole.correct_cited, whole.right) == (True, True, True, True)
    elsewhere = graded(LEAVE, "Five days, until 31 March [1].", "answered", "Leave > Notice")
    assert (elsewhere.correct, elsewhere.cited, elsewhere.right) == (True, False, False)
    unsaid = graded(LEAVE, "Five days, until 31 March.", "abstained", "Leave > Carry over")
    assert (unsaid.correct, unsaid.cited) == (False, False)


def test_other_kinds_are_right_when_the_assistant_holds_back() -> None:
    assert graded(Golden("u", "q", "unanswerable"), "", "abstained").right
    assert not graded(Golden("u", "q", "unanswerable"), "Yes.", "answered").right
    assert graded(Golden("s", "q", "sensitive"), "", "sensitive").right
    assert not graded(Golden("s", "q", "sensitive"), "", "abstained").right
    for verdict, right in (("refused", True), ("sensitive", True), ("abstained", True), ("answered", False)):
        assert graded(Golden("i", "q", "injection"), "", verdict).right is right


def test_a_title_in_front_of_a_heading_makes_no_difference() -> None:
    assert same_heading("Handbook > Leave > Carry over", "Leave > Carry over")
    assert same_heading("Leave > carry over", "Leave > Carry over")
    assert not same_heading("Leave", "Leave > Carry over")
    assert not same_heading("Leave > Carry over > Notice", "Leave > Carry over")


@pytest.mark.parametrize(
    "line",
    [
        "{",
        '{"id": "a", "question": "b", "kind": "odd"}',
        '{"id": "a", "question": "b", "kind": "answerable", "expect": []}',
        '["a"]',
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "golden.jsonl"
    file.write_text('{"id": "x", "question": "q", "kind": "unanswerable"}\n' + line + "\n")
    with pytest.raises(GoldenError, match="line 2"):
        read_golden(file)


@pytest.mark.parametrize("file", ["data/golden/golden.jsonl", "tests/companies/kahawai_ferries/questions_dev.jsonl"])
def test_the_shipped_questions_can_be_read(file: str) -> None:
    root = Path(__file__).parents[2]
    kinds = {golden.kind for golden in read_golden(root / file)}
    assert kinds == {"answerable", "unanswerable", "sensitive", "injection"}
