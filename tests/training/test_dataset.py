"""Rows and policies become prompts as the worker sends them, with the right number to cite, or an abstention."""

import json
import random
import re
from collections import Counter
from pathlib import Path

import pytest

from quantahr.policies import Section
from quantahr.prompt import NO_ANSWER, SYSTEM
from tests.training.conftest import ROWS, make_tokenizer
from training.config import AlpacaDataset, Training
from training.dataset.alpaca import DatasetError, read_alpaca
from training.dataset.arrange import arrange
from training.dataset.example import Encoder, Example
from training.dataset.material import Ask, Material, Passage
from training.dataset.phrasing import typed
from training.dataset.policies import section_asks
from training.dataset.questions import heading_questions, questions_for
from training.dataset.schedule import build_schedule

ROWS_DATASET = AlpacaDataset(type="alpaca", input_files=["data/general_knowledge/*.json"])


def material_of(workplace: Path) -> Material:
    return read_alpaca(ROWS_DATASET, root=workplace)


def section_of(name: str, heading: str, units: tuple[str, ...]) -> Section:
    return Section(name, "A.docx", "A", (heading,), " ".join(units), ("employee",), None, "hash", 0)


def excerpts_of(example: Example) -> dict[str, str]:
    lines = example.messages[1]["content"].split("\n")
    return {match[1]: match[2] for line in lines if (match := re.match(r"\[(\d)\] (.*)", line))}


def test_rows_with_evidence_become_questions_on_passages(workplace: Path) -> None:
    material = material_of(workplace)
    assert len(material.passages) == 3
    assert Counter(ask.kind for ask in material.asks) == {"answer": 6, "abstain": 3}
    passage = next(iter(material.passages.values()))
    assert passage.label == "Leave > Annual leave"
    assert passage.units[0] == "You get 25 days a year."


def test_plain_rows_keep_their_input_only_if_configured(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"instruction": "Say hi", "input": "to Ann", "output": "Hi Ann"}))
    for included, text in ((True, "Say hi\nto Ann"), (False, "Say hi")):
        dataset = AlpacaDataset(type="alpaca", input_files=["*.jsonl"], include_prompt_inputs=included)
        (example,) = read_alpaca(dataset, root=tmp_path).ready
        assert example.messages[0]["content"] == text
        assert example.answer == "Hi Ann"


def test_what_cannot_be_used_is_counted_and_never_silent(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "evidence": ["A sentence that stands nowhere."]}, {"instruction": " ", "output": "x"}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    material = read_alpaca(AlpacaDataset(type="alpaca", input_files=["rows.json"]), root=tmp_path)
    assert material.dropped == {
        "row whose evidence is not in its input": 1,
        "row with an empty instruction or output": 1,
    }


def test_a_broken_row_is_named_without_its_text(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([ROWS[0], {"question": "secret words"}]))
    with pytest.raises(DatasetError, match="row 2") as caught:
        read_alpaca(AlpacaDataset(type="alpaca", input_files=["rows.json"]), root=tmp_path)
    assert "secret" not in str(caught.value)


def test_every_answer_cites_the_excerpt_that_holds_its_evidence(workplace: Path) -> None:
    material = material_of(workplace)
    evidence = {ask.answer: ask for ask in material.asks if ask.evidence}
    cited: Counter[str] = Counter()
    for epoch in range(30):
        for group in arrange(material, size=4, seed=1, epoch=epoch):
            for example in group:
                assert example.messages[0]["content"] == SYSTEM
                if example.answer == NO_ANSWER:
                    continue
                answer, mark = re.fullmatch(r"(.*) \[(\d)\]", example.answer).groups()  # type: ignore[union-attr]
                ask = evidence[answer]
                unit = material.passages[ask.passage].units[ask.evidence[0]]
                assert unit in excerpts_of(example)[mark]
                cited[mark] += 1
    # The place of the right excerpt is no habit to learn.
    assert len(cited) >= 3
    assert max(cited.values()) < 0.7 * sum(cited.values())


def test_a_question_without_its_evidence_is_an_abstention() -> None:
    units = tuple(
        f"Rule {word} takes {number} days."
        for number, word in enumerate(("red", "blue", "green", "grey", "pink", "gold"))
    )
    asks = [Ask("p", "answer", f"how long is {unit}", unit, (index,)) for index, unit in enumerate(units)]
    material = Material("alpaca", 1.0, {"p": Passage("p", "Rules", units, "p")}, asks)
    abstained = 0
    for epoch in range(30):
        for group in arrange(material, size=4, seed=2, epoch=epoch):
            for example in group:
                content = example.messages[1]["content"]
                evidence, _, question = content.rpartition("Question: ")
                asked = next((ask for ask in asks if ask.question == question), None)
                if asked and example.answer == NO_ANSWER:
                    abstained += 1
                    assert asked.answer not in evidence.split("Earlier question:")[0]
    assert abstained


def test_examples_of_a_group_share_all_but_their_question(workplace: Path) -> None:
    group = next(group for group in arrange(material_of(workplace), size=4, seed=1, epoch=0) if len(group) >= 3)
    beginnings = {re.split(r"Earlier question: |Question: ", example.messages[1]["content"])[0] for example in group}
    assert len(beginnings) == 1


def test_another_epoch_lays_out_anew_and_the_same_epoch_the_same(workplace: Path) -> None:
    material = material_of(workplace)
    assert arrange(material, size=4, seed=1, epoch=0) == arrange(material, size=4, seed=1, epoch=0)
    assert arrange(material, size=4, seed=1, epoch=0) != arrange(material, size=4, seed=1, epoch=1)


