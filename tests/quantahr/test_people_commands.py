"""`quantahr onboard` and `quantahr privacy` as an administrator types them: what they say, and how they end."""

import contextlib
import datetime
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
from typer.testing import CliRunner

from quantahr.bus import scripts
from quantahr.cli.main import app
from quantahr.errors import QuantaHRError
from quantahr.messages import Final, Question
from quantahr.people.loop import FEWEST, Gap, Loop
from quantahr.people.onboarding import Onboarding
from quantahr.registry import Registry
from quantahr.settings import Settings
from quantahr.store import Store
from quantahr.store.tables import JobRow

REPOSITORY = Path(__file__).parents[2]
ANA = "U0ANA001"
JOURNEYS = """
default_location: Berlin
locations:
  Berlin: {country: Germany, time_zone: Europe/Berlin}
  Leeds: {country: United Kingdom, time_zone: Europe/London}
journeys:
  - name: All
    steps:
      - {id: boss, day: -3, to: manager, title: "Prepare for {first_name}", ask: true}
      - {id: leave, day: 0, title: "Leave, {first_name}", text: "Rest!", policy: "How many days of annual leave?"}
      - {id: leeds, day: 1, title: Only in Leeds, for: {location: [Leeds]}}
"""
HANDBOOK = """# Leave
## Annual leave
Full-time employees get 28 days of paid annual leave a year in Germany and 25 days in the United Kingdom.
"""
HEAD = "person,name,start,role,location,contract,manager,buddy\n"
GOOD = "U0ANA,Ana Lopez,2027-01-11,Engineer,berlin,,U0BOSS,\nben@example.com,Ben,01.02.2027,Analyst,Leeds,,,\n"


