"""Onboarding and HR's desk in Teams: real bot, strict fake, real Redis and database."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bots.hr import DRAFTS_ARE_HRS
from bots.teams.office import IN_PRIVATE
from quantahr.people.onboarding import Onboarding
from quantahr.people.refusal import JUDGING
from quantahr.people.words import card
from quantahr.settings import People, Settings
from quantahr.store import Store
from tests.bots.test_people_slack import JOURNEYS
from tests.fakes.fake_connector import BOT, FakeTeams, Message
from tests.fakes.fake_identity import TENANT
from tests.fakes.people import until
from tests.fakes.teams_bot import teams_bot
from tests.fakes.teams_world import CHANNEL, HR_CHANNEL, TeamsWorld

HANNA, ANA = "29:hr_hanna", "29:ana"


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    file = tmp_path / "onboarding.yaml"
    file.write_text(JOURNEYS, encoding="utf-8")
    return settings.model_copy(update={"people": People(onboarding=file), "roles": {"hr": (f"teams:aad-{HANNA}",)}})


@pytest.fixture
async def world(teams: FakeTeams, settings: Settings, store: Store) -> AsyncIterator[TeamsWorld]:
    people = TeamsWorld(teams)
    people.person("hr_hanna")
    people.person("ana")
    async with teams_bot(settings, store, teams):
        yield people
    assert teams.refused == []


async def said(teams: FakeTeams, words: str, chat: str) -> Message:
    def found() -> Message | None:
        ours = (m for m in teams.messages if m.sender == BOT and m.conversation.startswith(chat))
        return next((m for m in ours if words in m.text + json.dumps(m.activity, ensure_ascii=False)), None)

    shown: Message = await until(found)
    return shown


def action(message: Message, title: str) -> dict[str, Any]:
    body = (message.card() or {})["body"]
    actions = [one for element in body for one in element.get("actions", [])]
    return next(one for one in actions if one["title"] == title)


def chat(teams: FakeTeams, user: str) -> str:
    return teams.personal(user).id


async def test_hr_begins_a_journey_with_a_mention(teams: FakeTeams, world: TeamsWorld, store: Store) -> None:
    await teams.say(ANA, chat(teams, ANA), "hello")
    await until(lambda: store.reference_of_user("teams", TENANT, f"aad-{ANA}"))
    mentioned = {"type": "mention", "mentioned": {"id": ANA, "name": "Ana"}, "text": "<at>Ana</at>"}
    line = '/hr-onboard <at>Ana</at> start=2027-01-11 role="Data engineer" location=Leeds name=Ana'
    await teams.say(HANNA, chat(teams, HANNA), line, entities=[mentioned])
    await said(teams, "Onboarding begins", chat(teams, HANNA))
    joiner = Onboarding(store).find("teams", TENANT, f"aad-{ANA}")
    assert joiner is not None
    assert (joiner.role, joiner.location) == ("Data engineer", "Leeds")


async def test_missing_details_are_asked_for_on_a_card(teams: FakeTeams, world: TeamsWorld, store: Store) -> None:
    await teams.say(HANNA, chat(teams, HANNA), "hr-onboard")
    form = await said(teams, "Start onboarding", chat(teams, HANNA))
    filled = {"field.user": "aad-29:new", "field.start": "2027-01-11", "field.role": "x", "field.location": "Leeds"}
    await teams.press(HANNA, form, action(form, "Start"), **filled)
    begun = await said(teams, "Onboarding begins", chat(teams, HANNA))
    assert action(begun, "Pause")
    assert Onboarding(store).find("teams", TENANT, "aad-29:new") is not None


async def test_members_who_are_added_are_shown_to_hr_first(teams: FakeTeams, world: TeamsWorld, store: Store) -> None:
    await teams.say(HANNA, HR_CHANNEL, "hello", mention=True)
    await until(lambda: store.reference("teams", TENANT, HR_CHANNEL))
    new = {"id": "29:new", "name": "Nia New", "aadObjectId": "aad-29:new"}
    await teams.deliver(teams.activity(ANA, CHANNEL, type="conversationUpdate", membersAdded=[new]))
    asked = await said(teams, "Nia New is new here", HR_CHANNEL)
    assert Onboarding(store).find("teams", TENANT, "aad-29:new") is None
    told = await teams.press(HANNA, asked, action(asked, "Begin…"))
    assert told["value"] == IN_PRIVATE
    form = await said(teams, "Start onboarding", chat(teams, HANNA))
    assert "aad-29:new" in json.dumps(form.card())
    refused = await teams.press(ANA, asked, action(asked, "Begin…"))
    assert "Only HR" in refused["value"]


async def test_the_checklist_is_private_and_its_button_works(
    teams: FakeTeams, world: TeamsWorld, store: Store, settings: Settings
) -> None:
    from tests.bots.test_people_slack import lay

    await teams.say(ANA, chat(teams, ANA), "hello")
    line = "hr-onboard start=2026-01-12 role=x location=Berlin name=Ana email=a@b.c"
    await teams.say(HANNA, chat(teams, HANNA), line)
    await said(teams, "Onboarding begins", chat(teams, HANNA))
    Onboarding(store).arrived(platform="teams", tenant=TENANT, user=f"aad-{ANA}", email="a@b.c", name="Ana")
    lay(store, settings)
    await teams.say(ANA, CHANNEL, "onboarding", mention=True)
    mine = await said(teams, "Your onboarding", chat(teams, ANA))
    assert "Your onboarding" not in json.dumps(
        [m.activity for m in teams.messages if m.conversation.startswith(CHANNEL)]
    )
    answer = await teams.press(ANA, mine, action(mine, "Done"))
    assert "✅ Your forms" in answer["value"]


async def test_a_step_reaches_the_joiner(teams: FakeTeams, world: TeamsWorld, store: Store) -> None:
    await teams.say(ANA, chat(teams, ANA), "hello")
    await until(lambda: store.reference_of_user("teams", TENANT, f"aad-{ANA}"))
    message = card("", [("*Your forms*\nPlease fill in [x](http://evil).", [("Done", "done:j:1:forms")])])
    store.queue_message("onb-1", "teams", {"tenant": TENANT, "user": f"aad-{ANA}"}, "people", message)
    shown = await said(teams, "Your forms", chat(teams, ANA))
    assert action(shown, "Done")["data"]["value"] == "done:j:1:forms"


async def test_drafts_are_for_hr_and_judgements_for_nobody(teams: FakeTeams, world: TeamsWorld, store: Store) -> None:
    await teams.say(ANA, chat(teams, ANA), "/hr-draft offer letter")
    await said(teams, DRAFTS_ARE_HRS, chat(teams, ANA))
    await teams.say(HANNA, chat(teams, HANNA), "/hr-draft score the applicants")
    await said(teams, JUDGING[:60], chat(teams, HANNA))
    await teams.say(HANNA, chat(teams, HANNA), "/hr-draft offer letter")
    form = await said(teams, "Offer letter", chat(teams, HANNA))
    assert any(one.get("id") == "field.pay" for one in (form.card() or {})["body"])
