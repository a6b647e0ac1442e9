"""The loop through the chat, on both platforms: many get no good answer, HR approves one, it is said first, the policy
changes, it falls silent, HR approves it again, and those who were answered from the old text are told.

Real bots, real Redis and database, the worker's real rooms; what HR sees holds no name and no count below five.
"""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bots.hr import GAPS_ARE_HRS
from quantahr.grading import read_golden
from quantahr.people.corrections import Corrections
from quantahr.people.loop import FEWEST, Loop
from quantahr.settings import Settings
from quantahr.store import Store
from tests.bots.conftest import Start
from tests.bots.people_office import Office, everything
from tests.fakes.fake_connector import FakeTeams
from tests.fakes.fake_slack import FakeSlack
from tests.fakes.people import World, answers, until
from tests.fakes.room_worker import RoomWorker
from tests.fakes.slack_world import SlackWorld
from tests.fakes.teams_bot import teams_bot
from tests.fakes.teams_world import TeamsWorld
from worker.beat import publisher

HANDBOOK = """# Leave
## Annual leave
Full-time employees get 28 days of paid annual leave a year.
## Unused days
Unused leave days lapse on 31 March of the following year.
"""
ASKED = (
    "When do unused leave days lapse?",
    "when do my unused leave days lapse",
    "when do unused leave days lapse, asks Maria Lopez",
    "when will unused days of leave lapse??",
    "do unused leave days lapse, and when?",
    "when do unused leave days lapse please",
)
HORSES = "may I keep a horse in the garage?"
APPROVED = "Unused days lapse on 31 March. Plan them by November."
AGAIN = "Unused days lapse on 30 June. Plan them by February."
CITED = "Standard answer by HR"


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "Handbook.md").write_text(HANDBOOK, encoding="utf-8")
    roles = {"hr": ("slack:UHR_HANNA", "teams:aad-29:hr_hanna")}
    return settings.model_copy(update={"policies_dir": folder, "roles": roles})


