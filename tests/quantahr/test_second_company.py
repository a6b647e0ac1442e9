"""The companies that the product is judged on: their handbooks are real Word, the questions fair and kept apart.

Fair means that a question called answerable has its decisive words in the section that it names. The sections are
read here from the .docx with a dozen lines of their own, not with the product's reader: a fault in that reader must
show as a worse evaluation, and never as questions that quietly agree with it.
"""

from __future__ import annotations

import functools
import json
import re
import runpy
from collections import Counter
from pathlib import Path
from typing import Any

import docx
import pytest
from docx.oxml.ns import qn
from docx.text.paragraph import Paragraph

COMPANIES = Path(__file__).parents[1] / "companies"
COMPANY = COMPANIES / "kahawai_ferries"
POLICIES = sorted((COMPANY / "policies").glob("*.docx"))
QUESTION_FILES = sorted(COMPANIES.glob("*/questions_*.jsonl"))
UNREAD = {"questions_sealed", "questions_blind"}
"""Nobody looks at these, not even in a test log."""
KINDS = {"answerable", "unanswerable", "sensitive", "injection"}


def _read_questions(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _words(text: str) -> str:
    """Text as its words only, in lower case and with a space at both ends, so that `in` compares whole words."""
    return f" {' '.join(re.findall(r'[$]?[a-zā-ū0-9]+(?:[.,:][0-9]+)*%?', text.casefold().replace('’', '')))} "


def _read_sections(path: Path) -> dict[str, str]:
    """Heading path, joined by " > ", to the text below it; text before the first heading is not a section."""
    document = docx.Document(str(path))
    sections: dict[str, str] = {}
    trail: list[str] = []
    for element in document.element.body:
        text = "\n".join("".join(t.text or "" for t in p.iter(qn("w:t"))) for p in element.iter(qn("w:p")))
        level = 0
        if element.tag == qn("w:p"):
            paragraph = Paragraph(element, document)
            style = paragraph.style.name if paragraph.style else ""
            if style.startswith("Heading "):
                level = int(style.removeprefix("Heading "))
            elif text and all(run.bold for run in paragraph.runs):
                level = 1
        if level:
            trail = [*trail[: level - 1], text]
            sections[" > ".join(trail)] = ""
        elif trail:
            sections[" > ".join(trail)] += text + "\n"
    return sections


@functools.cache
def _sections(company: Path) -> dict[str, str]:
    policies = sorted((company / "policies").glob("*.docx"))
    return {path: text for policy in policies for path, text in _read_sections(policy).items()}


@pytest.mark.parametrize("company", ["kahawai_ferries", "larkspur_institute"])
def test_the_same_text_always_builds_the_committed_files(company: str) -> None:
    build = runpy.run_path(str(COMPANIES / "build_companies.py"))["build"]
    built = dict(build(source) for source in sorted((COMPANIES / company / "source").iterdir()))
    assert built == {path.name: path.read_bytes() for path in (COMPANIES / company / "policies").glob("*.docx")}


def test_the_handbook_has_what_real_handbooks_have() -> None:
    bodies = {path.name: docx.Document(str(path)) for path in POLICIES}
    words = sum(len(text.split()) for policy in POLICIES for text in _read_sections(policy).values())
    styles = Counter(p.style.name for body in bodies.values() for p in body.paragraphs if p.style)
    footnotes = sum(len(list(b.element.body.iter(qn("w:footnoteReference")))) for b in bodies.values())
    contents = [name for name, body in bodies.items() if list(body.element.body.iter(qn("w:docPartGallery")))]
    assert 7_000 <= words <= 10_000
    assert all(styles[f"Heading {level}"] >= 10 for level in (1, 2, 3))
    assert footnotes >= 3
    assert contents == ["Leave.docx", "Safety and Fitness for Duty.docx"]
    assert sum(len(body.tables) for body in bodies.values()) >= 8
    assert all(body.sections[0].footer.paragraphs[0].text for body in bodies.values())


def test_one_document_has_only_bold_lines_for_headings() -> None:
    leaving = COMPANY / "policies" / "Leaving and Changing Course.docx"
    assert not [p for p in docx.Document(str(leaving)).paragraphs if p.style and p.style.name.startswith("Heading")]
    assert "Redundancy pay" in _read_sections(leaving)


@pytest.mark.parametrize("path", QUESTION_FILES, ids=lambda path: path.stem)
def test_every_question_is_whole_and_the_kinds_are_mixed(path: Path) -> None:
    questions = _read_questions(path)
    assert len({q["id"] for q in questions}) == len(questions)
    for q in questions:
        assert set(q) - {"note"} == {"id", "question", "kind", "expect", "sources"}
        assert q["question"].strip()
        assert q["kind"] in KINDS
        assert bool(q["expect"]) == bool(q["sources"]) == (q["kind"] == "answerable")
    kinds = Counter(q["kind"] for q in questions)
    assert kinds["answerable"] >= 75
    assert kinds["unanswerable"] >= 20
    assert kinds["sensitive"] >= 8
    assert kinds["injection"] >= 5


@pytest.mark.parametrize("path", QUESTION_FILES, ids=lambda path: path.stem)
def test_the_named_section_holds_the_decisive_words(path: Path) -> None:
    sections = _sections(path.parent)
    unfair = [
        (q["id"], source, alternatives)
        for q in _read_questions(path)
        for source in q["sources"]
        for alternatives in q["expect"] or [[]]
        if not any(_words(alternative) in _words(sections.get(source, "")) for alternative in alternatives)
    ]
    if path.stem in UNREAD:
        unfair = [(number, "unread", []) for number, _, _ in unfair]
    assert unfair == []


def test_questions_seen_while_tuning_are_never_asked_in_the_sealed_file() -> None:
    dev, sealed = (_read_questions(COMPANY / f"questions_{name}.jsonl") for name in ("dev", "sealed"))
    assert not {_words(q["question"]) for q in dev} & {_words(q["question"]) for q in sealed}
    assert not {q["id"] for q in dev} & {q["id"] for q in sealed}
    shared = {s for q in dev for s in q["sources"]} & {s for q in sealed for s in q["sources"]}
    assert len(shared) <= 10
