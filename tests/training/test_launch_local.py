"""Training on this machine: the real bootstrap, the real marks, a process that outlives whoever started it."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from quantahr.retrain import Attempt, Job, Options, Plan
from quantahr.retrain.machine import Seen
from training.config import QloraConfig
from training.launch.contract import RefusedError
from training.launch.local import LocalLauncher

pytestmark = pytest.mark.e2e

PLAN = Plan(base="tiny", documents=1, examples=1, steps=4, run="r", where="here", minutes=1, cap_minutes=30)
ATTEMPT = Attempt(number=1, asked=True, started_at=0.0)
SECONDS = 120


@pytest.fixture
def job() -> Job:
    return Job(
        id="jlocal00001",
        state="running",
        options=Options(platform="local"),
        requested_by="slack:U1",
        created_at=0,
        changed_at=0,
        plan=PLAN,
        attempts=(ATTEMPT,),
    )


@pytest.fixture
def launcher(tiny_config: QloraConfig, workplace: Path, tmp_path: Path, job: Job) -> Iterator[LocalLauncher]:
    made = LocalLauncher(
        tmp_path / "retrain", lambda _job: tiny_config, root=workplace, state_dir=tmp_path / "state", beat_seconds=0.2
    )
    yield made
    until(lambda: made.settle(job))


def until(happened: object) -> None:
    deadline = time.monotonic() + SECONDS
    while not happened():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def prepared(launcher: LocalLauncher, job: Job) -> Job:
    pin, _ = launcher.prepare(job)
    return job.model_copy(update={"prepared": pin})


def ended(launcher: LocalLauncher, job: Job) -> Seen:
    until(lambda: launcher.look(job, ATTEMPT).machine == "ended")
    return launcher.look(job, ATTEMPT)


def test_it_trains_beats_reports_and_brings_the_adapter_home(launcher: LocalLauncher, job: Job, tmp_path: Path) -> None:
    job = prepared(launcher, job)
    name = launcher.start(job, ATTEMPT)
    assert launcher.start(job, ATTEMPT) == name, "started again, it is the same process"
    assert launcher.find(job, ATTEMPT) == name
    seen = ended(launcher, job)
    assert seen.status
    assert (seen.status.outcome, seen.status.detail) == ("succeeded", "")
    assert seen.progress
    assert seen.progress.step == seen.progress.steps > 0
    assert seen.progress.curve
    launcher.fetch(job, tmp_path / "result")
    assert (tmp_path / "result" / "adapter.gguf").stat().st_size > 0
    assert (tmp_path / "result" / "curve.png").is_file()
    with (tmp_path / "retrain" / "place" / "adapters" / job.id / "adapter.gguf").open("ab") as file:
        file.write(b"!")
    with pytest.raises(RefusedError, match="changed on their way"):
        launcher.fetch(job, tmp_path / "changed")
    home = tmp_path / "retrain" / "boxes" / job.id
    assert list((home / "a1" / "work").glob("state*")) == []
    launcher.release(job)
    assert not home.exists()
    assert not (tmp_path / "retrain" / "place" / "data" / job.id).exists(), "what was brought is removed"


def test_code_or_data_that_is_not_what_was_pinned_does_not_run(
    launcher: LocalLauncher, job: Job, tmp_path: Path
) -> None:
    job = prepared(launcher, job)
    data = tmp_path / "retrain" / "place" / "data" / job.id / "data.tar.gz"
    data.write_bytes(data.read_bytes() + b"!")
    launcher.start(job, ATTEMPT)
    seen = ended(launcher, job)
    assert seen.status
    assert seen.status.outcome == "failed"
    assert "fetching" in seen.status.detail


def test_killed_without_a_word_it_is_seen_as_ended(launcher: LocalLauncher, job: Job, tmp_path: Path) -> None:
    job = prepared(launcher, job)
    launcher.start(job, ATTEMPT)
    started = tmp_path / "retrain" / "boxes" / job.id / "a1" / "started"
    os.killpg(int(started.read_text()), signal.SIGKILL)
    seen = ended(launcher, job)
    assert seen.status is None


def test_ended_by_the_job_nothing_is_left(launcher: LocalLauncher, job: Job, tmp_path: Path) -> None:
    job = prepared(launcher, job)
    launcher.start(job, ATTEMPT)
    until(lambda: launcher.settle(job))
    assert launcher.look(job, ATTEMPT).machine == "ended"


def test_the_reaper_ends_what_no_living_job_accounts_for(launcher: LocalLauncher, job: Job) -> None:
    job = prepared(launcher, job)
    launcher.start(job, ATTEMPT)
    assert launcher.reap(lambda _: job, time.time()) == []
    assert launcher.reap(lambda _: None, time.time()) == [f"{job.id}-a1"]
    until(lambda: launcher.look(job, ATTEMPT).machine == "ended")


def test_the_training_process_sees_no_secret_of_ours(
    launcher: LocalLauncher, job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLACK_BOT_TOKEN", "xoxb-secret")
    job = prepared(launcher, job)
    launcher.start(job, ATTEMPT)
    pid = int((tmp_path / "retrain" / "boxes" / job.id / "a1" / "started").read_text())
    until(Path(f"/proc/{pid}/environ").read_bytes)  # empty for a moment, while one program becomes another
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    assert b"QHR_JOB" in environment
    assert b"xoxb-secret" not in environment
