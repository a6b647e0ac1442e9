"""However much there is to show, it fits into one message on both platforms, and what is left out is said."""

import json

import pytest

from bots.forms import Field, Form
from bots.slack.people_blocks import form_view, message_blocks
from bots.teams.people_cards import message_card
from quantahr.people.loop import EACH, FEWEST, Gap, Loop
from quantahr.people.words import Button, card
from quantahr.store import Store
from tests.fakes.slack_limits import refuse_blocks, refuse_view
from tests.fakes.stream_rules import SIZE

MORE = "there is more than fits here"
AROUND = 2000
"""Bytes of an activity around its card."""


def overview(journeys: int) -> dict[str, object]:
    """HR's overview, as bots.people makes it: five buttons for each."""
    buttons: list[Button] = [
        (label, f"{label}:0123456789ab") for label in ("Steps", "Details", "Pause", "Restart", "Stop")
    ]
    line = "Bartholomew Featherstonehaugh-Cholmondeley, Senior data engineer, Berlin, since 2027-01-11 · 3 of 12 done"
    return card("", [(f"*Everyone on a journey* · {journeys}", ()), *[(line, buttons)] * journeys])


@pytest.mark.parametrize("journeys", [3, 20, 200])
def test_hrs_overview_fits(journeys: int) -> None:
    blocks, shown = message_blocks(overview(journeys)), message_card(overview(journeys))
    assert refuse_blocks(blocks, modern=True) is None
    assert len(json.dumps(shown)) + AROUND < SIZE
    for words in (json.dumps(blocks), json.dumps(shown)):
        assert (MORE in words) == (journeys > 3)
        assert words.count("Featherstonehaugh") >= min(journeys, 9)


def test_a_digest_of_everything_fits_with_all_its_buttons(store: Store) -> None:
    loop = Loop(store)
    gaps = [
        Gap(f"{number:016d}", f"Question {number}? {'why ' * 60}", (), FEWEST, 9, "Handbook of the company.docx",
            "Leave › Annual leave › Carrying days over", (), f"Draft {number} " + "lorem ipsum dolor " * 200)
        for number in range(EACH + 3)
    ]  # fmt: skip
    loop.replace_gaps(gaps)
    message = loop.digest()
    assert message is not None
    blocks, shown = message_blocks(message), message_card(message)
    assert refuse_blocks(blocks, modern=True) is None
    assert len(json.dumps(shown)) + AROUND < SIZE
    for words in (json.dumps(blocks), json.dumps(shown)):
        assert MORE not in words
        assert words.count('"Approve\\u2026"') >= EACH


def test_the_form_of_a_long_draft_opens_in_slack() -> None:
    fields = [Field("answer", "The answer", "long", initial="lorem ipsum " * 500)]
    assert refuse_view(form_view(Form("standard", "Standard answer", "Approve", fields))) is None
