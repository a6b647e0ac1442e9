"""A chat message finds its section and sentences, and nobody finds what is not for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from quantahr.errors import ModelError
from quantahr.retrieval import EmbeddingCache, Index, load_embedder
from quantahr.retrieval.embedder import Embedder, Vectors
from quantahr.retrieval.query import is_follow_up, lexicon, understand
from quantahr.retrieval.spelling import Speller, distance
from quantahr.retrieval.units import split_units


@dataclass(frozen=True)
class Passage:
    heading_path: tuple[str, ...]
    text: str
    audience: tuple[str, ...] = ("employee",)
    title: str = "Staff Handbook"
    document: str = "Handbook.docx"

    @property
    def content_hash(self) -> str:
        return sha256(repr((self.heading_path, self.text, self.audience)).encode()).hexdigest()

    @property
    def id(self) -> str:
        return f"handbook:{self.content_hash[:12]}"


HANDBOOK = [
    Passage(
        ("Time off", "Annual leave"),
        "Everyone has 26 days of annual leave a year. Part-time employees have a share of it. Ask your "
        "line manager at least two weeks ahead.",
    ),
    Passage(
        ("Time off", "Bereavement"),
        "After the death of a close relative you have five days of paid leave. For a grandparent it is two days.",
    ),
    Passage(
        ("Time off", "Sickness"),
        "Call your supervisor before your shift begins. A medical certificate is needed from the third "
        "day. This also applies at weekends.",
    ),
    Passage(
        ("Pay", "Expenses"),
        "You may claim:\n- train tickets in second class\n- hotels up to €120 a night\nReceipts are due "
        "within 30 days.",
    ),
    Passage(("Pay", "Pay day"), "Salaries are paid on the 25th of each month."),
    Passage(
        ("Working hours", "Remote work"), "You may work at home two days a week. Your manager agrees the days with you."
    ),
    Passage(("Leaving", "Notice"), "Grade: 1 to 4; Notice: one month\nGrade: 5 and above; Notice: three months"),
    Passage(
        ("For managers", "Dismissals"),
        "Before a dismissal the manager calls Hargreaves in Legal.",
        audience=("manager",),
    ),
]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return load_embedder()


@pytest.fixture(scope="module")
def index(embedder: Embedder) -> Index:
    return Index.build(HANDBOOK, embedder)


@pytest.fixture(scope="module")
def speller(embedder: Embedder) -> Speller:
    return Speller({"certificate": 3, "maternity": 2, "holiday": 4, "expenses": 3}, lexicon().words, embedder.words)


@pytest.mark.parametrize(
    ("question", "heading"),
    [
        ("how many days pto do i get", "Annual leave"),
        ("gran died, can i have time off??", "Bereavement"),
        ("hi! do i need a sick note if im ill for 3 days", "Sickness"),
        ("when do i get my money", "Pay day"),
        ("can i wfh", "Remote work"),
        ("how mutch can i spend on a hotell", "Expenses"),
        ("i want to quit, how much notice do i give", "Notice"),
    ],
)
def test_a_chat_message_finds_its_section_first(index: Index, question: str, heading: str) -> None:
    assert index.search(question, audiences=["employee"]).hits[0].section.heading_path[-1] == heading


def test_the_evidence_is_short_and_in_the_words_of_the_section(index: Index) -> None:
    found = index.search("how much can i spend on a hotel", audiences=["employee"])
    best = found.evidence[0]
    assert "You may claim:" in best.text
    assert "hotels up to €120 a night" in best.text
    assert best.section.text[best.start :].startswith(("train tickets", "hotels"))
    assert sum(len(piece.text.split()) for piece in found.evidence) <= 120
    assert [piece.score for piece in found.evidence] == sorted((piece.score for piece in found.evidence), reverse=True)


def test_a_sentence_that_points_back_brings_the_one_before_it(index: Index) -> None:
    found = index.search("does the certificate rule also apply at weekends", audiences=["employee"])
    text = found.evidence[0].text
    assert "A medical certificate is needed" in text
    assert "This also applies at weekends." in text


def test_a_follow_up_is_read_with_the_question_before_it(index: Index) -> None:
    earlier = ["how many days of annual leave do i get"]
    found = index.search("and for part-timers?", audiences=["employee"], earlier=earlier)
    assert found.hits[0].section.heading_path[-1] == "Annual leave"


def test_what_is_for_managers_never_reaches_an_employee(index: Index) -> None:
    question = "who does the manager call before a dismissal, Hargreaves?"
    seen = index.search(question, audiences=["employee"], k=20)
    assert all("Hargreaves" not in hit.section.text for hit in seen.hits)
    assert all("Hargreaves" not in piece.text for piece in seen.evidence)
    assert "Hargreaves" in index.search(question, audiences=["employee", "manager"]).hits[0].section.text


def test_not_even_spelling_correction_knows_the_words_of_hidden_sections(index: Index) -> None:
    assert understand("hargreves", index.view(["employee"]).speller).text == "hargreves"
    assert understand("hargreves", index.view(["manager"]).speller).text == "hargreaves"


def test_an_answered_question_is_more_answerable_than_one_about_something_else(index: Index) -> None:
    answered = index.search("how many days of annual leave do i get", audiences=["employee"]).answerable
    nowhere = index.search("what is the wifi password of the gym", audiences=["employee"]).answerable
    assert 0 <= nowhere < 0.4 < answered <= 1


def test_an_empty_index_finds_nothing(embedder: Embedder) -> None:
    found = Index.build([], embedder).search("holidays?", audiences=["employee"])
    assert (found.hits, found.evidence, found.answerable) == ((), (), 0.0)


def test_a_section_without_text_does_no_harm(embedder: Embedder) -> None:
    index = Index.build([Passage(("Empty",), ""), HANDBOOK[0]], embedder)
    assert index.search("annual leave", audiences=["employee"]).hits[0].section is HANDBOOK[0]


class Counting:
    """An embedder that counts the texts it is given."""

    def __init__(self, inner: Embedder) -> None:
        self.inner, self.name, self.words, self.texts = inner, inner.name, inner.words, 0

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.texts += len(texts)
        return self.inner.embed(texts)


def test_an_update_embeds_only_what_changed_and_the_old_index_stays_as_it_was(embedder: Embedder) -> None:
    counting = Counting(embedder)
    old = Index.build(HANDBOOK[:3], counting)
    before, version = counting.texts, old.version
    new = old.update([*HANDBOOK[:2], Passage(("Parking",), "There are twelve parking spaces.")])
    assert counting.texts - before <= 4
    assert old.version == version != new.version
    assert [section.heading_path[-1] for section in old.sections] == ["Annual leave", "Bereavement", "Sickness"]
    assert new.search("parking", audiences=[]).hits[0].section.heading_path == ("Parking",)


def test_the_version_depends_on_the_content_and_not_on_the_order(embedder: Embedder) -> None:
    assert Index.build(HANDBOOK, embedder).version == Index.build(HANDBOOK[::-1], embedder).version


def test_a_restart_embeds_nothing_twice_and_keeps_no_words(tmp_path: Path, embedder: Embedder) -> None:
    file = tmp_path / "state" / "embeddings.db"
    cache = EmbeddingCache(file)
    first = cache.embed(embedder, ["Salaries are paid monthly.", "Call your supervisor."])
    cache.close()
    counting = Counting(embedder)
    again = EmbeddingCache(file).embed(counting, ["Call your supervisor.", "Salaries are paid monthly."])
    assert counting.texts == 0
    assert np.array_equal(first, again[::-1])
    assert b"supervisor" not in file.read_bytes()


def test_a_damaged_cache_is_only_slower(tmp_path: Path, embedder: Embedder) -> None:
    file = tmp_path / "embeddings.db"
    file.write_bytes(b"not a database at all" * 100)
    assert EmbeddingCache(file).embed(embedder, ["Hello."]).shape == (1, 384)


def test_a_text_has_the_same_vector_in_any_company(embedder: Embedder) -> None:
    alone = embedder.embed(["Salaries are paid monthly."])[0]
    among = embedder.embed(
        ["Short.", "Salaries are paid monthly.", "A much longer sentence about something else altogether."]
    )
    assert float(alone @ among[1]) > 0.999


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.onnx"):
        load_embedder(str(tmp_path))


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("no model")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_embedder(str(tmp_path))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("certifcate", "certificate"),
        ("holliday", "holiday"),
        ("maternaty", "maternity"),
        ("expences", "expenses"),
        ("bereavment", "bereavement"),
    ],
)
def test_slips_are_corrected(speller: Speller, typed: str, meant: str) -> None:
    assert speller.correct(typed) == meant


@pytest.mark.parametrize("word", ["gran", "grant", "boss", "flu", "jury", "weather", "leave", "pto"])
def test_a_known_word_is_never_touched(speller: Speller, word: str) -> None:
    assert speller.correct(word) == word


def test_a_neighbouring_key_costs_less_than_a_far_one() -> None:
    assert distance("holidsy", "holiday") < distance("holidpy", "holiday")


def test_chat_style_is_spelled_out_and_what_a_handbook_calls_it_is_added(speller: Speller) -> None:
    query = understand("hey, my gran died can u tell me wat leave i get pls", speller)
    assert query.text.startswith("my gran died")
    assert "bereavement leave" in query.expanded
    assert query.terms["bereav"] < query.terms["gran"] == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [("and for part-timers?", True), ("what about managers", True), ("how many days of annual leave do i get", False)],
)
def test_follow_ups_are_told_from_questions(text: str, expected: bool) -> None:
    assert is_follow_up(text) is expected


def test_sentences_items_and_rows_are_cut_where_a_reader_would() -> None:
    units = split_units(
        "Ask Mr. Brown, e.g. by e-mail. It costs €1.50.\nYou may claim:\n- travel\n- meals:\n  - "
        "lunch\nGrade: 3; Country: Germany; Days: 30"
    )
    assert [unit.quoted for unit in units] == [
        "Ask Mr. Brown, e.g. by e-mail.",
        "It costs €1.50.",
        "You may claim:",
        "You may claim: travel",
        "You may claim: meals:",
        "You may claim: meals: lunch",
        "Grade: 3; Country: Germany; Days: 30",
    ]
    assert [unit.needs_previous for unit in units[:2]] == [False, True]


def test_a_unit_is_where_it_says_it_is() -> None:
    text = "First sentence. Second one!\n- an item. With two sentences.\n  a) nested"
    assert all(text[unit.start : unit.end] == unit.text for unit in split_units(text))
