"""Retrain jobs on a simulated AWS: real requests, real user data, real bootstrap; every way it can go ends well."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from quantahr.registry import Registry
from quantahr.registry.storage import open_storage
from quantahr.retrain import Gate, Job, Jobs, Options, Plan
from quantahr.retrain.machine import begin
from quantahr.store import Store
from tests.aws import simulator
from tests.aws.simulator import BUCKET, Account, Box
from tests.fakes.tiny_adapter import write_adapter
from training.config import QloraConfig
from training.launch import user_data
from training.launch.aws import ACTIVE, AwsLauncher
from training.launch.bundle import bootstrap_file
from training.retrain import Tools, advance, reap

pytestmark = [pytest.mark.e2e, pytest.mark.aws, pytest.mark.timeout(900)]

ADMIN = "slack:UADMIN"
SECONDS = 400
"""Patience, not a measure."""
GATE = Gate(passed=True, reasons=("better",), rows=())
PLAN = Plan(
    base="tiny", documents=1, examples=8, steps=8, run="r", where="AWS", minutes=1, price_per_hour=1, cap_minutes=30
)


class FixedJudge:
    def look(self, job: Job, candidate: Path) -> Gate | None:
        return GATE

    def stop(self, job: Job) -> None:
        """Nothing to stop."""


class Scene:
    """An installation beside a simulated account. `later` moves the driver's clock."""

    def __init__(self, account: Account, folder: Path, config: QloraConfig, *, spot: bool = False) -> None:
        self.account, self.folder, self.skew = account, folder, 0.0
        self.launcher = AwsLauncher(account.infra, lambda _job: config, root=folder, endpoint=account.url)
        self.store = Store(f"sqlite:///{folder / 'jobs.db'}", clock=self.now)
        self.jobs = Jobs(self.store)
        self.plan = PLAN
        self.tools = Tools(
            jobs=self.jobs,
            folder=folder / "results",
            launchers={"aws": lambda: self.launcher},
            plan=lambda _job, _live: self.plan,
            judge=FixedJudge(),
            registry=Registry(open_storage(str(folder / "registry"), folder / "cache")),
            clock=self.now,
        )
        self.options = Options(platform="aws", instance_type="g5.xlarge", spot=spot)
        self.id = self.jobs.request(self.options, ADMIN)[0].id

    def now(self) -> float:
        return time.time() + self.skew

    @property
    def job(self) -> Job:
        found = self.jobs.get(self.id)
        assert found
        return found[0]

    def drive(self) -> Job:
        advance(self.tools, self.id)
        return self.job

    def until(self, state: str, seconds: float = SECONDS) -> Job:
        deadline = time.monotonic() + seconds
        while self.drive().state != state:
            assert time.monotonic() < deadline, f"{self.job.state}, not {state}: {self.job}"
            assert state == "failed" or self.job.state != "failed", self.job.failure
            time.sleep(0.1)
        return self.job

    def running(self) -> Box:
        """The job confirmed, its machine up and heard."""
        self.drive()
        self.jobs.confirm(self.id, ADMIN)
        self.until("running")
        self.wait(lambda: self.drive().progress is not None)
        return self.account.newest()

    def wait(self, happened: Callable[[], object], seconds: float = SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.1)

    def nothing_left(self) -> None:
        """No instance in any state but terminated, no process, no schedule, no lock, no data of the job."""
        assert set(self.account.states().values()) <= {"terminated"}
        self.wait(lambda: not any(box.processes() for box in self.account.boxes.values()))
        assert self.account.client("scheduler").list_schedules()["Schedules"] == []
        kept = [key for key in self.account.objects() if key.startswith(("data/", "config/")) or key == ACTIVE]
        assert kept == []


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    for name, value in simulator.CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    quick = tmp_path / "quick"
    quick.write_text(f'#!/bin/bash\nexec "{sys.executable}" "{Path(simulator.__file__).with_name("quick_box.py")}"\n')
    quick.chmod(0o755)
    adapter = write_adapter(tmp_path / "quick_adapter.gguf", seed=3)
    with Account(tmp_path / "aws", python=str(quick)) as made:
        made.environment |= {"QUICK": "succeed", "QUICK_ADAPTER": str(adapter)}
        yield made


@pytest.fixture
def scene(account: Account, workplace: Path, tiny_config: QloraConfig) -> Iterator[Scene]:
    made = Scene(account, workplace, tiny_config)
    yield made
    made.store.close()


