"""`quantahr up`, the process that `make demo` starts: real Redis, real worker, real model, and nothing left behind."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
PATIENCE = 150
pytestmark = [pytest.mark.e2e, pytest.mark.model, pytest.mark.timeout(400)]


def until(true: Callable[[], object], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "this did not happen in time"
        time.sleep(0.05)


class Demo:
    """One folder on which `quantahr up` is started, and its output."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "output"
        self.policies = folder / "policies"
        self.policies.mkdir()
        (self.policies / "Leave.md").write_text(
            "# Leave\n\n## Moving\n\nYou get two days off to move house.\n", "utf-8"
        )
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "QUANTAHR_STATE_DIR": str(folder / "state"),
            "QUANTAHR_POLICIES_DIR": str(self.policies),
            "QUANTAHR_CONSOLE__PORT": "0",
        }

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        with self.output.open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "quantahr", *words],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        arguments = [sys.executable, "-m", "quantahr", *words]
        return subprocess.run(
            arguments,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    @property
    def said(self) -> str:
        return self.output.read_text("utf-8", errors="replace")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return Demo(tmp_path_factory.mktemp("d"))


@pytest.fixture
def running(demo: Demo) -> Iterator[subprocess.Popen[bytes]]:
    process = demo.start("up")
    until(lambda: "Press Ctrl-C" in demo.said or process.poll() is not None)
    assert process.poll() is None, demo.said
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()


def test_one_question_prints_its_answer_with_sources_and_nothing_else(demo: Demo) -> None:
    result = demo.run("up", "--ask", "How many days off do I get when I move house?")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    answer, _, sources = result.stdout.partition("\n\n")
    assert "two days off" in answer
    assert sources.startswith("[1] Leave.md: Leave > Moving (version ")
    assert len(sources.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_however_it_ends_no_process_is_left(
    demo: Demo, running: subprocess.Popen[bytes], number: signal.Signals
) -> None:
    tree = psutil.Process(running.pid).children(recursive=True)
    names = " ".join(word for child in tree for word in child.cmdline())
    assert "redis" in names
    assert "worker" in names
    running.send_signal(number)
    code = running.wait(60)
    gone, alive = psutil.wait_procs(tree, timeout=60)
    assert alive == []
    assert len(gone) == len(tree)
    assert code == (-signal.SIGKILL if number is signal.SIGKILL else 0), demo.said
    assert "Traceback" not in demo.said


def test_a_second_one_joins_and_its_end_leaves_the_first_running(demo: Demo, running: subprocess.Popen[bytes]) -> None:
    first = demo.run("up", "--ask", "How many days off do I get when I move house?")
    assert "two days off" in first.stdout
    second = demo.run("ask", "How many days off do I get when I move house?")
    assert second.stdout.partition("\n\n")[0] == first.stdout.partition("\n\n")[0]
    assert running.poll() is None
    assert "ready" in demo.run("doctor").stdout


def test_a_worker_that_is_killed_is_started_again(demo: Demo, running: subprocess.Popen[bytes]) -> None:
    def workers() -> list[psutil.Process]:
        alive = [one for one in psutil.Process(running.pid).children() if one.status() != psutil.STATUS_ZOMBIE]
        return [one for one in alive if "worker" in one.cmdline()]

    [first] = workers()
    first.kill()
    until(lambda: [one for one in workers() if one.pid != first.pid])
    answered = demo.run("ask", "How many days off do I get when I move house?")
    assert "two days off" in answered.stdout
    assert "started again" in demo.said


def test_it_starts_again_where_it_was_killed(demo: Demo) -> None:
    assert shutil.which("redis-server") or shutil.which("valkey-server")
    assert "two days off" in demo.run("up", "--ask", "days off for moving house?").stdout


def test_its_logs_hold_no_question_and_no_answer(demo: Demo) -> None:
    logs = [file for file in (demo.folder / "state").rglob("*.log") if file.is_file()]
    assert logs
    for file in logs:
        text = file.read_text("utf-8", errors="replace")
        assert "two days" not in text
        assert "move house" not in text
