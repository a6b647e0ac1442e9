"""The classifier beside the guard's patterns: what means the same is recognised in other words."""

from pathlib import Path

import pytest
import yaml

from quantahr.retrieval import load_embedder
from quantahr.settings import Contacts
from worker.answering import guard
from worker.answering.disclosure import Disclosure

PHRASINGS = yaml.safe_load(Path(__file__).with_name("guard_phrasings.yaml").read_text("utf-8"))


@pytest.fixture(scope="module")
def disclosure() -> Disclosure:
    return Disclosure(load_embedder().embed)


def test_with_it_more_held_out_disclosures_are_found_and_no_ordinary_question_is_lost(disclosure: Disclosure) -> None:
    texts = [text for items in PHRASINGS["sensitive"].values() for text in items[2::3]]
    alone = sum(guard.check(text, Contacts()).kind == "sensitive" for text in texts)
    together = sum(guard.check(text, Contacts(), disclosure).kind == "sensitive" for text in texts)
    assert together >= alone
    assert together >= 0.93 * len(texts)
    routed = [text for text in PHRASINGS["ordinary"] if guard.check(text, Contacts(), disclosure).kind != "ask"]
    assert len(routed) <= 1


def test_it_tells_what_no_pattern_names(disclosure: Disclosure) -> None:
    assert disclosure.topic("there is a bloke here who gets handsy with me in the storeroom") == "harassment"
    assert disclosure.topic("how many days of annual leave do I have") == ""