def test_real_training_comes_home_and_everything_else_goes_away(scene: Scene) -> None:
    scene.account.python = sys.executable
    box = scene.running()
    (tags,) = [
        {tag["Key"]: tag["Value"] for tag in one["Tags"]}
        for page in scene.account.client("ec2").describe_instances()["Reservations"]
        for one in page["Instances"]
    ]
    assert (tags["Environment"], tags["JobId"], tags["Attempt"]) == ("Training", scene.id, "1")
    script = (box.folder / "user_data").read_text()
    assert script.splitlines()[1] == "shutdown -h +30", "the alarm is the first command"
    assert len(script) < user_data.LIMIT
    job = scene.until("awaiting_approval")
    assert job.progress
    assert job.progress.step == 8
    assert job.progress.loss is not None
    assert scene.tools.registry.get(job.version or "").files.keys() >= {"adapter.gguf"}
    assert scene.jobs.curve(scene.id), "the loss curve is there for the chat"
    assert any(key.startswith("checkpoints/") for key in scene.account.objects()), "checkpoints outlive the run"
    scene.nothing_left()
    scene.jobs.decide(scene.id, "approve", ADMIN)
    assert scene.drive().state == "promoted"


def test_real_training_on_spot_goes_on_from_the_last_checkpoint(
    account: Account, workplace: Path, tiny_base: Path
) -> None:
    from tests.training.conftest import settings_for
    from training.config import parse_config

    config = parse_config(settings_for(tiny_base, max_steps=60, save_steps=10), root=workplace)
    account.python = sys.executable
    scene = Scene(account, workplace, config, spot=True)
    box = scene.running()
    scene.wait(
        lambda: sum(key.startswith("checkpoints/") and key.endswith("manifest.json") for key in account.objects())
    )
    account.take_back(box)
    scene.wait(lambda: len(scene.drive().attempts) == 2)
    assert scene.job.attempts[0].outcome == "interrupted"
    job = scene.until("awaiting_approval")
    assert len(job.attempts) == 2
    assert "Continuing after step" in account.read(f"jobs/{scene.id}/a2.log").decode()
    scene.nothing_left()
    scene.store.close()


def test_what_travels_is_encrypted_and_only_what_the_run_needs(scene: Scene) -> None:
    pin, image = scene.launcher.prepare(scene.job)
    assert image
    assert image.startswith("ami-")
    keys = scene.account.objects()
    s3 = scene.account.client("s3")
    for key in keys:
        assert s3.head_object(Bucket=BUCKET, Key=key)["ServerSideEncryption"] == "aws:kms", key
    assert {key.split("/")[0] for key in keys} == {"jobs", "bootstrap", "config", "data", "base"}
    assert f"bootstrap/{bootstrap_file().sha256}/bootstrap.sh" in keys
    assert scene.launcher.prepare(scene.job)[0] == pin, "prepared again, it is the same"
    assert scene.account.objects() == keys
    config = json.loads(scene.account.read(f"config/{scene.id}/qlora_config.json"))
    assert "upload_to" not in config["training"]


def test_a_failure_in_training_is_named(scene: Scene) -> None:
    scene.account.environment["QUICK"] = "fail"
    scene.drive()
    scene.jobs.confirm(scene.id, ADMIN)
    job = scene.until("failed")
    assert job.failure
    assert "too little memory" in job.failure.text
    scene.nothing_left()


def test_a_crash_without_a_word_gets_its_word_from_the_trap(scene: Scene) -> None:
    scene.account.environment["QUICK"] = "crash"
    scene.drive()
    scene.jobs.confirm(scene.id, ADMIN)
    job = scene.until("failed")
    assert job.failure
    assert "training (code 9)" in job.failure.text
    scene.nothing_left()


def test_an_instance_killed_from_outside_is_noticed_and_not_replaced(scene: Scene) -> None:
    scene.account.environment["QUICK"] = "wait"
    scene.account.end(scene.running())
    job = scene.until("failed")
    assert job.failure
    assert job.failure.code == "vanished"
    assert len(scene.account.boxes) == 1
    scene.nothing_left()


def test_a_spot_machine_that_is_taken_without_a_notice_is_replaced(
    account: Account, workplace: Path, tiny_config: QloraConfig
) -> None:
    scene = Scene(account, workplace, tiny_config, spot=True)
    account.environment["QUICK"] = "spot"
    account.end(scene.running(), "Server.SpotInstanceTermination")
    job = scene.until("awaiting_approval")
    assert [attempt.outcome for attempt in job.attempts] == ["interrupted", "succeeded"]
    scene.nothing_left()
    scene.store.close()


def test_a_hung_machine_is_ended(scene: Scene) -> None:
    scene.account.environment["QUICK"] = "hang"
    scene.running()
    scene.skew = 300
    job = scene.until("failed")
    assert job.failure
    assert job.failure.code == "hung"
    scene.nothing_left()


