"""The sample companies' handbooks, which no test made for the reader, are read as a person would read them."""

from pathlib import Path

import pytest

from quantahr.policies import Library, load_folder, summarise

ROOT = Path(__file__).parents[2]
FOLDERS = (ROOT / "data" / "hr_policies", ROOT / "tests" / "companies" / "kahawai_ferries" / "policies")


@pytest.fixture(scope="module", params=FOLDERS, ids=("tessaline", "kahawai"))
def library(request: pytest.FixtureRequest) -> Library:
    return load_folder(request.param)


@pytest.fixture(scope="module")
def tessaline() -> Library:
    return load_folder(FOLDERS[0])


def test_every_document_is_read_with_its_date_or_a_reason(library: Library) -> None:
    assert [finding for finding in library.findings if finding.kind != "contradiction"] == []
    assert all(len(document.sections) > 10 for document in library.documents)
    assert len({section.id for section in library.sections}) == len(library.sections)


def test_no_leftover_of_the_template_is_in_the_index(library: Library) -> None:
    text = "\n".join(section.text for section in library.sections)
    for leftover in ("{Insert", "[Guidance", "Note to HR", "....", "\t", "XX"):
        assert leftover not in text


def test_no_section_is_named_after_a_table_or_contents(library: Library) -> None:
    names = [section.heading_path[-1] for section in library.sections]
    assert [name for name in names if name.startswith(("Table 1", "Contents", "Table of contents"))] == []


def test_a_merged_header_is_read_into_every_row(tessaline: Library) -> None:
    text = "\n".join(section.text for section in tessaline.sections)
    assert (
        "Country: Germany; Annual leave per year – Grades 1–2: 28 days; Annual leave per year – Grades 3–4: 30 days"
        in text
    )


def test_lists_keep_their_nesting(tessaline: Library) -> None:
    text = "\n".join(section.text for section in tessaline.sections)
    assert "1. people with children of school age,\n  a) first those whose childcare closes on those days," in text


def test_a_document_with_bold_lines_only_has_sections(tessaline: Library) -> None:
    paths = {section.heading_path for section in tessaline.sections if section.document.startswith("Bereavement")}
    assert ("Travelling to a funeral abroad",) in paths


def test_the_managers_guide_is_for_managers_alone(tessaline: Library) -> None:
    audiences = {section.document: section.audience for section in tessaline.sections}
    restricted = {name for name, audience in audiences.items() if audience != ("employee",)}
    assert restricted == {"managers/Managers-Guide-to-People-Decisions.docx"}


def test_the_contradiction_that_the_handbook_holds_is_the_only_one_found(tessaline: Library) -> None:
    found = [finding for finding in tessaline.findings if finding.kind == "contradiction"]
    assert [finding.document for finding in found] == ["Travel-and-Expenses.docx"]
    assert "€300" in found[0].detail
    assert "€400" in found[0].detail
    assert "Working-Hours-and-Hybrid-Working.docx" in found[0].detail


def test_hr_sees_how_much_is_left_to_fill_in(tessaline: Library) -> None:
    lines = summarise(tessaline.all_findings)
    assert any(line.startswith("18 placeholders in Health-and-Safety.docx: ") for line in lines)
