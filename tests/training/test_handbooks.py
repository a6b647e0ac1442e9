"""Whole handbooks become prompts with the evidence that the worker would show, or an abstention."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from quantahr.grading import GoldenError
from quantahr.prompt import NO_ANSWER, build_messages
from quantahr.retrieval import Index, load_embedder
from quantahr.retrieval.quotation import gather
from training.config import HandbookDataset, TrainingConfigError, parse_config
from training.dataset.alpaca import DatasetError
from training.dataset.arrange import arrange
from training.dataset.example import Example
from training.dataset.handbooks import companies, read_handbooks, sketch_handbooks
from training.dataset.material import Material

DATASET = HandbookDataset(type="handbook", input_files=["companies/*/questions.jsonl", "companies/*/policies/*"])
HANDBOOK = """# Leave

## Annual leave

You get 25 days of leave a year. Leave is booked in Roster two weeks ahead.

## Sickness

Call your manager before ten. A doctor's note is needed after seven days.

# Office

## Parking

Parking costs 3 pounds a day. The gate closes at nine in the evening.
"""
QUESTIONS: list[dict[str, object]] = [
    {
        "id": "q1",
        "question": "how many days of leave do i get",
        "kind": "answerable",
        "sources": ["Leave > Annual leave"],
        "expect": [["25 days"]],
        "evidence": ["You get 25 days of leave a year."],
    },
    {
        "id": "q2",
        "question": "when do i need a doctors note",
        "kind": "answerable",
        "sources": ["Sickness"],
        "expect": [["seven days"]],
        "evidence": ["A doctor's note is needed after seven days."],
    },
    {"id": "q3", "question": "is parking free on sundays", "kind": "unanswerable", "sources": [], "evidence": []},
    {"id": "q4", "question": "i was assaulted", "kind": "sensitive", "sources": [], "evidence": []},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    company = tmp_path / "companies" / "acme"
    (company / "policies").mkdir(parents=True)
    (company / "policies" / "handbook.md").write_text(HANDBOOK)
    write_questions(tmp_path, QUESTIONS)
    return tmp_path


def write_questions(folder: Path, rows: Sequence[Mapping[str, object]]) -> None:
    file = folder / "companies" / "acme" / "questions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(folder: Path) -> Material:
    return read_handbooks(DATASET, cache=folder / "embeddings.db", root=folder)


def user_text(example: Example) -> str:
    return example.messages[1]["content"]


def test_a_question_is_answered_only_while_its_evidence_is_shown(folder: Path) -> None:
    material = read(folder)
    kinds = {example.kind for example in material.ready}
    assert kinds == {"answer", "abstain"}
    for example in material.ready:
        asked = user_text(example).rpartition("Question: ")[2]
        shown = "25 days of leave" in user_text(example)
        if "leave" in asked.split() and example.kind == "answer":
            assert shown
            assert example.answer.startswith("You get 25 days of leave a year.")
            assert re.search(r"\[\d\]$", example.answer)
        if "sundays" in asked:
            assert (example.kind, example.answer) == ("abstain", NO_ANSWER)
    leave = [example for example in material.ready if "of leave do i get" in user_text(example)]
    assert {example.kind for example in leave} == {"answer", "abstain"}  # the second: its evidence was taken away


def test_the_evidence_is_what_the_worker_would_quote(folder: Path) -> None:
    ((_, sections, questions),) = companies(DATASET, folder)
    index = Index.build(sections, load_embedder())
    question = questions[0].question
    quoted = gather(index.search(question, audiences=["employee"]).evidence, question)
    shown = [
        excerpt
        for example in read(folder).ready
        for excerpt in user_text(example).split("Question: ")[:1]
        if all(piece.text in excerpt for piece in quoted)
    ]
    assert shown
    assert build_messages("x", [])[0] == read(folder).ready[0].messages[0]


def test_it_is_the_same_every_time(folder: Path) -> None:
    assert read(folder).fingerprint() == read(folder).fingerprint()


def test_examples_with_the_same_evidence_stay_together(folder: Path) -> None:
    material = read(folder)
    places = defaultdict(list)
    for number, example in enumerate(e for group in arrange(material, size=50, seed=1, epoch=0) for e in group):
        if example in material.ready:
            places[example.source].append(number)
    assert any(len(found) > 1 for found in places.values())
    assert all(found == list(range(found[0], found[0] + len(found))) for found in places.values())


def test_evidence_that_its_handbook_does_not_have_is_counted(folder: Path) -> None:
    write_questions(folder, [{**QUESTIONS[0], "evidence": ["You get 40 days."]}, *QUESTIONS[1:]])
    assert read(folder).dropped == {"question whose evidence is not in its handbook": 1}


def test_the_sketch_has_about_as_many_examples(folder: Path) -> None:
    exact, rough = read(folder).ready, sketch_handbooks(DATASET, root=folder).ready
    assert len(rough) / 2 <= len(exact) <= len(rough) * 2


def test_questions_without_documents_or_in_another_form_are_named(folder: Path) -> None:
    alone = HandbookDataset(type="handbook", input_files=["companies/*/questions.jsonl"])
    with pytest.raises(DatasetError, match=r"no document for it. Add .*policies/\*"):
        read_handbooks(alone, cache=folder / "embeddings.db", root=folder)
    write_questions(folder, [{"id": "q1", "text": "secret wording"}])
    with pytest.raises(GoldenError, match=r"line 1: expected .*question") as problem:
        read(folder)
    assert "secret" not in str(problem.value)


def test_the_configuration_names_what_a_handbook_dataset_may_hold(folder: Path) -> None:
    (folder / "companies" / "acme" / "policies" / "old.pdf").write_text("x")
    values = {
        "model": {"name": "tiny", "base_llm_model": "x"},
        "datasets": [{"type": "handbook", "input_files": ["companies/*/policies/*"], "shuffle": True}],
    }
    with pytest.raises(TrainingConfigError, match=r"datasets\[0\].shuffle: there is no such key. .*weight"):
        parse_config(values, root=folder)
    values["datasets"] = [{"type": "handbook", "input_files": ["companies/*/policies/*"]}]
    with pytest.raises(TrainingConfigError, match=r"old.pdf is not a .jsonl or .md or .docx file"):
        parse_config(values, root=folder)
