"""`/hr-retrain` as an administrator meets it in Slack and in Teams; the driver's part is played by the test."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from bots import retrain
from bots.retrain_view import View
from bots.teams.retrain import card_of
from quantahr.registry import Registry
from quantahr.retrain import Attempt, Failure, Gate, Job, Jobs, Plan, Progress
from quantahr.settings import Settings
from quantahr.store import Store
from tests.bots.conftest import Start
from tests.fakes.fake_connector import FakeTeams
from tests.fakes.fake_slack import FakeSlack
from tests.fakes.people import until
from tests.fakes.retrain_chat import Chat, SlackChat, TeamsChat
from tests.fakes.teams_bot import teams_bot
from tests.fakes.tiny_adapter import write_adapter

PLAN = Plan(
    base="TinyLlama",
    documents=3,
    changed=("Leave <new>.docx",),
    examples=1600,
    steps=100,
    run="r1",
    where="AWS, g5.xlarge",
    minutes=30,
    price_per_hour=1.0,
    cap_minutes=90,
)
GATE = Gate(passed=True, reasons=("Correct: 70% → 80%, better.",), rows=(("Correct", "70%", "80%"),))
PICTURE = b"\x89PNG picture"


@pytest.fixture(params=["slack", "teams"])
def platform(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def chat(
    platform: str,
    slack: FakeSlack,
    teams: FakeTeams,
    start_slack: Start,
    settings: Settings,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Chat]:
    """Ana and Carla are administrators, Ben is not."""
    monkeypatch.setattr(retrain, "PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(retrain, "LOOK_SECONDS", 0.05)
    if platform == "slack":
        chat: Any = SlackChat(slack)
    else:
        chat = TeamsChat(teams)
    ids = [chat.role_id(name) for name in ("ana", "carla")]
    object.__setattr__(settings, "roles", {"admin": tuple(ids)})
    if platform == "slack":
        async with start_slack():
            yield chat
        return
    async with teams_bot(settings, store, teams):
        yield chat
    assert teams.refused == []


class Driver:
    """Plays the process that drives jobs."""

    def __init__(self, store: Store) -> None:
        self.jobs = Jobs(store)

    async def job(self) -> Job:
        found: tuple[Job, object] = await until(self.jobs.active)
        return found[0]

    async def make(self, **changes: Any) -> None:
        job = await self.job()
        with self.jobs.lease(job.id) as held:
            assert held
            held.save(held.job.model_copy(update=changes))


@pytest.fixture
def driver(store: Store) -> Driver:
    return Driver(store)


def newest(chat: Chat) -> str:
    shown = chat.board()
    return str(shown[-1]["text"]) if shown else ""


async def shows(chat: Chat, text: str) -> str:
    await until(lambda: text in newest(chat))
    return newest(chat)


async def test_only_administrators_may_and_a_refusal_is_polite_and_audited(
    chat: Chat, driver: Driver, store: Store
) -> None:
    await chat.type("ben", "")
    await until(lambda: "Only administrators" in chat.told("ben"))
    assert driver.jobs.active() is None
    assert store.audited("retrain.refused")[0].actor.endswith(_names_of_ben(chat))
    await chat.type("ana", "")
    await driver.make(plan=PLAN)
    await shows(chat, "Start training")
    await chat.press("ben", "Start training")
    await until(lambda: len(store.audited("retrain.refused")) == 2)
    found = driver.jobs.active()
    assert found
    assert found[1].confirmed_by is None


def _names_of_ben(chat: Chat) -> str:
    return chat.user("ben").partition(":")[2] or chat.user("ben")


async def test_from_the_plan_to_the_live_version_in_one_message(chat: Chat, driver: Driver) -> None:
    await chat.type("ana", "")
    await driver.make(plan=PLAN)
    shown = await shows(chat, "Start training")
    assert "changed since the live model" in shown
    assert "$0.50" in shown
    assert "90 minutes, $1.50" in shown
    await chat.press("ana", "Start training")
    await until(lambda: driver.jobs.active()[1].confirmed_by)  # type: ignore[index]
    await shows(chat, "Starting")
    attempt = Attempt(number=1, asked=True, instance="i-1", started_at=1.0, ended_at=601.0)
    heard = Progress(
        at=1,
        stage="training",
        step=40,
        steps=100,
        loss=1.234,
        tokens_per_second=5000,
        seconds_left=90,
        curve=(3.0, 1.2),
    )
    await driver.make(state="running", attempts=(attempt,), progress=heard)
    shown = await shows(chat, "step 40 of 100")
    assert "loss 1.234, 5,000 tokens/s, 2 minutes left" in shown
    assert "$0.17" in shown
    driver.jobs.keep_curve((await driver.job()).id, PICTURE)
    await driver.make(state="awaiting_approval", gate=GATE, version="abc", settled=True)
    shown = await shows(chat, "Shall it go live?")
    assert "80%" in shown
    await until(lambda: chat.pictures() == [PICTURE])
    await chat.press("carla", "Approve")
    await until(lambda: driver.jobs.active()[1].decision == "approve")  # type: ignore[index]
    job = await driver.job()
    with driver.jobs.lease(job.id) as held:
        assert held
        from quantahr.retrain.job import Swapped

        held.save(held.job.model_copy(update={"state": "promoted", "serial": 1}))
        held.save(held.job.model_copy(update={"swapped": (Swapped(name="worker-1", serving="abc"),)}))
    await shows(chat, "worker-1 serves it")
    assert len(chat.board()) == 1, "one message, edited in place"
    assert chat.pictures() == [PICTURE]


async def test_a_second_request_shows_the_same_job_and_a_second_press_changes_nothing(
    chat: Chat, driver: Driver
) -> None:
    await chat.type("ana", "")
    await driver.make(plan=PLAN)
    await shows(chat, "Start training")
    first = (await driver.job()).id
    await chat.type("carla", "local")
    await until(lambda: "One job at a time" in chat.told("carla"))
    assert (await driver.job()).id == first
    await chat.press("ana", "Start training")
    stale = chat.board()[0]
    await until(lambda: driver.jobs.active()[1].confirmed_by)  # type: ignore[index]
    confirmed = driver.jobs.active()[1].confirmed_by  # type: ignore[index]
    assert stale
    await chat.type("carla", "confirm")
    await until(lambda: "decided already" in chat.told("carla"))
    assert driver.jobs.active()[1].confirmed_by == confirmed  # type: ignore[index]


async def test_a_failure_says_what_happened_what_it_cost_and_that_nothing_runs(chat: Chat, driver: Driver) -> None:
    await chat.type("ana", "spot")
    await driver.make(plan=PLAN)
    attempt = Attempt(number=1, asked=True, instance="i-1", started_at=1.0, ended_at=1801.0, outcome="hung")
    failure = Failure(code="hung", text="The training machine hung.", advice="Start again.")
    await driver.make(state="failed", attempts=(attempt,), failure=failure, settled=True)
    shown = await shows(chat, "The training failed")
    for words in ("The training machine hung.", "Start again.", "$0.50", "No machine of this job runs any more"):
        assert words in shown


async def test_cancel_status_and_history_by_word(chat: Chat, driver: Driver) -> None:
    await chat.type("ana", "status")
    await until(lambda: "Nothing is being trained" in chat.told("ana"))
    await chat.type("ana", "max-minutes 30 max-cost 2")
    job = await driver.job()
    assert (job.options.max_minutes, job.options.max_cost) == (30, 2)
    await chat.type("ana", "cancel")
    await until(lambda: driver.jobs.active()[1].cancelled_by)  # type: ignore[index]
    await chat.type("ana", "history")
    await until(lambda: job.id in chat.told("ana"))
    await chat.type("ana", "make it good")
    await until(lambda: "shows what would be trained" in chat.told("ana"))
    await chat.type("carla", "max-minutes 2")
    await until(lambda: "max_minutes" in chat.told("carla"))


async def test_rollback_goes_back_to_the_model_before(
    chat: Chat, driver: Driver, settings: Settings, tmp_path: Any
) -> None:
    registry = Registry.open(settings)
    for seed in (1, 2):
        version = registry.add(write_adapter(tmp_path / f"{seed}" / "adapter.gguf", seed=seed))
        registry.activate(version.id, actor="test", reason="test", override=True)
    first = registry.pointer().before()
    await chat.type("ana", "rollback")
    await until(lambda: "Rolled back" in chat.told("ana"))
    assert registry.pointer().active == first


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("", {}),
        ("spot", {"spot": True}),
        ("--max-minutes=90 --max-cost 5.5", {"max_minutes": 90, "max_cost": 5.5}),
        ("local dry-run", {"platform": "local", "dry_run": True}),
        ("instance-type g5.2xlarge on-demand", {"instance_type": "g5.2xlarge", "spot": False}),
        ("max-cost $5", {"max_cost": 5}),
        ("please", None),
        ("max-minutes", None),
    ],
)
def test_what_is_typed_is_understood_or_help_is_shown(words: str, meant: dict[str, Any] | None) -> None:
    assert retrain.choices(words) == meant


def test_a_card_names_people_by_their_platform_and_tells_what_to_type_in_teams() -> None:
    lines = ("teams:aad-29:ana approved version abc.", "Approved by slack:UANA.", "`/hr-retrain rollback` goes back.")
    body = card_of(View("j1", "Going live…", lines), None)["body"]
    shown = [part["inlines"][0]["text"] for part in body if part["type"] == "RichTextBlock"]
    assert shown == [
        "An administrator in Teams approved version abc.",
        "Approved by an administrator in Slack.",
        "hr-retrain rollback goes back.",
    ]