def test_a_bucket_that_cannot_be_reached_for_a_while_costs_heartbeats_only(scene: Scene) -> None:
    scene.account.python = sys.executable
    scene.running()
    scene.account.faults.append(lambda service, _: (503, "ServiceUnavailable") if service == "s3" else None)
    scene.drive()
    assert scene.job.state == "running"
    assert "I keep trying" in scene.job.trouble
    time.sleep(3)
    scene.account.faults.clear()
    scene.until("awaiting_approval")
    scene.nothing_left()


def test_a_full_zone_sends_the_job_to_the_next(scene: Scene) -> None:
    refusals = iter([(500, "InsufficientInstanceCapacity")] * 4)  # asked, and three times again
    scene.account.faults.append(lambda _, action: next(refusals, None) if action == "RunInstances" else None)
    scene.drive()
    scene.jobs.confirm(scene.id, ADMIN)
    job = scene.until("awaiting_approval")
    assert [attempt.outcome for attempt in job.attempts] == ["no_capacity", "succeeded"]
    (one,) = scene.account.boxes.values()
    assert one.instance.subnet_id == scene.account.infra.subnet_ids[1]
    scene.nothing_left()


@pytest.mark.parametrize(
    ("action", "status", "code", "ends_as"),
    [
        ("RunInstances", 400, "VcpuLimitExceeded", "quota"),
        ("DescribeImages", 401, "AuthFailure", "credentials"),
        ("RunInstances", 400, "RequestExpired", "credentials"),
        ("RunInstances", 403, "UnauthorizedOperation", "rights"),
    ],
)
def test_a_refusal_ends_the_job_with_the_reason_and_the_remedy(
    scene: Scene, action: str, status: int, code: str, ends_as: str
) -> None:
    scene.account.faults.append(lambda _, called: (status, code) if called == action else None)
    scene.drive()
    scene.jobs.confirm(scene.id, ADMIN)
    job = scene.until("failed")
    assert job.failure
    assert job.failure.code == ends_as
    assert job.failure.advice
    assert job.cost(scene.now()) == 0
    scene.nothing_left()


def test_credentials_that_expire_meanwhile_do_not_end_the_training(scene: Scene) -> None:
    scene.account.environment["QUICK"] = "wait"
    scene.running()
    scene.account.faults.append(lambda service, _: (400, "ExpiredToken") if service == "ec2" else None)
    assert scene.drive().state == "running"
    assert "credentials" in scene.job.trouble
    scene.account.faults.clear()
    scene.drive()
    assert scene.job.trouble == ""
    scene.jobs.cancel(scene.id, ADMIN)
    scene.until("cancelled")
    scene.nothing_left()


@pytest.mark.parametrize("state", ["preparing", "launching", "running", "awaiting_approval"])
def test_cancelled_at_any_time_nothing_is_left(scene: Scene, state: str) -> None:
    scene.account.environment["QUICK"] = "succeed" if state == "awaiting_approval" else "wait"
    asked = {"preparing": "DescribeImages", "launching": "RunInstances"}.get(state)
    if asked is None:
        scene.drive()
        scene.jobs.confirm(scene.id, ADMIN)
        scene.until(state)
        scene.jobs.cancel(scene.id, ADMIN)
    else:

        def cancel(_: str, action: str) -> None:
            if action == asked:
                scene.jobs.cancel(scene.id, ADMIN)

        scene.account.faults.append(cancel)
        scene.drive()
        scene.jobs.confirm(scene.id, ADMIN)
    scene.until("cancelled")
    scene.nothing_left()


def test_killed_just_after_the_machine_was_started_the_next_process_finds_it(scene: Scene) -> None:
    scene.account.environment["QUICK"] = "wait"
    scene.drive()
    scene.jobs.confirm(scene.id, ADMIN)
    real = scene.launcher.start

    def dies(job: Job, attempt: Any) -> str:
        real(job, attempt)
        raise KeyboardInterrupt

    scene.launcher.start = dies  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        scene.drive()
    scene.launcher.start = real  # type: ignore[method-assign]
    scene.wait(lambda: scene.drive().progress)
    assert len(scene.account.boxes) == 1
    job = scene.job
    assert scene.launcher.start(job, job.attempts[0]) == job.attempts[0].instance, "the token gives the same machine"


# Every layer that ends a machine, with the others switched off.


def living(scene: Scene) -> list[str]:
    return [name for name, state in scene.account.states().items() if state != "terminated"]


def start_without_a_driver(scene: Scene, plan: Plan, before: Callable[[], object] = lambda: None) -> None:
    """The machine is started, and whoever started it is gone."""
    pin, image = scene.launcher.prepare(scene.job)
    job = begin(scene.job.model_copy(update={"plan": plan, "prepared": pin, "image": image}), scene.now())
    before()
    scene.launcher.start(job, job.attempts[0])


