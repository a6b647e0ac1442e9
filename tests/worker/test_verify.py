"""Nothing that the evidence does not hold is shown; and what is true is not held back."""

import pytest

from quantahr.prompt import Excerpt
from worker.answering import verify
from worker.answering.facts import Fact, facts

LEAVE = Excerpt(
    1,
    "Leave > Annual leave",
    "Full-time employees have twenty-eight days of annual leave. Up to 5 days may be carried over until 31 March.",
)
PAY = Excerpt(
    2,
    "Pay > Allowances",
    "You may claim up to €1,500 for relocation. Home working is not permitted during probation. Ask "
    "Payroll at pay@corp.example.",
)
BOTH = [LEAVE, PAY]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("twenty-eight days", "28 days"),
        ("two weeks", "2 weeks"),
        ("two and a half days", "2.5 days"),
        ("one hundred and twenty hours", "120 hours"),
        ("1 March", "March 1st"),
        ("1 March", "01/03"),
        ("31 March 2026", "2026-03-31"),
        ("€1,500", "1500 EUR"),
        ("£45.50", "45.50 pounds"),
        ("$2k", "2,000 dollars"),
        ("5 pm", "17:00"),
        ("9.30 am", "9:30"),
        ("noon", "12:00"),
        ("10 per cent", "10%"),
        ("10 percent", "10 %"),
    ],
)
def test_one_fact_written_in_two_ways_is_one_fact(one: str, other: str) -> None:
    assert facts(one) == facts(other) != frozenset()


def test_what_looks_alike_is_not_the_same() -> None:
    assert facts("€500") != facts("£500")
    assert facts("5%") != facts("5 days")
    assert facts("1 March") != facts("3 January")
    assert Fact("date", "8.5") not in facts("Grades 6 to 8 may claim this")


@pytest.mark.parametrize(
    "sentence",
    [
        "You have 28 days of annual leave. [1]",
        "Full-time employees have twenty-eight days of annual leave. [1]",
        "You may carry over up to five days until March 31. [1]",
        "You can claim up to 1500 EUR for relocation. [2]",
        "No, home working is not permitted during probation. [2]",
        "Ask Payroll at pay@corp.example. [2]",
    ],
)
def test_what_the_evidence_says_passes(sentence: str) -> None:
    assert verify.check(sentence, BOTH) is None


@pytest.mark.parametrize(
    ("sentence", "why"),
    [
        ("You have 30 days of annual leave. [1]", "unsupported number"),
        ("Up to 5 days may be carried over until 30 April. [1]", "unsupported date"),
        ("You may claim up to €2,500 for relocation. [2]", "unsupported amount"),
        ("You may claim 10% for relocation. [2]", "unsupported percent"),
        ("Ask Payroll at hr@corp.example. [2]", "unsupported address"),
        ("You may claim relocation from Maria Schmidt. [2]", "unsupported name"),
        ("You have 28 days of annual leave. [2]", "unsupported number"),
        ("You have 28 days of annual leave. [7]", "citation"),
        ("The cafeteria serves vegetarian lunches and fresh fruit. [1]", "support"),
        ("Yes, home working is permitted during probation. [2]", "negation"),
        ("Up to 5 days may not be carried over until 31 March. [1]", "negation"),
        ("The annual leave the annual leave the annual leave the annual leave. [1]", "repetition"),
        ("As an AI language model I have annual leave. [1]", "meta"),
        ("", "empty"),
    ],
)
def test_what_it_does_not_say_is_stopped_and_the_reason_named(sentence: str, why: str) -> None:
    assert verify.check(sentence, BOTH) == why


def test_what_the_asker_said_may_be_repeated() -> None:
    sentence = "With 3 children you have 28 days of annual leave. [1]"
    assert verify.check(sentence, BOTH) == "unsupported number"
    assert verify.check(sentence, BOTH, question="i have 3 children, how much leave") is None


def test_saying_the_same_again_is_rambling() -> None:
    said = ["You have 28 days of annual leave. [1]"]
    assert verify.check("You have 28 days of annual leave. [1]", BOTH, before=said) == "repetition"


def test_without_evidence_nothing_passes() -> None:
    assert verify.check("You have 28 days.", []) == "citation"


def test_an_answer_without_a_citation_gets_that_of_the_excerpt_it_rests_on() -> None:
    assert verify.with_citation("You can claim up to €1,500 for relocation.", BOTH).endswith("[2]")
    assert verify.with_citation("You have 28 days of annual leave.", BOTH).endswith("[1]")
    assert verify.with_citation("Already cited. [2]", BOTH) == "Already cited. [2]"


def test_citations_are_read() -> None:
    assert verify.citations("So it is. [1] And so. [3]") == {1, 3}
