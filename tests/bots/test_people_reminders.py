"""Reminders and skipping as people meet them: really sent, once, in working hours; on both platforms.

The real bots and the worker's real rooms; only the clock of the database is the test's own.
"""

import datetime
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from quantahr.people.onboarding import Onboarding
from quantahr.settings import People, Settings
from quantahr.store import Store
from tests.bots.conftest import Start
from tests.bots.people_office import Office, everything
from tests.fakes.fake_connector import FakeTeams
from tests.fakes.fake_identity import TENANT
from tests.fakes.fake_slack import TEAM, FakeSlack
from tests.fakes.people import Person, World, answers, until
from tests.fakes.room_worker import RoomWorker
from tests.fakes.slack_world import SlackWorld
from tests.fakes.teams_bot import teams_bot
from tests.fakes.teams_world import TeamsWorld
from worker.beat import publisher
from worker.tasks.people import run_work

JOURNEYS = """
arrival: ask
default_location: Berlin
reminders: {after_days: 2, times: 1}
locations:
  Berlin: {country: Germany, time_zone: Europe/Berlin, hours: "09:00-17:00", holidays: [2027-01-14]}
journeys:
  - name: All
    steps:
      - {id: forms, day: 0, title: Your forms, ask: true}
      - {id: badge, day: 0, title: Your badge, ask: true}
      - {id: news, day: 0, title: Good to know}
      - {id: talk, day: 1, title: A first talk, ask: true}
"""
BERLIN = datetime.timezone(datetime.timedelta(hours=1))
REMINDER = "A gentle reminder"


def at(day: int, hour: int, minute: int = 0) -> float:
    """A moment of January 2027 in Berlin; the 11th is a Monday, the 14th a holiday."""
    return datetime.datetime(2027, 1, day, hour, minute, tzinfo=BERLIN).timestamp()


class Clock:
    def __init__(self) -> None:
        self.now = at(11, 8)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    file = tmp_path / "onboarding.yaml"
    file.write_text(JOURNEYS, encoding="utf-8")
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "Handbook.md").write_text("# Leave\n## Annual leave\nYou get 28 days.\n", encoding="utf-8")
    roles = {"hr": ("slack:UHR_HANNA", "teams:aad-29:hr_hanna")}
    return settings.model_copy(update={"people": People(onboarding=file), "policies_dir": folder, "roles": roles})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(settings: Settings, clock: Clock) -> Iterator[Store]:
    opened = Store(settings.database, clock=clock)
    yield opened
    opened.close()


@pytest.fixture
def workers(settings: Settings, clock: Clock) -> Iterator[list[RoomWorker]]:
    """Two of them: whatever the beat asks for, either may do."""
    running = [RoomWorker(settings), RoomWorker(settings)]
    for worker in running:
        worker.runtime.store.clock = clock
        worker.start()
    yield running
    for worker in running:
        worker.stop()


@pytest.fixture(params=["slack", "teams"])
async def chat(
    request: pytest.FixtureRequest,
    slack: FakeSlack,
    start_slack: Start,
    teams: FakeTeams,
    settings: Settings,
    store: Store,
    workers: list[RoomWorker],
) -> AsyncIterator[tuple[World, Office]]:
    if request.param == "slack":
        async with start_slack():
            yield SlackWorld(slack), Office(slack=slack)
        assert slack.refused == []
    else:
        async with teams_bot(settings, store, teams):
            yield TeamsWorld(teams), Office(teams=teams)
        assert teams.refused == []


async def ticks(settings: Settings, workers: list[RoomWorker], clock: Clock, now: float) -> None:
    """The beat asks several times at this moment, and both workers have looked."""
    clock.now = now
    for _ in range(4):
        publisher(settings)("onboarding")
    for worker in workers:
        run_work(worker.runtime, "onboarding")


def received(person: Person) -> list[str]:
    """What the bot has sent this person by itself: the journey's titles in each message, reminders marked."""
    titles = ("Your forms", "Your badge", "Good to know", "A first talk")
    found = []
    for shown in person.sees("private"):
        words = everything(shown.raw) if shown.by_bot and not shown.only_me else ""
        named = [title for title in titles if title in words]
        if named and "Your onboarding" not in words and "✅" not in words and "➖" not in words:
            found.append(("reminder: " if REMINDER in words else "") + ", ".join(named))
    return found


async def begun(world: World, office: Office, store: Store) -> tuple[Person, Person]:
    """Ana starts on Monday the 11th; HR's Hanna is there, too."""
    hanna, ana = world.person("hr_hanna"), world.person("ana")
    for person in (hanna, ana):
        await person.write("hello")
        await until(lambda: answers(person))  # noqa: B023
    tenant, user = (TEAM, ana.id) if office.slack else (TENANT, f"aad-{ana.id}")
    Onboarding(store).enrol(
        platform="slack" if office.slack else "teams",
        tenant=tenant,
        by="x",
        user=user,
        name="Ana Lopez",
        start=datetime.date(2027, 1, 11),
        location="Berlin",
    )
    return hanna, ana


