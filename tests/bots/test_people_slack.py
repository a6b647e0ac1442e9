"""Onboarding and HR's desk in Slack: real bot, strict fake, real Redis and database."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bots.people import HR_ONLY, NO_JOURNEY
from quantahr.people.joiner import plan
from quantahr.people.journeys import load_journeys
from quantahr.people.onboarding import Onboarding
from quantahr.people.refusal import JUDGING
from quantahr.settings import People, Settings
from quantahr.store import Store
from tests.bots.conftest import Start
from tests.fakes.fake_slack import TEAM, FakeSlack
from tests.fakes.people import until
from tests.fakes.slack_shapes import Message
from tests.fakes.slack_world import CHANNEL, HR_CHANNEL, SlackWorld

JOURNEYS = """
arrival: start
default_location: Berlin
locations:
  Berlin: {country: Germany, time_zone: Europe/Berlin}
  Leeds: {country: United Kingdom, time_zone: Europe/London}
journeys:
  - name: All
    steps:
      - {id: hello, day: 0, title: "Welcome {first_name}"}
      - {id: forms, day: 1, title: Your forms, ask: true}
      - {id: talk, day: 7, to: manager, title: "Talk with {first_name}", ask: true}
"""


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    file = tmp_path / "onboarding.yaml"
    file.write_text(JOURNEYS, encoding="utf-8")
    roles = {"hr": ("slack:UHR_HANNA",)}
    return settings.model_copy(update={"people": People(onboarding=file), "roles": roles})


@pytest.fixture
async def world(slack: FakeSlack, start_slack: Start) -> AsyncIterator[SlackWorld]:
    people = SlackWorld(slack)
    for name in ("hr_hanna", "ana", "boss"):
        people.person(name)
    async with start_slack():
        yield people
    assert slack.unacked == 0


async def said(slack: FakeSlack, words: str, channel: str = "") -> Message:
    found: Message = await until(
        lambda: next((m for m in slack.messages if words in _all(m) and channel in {"", m.channel}), None)
    )
    return found


def _all(message: Message) -> str:
    return message.text + "".join(str(block) for block in message.blocks)


async def press(slack: FakeSlack, user: str, message: Message, label: str) -> None:
    elements = [e for block in message.blocks for e in block.get("elements", [])]
    button = next(e for e in elements if e.get("text", {}).get("text") == label)
    await slack.click(user, message, {"type": "button", "action_id": button["action_id"], "value": button["value"]})


def lay(store: Store, settings: Settings) -> None:
    onboarding, journeys = Onboarding(store), load_journeys(settings.people.onboarding)
    for joiner in onboarding.unplanned(journeys.version):
        onboarding.lay(joiner, plan(joiner, journeys), journeys.version)


async def test_hr_begins_a_journey_by_one_line(slack: FakeSlack, world: SlackWorld, store: Store) -> None:
    line = "<@UANA|ana> start=2027-01-11 role=“Data engineer” location=leeds manager=<@UBOSS|boss>"
    await slack.slash("UHR_HANNA", CHANNEL, line, "/hr-onboard")
    shown = await said(slack, "Onboarding begins")
    assert shown.ephemeral_to == "UHR_HANNA"
    joiner = Onboarding(store).find("slack", TEAM, "UANA")
    assert joiner is not None
    assert (joiner.role, joiner.location, joiner.manager) == ("Data engineer", "Leeds", "UBOSS")
    assert joiner.start.isoformat() == "2027-01-11"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("<@UANA> start=2027-13-11 role=x location=Berlin", "is not a date"),
        ("<@UANA> start=2027-01-11 role=x location=Mars", "There is no location “Mars”. Known are Berlin, Leeds"),
        ("<@UANA> begin=2027-01-11", "`begin` is not known here"),
    ],
)
async def test_a_slip_is_told_and_nothing_begins(
    slack: FakeSlack, world: SlackWorld, store: Store, line: str, told: str
) -> None:
    await slack.slash("UHR_HANNA", CHANNEL, line, "/hr-onboard")
    await said(slack, told)
    assert Onboarding(store).everyone("slack", TEAM) == []


async def test_missing_details_are_asked_for_in_a_form(slack: FakeSlack, world: SlackWorld, store: Store) -> None:
    await slack.slash("UHR_HANNA", CHANNEL, "<@UANA> start=2027-01-11", "/hr-onboard")
    view = await until(lambda: slack.views and slack.views[-1])
    initial = {block["block_id"]: block["element"] for block in view["blocks"]}
    assert initial["user"]["initial_user"] == "UANA"
    assert initial["start"]["initial_date"] == "2027-01-11"
    values = {
        "user": {"value": {"selected_user": "UANA"}},
        "start": {"value": {"selected_date": "2027-01-11"}},
        "role": {"value": {"value": "Engineer"}},
        "location": {"value": {"selected_option": {"value": "Leeds"}}},
    }
    await slack.submit("UHR_HANNA", view, values)
    await said(slack, "Onboarding begins", slack.dm_of("UHR_HANNA"))
    assert Onboarding(store).find("slack", TEAM, "UANA") is not None


@pytest.mark.parametrize("command", ["/hr-onboard", "/hr-draft", "/hr-gaps"])
async def test_the_commands_of_hr_are_refused_to_others_and_noted(
    slack: FakeSlack, world: SlackWorld, store: Store, command: str
) -> None:
    await slack.slash("UANA", CHANNEL, "", command)
    shown = await until(lambda: [m for m in slack.messages if m.ephemeral_to == "UANA" and "HR" in _all(m)])
    assert not shown[0].blocks or not any(block["type"] == "actions" for block in shown[0].blocks)
    assert slack.views == []
    await until(lambda: [row for row in store.audited() if row.action.endswith("refused")])


async def test_who_joins_slack_gets_a_journey_and_hr_is_told_once(
    slack: FakeSlack, world: SlackWorld, store: Store
) -> None:
    person = {"id": "UNEW", "real_name": "Nia New", "profile": {"email": "nia@example.com"}}
    slack.channel(HR_CHANNEL, "UHR_HANNA")
    for _ in range(2):
        await slack.event({"type": "team_join", "user": person})
    message = await said(slack, "Nia New has joined", HR_CHANNEL)
    joiner = Onboarding(store).find("slack", TEAM, "UNEW")
    assert joiner is not None
    assert joiner.name == "Nia New"
    await asyncio.sleep(0.3)
    assert len([m for m in slack.messages if "has joined" in _all(m)]) == 1
    await press(slack, "UHR_HANNA", message, "Details")
    assert (await until(lambda: slack.views))[-1]["callback_id"] == "office:onboard"


async def test_the_checklist_and_its_done_button(
    slack: FakeSlack, world: SlackWorld, store: Store, settings: Settings
) -> None:
    line = "<@UANA> start=2026-01-12 role=Engineer location=Berlin manager=<@UBOSS> name=Ana"
    await slack.slash("UHR_HANNA", CHANNEL, line, "/hr-onboard")
    await said(slack, "Onboarding begins")
    lay(store, settings)
    await slack.slash("UBEN", CHANNEL, "onboarding")
    await said(slack, NO_JOURNEY)
    await slack.slash("UANA", CHANNEL, "onboarding")
    mine = await said(slack, "Your onboarding")
    assert mine.ephemeral_to == "UANA"
    assert "Talk with Ana" not in _all(mine), "the manager's tasks are the manager's"
    await press(slack, "UBOSS", mine, "Done")
    await said(slack, "Only the person this is for")
    await press(slack, "UANA", mine, "Done")
    await said(slack, "✅ Your forms. Nothing else is open.")
    await slack.slash("UBOSS", CHANNEL, "onboarding")
    assert "1 of 2 tasks done" in _all(
        await until(lambda: next((m for m in slack.messages if m.ephemeral_to == "UBOSS" and "*Ana*" in _all(m)), None))
    )
    await slack.slash("UHR_HANNA", CHANNEL, "list", "/hr-onboard")
    overview = await said(slack, "Everyone on a journey")
    await press(slack, "UANA", overview, "Stop")
    await said(slack, HR_ONLY)
    await press(slack, "UHR_HANNA", overview, "Pause")
    await said(slack, "is paused")
    joiner = Onboarding(store).find("slack", TEAM, "UANA")
    assert joiner is not None
    assert joiner.status == "paused"


async def test_whose_account_is_closed_gets_no_more(slack: FakeSlack, world: SlackWorld, store: Store) -> None:
    await slack.slash("UHR_HANNA", CHANNEL, "<@UANA> start=2027-01-11 role=x location=Berlin", "/hr-onboard")
    await said(slack, "Onboarding begins")
    await slack.event({"type": "user_change", "user": {"id": "UANA", "deleted": True}})
    await until(lambda: Onboarding(store).find("slack", TEAM, "UANA") is None)


async def test_a_step_reaches_the_joiner_with_its_button(slack: FakeSlack, world: SlackWorld, store: Store) -> None:
    from quantahr.people.words import card

    message = card("", [("*Your forms*\nPlease fill in <b> & ask @UBOSS.", [("Done", "done:j:1:forms")])])
    store.queue_message("onb-1", "slack", {"tenant": TEAM, "user": "UANA"}, "people", message)
    shown = await said(slack, "Your forms", slack.dm_of("UANA"))
    assert "&lt;b&gt; &amp; ask <@UBOSS>" in _all(shown)
    assert "Done" in _all(shown)


async def test_a_draft_is_made_from_a_form_and_a_judgement_is_refused(
    slack: FakeSlack, world: SlackWorld, store: Store
) -> None:
    await slack.slash("UHR_HANNA", CHANNEL, "rank these candidates", "/hr-draft")
    await said(slack, JUDGING[:60])
    await slack.slash("UHR_HANNA", CHANNEL, "", "/hr-draft")
    listed = await said(slack, "What shall I draft?")
    await press(slack, "UHR_HANNA", listed, "Draft")
    view = (await until(lambda: slack.views))[-1]
    assert view["callback_id"] == "office:draft"
    values = {block["block_id"]: {"value": {"value": "Who should we hire, Ana or Ben?"}} for block in view["blocks"]}
    await slack.submit("UHR_HANNA", view, values)
    await said(slack, JUDGING[:60], slack.dm_of("UHR_HANNA"))
    assert [row.action for row in store.audited("desk.refused_by_design")] == ["desk.refused_by_design"] * 2