def test_layer_alarm_the_machine_ends_itself_when_everybody_is_gone(scene: Scene) -> None:
    scene.account.environment["QUICK"] = "wait"
    scene.account.minute = 0.3
    start_without_a_driver(scene, PLAN.model_copy(update={"cap_minutes": 25}))
    assert len(living(scene)) == 1
    scene.wait(lambda: living(scene) == [])


def test_layer_timeout_training_that_does_not_end_is_ended_and_says_so(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_data, "training_seconds", lambda _minutes: 10)
    scene.account.environment["QUICK"] = "wait"
    scene.running()
    scene.wait(lambda: f"jobs/{scene.id}/status.json" in scene.account.objects())
    assert json.loads(scene.account.read(f"jobs/{scene.id}/status.json"))["outcome"] == "timeout"
    scene.wait(lambda: living(scene) == [])


def test_layer_trap_a_bootstrap_that_was_tampered_with_does_not_run_and_the_machine_ends(scene: Scene) -> None:
    key = f"bootstrap/{bootstrap_file().sha256}/bootstrap.sh"
    tampered = {"Bucket": BUCKET, "Key": key, "Body": b"touch pwned"}
    start_without_a_driver(scene, PLAN, before=lambda: scene.account.client("s3").put_object(**tampered))
    scene.wait(lambda: living(scene) == [])
    assert not list(scene.account.folder.glob("*/opt/pwned"))


def test_layer_schedule_somebody_else_will_end_the_machine(scene: Scene) -> None:
    scene.account.environment["QUICK"] = "wait"
    scene.account.self_shutdown = False
    scene.running()
    scheduler = scene.account.client("scheduler")
    (listed,) = scheduler.list_schedules()["Schedules"]
    schedule = scheduler.get_schedule(Name=listed["Name"])
    due = time.strptime(schedule["ScheduleExpression"], "at(%Y-%m-%dT%H:%M:%S)")
    import calendar

    cap = scene.job.attempts[0].started_at + PLAN.cap_minutes * 60
    assert cap < calendar.timegm(due) < cap + 600
    assert schedule["Target"]["Arn"].endswith("ec2:terminateInstances")
    assert schedule["ActionAfterCompletion"] == "DELETE"
    # What EventBridge does at that moment:
    scene.account.client("ec2").terminate_instances(**json.loads(schedule["Target"]["Input"]))
    assert living(scene) == []


@pytest.mark.parametrize("why", ["unknown job", "finished job", "too old", "heartbeat stale"])
def test_layer_reaper_ends_what_no_living_job_accounts_for(scene: Scene, why: str) -> None:
    scene.account.environment["QUICK"] = "wait"
    scene.account.self_shutdown = False
    scene.running()
    assert reap(scene.tools, "aws") == []
    if why == "unknown job":
        scene.tools.jobs = Jobs(Store(f"sqlite:///{scene.folder / 'empty.db'}", clock=scene.now))
        scene.skew = 660
    elif why == "finished job":
        with scene.jobs.lease(scene.id) as held:
            assert held
            held.save(held.job.model_copy(update={"state": "failed"}))
    elif why == "too old":
        scene.skew = (PLAN.cap_minutes + 11) * 60
    else:
        os.kill(scene.account.newest().session.pid, 9)
        scene.account.newest().kill()
        scene.skew = 400
    assert len(reap(scene.tools, "aws")) == 1
    assert living(scene) == []


def test_the_reaper_leaves_other_installations_machines_alone(scene: Scene) -> None:
    tags = [{"Key": "Environment", "Value": "Training"}, {"Key": "Installation", "Value": "another-bucket"}]
    other = scene.account.client("ec2")
    image = other.describe_images(Owners=["self"])["Images"][0]["ImageId"]
    other.run_instances(
        ImageId=image,
        MinCount=1,
        MaxCount=1,
        UserData="#!/bin/bash\n",
        ClientToken="x",
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )
    scene.skew = 10**6
    assert reap(scene.tools, "aws") == []
    assert len(living(scene)) == 1


def test_one_active_job_even_between_installations_on_one_bucket(scene: Scene, tmp_path: Path) -> None:
    scene.account.environment["QUICK"] = "wait"
    scene.running()
    other = Scene(scene.account, tmp_path / "other", scene.launcher._config(scene.job))
    other.launcher._root = scene.folder
    other.drive()
    other.jobs.confirm(other.id, ADMIN)
    job = other.until("failed")
    assert job.failure
    assert job.failure.code == "active"
    assert scene.id in job.failure.text
    assert len(scene.account.boxes) == 1
    other.store.close()


def test_a_lock_that_a_dead_installation_left_gives_way(scene: Scene) -> None:
    scene.account.client("s3").put_object(Bucket=BUCKET, Key=ACTIVE, Body=b"jdead")
    scene.drive()
    scene.jobs.confirm(scene.id, ADMIN)
    scene.until("awaiting_approval")
    scene.nothing_left()
