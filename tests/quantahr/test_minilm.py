"""Batches of texts, and the best of many scores."""

import numpy as np
import pytest

from quantahr.retrieval.minilm import batches, padded
from quantahr.retrieval.order import best_first


@pytest.mark.parametrize("lengths", [[], [7], [12, 20], [3, 300, 4, 4], [10] * 100, list(range(1, 90))])
def test_every_text_is_in_one_batch_and_batches_stay_small(lengths: list[int]) -> None:
    found = batches(lengths, most=64)
    assert sorted(at for batch in found for at in batch) == list(range(len(lengths)))
    for batch in found:
        longest = max(lengths[at] for at in batch)
        assert len(batch) == 1 or len(batch) * longest <= 64


def test_what_two_batches_hold_is_parted_so_that_both_cores_are_done_at_about_the_same_time() -> None:
    assert batches([12, 20]) == [[0], [1]]
    assert batches([136, 45, 45]) == [[1, 2], [0]]
    assert batches([60, 50, 45, 40, 30]) == [[4, 3, 2], [1, 0]]


def test_padding_is_masked_and_the_second_text_has_a_type_of_its_own() -> None:
    ids, types, mask = padded([([101, 5, 102], [6, 102]), ([101, 7, 102], [])])
    assert ids.tolist() == [[101, 5, 102, 6, 102], [101, 7, 102, 0, 0]]
    assert types.tolist() == [[0, 0, 0, 1, 1], [0] * 5]
    assert mask.tolist() == [[1] * 5, [1, 1, 1, 0, 0]]


@pytest.mark.parametrize("k", [1, 2, 5, 50, 200])
def test_the_best_come_first_as_if_all_were_sorted(k: int) -> None:
    scores = np.random.default_rng(k).integers(0, 9, 100).astype(np.float32)  # many are equal
    scores[3] = -np.inf
    assert best_first(scores, k).tolist() == np.argsort(-scores, kind="stable")[:k].tolist()