@pytest.fixture
def worker(settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[RoomWorker]:
    monkeypatch.setattr("worker.people.standards.LOOK_SECONDS", 0.0)
    running = RoomWorker(settings)
    running.start()
    yield running
    running.stop()


@pytest.fixture(params=["slack", "teams"])
async def chat(
    request: pytest.FixtureRequest,
    slack: FakeSlack,
    start_slack: Start,
    teams: FakeTeams,
    settings: Settings,
    store: Store,
    worker: RoomWorker,
) -> AsyncIterator[tuple[World, Office]]:
    if request.param == "slack":
        async with start_slack():
            yield SlackWorld(slack), Office(slack=slack)
        assert slack.refused == []
        assert slack.unacked == 0
    else:
        async with teams_bot(settings, store, teams):
            yield TeamsWorld(teams), Office(teams=teams)
        assert teams.refused == []


async def test_what_many_could_not_use_becomes_a_standard_answer_until_its_policy_changes(
    chat: tuple[World, Office], store: Store, settings: Settings, tmp_path: Path
) -> None:
    world, office = chat
    hanna, ana = world.person("hr_hanna"), world.person("ana")

    # Six get an answer that does not help them, four ask for something that nothing answers.
    for number, text in enumerate(ASKED):
        person = world.person(f"p{number}")
        await person.write(text)
        await until(lambda: answers(person))  # noqa: B023
        await person.press("down", answers(person)[0])
    for number in range(FEWEST - 1):
        await world.person(f"q{number}").write(HORSES)
    await until(lambda: len(answers(world.person(f"q{FEWEST - 2}"))) == 1)
    publisher(settings)("gaps")
    [gap] = await until(lambda: Loop(store).gaps())

    # HR sees the many, nobody's name, and the four not at all; others see nothing.
    await office.command(ana, "hr-gaps")
    await office.sees(ana, GAPS_ARE_HRS)
    await office.command(hanna, "hr-gaps")
    shown = await office.sees(hanna, "6 people asked, 6 times")
    words = everything(shown)
    assert "Handbook.md › Leave › Unused days" in words
    for secret in ("horse", "Maria", "Lopez", "UP0", "29:p0"):
        assert secret not in words

    # What is still a gap cannot be approved; an edited answer can, once.
    form = await office.press(hanna, shown, "Approve…")
    said = await office.fill(hanna, form, question="When?", answer="[Write the answer here.]")
    assert "[Write the answer here.] still has to be filled in" in str(said)
    if office.slack:
        assert '"response_action":"errors"' in json.dumps(said, separators=(",", ":")).replace("\\", "")
    assert Loop(store).standards() == []
    # In Slack the form is still open, in Teams the card is still there: nothing typed is lost.
    await office.fill(hanna, form, question="When do unused leave days lapse?", answer=APPROVED)
    [standard] = await until(lambda: Loop(store).standards())
    assert (standard.text, bool(standard.sections)) == (APPROVED, True)
    assert Loop(store).gap(gap.id) is None

    # It is said first, and cited as HR's.
    ben = world.person("ben")
    await ben.write("when do unused leave days lapse")
    await until(lambda: any("Plan them by November" in one.text for one in answers(ben)))
    assert CITED in answers(ben)[0].sources

    # The next training is judged by the others' ways to ask, and learns HR's.
    file = tmp_path / "approved.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in Loop(store).golden()), encoding="utf-8")
    golden = read_golden(file)
    assert golden
    assert standard.question not in [one.question for one in golden]
    assert {one.sources for one in golden} == {("Leave > Unused days",)}
    assert not any("Maria" in one.question for one in golden)
    assert [one.question for one, _ in Loop(store).taught()] == [standard.question]
    publisher(settings)("gaps")
    publisher(settings)("onboarding")

    # The policy changes: the answer is silent at once, and neither taught nor asked for.
    (settings.policies_dir / "Handbook.md").write_text(HANDBOOK.replace("31 March", "30 June"), encoding="utf-8")
    await until(lambda: Loop(store).expired(), 40)
    cleo = world.person("cleo")
    await cleo.write("When do unused leave days lapse?")
    await until(lambda: any("30 June" in one.text for one in answers(cleo)))
    assert CITED not in answers(cleo)[0].sources
    assert "31 March" not in answers(cleo)[0].text
    assert (Loop(store).golden(), Loop(store).taught()) == ([], [])

    # HR sees both what fell silent and how many read the old text, and approves the answer again.
    await office.command(hanna, "hr-gaps")
    shown = await office.sees(hanna, "*Silent:*" if office.slack else "Silent:")
    assert "7 people were answered from the old text" in everything(shown)
    form = await office.press(hanna, shown, "Approve again…")
    await office.fill(hanna, form, answer=AGAIN)
    await until(lambda: [one.text for one in Loop(store).standards()] == [AGAIN])
    dora = world.person("dora")
    await dora.write("When do unused leave days lapse?")
    await until(lambda: any("Plan them by February" in one.text for one in answers(dora)))
    assert CITED in answers(dora)[0].sources
    assert Loop(store).expired() == []
    assert [one.text for one, _ in Loop(store).taught()] == [AGAIN]

    # One press tells those who read the old text, Ben's standard answer included; a second press tells nobody.
    for _ in range(2):
        await office.press(hanna, shown, "Send a correction")
    told = await until(lambda: [one for one in ben.sees() if "A correction." in f"{one.text}{one.raw}"])
    words = everything(told[0].raw)
    assert "31 March" in words
    assert "30 June" in words
    await until(lambda: [one for one in world.person("p5").sees() if "A correction." in f"{one.text}{one.raw}"])
    for person in (ben, world.person("p0")):
        assert len([one for one in person.sees() if "A correction." in f"{one.text}{one.raw}"]) == 1
    for person in (ana, cleo, dora, world.person("q0")):
        assert not [one for one in person.sees() if "A correction." in f"{one.text}{one.raw}"]
    [change] = Corrections(store).changes()
    assert change.people == 7
    # The two presses may share the work; nobody is told twice.
    assert sum(row.detail["people"] for row in store.audited("correction.sent")) == 7


async def test_a_dismissed_gap_comes_back_only_when_more_people_ask(
    chat: tuple[World, Office], store: Store, settings: Settings
) -> None:
    world, office = chat
    hanna = world.person("hr_hanna")

    async def ask(*numbers: int) -> None:
        for number in numbers:
            await world.person(f"p{number}").write(HORSES)
        await until(lambda: all(answers(world.person(f"p{number}")) for number in numbers))
        publisher(settings)("gaps")

    await ask(*range(FEWEST))
    await until(lambda: Loop(store).gaps())
    await office.command(hanna, "hr-gaps")
    shown = await office.sees(hanna, "5 people asked")
    await office.press(hanna, shown, "Dismiss")
    await until(lambda: Loop(store).gaps() == [])
    publisher(settings)("gaps")
    await ask(FEWEST)
    [gap] = await until(lambda: Loop(store).gaps())
    assert gap.people == FEWEST + 1
