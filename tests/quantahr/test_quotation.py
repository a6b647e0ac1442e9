"""Quotations read like the document: in order, each section once, and by the rows of a table that concern the asker."""

from dataclasses import dataclass

import pytest

from quantahr.retrieval.quotation import gather
from quantahr.retrieval.sections import Evidence
from quantahr.retrieval.units import split_units

DAYS = (
    "You have ten days for a partner. You have five days for a brother, sister or grandparent. "
    "They need not be taken in a row. Ask your manager.\nTell us early. Nothing has to be proved."
)
SICK = (
    "Sick pay\nCountry: Germany; Full pay: 6 weeks; Then: nothing\nCountry: Ireland; Full pay: 8 weeks; Then: half\n"
    "Country: United Kingdom; Full pay: 10 weeks; Then: half\nIt is paid monthly."
)


@dataclass(frozen=True, slots=True)
class Passage:
    text: str
    id: str = "leave:1"
    document: str = "Leave.docx"
    title: str = "Leave"
    heading_path: tuple[str, ...] = ("Leave",)
    audience: tuple[str, ...] = ("employee",)
    content_hash: str = "1"


def piece(section: Passage, words: str, score: float = 1.0) -> Evidence:
    unit = next(unit for unit in split_units(section.text) if words in unit.text)
    return Evidence(section, unit.quoted, score, unit.start)


def quoted(text: str, question: str, *words: str) -> str:
    section = Passage(text)
    (only,) = gather([piece(section, each) for each in words], question)
    return only.text


def test_what_stands_between_two_sentences_of_a_paragraph_is_quoted_too() -> None:
    assert quoted(DAYS, "gran died", "in a row", "ten days").startswith(
        "You have ten days for a partner. You have five days for a brother, sister or grandparent. They need not"
    )


def test_a_gap_between_paragraphs_is_shown() -> None:
    assert (
        quoted(DAYS, "?", "ten days", "Nothing has") == "You have ten days for a partner. … Nothing has to be proved."
    )


@pytest.mark.parametrize(
    ("question", "rows"),
    [
        ("how long do i get sick pay", ["Germany", "Ireland", "United Kingdom"]),
        ("sick pay in ireland", ["Ireland"]),
        ("sick pay uk", ["United Kingdom"]),
        ("how is it for german staff", ["Germany"]),
        ("ireland or the united kingdom", ["Ireland", "United Kingdom"]),
        ("what do us folks get", ["Germany", "Ireland", "United Kingdom"]),
    ],
)
def test_a_table_answers_by_the_rows_that_the_question_names_or_by_all(question: str, rows: list[str]) -> None:
    text = quoted(SICK, question, "6 weeks")
    assert [line.split(";")[0].removeprefix("Country: ") for line in text.splitlines()] == rows


def test_a_number_names_only_its_own_row() -> None:
    grades = (
        "Grade: 1; Days: 20\nGrade: 3; Days: 25; Extra: 1\nGrade: 13; Days: 30; Extra: 2\nGrade: 4; Days: 26; Extra: 0"
    )
    assert quoted(grades, "im on grade 3 how many days", "26") == "Grade: 3; Days: 25; Extra: 1"


def test_a_large_table_is_not_quoted_whole() -> None:
    table = "\n".join(f"City: Town{n:02d}x; Rate: {n}; Meals: {n}" for n in range(40))
    assert quoted(table, "hotel limit", "Rate: 7;") == "City: Town07x; Rate: 7; Meals: 7"


def test_every_section_is_quoted_once_and_the_best_comes_first() -> None:
    leave, pay = Passage(DAYS), Passage(SICK, id="pay:1")
    found = gather([piece(pay, "monthly"), piece(leave, "ten days"), piece(pay, "Sick pay")], "?")
    assert [quotation.section.id for quotation in found] == ["pay:1", "leave:1"]


def test_items_keep_their_lines_and_say_what_introduces_them_once() -> None:
    claims = "You may claim:\n- train travel\n- a taxi at night\n- a hotel"
    assert quoted(claims, "?", "train", "taxi") == "You may claim: train travel\na taxi at night"


def test_without_evidence_nothing_is_quoted() -> None:
    assert gather([], "anything") == ()


def test_the_title_of_a_table_brings_its_rows() -> None:
    whole = quoted(SICK, "how long do i get sick pay", "Sick pay")
    assert whole.startswith("Sick pay\n")
    assert all(country in whole for country in ("Germany", "Ireland", "United Kingdom"))
    assert "Germany" not in quoted(SICK, "how long do i get sick pay in ireland", "Sick pay")
    assert "Germany" not in quoted(SICK, "when is it paid", "It is paid monthly.")
