"""`quantahr jobs` as a real process: it plans, trains a tiny model on this machine, and survives kill -9."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quantahr.retrain import Job, Jobs, Options
from quantahr.settings import Settings
from quantahr.store import Store
from tests.conftest import RedisServer
from tests.training.conftest import ROWS, settings_for, tiny_base

__all__ = ["tiny_base"]
pytestmark = [pytest.mark.e2e, pytest.mark.aws, pytest.mark.timeout(900)]

ADMIN = "slack:UADMIN"
SECONDS = 400


@pytest.fixture
def home(tmp_path: Path, tiny_base: Path) -> Path:
    (tmp_path / "data" / "general_knowledge").mkdir(parents=True)
    (tmp_path / "data" / "general_knowledge" / "rows.json").write_text(json.dumps(ROWS), encoding="utf-8")
    (tmp_path / "config").mkdir()
    settings = settings_for(tiny_base, save_steps=2)
    (tmp_path / "config" / "qlora_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return tmp_path


@pytest.fixture
def start(home: Path, own_redis: RedisServer) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    running: list[subprocess.Popen[bytes]] = []
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "QUANTAHR_REDIS_URL": own_redis.url,
        "QUANTAHR_STATE_DIR": str(home / "state"),
    }

    def begin() -> subprocess.Popen[bytes]:
        with (home / f"jobs-{len(running)}.log").open("wb") as log:
            arguments = [sys.executable, "-m", "quantahr", "jobs"]
            running.append(subprocess.Popen(arguments, cwd=home, env=environment, stdout=log, stderr=log))
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        process.wait(timeout=10)


@pytest.fixture
def jobs(home: Path) -> Iterator[Jobs]:
    store = Store.open(Settings(state_dir=home / "state"))
    yield Jobs(store)
    store.close()


def until(jobs: Jobs, identifier: str, happened: Callable[[Job], object]) -> Job:
    deadline = time.monotonic() + SECONDS
    while True:
        found = jobs.get(identifier)
        assert found
        if happened(found[0]):
            return found[0]
        assert time.monotonic() < deadline, f"{found[0].state}: {found[0].failure or found[0].trouble}"
        time.sleep(0.2)


def test_killed_while_training_the_next_process_goes_on_with_the_same_training(
    start: Callable[[], subprocess.Popen[bytes]], jobs: Jobs, home: Path
) -> None:
    first = start()
    job, _ = jobs.request(Options(platform="local", max_minutes=30), ADMIN)
    planned = until(jobs, job.id, lambda job: job.plan or job.final)
    assert planned.plan, planned.failure
    assert planned.plan.steps == 8
    assert planned.plan.price_per_hour == 0
    jobs.confirm(job.id, ADMIN)
    until(jobs, job.id, lambda job: job.attempt and job.attempt.instance)
    first.send_signal(signal.SIGKILL)
    first.wait(timeout=10)
    start()
    # Here the tiny model is not the one that is served, and the registry must refuse it with a clear word.
    ended = until(jobs, job.id, lambda job: job.final)
    assert [attempt.outcome for attempt in ended.attempts] == ["succeeded"]
    assert (home / "state" / "retrain" / job.id / "result" / "adapter.gguf").is_file()
    assert ended.state == "failed"
    assert ended.failure
    assert "does not fit" in ended.failure.text
    assert not list((home / "state" / "retrain" / "boxes").glob("*")), "nothing is left"
