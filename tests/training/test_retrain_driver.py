"""The driver brings a job from request to its end, whatever is killed, refused or wished on the way."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from quantahr.registry import Registry, WorkerState
from quantahr.registry.storage import open_storage
from quantahr.retrain import Gate, Job, Jobs, Options, Plan, Progress
from quantahr.store import Store
from tests.fakes.fake_launcher import FakeLauncher, KilledError
from tests.fakes.tiny_adapter import write_adapter
from training.launch.contract import RefusedError, UnreachableError
from training.retrain import Tools, advance, wanted

ADMIN = "slack:UADMIN"
PLAN = Plan(
    base="tiny",
    documents=2,
    examples=10,
    steps=5,
    run="r" * 12,
    where="AWS, g5.xlarge",
    minutes=20,
    price_per_hour=1.0,
    cap_minutes=60,
    hashes={"Leave.docx": "aa"},
)
PASSED = Gate(passed=True, reasons=("better",), rows=(("Correct", "70%", "80%"),), metrics={"correct": 0.8})


@dataclass
class FakeJudge:
    gate: Gate | None = PASSED
    stopped: int = 0

    def look(self, job: Job, candidate: Path) -> Gate | None:
        assert (candidate / "adapter.gguf").is_file()
        return self.gate

    def stop(self, job: Job) -> None:
        self.stopped += 1


class Scene:
    """A database, a place to train and a clock; `drive` lets the driver run as often as wanted."""

    def __init__(self, folder: Path) -> None:
        self.now = 1_000_000.0
        self.store = Store(f"sqlite:///{folder / 'jobs.db'}", clock=lambda: self.now)
        self.jobs = Jobs(self.store)
        self.launcher = FakeLauncher(result=folder / "trained")
        write_adapter(folder / "trained" / "adapter.gguf", seed=1)
        (folder / "trained" / "curve.png").write_bytes(b"picture")
        self.judge = FakeJudge()
        self.registry = Registry(open_storage(str(folder / "registry"), folder / "cache"), clock=lambda: self.now)
        self.workers: list[WorkerState] = []
        self.tools = Tools(
            jobs=self.jobs,
            folder=folder / "jobs",
            launchers={"aws": lambda: self.launcher, "local": lambda: self.launcher},
            plan=lambda _job, _live: PLAN,
            judge=self.judge,
            registry=self.registry,
            workers=lambda: self.workers,
            clock=lambda: self.now,
        )
        self.id = self.jobs.request(Options(), ADMIN)[0].id

    @property
    def job(self) -> Job:
        found = self.jobs.get(self.id)
        assert found
        return found[0]

    def drive(self, seconds: float = 1.0) -> Job:
        self.now += seconds
        advance(self.tools, self.id)
        return self.job

    def start(self) -> Job:
        self.drive()
        assert self.jobs.confirm(self.id, ADMIN)
        return self.drive()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.store.close()


def test_a_job_goes_from_request_to_promotion(scene: Scene) -> None:
    assert scene.drive().state == "requested"
    assert scene.job.plan == PLAN
    assert scene.launcher.calls == [], "nothing is asked of AWS before somebody confirms"
    assert scene.jobs.confirm(scene.id, ADMIN)
    assert scene.drive().state == "running"
    scene.drive(600)
    assert scene.job.cost(scene.now) == pytest.approx(601 / 3600, rel=0.01)
    scene.launcher.say("succeeded")
    assert scene.drive().state == "awaiting_approval"
    assert scene.launcher.living() == []
    assert scene.launcher.holder is None
    assert scene.jobs.curve(scene.id) == b"picture"
    assert scene.registry.active() is None, "nothing is activated before somebody approves"
    assert scene.jobs.decide(scene.id, "approve", ADMIN)
    assert scene.drive().state == "promoted"
    active = scene.registry.active()
    assert active is not None
    assert active.id == scene.job.version
    assert scene.registry.pointer().history[-1].actor == ADMIN
    scene.workers = [WorkerState("w1", active.id, 1, scene.now), WorkerState("w2", "old", 0, scene.now)]
    scene.drive()
    assert [worker.name for worker in scene.job.swapped] == ["w1"]
    assert wanted(scene.tools) == [scene.id]
    scene.now += 3600
    assert wanted(scene.tools) == []


METHODS = ("prepare", "find", "start", "guard", "look", "settle", "release", "fetch")


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("method", METHODS)
def test_killed_at_any_edge_the_next_process_goes_on_with_the_same_machine(
    scene: Scene, method: str, moment: str
) -> None:
    killed: list[str] = []

    def kill(called: str, when: str) -> None:
        if (called, when) == (method, moment) and not killed:
            killed.append(called)
            raise KilledError

    scene.launcher.hook = kill
    scene.drive()
    scene.jobs.confirm(scene.id, ADMIN)
    for _ in range(4):
        _drive_and_die(scene)
    scene.launcher.say("succeeded")
    for _ in range(4):
        _drive_and_die(scene)
    scene.jobs.decide(scene.id, "approve", ADMIN)
    for _ in range(2):
        _drive_and_die(scene)
    assert killed, "the test must have killed something"
    assert scene.job.state == "promoted"
    assert len(scene.launcher.machines) == 1
    assert len(scene.job.attempts) == 1
    assert scene.launcher.living() == []


def _drive_and_die(scene: Scene) -> None:
    try:
        scene.drive()
    except KilledError:
        scene.now += 100  # a killed process gives its lease back by silence only


@pytest.mark.parametrize("lives", [3, 4, 5])
def test_killed_again_and_again_between_two_writes_the_job_goes_on_and_activates_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, lives: int
) -> None:
    real, count = Jobs._save, 0

    def dying(self: Jobs, *arguments: object) -> object:
        nonlocal count
        count += 1
        if count % lives == 0:
            raise KilledError
        return real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Jobs, "_save", dying)
    for _ in range(40):
        _drive_and_die(scene)
        scene.jobs.confirm(scene.id, ADMIN)
        if scene.launcher.living() and scene.job.state == "running":
            scene.launcher.say("succeeded")
        scene.jobs.decide(scene.id, "approve", ADMIN)
        if scene.job.state == "promoted":
            break
    assert scene.job.state == "promoted"
    assert len(scene.launcher.machines) == 1
    assert [change.active for change in scene.registry.pointer().history] == [scene.job.version]


def test_two_processes_never_drive_the_same_job(scene: Scene) -> None:
    with scene.jobs.lease(scene.id) as held:
        assert held
        assert advance(scene.tools, scene.id) == "busy"
    assert advance(scene.tools, scene.id) == "requested"


def test_a_driver_that_was_thought_dead_writes_no_more(scene: Scene) -> None:
    from quantahr.retrain.jobs import LeaseLostError

    with scene.jobs.lease(scene.id, 10) as slow:
        assert slow
        scene.now += 11
        with scene.jobs.lease(scene.id, 10) as next_one:
            assert next_one
            with pytest.raises(LeaseLostError):
                slow.save(slow.job.model_copy(update={"trouble": "old news"}))
    assert scene.job.trouble == ""


def test_an_interrupted_spot_machine_is_followed_by_the_next_one(scene: Scene) -> None:
    scene.start()
    scene.launcher.say("interrupted")
    job = scene.drive()
    assert [attempt.outcome for attempt in job.attempts] == ["interrupted", None]
    assert len(scene.launcher.machines) == 2
    for _ in range(3):
        scene.launcher.say("interrupted")
        job = scene.drive()
    assert job.state == "failed"
    assert job.failure
    assert "4 times" in job.failure.text
    assert len(scene.launcher.machines) == 4


def test_a_full_zone_leads_to_the_next_and_full_zones_to_an_end(scene: Scene) -> None:
    scene.launcher.full_zones = 2
    job = scene.start()
    assert job.state == "running"
    assert [attempt.outcome for attempt in job.attempts] == ["no_capacity", "no_capacity", None]


def test_no_capacity_anywhere_ends_the_job_at_no_cost(scene: Scene) -> None:
    scene.launcher.full_zones = 99
    job = scene.start()
    assert job.state == "failed"
    assert job.failure
    assert job.failure.code == "no_capacity"
    assert scene.launcher.calls.count("start") == 6
    assert job.cost(scene.now) == 0


@pytest.mark.parametrize("step", ["prepare", "start"])
def test_a_refusal_before_anything_runs_ends_the_job_with_the_advice(scene: Scene, step: str) -> None:
    def refuse(method: str, moment: str) -> None:
        if (method, moment) == (step, "before"):
            raise RefusedError("quota", "The quota is used up.", "Ask AWS for more.")

    scene.launcher.hook = refuse
    job = scene.start()
    assert job.state == "failed"
    assert job.failure
    assert (job.failure.code, job.failure.advice) == ("quota", "Ask AWS for more.")
    assert scene.launcher.holder is None
    assert scene.jobs.request(Options(), ADMIN)[1], "the next job may come"


def test_expired_credentials_do_not_end_a_running_training(scene: Scene) -> None:
    scene.start()
    broken = True

    def refuse(method: str, moment: str) -> None:
        if broken and moment == "before":
            raise RefusedError("credentials", "AWS does not accept our credentials.", "Renew them.")

    scene.launcher.hook = refuse
    job = scene.drive(60)
    assert job.state == "running"
    assert "credentials" in job.trouble
    broken = False
    scene.launcher.say("succeeded")
    assert scene.drive().state == "awaiting_approval"


def test_a_job_that_can_no_longer_be_looked_at_ends_after_its_machines_must_have(scene: Scene) -> None:
    scene.start()

    def refuse(method: str, moment: str) -> None:
        raise UnreachableError("unreachable", "AWS cannot be reached.", "I keep trying.")

    scene.launcher.hook = refuse
    assert scene.drive(60 * 60).state == "running"
    assert scene.drive(3600).state == "failed"


@pytest.mark.parametrize(
    ("play", "code"),
    [
        (lambda scene: scene.launcher.say("failed", "The GPU has too little memory."), "failed"),
        (lambda scene: _lose(scene), "vanished"),
        (lambda scene: _hang(scene), "hung"),
        (lambda scene: _overrun(scene), "timeout"),
    ],
    ids=["failure in training", "ended from outside", "hung", "over its cap"],
)
def test_what_goes_wrong_ends_the_job_with_its_name_and_no_machine(
    scene: Scene, play: Callable[[Scene], None], code: str
) -> None:
    scene.start()
    play(scene)
    job = scene.drive()
    assert job.state == "failed"
    assert job.failure
    assert job.failure.code == code
    assert job.failure.advice
    assert scene.launcher.living() == []
    spent = job.cost(scene.now)
    assert job.cost(scene.now + 9999) == spent, "the meter stands still"


def _lose(scene: Scene) -> None:
    list(scene.launcher.machines.values())[-1].state = "ended"


def _hang(scene: Scene) -> None:
    machine = list(scene.launcher.machines.values())[-1]
    machine.progress = Progress(at=scene.now, stage="training", stepped_at=scene.now)
    scene.drive()
    scene.now += 300


def _overrun(scene: Scene) -> None:
    scene.now += 61 * 60
    machine = list(scene.launcher.machines.values())[-1]
    machine.progress = Progress(at=scene.now, stage="training", stepped_at=scene.now)


def test_training_that_beats_but_makes_no_step_is_hung(scene: Scene) -> None:
    scene.start()
    machine = list(scene.launcher.machines.values())[-1]
    machine.progress = Progress(at=scene.now + 1500, stage="training", stepped_at=scene.now)
    job = scene.drive(1500)
    assert job.failure
    assert job.failure.code == "hung"


STATES = ("requested", "running", "evaluating", "awaiting_approval")


@pytest.mark.parametrize("state", STATES)
def test_cancelled_in_any_state_nothing_is_left(scene: Scene, state: str) -> None:
    scene.drive()
    if state != "requested":
        scene.jobs.confirm(scene.id, ADMIN)
        scene.drive()
    if state in {"evaluating", "awaiting_approval"}:
        scene.judge.gate = PASSED if state == "awaiting_approval" else None
        scene.launcher.say("succeeded")
        scene.drive()
    assert scene.job.state == state
    assert scene.jobs.cancel(scene.id, ADMIN)
    assert not scene.jobs.cancel(scene.id, ADMIN), "once"
    assert scene.drive().state == "cancelled"
    assert scene.launcher.living() == []
    assert scene.launcher.holder is None
    assert scene.judge.stopped
    assert scene.registry.active() is None


def test_cancelled_before_the_machine_is_asked_for_none_is_started(scene: Scene) -> None:
    scene.drive()
    scene.jobs.confirm(scene.id, ADMIN)

    def cancel(method: str, moment: str) -> None:
        if (method, moment) == ("find", "after"):
            scene.jobs.cancel(scene.id, ADMIN)

    scene.launcher.hook = cancel
    assert scene.drive().state == "cancelled"
    assert scene.launcher.machines == {}


def test_a_rejected_candidate_stays_in_the_registry_and_does_not_serve(scene: Scene) -> None:
    scene.judge.gate = Gate(passed=False, reasons=("worse",), rows=(), metrics={})
    scene.start()
    scene.launcher.say("succeeded")
    scene.drive()
    assert scene.jobs.decide(scene.id, "reject", ADMIN)
    assert not scene.jobs.decide(scene.id, "approve", ADMIN), "the first word counts"
    assert scene.drive().state == "rejected"
    assert scene.registry.active() is None
    assert scene.registry.get(scene.job.version or "").judgement


def test_a_candidate_that_lost_serves_only_by_an_explicit_word_which_is_kept(scene: Scene) -> None:
    scene.judge.gate = Gate(passed=False, reasons=("worse",), rows=(), metrics={})
    scene.start()
    scene.launcher.say("succeeded")
    scene.drive()
    scene.jobs.decide(scene.id, "approve", ADMIN)
    assert scene.drive().state == "promoted"
    assert scene.registry.pointer().history[-1].override


def test_one_active_job_whoever_asks(scene: Scene) -> None:
    again, new = scene.jobs.request(Options(platform="local"), "teams:somebody")
    assert (again.id, new) == (scene.id, False)
    assert scene.jobs.confirm(scene.id, ADMIN) is True
    assert scene.jobs.confirm(scene.id, "teams:somebody") is False


def test_a_request_that_nobody_confirms_makes_room(scene: Scene) -> None:
    scene.drive()
    assert scene.drive(3700).state == "cancelled"
    assert scene.jobs.request(Options(), ADMIN)[1]


def test_a_dry_run_plans_and_ends(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.jobs.cancel(scene.id, ADMIN)
    scene.drive()
    scene.id = scene.jobs.request(Options(dry_run=True), ADMIN)[0].id
    assert scene.drive().state == "cancelled"
    assert scene.job.plan == PLAN
    assert scene.launcher.calls == []


def test_every_word_and_change_is_audited(scene: Scene) -> None:
    scene.start()
    scene.jobs.cancel(scene.id, ADMIN)
    scene.drive()
    actions = {row.action for row in scene.store.audited()}
    assert {"retrain.requested", "retrain.confirmed", "retrain.running", "retrain.cancelled"} <= actions


def test_the_documents_of_the_live_model_are_what_changes_are_counted_from(scene: Scene) -> None:
    seen: list[dict[str, str]] = []

    def plan(_job: Job, live: object) -> Plan:
        seen.append(dict(live))  # type: ignore[call-overload]
        return PLAN

    scene.tools.plan = plan
    scene.start()
    scene.launcher.say("succeeded")
    scene.drive()
    scene.jobs.decide(scene.id, "approve", ADMIN)
    scene.drive()
    scene.now += 10
    scene.id = scene.jobs.request(Options(), ADMIN)[0].id
    scene.drive()
    assert seen == [{}, {"Leave.docx": "aa"}]
