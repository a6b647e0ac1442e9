"""Somebody joins: Redis, a worker, the beat and the Slack bot as processes; and kill -9 of those that tick."""

import asyncio
import datetime
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quantahr.people.onboarding import Onboarding
from quantahr.store import Store
from quantahr.store.people_tables import StepRow
from quantahr.store.tables import OutboxRow
from tests.e2e.conftest import QUANTAHR, Launch
from tests.fakes.fake_slack import TEAM, FakeSlack
from tests.fakes.people import until
from tests.fakes.slack_shapes import Message
from tests.fakes.slack_world import CHANNEL, HR_CHANNEL, SlackWorld

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

HANDBOOK = "# Leave\n## Annual leave\nFull-time employees get 28 days of paid annual leave a year.\n"
JOURNEYS = """
arrival: start
default_location: Berlin
locations:
  Berlin: {country: Germany, time_zone: Europe/Berlin, hours: "00:00-23:59", weekend: []}
journeys:
  - name: All
    steps:
      - {id: hello, day: 0, title: "Welcome {first_name}", policy: "How many days of annual leave?", ask: true}
      - {id: forms, day: 0, title: Your forms, ask: true}
      - {id: talk, day: 0, to: manager, title: "Talk with {first_name}", policy: "How many days of annual leave?"}
      - {id: later, day: 40, title: "A look back", ask: true}
"""
WORKER, BEAT = ("-m", "tests.e2e.people_worker"), ("-m", "tests.e2e.quick_beat")
PATIENCE = 150.0
"""For whatever a busy machine takes; an idle one takes a few seconds."""
JOINERS = 10


@pytest.fixture
def store(environment: dict[str, str], tmp_path: Path) -> Iterator[Store]:
    """The database of the processes; they are told here where everything lies."""
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "Handbook.md").write_text(HANDBOOK, encoding="utf-8")
    (tmp_path / "onboarding.yaml").write_text(JOURNEYS, encoding="utf-8")
    config = {"people": {"onboarding": str(tmp_path / "onboarding.yaml")}, "roles": {"hr": ["slack:UHR_HANNA"]}}
    (tmp_path / "quantahr.yaml").write_text(json.dumps(config), encoding="utf-8")
    environment["QUANTAHR_CONFIG"] = str(tmp_path / "quantahr.yaml")
    environment["QUANTAHR_POLICIES_DIR"] = str(policies)
    opened = Store(f"sqlite:///{tmp_path / 'quantahr.db'}")
    yield opened
    opened.close()


def words(message: Message) -> str:
    return message.text + json.dumps(message.blocks, ensure_ascii=False)


async def said(slack: FakeSlack, text: str, channel: str = "") -> Message:
    def found() -> Message | None:
        return next((m for m in slack.messages if text in words(m) and channel in {"", m.channel}), None)

    message: Message = await until(found, PATIENCE)
    return message


def button(message: Message, label: str) -> dict[str, Any]:
    elements = [one for block in message.blocks for one in block.get("elements", [])]
    found = next(one for one in elements if one.get("text", {}).get("text") == label)
    return {"type": "button", "action_id": found["action_id"], "value": found["value"]}


async def test_a_joiner_gets_the_first_step_is_done_with_it_and_sees_the_checklist(
    slack: FakeSlack, launch: Launch, store: Store
) -> None:
    launch(*WORKER)
    launch(*QUANTAHR, "bots", "--only", "slack")
    launch(*BEAT)
    await asyncio.wait_for(slack.connected(), PATIENCE)
    SlackWorld(slack).person("hr_hanna")
    await slack.event({"type": "team_join", "user": {"id": "UNEW", "profile": {"real_name": "Nia New"}}})
    await said(slack, "Nia New has joined", HR_CHANNEL)
    first = await said(slack, "Welcome Nia", slack.dm_of("UNEW"))
    assert "28 days" in words(first)
    assert "Your forms" in words(first), "what is due together comes together"
    await slack.click("UNEW", first, button(first, "Done"))
    await said(slack, "✅ Welcome Nia. Still open: Your forms.")
    await slack.slash("UNEW", CHANNEL, "onboarding")
    checklist = await said(slack, "Your onboarding")
    assert "1 of 3 tasks done, 2 of 3 messages sent" in words(checklist)
    assert checklist.ephemeral_to == "UNEW"
    await asyncio.sleep(5.0)  # several ticks
    assert len([m for m in _private(slack) if m.channel == slack.dm_of("UNEW")]) == 1
    assert slack.refused == []


async def test_whoever_is_killed_while_it_ticks_each_step_reaches_everybody_once(
    slack: FakeSlack, launch: Launch, store: Store
) -> None:
    onboarding = Onboarding(store)
    users = [f"UNEW{number}" for number in range(JOINERS)]
    for user in users:
        onboarding.enrol(
            platform="slack",
            tenant=TEAM,
            by="cli",
            user=user,
            name=f"{user.title()} Okri",
            start=datetime.datetime.now(datetime.UTC).date(),
            location="Berlin",
            manager=f"{user}BOSS",
        )
    launch(*QUANTAHR, "bots", "--only", "slack")
    await asyncio.wait_for(slack.connected(), PATIENCE)
    running = [launch(*WORKER), launch(*BEAT)]
    # In the middle of its round: some have theirs, the others are claimed.
    await until(lambda: _queued(store), PATIENCE)
    assert _queued(store) < 2 * JOINERS, "the round was over too soon to be killed in it"
    for process in running:
        process.kill()
        process.wait()
    for _ in range(2):
        launch(*WORKER)
        launch(*BEAT)
    await until(lambda: _queued(store) == 2 * JOINERS, PATIENCE)
    await until(lambda: len(_private(slack)) >= 2 * JOINERS, PATIENCE)
    await asyncio.sleep(6.0)  # longer than a lease, and several ticks of both

    got = Counter((message.channel, title) for message in _private(slack) for title in _titles(message))
    wanted = [(slack.dm_of(user), title) for user in users for title in (f"Welcome {user.title()}", "Your forms")]
    wanted += [(slack.dm_of(f"{user}BOSS"), f"Talk with {user.title()}") for user in users]
    assert got == dict.fromkeys(wanted, 1)
    assert len(_private(slack)) == 2 * JOINERS
    with store.session() as session:
        states = Counter((row.step, row.state) for row in session.query(StepRow))
    assert states == {(step, "sent"): JOINERS for step in ("hello", "forms", "talk")} | {("later", "waiting"): JOINERS}


def _queued(store: Store) -> int:
    with store.session() as session:
        return session.query(OutboxRow).count()


def _private(slack: FakeSlack) -> list[Message]:
    return [message for message in slack.messages if message.channel.startswith("D") and not message.ephemeral_to]


def _titles(message: Message) -> list[str]:
    text = words(message)
    return [
        title
        for title in (
            "Your forms",
            *(f"{kind} {name}" for kind in ("Welcome", "Talk with") for name in _names(message)),
        )
        if f"*{title}*" in text
    ]


def _names(message: Message) -> list[str]:
    return [message.channel.removeprefix("D").removesuffix("BOSS").title()]
