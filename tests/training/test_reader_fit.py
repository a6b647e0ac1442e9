"""The reader learns from what retrieval found, and what it learned is what serves."""

from pathlib import Path

import numpy as np
import pytest
import torch

from quantahr.grading import Golden
from quantahr.retrieval import Index, load_embedder
from quantahr.retrieval.minilm import packaged_base
from quantahr.retrieval.reader import Reader
from training.answer_fit import Judged, area, crossed, curve, judged, logistic, together
from training.reader_data import Read, read
from training.reader_fit import Network, judge, mean_of, prepared, scores_of, some_of, train
from training.retrieval_fit import Passage
from training.upper import Lower

PASSAGES = [
    Passage("leave", ("Leave",), "You have 25 days of leave a year. Leave is booked with your manager.", "1"),
    Passage("parking", ("Parking",), "Parking costs £3 a day. The gate closes at nine.", "2"),
    Passage("sick", ("Sickness",), "Call your manager before ten. A note is needed after a week.", "3"),
]


@pytest.fixture(scope="module")
def index() -> Index:
    return Index.build(PASSAGES, load_embedder(), reader=lambda: None)


@pytest.fixture(scope="module")
def rows(index: Index) -> list[Read]:
    found = read(index, "how many days of leave do i get", {"leave"}, ["you have 25 days of leave a year"], "test")
    missing = read(index, "what does parking cost on sundays", set(), [], "test")
    return [found, missing]


@pytest.fixture(scope="module")
def lower() -> Lower:
    return Lower()


def test_a_sentence_that_answers_is_right_and_its_neighbours_are_not(rows: list[Read]) -> None:
    assert [passage for passage, right in rows[0].pairs if right] == ["Leave: You have 25 days of leave a year."]
    assert len(rows[0].pairs) > 3
    assert not any(right for _, right in rows[1].pairs)


def test_a_sentence_that_points_back_is_read_after_the_one_it_points_to(index: Index) -> None:
    passages = [Passage("pay", ("Pay",), "The shift bonus is £9. It is paid in March. Wages come monthly.", "9")]
    told = read(Index.build(passages, load_embedder()), "when is the bonus paid", {"pay"}, ["it is paid in march"], "t")
    assert [passage for passage, right in told.pairs if right] == ["Pay: The shift bonus is £9. It is paid in March."]


def test_training_learns_and_what_it_writes_serves_the_same(
    rows: list[Read], lower: Lower, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    many = prepared(rows * 6, lower, np.random.default_rng(0))
    network, out = Network(packaged_base(), rank=4), tmp_path / "reader.npz"
    train(many, network, out, lambda _: None, epochs=12)
    assert "pass 12" in capsys.readouterr().out
    assert "right unit first 100.0%" in judge(many[:2], network)
    network.eval()
    with torch.no_grad():
        trained = scores_of(network, many[0].states).numpy()
    served = Reader(out).log_odds(rows[0].question, [pair[0] for pair in many[0].pairs])
    # int8 rounds, and each batch by its own measure
    assert np.abs(trained - served).mean() < 0.4
    assert served[[pair[1] for pair in many[0].pairs]].min() > served[[not pair[1] for pair in many[0].pairs]].max()


def test_several_passes_are_served_as_their_mean(tmp_path: Path) -> None:
    for name, value in (("one", 1.0), ("two", 4.0)):
        np.savez(tmp_path / f"{name}.npz", weight=np.full((2, 2), value, np.float16))
    assert (mean_of([tmp_path / "one.npz", tmp_path / "two.npz"])["weight"] == 2.5).all()


def test_a_pass_always_sees_a_right_and_a_wrong_unit(rows: list[Read], lower: Lower) -> None:
    whole = prepared(rows[:1], lower, np.random.default_rng(0))[0]
    for seed in range(5):
        seen = some_of(whole, np.random.default_rng(seed))
        assert {right for _, right in seen.pairs} == {True, False}
        assert len(seen.pairs) == len(seen.states)


def test_a_question_is_judged_by_what_would_be_quoted(index: Index) -> None:
    golden = [
        Golden("1", "how many days of leave do i get", "answerable", (("25 days",),), ("Leave",)),
        Golden("2", "how many days of leave do i get", "answerable", (("25 days",),), ("Parking",)),
        Golden("3", "who plans the summer party", "unanswerable"),
    ]
    first, second, third = judged("test", index, golden, None)
    assert (first.right, first.cited, second.right, second.cited) == (True, True, True, False)
    assert not third.right
    assert not third.answerable


def test_weights_follow_what_tells_right_from_wrong() -> None:
    chance = np.random.default_rng(0)
    x = chance.normal(size=(200, 3))
    y = x[:, 1] > 0
    weights = logistic(x, y)
    assert weights[1] > 5 * np.abs(weights[[0, 2]]).max()
    assert area(x @ weights[:-1], y) > 0.95
    assert area([1, 1], [True, False]) == 0.5
    rows = [Judged(str(at % 4), at, bool(y[at]), x[at], bool(y[at]), bool(y[at])) for at in range(200)]
    odds = crossed(rows)
    assert area(odds, y) > 0.95
    low, high = curve(rows, odds, [0.0, 1.0])[2:]
    assert "100.0% | 100.0% | 0.0%" in low
    assert "0.0% | 0.0% | 100.0%" in high


def test_weights_of_two_steps_are_one_sum() -> None:
    likeness, reading = np.array([1.0, -2.0, 0.5]), np.array([0.5, 3.0, 0.25])
    features, read_says = np.array([0.2, 0.4]), np.array([0.7])
    inner = features @ likeness[:-1] + likeness[-1]
    expected = reading[0] * inner + reading[1] * read_says[0] + reading[2]
    whole = together(likeness, reading)
    assert np.concatenate([features, read_says]) @ whole[:-1] + whole[-1] == pytest.approx(expected)
