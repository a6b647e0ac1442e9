"""The cards and messages of Teams as pure functions: what stands in them, and that they stay within Teams' sizes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots import wording
from bots.teams import activities, cards
from bots.teams.activities import ABSTRACT, CITATIONS, NAME, TEXT_BYTES
from bots.teams.place import Place
from quantahr.messages import Contact, Failed, Final, Source, Verdict
from tests.fakes.scripted_worker import CLOSEST, SOURCE
from tests.fakes.stream_rules import SIZE
from tests.fakes.teams_world import _elements, _words

PLACE = Place("https://smba.trafficmanager.net/emea/", "a:1", "tenant", "personal", "28:bot", "29:ana", "ana", "Ana")


def _final(**changed: Any) -> Final:
    fields: dict[str, Any] = {"verdict": "answered", "text": "You get 30 days. [1]", "sources": (SOURCE,)}
    return Final.model_validate(fields | changed)


def _shown(card: cards.Card | None) -> str:
    assert card is not None
    return _words(card)


def test_a_source_names_document_heading_version_and_date_and_folds_its_passage() -> None:
    card = cards.answer_card("q1", _final(closest=(SOURCE, CLOSEST)))
    shown = _shown(card)
    assert "▸ [1] Leave.docx: Annual leave › Entitlement (version abc123def456, effective 2026-01-01)" in shown
    assert SOURCE.passage not in shown
    assert SOURCE.passage in _words(card or {}, hidden=True)
    assert shown.count("Entitlement") == 1, "a passage that is a source is not shown as a close one again"


def test_a_human_is_asked_only_after_the_consent_unfolds() -> None:
    card = cards.answer_card("q1", _final()) or {}
    consent = next(one for one in _elements(card) if one.get("id") == "consent")
    assert consent["isVisible"] is False
    assert wording.CONSENT in _words(consent)
    visible = [action for one in card["body"] for action in one.get("actions", [])]
    assert [action["type"] for action in visible] == ["Action.ToggleVisibility"]


@pytest.mark.parametrize("verdict", ["sensitive", "smalltalk", "invalid", "refused"])
def test_what_is_not_kept_cannot_be_passed_on(verdict: Verdict) -> None:
    card = cards.answer_card("q1", _final(verdict=verdict, contact=Contact(name="Ada", detail="room 5")))
    assert "escalate" not in json.dumps(card)
    assert "Ada: room 5" in _shown(card)


def test_an_apology_and_a_greeting_have_no_card() -> None:
    assert cards.answer_card("q1", Failed(code="timeout", text="Sorry.")) is None
    assert cards.answer_card("q1", _final(verdict="smalltalk", sources=())) is None


def test_every_button_has_a_way_for_older_clients_with_the_same_data() -> None:
    for card in (cards.answer_card("q1", _final()), cards.hr_card("e1", question="May I?", asker="Ana")):
        executes = [a for one in _elements(card or {}) for a in one.get("actions", []) if a["type"] == "Action.Execute"]
        assert executes
        for action in executes:
            assert action["fallback"]["type"] == "Action.Submit"
            assert action["fallback"]["data"] == action["data"]
            assert action["data"]["verb"] == action["verb"]


def test_what_people_wrote_is_never_read_as_formatting() -> None:
    text = "[Click](https://evil.example) **now**"
    for card in (
        cards.hr_card("e1", question=text, asker=text),
        cards.reply_card(question=text, text=text),
        cards.replied_card(question=text, asker=text, text=text, by="Hanna"),
        cards.answer_card("q1", _final(sources=(SOURCE.model_copy(update={"passage": text, "heading": text}),))),
    ):
        assert text not in [one.get("text") for one in _elements(card or {}) if one["type"] == "TextBlock"]
        assert text in _words(card or {}, hidden=True)


@given(
    passages=st.lists(st.text(min_size=0, max_size=6000), max_size=30),
    heading=st.text(max_size=500),
    text=st.text(min_size=1, max_size=4000),
)
def test_no_answer_is_too_big_for_teams(passages: list[str], heading: str, text: str) -> None:
    sources = tuple(
        SOURCE.model_copy(update={"number": number, "passage": passage, "heading": heading, "section": str(number)})
        for number, passage in enumerate(passages, 1)
    )
    end = _final(sources=sources, closest=sources, contact=Contact(name="Hanna", detail="hr@example.com"))
    card = cards.answer_card("q" * 24, end)
    piece = activities.split(activities.escape(text))[0]
    message = activities.message(
        PLACE, piece, cards=[card] if card else [], sources=sources, generated=True, feedback=True
    )
    from botbuilder.core.serializer_helper import serializer_helper

    assert len(json.dumps(serializer_helper(message))) <= SIZE


@given(text=st.text(max_size=5000), limit=st.integers(min_value=40, max_value=400))
def test_a_split_text_loses_nothing_but_white_space(text: str, limit: int) -> None:
    pieces = activities.split(text, limit)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(len(json.dumps(piece)) <= limit for piece in pieces)


def test_a_message_cites_at_most_twenty_sources_within_teams_lengths() -> None:
    sources = [
        SOURCE.model_copy(update={"number": n, "heading": "H" * 200, "passage": "word " * 100}) for n in range(1, 30)
    ]
    message = activities.message(PLACE, "text", sources=sources, generated=True)
    (label,) = message.entities
    assert len(label.citation) == CITATIONS
    for claim in label.citation:
        assert len(claim["appearance"]["name"]) <= NAME
        assert len(claim["appearance"]["abstract"]) <= ABSTRACT


def test_a_streams_fields_stand_in_the_entity_and_in_channel_data() -> None:
    from botbuilder.core.serializer_helper import serializer_helper

    step = serializer_helper(activities.stream(PLACE, "so far", kind="streaming", sequence=3, stream_id="s1"))
    expected = {"streamId": "s1", "streamType": "streaming", "streamSequence": 3}
    assert step["entities"] == [{"type": "streaminfo", **expected}]
    assert step["channelData"] == expected
    last = serializer_helper(activities.ending(activities.message(PLACE, "all", generated=True), "s1"))
    assert last["entities"][0] == {"type": "streaminfo", "streamId": "s1", "streamType": "final"}
    assert last["entities"][1]["additionalType"] == ["AIGeneratedContent"]
    assert last["type"] == "message"


def test_the_limit_of_a_text_leaves_room_for_the_card() -> None:
    assert TEXT_BYTES + cards.CARD_BYTES < SIZE


def test_the_welcome_says_what_it_is_and_what_it_never_does() -> None:
    shown = _shown(cards.welcome_card())
    assert "AI" in shown
    assert "never decide about people" in shown


def test_a_source_without_a_passage_has_nothing_to_unfold() -> None:
    bare: Source = SOURCE.model_copy(update={"passage": " "})
    assert "source-1" not in json.dumps(cards.answer_card("q1", _final(sources=(bare,))))


def test_lines_stay_lines_and_what_has_been_streamed_stays_a_beginning() -> None:
    text = "“Germany: 6 weeks\nSpain: 12 weeks” [1]\n\n“Paid <monthly>” [2]"
    whole = activities.escape(text)
    assert whole == "“Germany: 6 weeks\n\nSpain: 12 weeks” [1]\n\n“Paid &lt;monthly&gt;” [2]"
    assert all(whole.startswith(activities.escape(text[:end])) for end in range(len(text)))
