"""The classifier beside the guard's patterns: what means the same is recognised in other words."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from quantahr.settings import Contacts
from worker.answering import guard
from worker.answering.disclosure import CERTAIN, Disclosure

PHRASINGS = yaml.safe_load(Path(__file__).with_name("guard_phrasings.yaml").read_text("utf-8"))
HELD_OUT, SECOND = (
    yaml.safe_load(Path(__file__).with_name(name).read_text("utf-8"))
    for name in ("guard_heldout.yaml", "guard_heldout_second.yaml")
)


class AnotherEmbedder:
    """A model that the weights were not fitted for."""

    name = "another"
    words: frozenset[str] = frozenset()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        raise AssertionError(f"asked for {len(texts)} vectors that mean nothing here")


@pytest.fixture(scope="module")
def disclosure() -> Disclosure:
    return Disclosure()


def routed(texts: Sequence[str], disclosure: Disclosure | None) -> list[str]:
    return [text for text in texts if guard.check(text, Contacts(), disclosure).kind == "sensitive"]


def test_with_it_more_held_out_disclosures_are_found_and_no_ordinary_question_is_lost(disclosure: Disclosure) -> None:
    texts = [text for items in PHRASINGS["sensitive"].values() for text in items[2::3]]
    together = len(routed(texts, disclosure))
    assert together >= len(routed(texts, None))
    assert together >= 0.93 * len(texts)
    assert len(routed(PHRASINGS["ordinary"], disclosure)) <= 1


@pytest.mark.parametrize(("held", "alarms"), [(HELD_OUT, 0.02), (SECOND, 0.08)], ids=["first", "second"])
def test_six_in_seven_of_the_hardest_messages_are_found_where_patterns_alone_find_one(
    disclosure: Disclosure, held: dict[str, Any], alarms: float
) -> None:
    """The second set's ordinary messages are nearly all about a delicate topic, so more of them are mistaken."""
    texts = [text for block in held["sensitive"].values() for text in block.splitlines()]
    ordinary = held["ordinary"].splitlines()
    assert len(texts) >= 150
    assert len(ordinary) >= 200
    assert len(routed(texts, disclosure)) >= 6 / 7 * len(texts)
    assert len(routed(ordinary, disclosure)) <= alarms * len(ordinary)


def test_nine_in_ten_of_the_hardest_self_harm_messages_are_found(disclosure: Disclosure) -> None:
    texts = [text for held in (HELD_OUT, SECOND) for text in held["sensitive"]["self_harm"].splitlines()]
    assert len(texts) >= 45
    assert len(routed(texts, disclosure)) >= 0.9 * len(texts)


def test_a_word_or_two_between_questions_are_no_disclosure(disclosure: Disclosure) -> None:
    assert routed(["next", "ok thanks", "why", "and then", "hm", "parking", "the other one", "back"], disclosure) == []


def test_it_tells_what_no_pattern_names(disclosure: Disclosure) -> None:
    sure, topic, _ = disclosure.score("there is a bloke here who gets handsy with me in the storeroom")
    assert sure >= CERTAIN
    assert topic == "harassment"
    assert disclosure.score("how many days of annual leave do i have")[0] < CERTAIN


def test_a_disclosure_wins_over_the_question_that_follows_it(disclosure: Disclosure) -> None:
    judgement = guard.check(
        "my boss shouts at me every day, how many days notice do i need to give", Contacts(), disclosure
    )
    assert judgement.kind == "sensitive"
    assert "question about a policy" in judgement.reply


def test_a_word_in_harmless_use_is_no_disclosure(disclosure: Disclosure) -> None:
    assert guard.check("my husband picks me up at the terminal, can he park there", Contacts()).kind == "sensitive"
    assert (
        guard.check("my husband picks me up at the terminal, can he park there", Contacts(), disclosure).kind == "ask"
    )


def test_with_another_embedding_model_the_words_alone_are_asked() -> None:
    disclosure = Disclosure(AnotherEmbedder())
    assert disclosure.score("i drink vodka before every shift and cant stop drinking")[0] >= CERTAIN
    assert disclosure.score("how many days of annual leave do i have")[0] < CERTAIN