class Quantahr:
    """The command, on an installation of the test's own."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.folder = folder
        config = folder / "quantahr.yaml"
        people = {"onboarding": str(folder / "onboarding.yaml")}
        config.write_text(json.dumps({"people": people}), encoding="utf-8")  # JSON is YAML
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(REPOSITORY),
            "COLUMNS": "60",
            "QUANTAHR_CONFIG": str(config),
            "QUANTAHR_REDIS_URL": settings.redis_url,
            "QUANTAHR_STATE_DIR": str(settings.state_dir),
            "QUANTAHR_POLICIES_DIR": str(settings.policies_dir),
        }

    def __call__(self, *arguments: str, ends: int = 0, typed: str = "") -> str:
        """Run the command; returns what it said. `main` would say an error of ours as this does, and end with 1."""
        with contextlib.chdir(self.folder):
            done = CliRunner(env=self.environ).invoke(app, arguments, input=typed)
        if isinstance(done.exception, QuantaHRError):
            assert ends == 1
            return f"Sorry: {done.exception}"
        assert done.exit_code == ends, done.output
        return done.output

    def process(self, *arguments: str, ends: int = 0) -> str:
        """Run it as a process; returns what it said, both streams together."""
        done = subprocess.run(
            [sys.executable, "-m", "quantahr", *arguments],
            env=self.environ,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        assert done.returncode == ends, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def quantahr(settings: Settings, tmp_path: Path) -> Quantahr:
    (tmp_path / "onboarding.yaml").write_text(JOURNEYS, encoding="utf-8")
    settings.policies_dir.mkdir()
    (settings.policies_dir / "Handbook.md").write_text(HANDBOOK, encoding="utf-8")
    return Quantahr(settings, tmp_path)


def test_a_table_with_slips_is_refused_row_by_row_and_begins_nothing(
    quantahr: Quantahr, store: Store, tmp_path: Path
) -> None:
    file = tmp_path / "joiners.csv"
    file.write_text(HEAD + GOOD + "U0ANA,Ana,soon,x,Mars,,,\n,,2027-01-11,,,,,\n", encoding="utf-8")
    where = ("--platform", "slack", "--tenant", "T0")
    for extra in (("--dry-run",), ()):
        said = quantahr("onboard", "import", str(file), *where, *extra, ends=1)
        assert "joiners.csv, row 4: “soon” is not a date. Write it as 2027-01-11." in said
        assert "joiners.csv, row 4: there is no location “Mars”; known are Berlin, Leeds." in said
        assert "joiners.csv, row 4: U0ANA stands here twice." in said
        assert "joiners.csv, row 5: the person is missing" in said
        assert "nobody was imported" in said
    assert Onboarding(store).everyone("slack", "T0") == []


def test_a_dry_run_says_what_would_begin_and_a_run_begins_it_once(
    quantahr: Quantahr, store: Store, tmp_path: Path
) -> None:
    file = tmp_path / "joiners.csv"
    file.write_text(HEAD + GOOD, encoding="utf-8-sig")
    command = ("onboard", "import", str(file), "--platform", "slack", "--tenant", "T0")
    said = quantahr(*command, "--dry-run")
    assert "U0ANA: 2027-01-11, Engineer, Berlin" in said
    assert "2 journeys would begin. Nothing was changed." in said
    assert Onboarding(store).everyone("slack", "T0") == []
    assert "2 journeys begun, 0 changed." in quantahr(*command)
    assert "0 journeys begun, 2 changed." in quantahr(*command)
    begun = {one.name: one for one in Onboarding(store).everyone("slack", "T0")}
    assert (begun["Ana Lopez"].user, begun["Ana Lopez"].manager) == ("U0ANA", "U0BOSS")
    assert (begun["Ben"].email, begun["Ben"].start) == ("ben@example.com", datetime.date(2027, 2, 1))


@pytest.mark.parametrize(
    ("text", "platform", "said"),
    [
        (None, "slack", "cannot be read"),
        ("who,when\n", "slack", "has no column `person`"),
        ("person,start,manger\n", "slack", "has a column `manger`, which is not known"),
        (HEAD, "mail", "--platform mail is unknown. Use slack or teams."),
    ],
)
def test_what_is_no_such_table_is_one_sentence(
    quantahr: Quantahr, tmp_path: Path, text: str | None, platform: str, said: str
) -> None:
    file = tmp_path / "joiners.csv"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    told = quantahr("onboard", "import", str(file), "--platform", platform, "--tenant", "T", "--dry-run", ends=1)
    assert told.startswith("Sorry:")
    assert said in told


def test_a_preview_shows_every_message_of_a_sample_person_with_their_countrys_rule(quantahr: Quantahr) -> None:
    command = ("onboard", "preview", "--start", "2027-01-11", "--name", "Sam Sample", "--location")
    berlin = quantahr(*command, "Berlin")
    assert "Sam Sample, Data engineer, Berlin (Germany), first day 2027-01-11" in berlin
    assert "— Fri 08 Jan 2027, 09:00 Europe/Berlin to manager\nPrepare for Sam\n[Done]" in berlin
    assert "Leave, Sam\nRest!\n" in berlin
    assert "28 days" in berlin
    assert "25 days" not in berlin
    assert "Only in Leeds" not in berlin
    leeds = quantahr(*command, "leeds")
    assert "25 days" in leeds
    assert "28 days" not in leeds
    assert "Only in Leeds" in leeds
    assert "days" not in quantahr(*command, "Berlin", "--no-texts").partition("Leave, Sam")[2]
    assert "There is no location Mars. Known are Berlin, Leeds." in quantahr(*command, "Mars", ends=1)


def test_a_slip_in_the_journeys_is_told_with_its_line(quantahr: Quantahr) -> None:
    assert "is fine: 1 journeys with 3 steps, 2 locations." in quantahr("onboard", "check")
    (quantahr.folder / "onboarding.yaml").write_text(JOURNEYS.replace("to: manager", "to: boss"), encoding="utf-8")
    assert "line 9" in quantahr("onboard", "check", ends=1)


@pytest.fixture
def known(store: Store, settings: Settings, quantahr: Quantahr) -> str:
    """Ana, with something of hers everywhere; returns the id of the standard answer that her question led to."""
    text = "Is there a quiet room?"
    asked = Question(
        id="question-ana-1", platform="slack", tenant="T", conversation="D", thread="1", user=ANA, text=text,
        private=True, asked_at=store.clock(),
    )  # fmt: skip
    store.record_answer(asked, Final(verdict="abstained", text="no"))
    Loop(store).replace_gaps([Gap("g", "A quiet room?", (text,), FEWEST, 9, "", "", (), "d")])
    Loop(store).approve("g", "A quiet room?", "On floor 3.", f"slack:{ANA}")
    [standard] = Loop(store).standards()
    client = redis.Redis.from_url(settings.redis_url)
    client.set(scripts.question_key("q2"), asked.model_copy(update={"id": "question-ana-2"}).model_dump_json())
    (settings.state_dir / "report.jsonl").write_text(f'{{"user": "{ANA}"}}\n{{"user": "UOTHER00"}}\n', encoding="utf-8")

    # A training that held the answer, with the adapter it made; one that did not; and a run of `quantahr train`.
    registry = Registry.open(settings)
    trained = {}
    for run, answers in (("runaaaaaaaa1", [standard.id]), ("runaaaaaaaa2", [])):
        result = settings.state_dir / "retrain" / run[-1] / "result"
        (result / "adapter").mkdir(parents=True)
        (result / "adapter" / "adapter_model.safetensors").write_bytes(f"weights of {run}".encode())
        (result / "adapter" / "adapter_config.json").write_text('{"base_model_name_or_path": "tiny"}')
        (result / "manifest.json").write_text(json.dumps({"run_id": run, "base": "tiny", "files": {}}))
        trained[run] = registry.add(result).id
        plan = {"run": run, "taught": {"file": "approved.jsonl", "answers": answers, "share": 0.1} if answers else None}
        document: dict[str, Any] = {"plan": plan, "version": trained[run], "requested_by": f"slack:{ANA}"}
        with store.session.begin() as session:
            session.add(JobRow(id=run[-8:], state="promoted", document=document, created_at=1.0))
    by_hand = quantahr.folder / "runs" / "HR-runaaaaaaaa3"
    by_hand.mkdir(parents=True)
    (by_hand / "manifest.json").write_text('{"run_id": "runaaaaaaaa3"}')
    (by_hand / "dataset.json").write_text(json.dumps({"standard_answers": [standard.id]}))
    (settings.state_dir / "adapter-of-run-1").write_text(trained["runaaaaaaaa1"])
    return standard.id


def test_an_export_says_everything_about_a_person_and_which_trainings_held_it(
    quantahr: Quantahr, known: str, settings: Settings, tmp_path: Path, store: Store
) -> None:
    out = tmp_path / "ana.json"
    assert f"Wrote {out}." in quantahr("privacy", "export", "--person", f"slack:{ANA}", "--out", str(out))
    told = json.loads(out.read_text(encoding="utf-8"))
    assert told["store"]["questions"][0]["text"] == "Is there a quiet room?"
    assert [Path(file).name for file in told["files"]] == ["report.jsonl"]
    assert len(told["redis"]) == 1
    [learned] = told["approved_texts"]
    adapter = (settings.state_dir / "adapter-of-run-1").read_text()
    assert learned["standard_answer"] == known
    assert learned["because"] == ["asked", "approved"]
    assert learned["datasets"] == ["runaaaaaaaa1", "runaaaaaaaa3"]
    assert learned["adapters"] == [adapter]
    assert [row.action for row in store.audited("privacy.exported")] == ["privacy.exported"]
    printed = quantahr("privacy", "export", "--person", f"slack:{ANA}")
    assert json.loads(printed)["person"] == f"slack:{ANA}"


def test_a_deletion_asks_first_and_leaves_a_receipt_without_the_person(
    quantahr: Quantahr, known: str, settings: Settings, tmp_path: Path, store: Store
) -> None:
    command = ("privacy", "delete", "--person", f"slack:{ANA}", "--receipt", str(tmp_path / "receipt.json"))
    quantahr(*command, ends=1, typed="n\n")
    assert store.question("question-ana-1") is not None
    quantahr(*command, typed="y\n")
    receipt = json.loads((tmp_path / "receipt.json").read_text(encoding="utf-8"))
    assert receipt["deleted"]["questions"] == 1
    assert receipt["deleted"]["files"] == 1
    assert receipt["deleted"]["redis"] == 1
    assert receipt["approved_texts"][0]["datasets"] == ["runaaaaaaaa1", "runaaaaaaaa3"]
    assert ANA not in json.dumps(receipt)
    assert (settings.state_dir / "report.jsonl").read_text() == '{"user": "UOTHER00"}\n'
    assert store.question("question-ana-1") is None
    with store.session() as session:
        assert ANA not in str([row.document for row in session.query(JobRow)])
    again = json.loads(quantahr("privacy", "delete", "--person", f"slack:{ANA}", "--yes"))
    assert set(again["deleted"].values()) == {0}


@pytest.mark.e2e
def test_as_processes_they_end_with_one_sentence_and_a_code(quantahr: Quantahr, tmp_path: Path) -> None:
    said = quantahr.process("privacy", "export", "--person", "ana", ends=1)
    assert said.startswith("Sorry: “ana” names nobody. Write slack:U0123ABC or teams:<Entra object id>.")
    file = tmp_path / "joiners.csv"
    file.write_text(HEAD + GOOD, encoding="utf-8")
    told = quantahr.process("onboard", "import", str(file), "--platform", "slack", "--tenant", "T0", "--dry-run")
    assert "2 journeys would begin. Nothing was changed." in told
