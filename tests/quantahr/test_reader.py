"""The reader reads question and evidence together, and tells an answer from a near miss."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from quantahr.errors import ModelError
from quantahr.retrieval import Index, load_embedder
from quantahr.retrieval.evidence import READ_UNITS
from quantahr.retrieval.onnx_file import Graph, read_arrays
from quantahr.retrieval.reader import MAX_TOKENS, LogOdds, Reader, as_read, tokens_of
from quantahr.retrieval.sections import Evidence
from training.retrieval_fit import Passage

PAIRS = [
    # question, a passage that answers it, one that is as near and does not
    (
        "how long is the lunch break",
        "Hours - Breaks: The midday break lasts forty-five minutes.",
        "Hours - Breaks: The midday break is unpaid, and is taken in the canteen or outside.",
    ),
    (
        "who signs my overtime form",
        "Overtime - Approval: Overtime forms are signed by the depot supervisor.",
        "Overtime - Rates: Overtime on a Saturday is paid at time and a half.",
    ),
    (
        "do apprentices get the bike allowance",
        "Travel - Cycling: The cycle allowance of £12 a month is open to everyone, apprentices included.",
        "Travel - Cycling: The cycle allowance of £12 a month is paid to permanent staff with the wages.",
    ),
    (
        "when do i have to hand in my receipts",
        "Expenses - Claiming: Receipts must reach Finance by the fifth working day of the next month.",
        "Expenses - Claiming: Receipts must show the date, the amount and the name of the shop.",
    ),
    (
        "is physio paid for",
        "Health - Insurance: The plan pays for up to eight physiotherapy sessions a year.",
        "Health - Insurance: The plan pays for hospital stays and for spectacles up to £90.",
    ),
    (
        "what happens if i lose my badge",
        "Security - Badges: Report a lost badge to reception at once; a new one costs £8.",
        "Security - Badges: Badges are worn visibly in all offices and on every floor.",
    ),
    (
        "how much notice do i need to give to resign",
        "Leaving - Notice: Employees who resign give one month's notice in writing.",
        "Leaving - Last day: On the last day laptops and keys are returned to the manager.",
    ),
    (
        "can i bring my dog to the office",
        "Office - Animals: Dogs may come on Fridays if the team agrees and a form is filled in.",
        "Office - Visitors: Visitors sign in at reception and are met by their host.",
    ),
    (
        "how many days off for a wedding",
        "Leave - Family events: For your own wedding you receive two paid days.",
        "Leave - Family events: For moving house you receive one paid day.",
    ),
    (
        "which form for a change of address",
        "Records - Changes: Use form P-11 to tell Personnel about a new address.",
        "Records - Changes: Personnel keeps addresses for six years after someone has left.",
    ),
    (
        "do we get paid on bank holidays",
        "Leave - Public holidays: Public holidays are paid days off for all employees.",
        "Leave - Public holidays: The list of public holidays is published each December.",
    ),
    (
        "max hotel price in london",
        "Travel - Hotels: In London a room may cost up to £165 a night.",
        "Travel - Hotels: Rooms are booked through the travel desk, at least a week ahead.",
    ),
]


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader()


def test_what_answers_scores_higher_than_what_only_comes_near(reader: Reader) -> None:
    right = [float(np.subtract(*reader.log_odds(asked, [answer, near]))) > 0 for asked, answer, near in PAIRS]
    assert sum(right) >= len(PAIRS) - 1


def test_an_answer_to_one_question_scores_higher_than_a_near_miss_of_another(reader: Reader) -> None:
    answers = np.array([reader.log_odds(asked, [answer])[0] for asked, answer, _ in PAIRS])
    misses = np.array([reader.log_odds(asked, [near])[0] for asked, _, near in PAIRS])
    assert (answers[:, None] > misses[None, :]).mean() > 0.9


def test_the_same_question_gets_the_same_score(reader: Reader) -> None:
    asked, answer, near = PAIRS[0]
    first = reader.log_odds(asked, [answer, near])
    assert np.array_equal(first, reader.log_odds(asked, [answer, near]))
    assert np.array_equal(first, Reader().log_odds(asked, [answer, near]))


def test_nothing_to_read_gives_no_scores(reader: Reader) -> None:
    assert reader.log_odds("how many days", []).shape == (0,)
    assert np.isfinite(reader.log_odds("", [""])).all()


def test_long_evidence_and_long_questions_are_cut(reader: Reader) -> None:
    long = "Leave: five days. " * 400
    assert np.isfinite(reader.log_odds("why " * 400, [long])).all()
    assert np.array_equal(reader.log_odds("why " * 400, [long]), reader.log_odds("why " * 60, [long[:2000]]))
    assert [sum(map(len, both)) for both in tokens_of([("why " * 400, long)])] == [MAX_TOKENS]


def test_evidence_is_read_under_its_headings_without_the_title_of_the_document() -> None:
    section = Passage("1", ("Handbook", "Leave", "Carrying over"), "x", "1", title="Handbook")
    assert as_read(Evidence(section, "Up to five days.", 1.0, 0)) == "Leave - Carrying over: Up to five days."


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    damaged = tmp_path / "reader.npz"
    damaged.write_bytes(b"nothing")
    with pytest.raises(ModelError, match="Install QuantaHR again"):
        Reader(damaged)
    with pytest.raises(ModelError, match="pip install"):
        read_arrays(b"not a model at all")


def test_a_written_graph_computes_what_it_says() -> None:
    graph = Graph()
    table = graph.array("table", np.arange(30_000, dtype=np.float32).reshape(10_000, 3))
    small = graph.array("small", np.array([1.0, 2.0, 3.0], np.float32))
    output = graph.add("Add", [graph.add("Gather", [table, "rows"]), small])
    data = graph.model({"rows": 1}, {output: 2})
    assert list(graph.large) == ["table"]
    assert np.array_equal(read_arrays(data)["small"], [1.0, 2.0, 3.0])
    options = onnxruntime.SessionOptions()
    held = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in graph.large.values()]
    options.add_external_initializers(list(graph.large), held)
    found = onnxruntime.InferenceSession(data, options).run(None, {"rows": np.array([0, 9_999])})[0]
    assert found.tolist() == [[1.0, 3.0, 5.0], [29998.0, 30000.0, 30002.0]]


def test_search_works_without_a_reader() -> None:
    sections = [Passage("1", ("Leave",), "You have 25 days of leave a year.", "1")]
    found = Index.build(sections, load_embedder(), reader=lambda: None).search("how many days of leave", audiences=())
    assert "25 days" in found.evidence[0].text
    assert 0 <= found.answerable <= 1


class Fixed:
    """A reader that is sure of one word."""

    def __init__(self, word: str) -> None:
        self.word = word
        self.read: list[str] = []

    def log_odds(self, question: str, passages: Sequence[str]) -> LogOdds:
        self.read += passages
        return np.array([4.0 if self.word in passage else -4.0 for passage in passages], np.float32)


def test_what_the_reader_finds_right_is_shown_first() -> None:
    rates = ["a weekday", "a Saturday", "a Sunday", "a public holiday", "New Year's Day", "a stand-by night", "a trip"]
    rates += ["a training day", "an open day", "a day of travel"]
    sections = [
        Passage(str(n), ("Overtime", rate), f"Overtime on {rate} is paid at rate {n}.", str(n))
        for n, rate in enumerate(rates)
    ]
    asked, firsts = "what rate is overtime paid at", set()
    for word in ("Saturday", "Sunday", "stand-by"):
        reader = Fixed(word)
        found = Index.build(sections, load_embedder(), reader=lambda: reader).search(asked, audiences=())  # noqa: B023
        assert len(reader.read) == READ_UNITS
        firsts.add((word in "".join(reader.read), word in found.evidence[0].text))
    assert (True, True) in firsts
    assert (True, False) not in firsts


def test_doubts_about_all_that_was_read_do_not_put_the_unread_first() -> None:
    sections = [
        Passage(str(n), ("Leave",), f"Leave of kind {n} is booked with the manager.", str(n)) for n in range(12)
    ]
    asked = "how is leave booked"
    without = Index.build(sections, load_embedder(), reader=lambda: None).search(asked, audiences=())
    doubting = Index.build(sections, load_embedder(), reader=lambda: Fixed("nowhere")).search(asked, audiences=())
    assert [piece.text for piece in doubting.evidence] == [piece.text for piece in without.evidence]