async def test_a_reminder_is_sent_once_in_working_hours_and_names_only_what_is_open(
    chat: tuple[World, Office],
    store: Store,
    settings: Settings,
    workers: list[RoomWorker],
    clock: Clock,
) -> None:
    world, office = chat
    _, ana = await begun(world, office, store)

    async def tick(now: float) -> None:
        await ticks(settings, workers, clock, now)

    await tick(at(11, 8, 30))
    assert received(ana) == [], "before work begins nobody is written to"
    await tick(at(11, 9, 5))
    await until(lambda: received(ana) == ["Your forms, Your badge, Good to know"])
    first = await office.sees(ana, "Your forms")
    await office.press(ana, first, "Done")
    await until(lambda: _states(store)["forms"] == "done")
    await tick(at(12, 9, 5))
    await until(lambda: received(ana)[1:] == ["A first talk"])

    # Two working days later: not at night, not in the early morning, then once, however often it is asked.
    await tick(at(13, 7))
    await tick(at(12, 22))
    assert len(received(ana)) == 2
    await tick(at(13, 9, 30))
    await until(lambda: received(ana)[2:] == ["reminder: Your badge"])
    for hour in (10, 13, 16):
        await tick(at(13, hour))
    assert received(ana)[2:] == ["reminder: Your badge"]

    # The 14th is a holiday and the 16th a Saturday: the talk's reminder comes on the 15th; the badge had its one.
    await tick(at(14, 11))
    assert len(received(ana)) == 3
    await tick(at(15, 11))
    await until(lambda: received(ana)[3:] == ["reminder: A first talk"])
    for day in (16, 18, 19, 25):
        await tick(at(day, 11))
    assert len(received(ana)) == 4
    assert _states(store) == {"forms": "done", "badge": "sent", "news": "sent", "talk": "sent"}


async def test_what_hr_skips_is_neither_sent_nor_reminded_of(
    chat: tuple[World, Office],
    store: Store,
    settings: Settings,
    workers: list[RoomWorker],
    clock: Clock,
) -> None:
    world, office = chat
    hanna, ana = await begun(world, office, store)
    await ticks(settings, workers, clock, at(11, 9, 5))
    await until(lambda: received(ana) == ["Your forms, Your badge, Good to know"])

    await office.command(hanna, "hr-onboard", "list")
    listed = await office.sees(hanna, "Everyone on a journey")
    await office.press(hanna, listed, "Steps")
    steps = await office.sees(hanna, "*Ana Lopez*" if office.slack else "A first talk")
    for step in ("forms", "badge", "talk"):
        await _press_value(office, hanna, steps, f"skip:{_joiner(store)}:1:{step}")
        await until(lambda: _states(store)[step] == "skipped")  # noqa: B023
    for day in (12, 13, 15, 18, 25):
        await ticks(settings, workers, clock, at(day, 11))
    assert received(ana) == ["Your forms, Your badge, Good to know"]
    assert _states(store) == {"forms": "skipped", "badge": "skipped", "news": "sent", "talk": "skipped"}

    # Nobody skips their own tasks.
    first = await office.sees(ana, "Your forms")
    await _press_value(office, ana, first, f"skip:{_joiner(store)}:1:news", instead_of="Done")
    await office.sees(hanna, "Everyone on a journey")
    assert _states(store)["news"] == "sent"


def _states(store: Store) -> dict[str, str]:
    onboarding = Onboarding(store)
    joiner = onboarding.get(_joiner(store))
    assert joiner is not None
    return {row.step: row.state for row in onboarding.steps(joiner)}


def _joiner(store: Store) -> str:
    from quantahr.store.people_tables import JoinerRow

    with store.session() as session:
        return session.query(JoinerRow).one().id


async def _press_value(office: Office, person: Person, message: Any, value: str, *, instead_of: str = "") -> None:
    """Press the button with this value, or another one as if it had it."""
    if office.slack:
        elements = [e for block in message.blocks for e in block.get("elements", [])]
        found = next(e for e in elements if instead_of == e.get("text", {}).get("text") or e.get("value") == value)
        pressed = {"type": "button", "action_id": found["action_id"], "value": value}
        await office.slack.click(person.id, message, pressed)
        return
    assert office.teams
    actions = [one for part in message.card()["body"] for one in part.get("actions", [])]
    found = next(one for one in actions if instead_of == one["title"] or one["data"]["value"] == value)
    await office.teams.press(person.id, message, {**found, "data": {**found["data"], "value": value}})