def test_an_injected_order_changes_no_answer(workplace: Path) -> None:
    material = material_of(workplace)
    right = {ask.answer for ask in material.asks if ask.evidence}
    seen = 0
    for epoch in range(40):
        for group in arrange(material, size=4, seed=3, epoch=epoch):
            for example in group:
                if example.kind == "injection":
                    seen += 1
                    assert example.answer == NO_ANSWER or example.answer.rsplit(" [", 1)[0] in right
    assert seen


def test_datasets_are_mixed_by_weight_and_every_passage_is_seen(workplace: Path) -> None:
    heavy, light = material_of(workplace), material_of(workplace)
    heavy.name, heavy.weight = "docx", 3.0
    training = Training(per_device_train_batch_size=4, gradient_accumulation_steps=2, max_steps=60)
    schedule = build_schedule([heavy, light], training, Encoder(make_tokenizer()), max_tokens=2000)
    taken = Counter(name for (name, _), count in schedule.seen.items() for _ in range(count))
    assert taken["docx"] / taken["alpaca"] == pytest.approx(3.0, rel=0.1)
    assert {source for name, source in schedule.seen if name == "docx"} == set(heavy.passages)
    assert len(schedule.steps) == 60


def test_an_example_that_is_too_long_is_dropped_and_counted(workplace: Path) -> None:
    material = material_of(workplace)
    training = Training(max_steps=2)
    encoder = Encoder(make_tokenizer())
    lengths = [
        len(encoder.encode(example)) for group in arrange(material, size=4, seed=17, epoch=0) for example in group
    ]
    limit = sorted(lengths)[len(lengths) // 2]
    schedule = build_schedule([material], training, encoder, max_tokens=limit)
    assert schedule.dropped[f"example longer than {limit} tokens"] == sum(length > limit for length in lengths)
    assert all(len(example) <= limit for step in schedule.steps for batch in step for example in batch)
    with pytest.raises(DatasetError, match="max_sequence_length"):
        build_schedule([material], training, encoder, max_tokens=20)


def test_a_base_without_chat_template_gets_the_plain_format_and_its_own_end() -> None:
    tokenizer = make_tokenizer(template=False)
    encoder = Encoder(tokenizer)
    example = Example("s", "answer", ({"role": "user", "content": "how many days"},), "five")
    text = tokenizer.decode(encoder.encode(example).prompt)
    assert text.endswith("### Answer:\n")
    assert encoder.encode(example).answer[-1] == tokenizer.eos_token_id


@pytest.mark.parametrize(
    ("unit", "question", "answer"),
    [
        (
            "Overtime is entered in Harbour within seven days.",
            "Overtime is entered in Harbour within how many days?",
            "Overtime is entered in Harbour within seven days.",
        ),
        (
            "You may buy your telephone for €60 after its data has been deleted.",
            "Can I buy my telephone for €60 after its data has been deleted?",
            "Yes, you may buy your telephone for €60 after its data has been deleted.",
        ),
        (
            "You may not use private cloud storage for company files.",
            "Am I allowed to use private cloud storage for company files?",
            "No: you may not use private cloud storage for company files.",
        ),
        (
            "If you fall ill on holiday, the days of illness are given back to you.",
            "What happens if I fall ill on holiday?",
            "The days of illness are given back to you.",
        ),
        (
            "Unpaid leave is approved by the head of department.",
            "Who approves unpaid leave?",
            "Unpaid leave is approved by the head of department.",
        ),
        ("To claim a meal, photograph the receipt on the same day.", "How do I claim a meal?", None),
        ("Country: Germany; Days: 30", "Days, Germany?", "For Germany, Days: 30."),
    ],
)
def test_the_rules_ask_what_the_sentence_answers(unit: str, question: str, answer: str | None) -> None:
    asked = {item.question: item.answer for item in questions_for(unit)}
    assert question in asked
    assert asked[question] == (answer or unit)


def test_the_rules_are_silent_where_the_form_is_not_certain() -> None:
    for unit in ("Next review: October 2026", "This chapter is about travel and how we book it.", "badge and keys,"):
        assert questions_for(unit) == []


def test_every_section_is_asked_about_and_some_questions_are_kept_for_evaluation() -> None:
    held = 0
    for number in range(20):
        units = (
            f"You may carry over {number + 2} days.",
            "They are used by 31 March.",
            f"Overtime is entered within {number + 3} days.",
            "You may ask for a smaller desk.",
            "You must ring your manager before ten.",
        )
        section = section_of(f"leave:{number}", "Carrying days over", units)
        train, held_out = section_asks(section, units)
        held += len(held_out)
        assert train
        assert not {ask.question for ask in train} & {ask.question for ask in held_out}
        assert all(0 <= index < len(units) for ask in train + held_out for index in ask.evidence)
    assert 0 < held < 40
    bare = ("Dress is free and friendly.",)
    assert section_asks(section_of("dress:1", "Dress", bare), bare)[0]
    assert "What are the rules on dress?" in heading_questions("Dress")


def test_a_typed_question_keeps_every_number() -> None:
    rng = random.Random(5)
    question = "If you are ill for 3 days, do you need a certificate within 48 hours?"
    written = {typed(question, rng) for _ in range(200)}
    assert len(written) > 50
    assert all(re.findall(r"\d+", text) == ["3", "48"] for text in written)


def test_evidence_that_spans_excerpts_is_cited_in_the_answers_order() -> None:
    passage = Passage("p", "Leave", ("First part.", "Second part.", "Other."), "p")
    material = Material("alpaca", 1.0, {"p": passage}, [Ask("p", "answer", "what?", "Both parts.", (1, 0))])
    for epoch in range(20):
        for group in arrange(material, size=2, seed=1, epoch=epoch):
            for example in group:
                shown = excerpts_of(example)
                marks = re.findall(r"\[(\d)\]", example.answer)
                assert "Second part." in shown[marks[0]]
                assert "First part." in shown[marks[-1]]
