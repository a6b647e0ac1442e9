"""Sentences are released as they pass the check, and nothing shown has to be taken back."""

from collections.abc import Callable

import pytest

from worker.answering.release import Release


def released(text: str, *, step: int, check: Callable[[str], str | None] = lambda _: None) -> tuple[list[str], Release]:
    shown: list[str] = []
    release = Release(check, shown.append, lambda: False)
    for start in range(0, len(text), step):
        if release.feed(text[start : start + step]):
            break
    else:
        release.end(complete=True)
    return shown, release


@pytest.mark.parametrize("step", [1, 3, 7, 1000])
@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("You get 28 days. [1] They lapse on 31 March. [2]", ["You get 28 days. [1]", "They lapse on 31 March. [2]"]),
        ("You get 28 days [1]. They lapse.", ["You get 28 days [1].", "They lapse."]),
        ("Bring a note, e.g. from a doctor. [1]", ["Bring a note, e.g. from a doctor. [1]"]),
        ("It costs €1.50 a day. Ask HR!", ["It costs €1.50 a day.", "Ask HR!"]),
        ("Yes. You may. [1][2] Really?", ["Yes.", "You may. [1][2]", "Really?"]),
        ("No end mark here", ["No end mark here"]),
        ("First line.\nSecond line.", ["First line.", "Second line."]),
    ],
)
def test_sentences_come_whole_with_their_citations_however_the_text_arrives(
    text: str, sentences: list[str], step: int
) -> None:
    shown, release = released(text, step=step)
    assert release.sentences == sentences
    assert "".join(shown) == " ".join(sentences) == release.text


def test_the_first_sentence_that_fails_ends_the_generation_and_what_stood_before_stays() -> None:
    shown, release = released(
        "You get 28 days. You get 99 days. You may carry five.",
        step=4,
        check=lambda sentence: "number" if "99" in sentence else None,
    )
    assert shown == ["You get 28 days."]
    assert release.rejected == "number"


def test_an_unfinished_sentence_is_not_released() -> None:
    release = Release(lambda _: None, lambda _: None, lambda: False)
    release.feed("You get 28 days. And if you are")
    release.end(complete=False)
    assert release.text == "You get 28 days."


def test_stop_ends_the_generation() -> None:
    assert Release(lambda _: None, lambda _: None, lambda: True).feed("You")
