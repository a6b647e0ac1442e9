"""What HR approved is in the next training, is seen as often as a section, and leaves when its policy changes."""

import json
import shutil
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from quantahr.people.approved import write_approved
from quantahr.people.loop import FEWEST, Gap, Loop
from quantahr.people.versions import Versions
from quantahr.policies import load_folder
from quantahr.retrain import Job, Options, Taught
from quantahr.settings import Settings
from quantahr.store import Store
from tests.training.conftest import settings_for
from training.app import make_tools
from training.config import QloraConfig, load_config
from training.launch.bundle import build
from training.planning import Request, make, with_taught
from training.run import make_plan

REPOSITORY = Path(__file__).parents[2]
DOCUMENT = REPOSITORY / "data/hr_policies/Bereavement-and-Emergencies.docx"
QUESTION, VARIANT = "May I stay away when my neighbour has died?", "neighbour died can i stay home, asks somebody"
ANSWER = "Yes, for half a day. Tell your manager by noon."


@pytest.fixture
def company(workplace: Path, tiny_base: Path) -> Path:
    """A folder with rows, one of the sample documents, and a configuration that trains on both."""
    (workplace / "data" / "hr_policies").mkdir()
    shutil.copy(DOCUMENT, workplace / "data" / "hr_policies")
    values = settings_for(tiny_base, max_steps=30)
    values["datasets"].append({"type": "docx", "input_files": ["data/hr_policies/*.docx"]})
    (workplace / "qlora_config.json").write_text(json.dumps(values))
    return workplace


@pytest.fixture
def approved(store: Store, company: Path) -> str:
    """A standard answer that rests on a section of the document; returns its id."""
    library = load_folder(company / "data" / "hr_policies")
    Versions(store).record(library)
    section = library.sections[1]
    Loop(store).replace_gaps([Gap("g", QUESTION, (VARIANT,), FEWEST, 9, "", "", (section.id,), "")])
    assert Loop(store).approve("g", QUESTION, ANSWER, "slack:UHR")
    return Loop(store).standards()[0].id


def planned(store: Store, company: Path, folder: Path) -> QloraConfig:
    """The configuration of the next training."""
    found = write_approved(store, folder)
    assert found is not None
    taught = Taught(file=found.file.name, answers=found.answers, share=found.share)
    return with_taught(load_config(company / "qlora_config.json", root=company), taught, folder)


def test_the_next_training_learns_hrs_words_and_nobody_elses(
    store: Store, company: Path, approved: str, tmp_path: Path
) -> None:
    plan = make_plan(planned(store, company, tmp_path / "a"), state_dir=tmp_path / "s", root=company)
    learned = [
        plan.tokenizer.decode(example.prompt + example.answer)
        for step in plan.schedule.steps
        for batch in step
        for example in batch
    ]
    taught = [text for text in learned if QUESTION in text]
    assert any("Yes, for half a day" in text.rpartition("assistant")[2] for text in taught)
    assert not any("neighbour died can i" in text for text in learned)
    assert plan.facts()["standard_answers"] == [approved]
    seen = sum(count for (_, source), count in plan.schedule.seen.items() if approved in source)
    sections = [count for (name, _), count in plan.schedule.seen.items() if name == "docx"]
    assert 0.5 * sum(sections) / len(sections) <= seen <= 3 * max(sections), "about as often as a section"


def test_it_travels_with_the_job_and_the_plan_says_so(
    store: Store, company: Path, approved: str, tmp_path: Path
) -> None:
    folder = tmp_path / "a"
    found = write_approved(store, folder)
    assert found is not None
    taught = Taught(file=found.file.name, answers=found.answers, share=found.share)
    told = Request(
        config=company / "qlora_config.json", root=company, options=Options(platform="local"), live={}, taught=taught,
        approved=folder,
    )  # fmt: skip
    plan = make(told)
    assert plan.taught == taught
    assert any("HR's standard answers are learned, too: 1." in note for note in plan.notes)
    config = with_taught(load_config(company / "qlora_config.json", root=company), plan.taught, folder)
    assert plan.run == make_plan(config, state_dir=tmp_path / "s", root=company).run_id
    data = next(file.data for file in build("job", config, root=company).files if file.name == "data.tar.gz")
    with tarfile.open(fileobj=BytesIO(data)) as archive:
        held = {Path(name).name for name in archive.getnames()}
    assert found.file.name in held


def test_a_job_teaches_what_its_plan_said_although_hr_has_approved_more_since(
    settings: Settings, company: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`jobs` as it is made for a process: plan, then another approval, then what the launcher is given."""
    configured = settings.model_copy(update={"policies_dir": company / "data" / "hr_policies"})
    given: list[QloraConfig] = []
    job = Job(id="job1", options=Options(platform="local"), requested_by="slack:U1", created_at=1.0, changed_at=1.0)

    def launcher(_: Path, chosen: Callable[[Job], QloraConfig], **__: Any) -> None:
        given.append(chosen(job))

    monkeypatch.setattr("training.launch.local.LocalLauncher", launcher)
    store = Store.open(configured)
    Versions(store).record(load_folder(configured.policies_dir))
    Loop(store).replace_gaps([Gap("g", QUESTION, (VARIANT,), FEWEST, 9, "", "", (), "")])
    Loop(store).approve("g", QUESTION, ANSWER, "slack:UHR")
    tools = make_tools(configured, config=company / "qlora_config.json", root=company)
    monkeypatch.setattr("training.app.plan_in_a_process", make)
    job = job.model_copy(update={"plan": tools.plan(job, {})})
    Loop(store).replace_gaps([Gap("h", "Is there a crèche?", (), FEWEST, 9, "", "", (), "")])
    Loop(store).approve("h", "Is there a crèche?", "Yes, in house 3.", "slack:UHR")
    tools.launchers["local"]()
    [config] = given
    [file] = config.datasets[-1].input_files
    text = Path(file).read_text(encoding="utf-8")
    assert QUESTION in text
    assert "crèche" not in text
    store.close()


def test_an_answer_whose_policy_has_changed_is_not_taught(store: Store, company: Path, approved: str) -> None:
    file = company / "data" / "hr_policies" / DOCUMENT.name
    file.unlink()
    shutil.copy(REPOSITORY / "data/hr_policies/Travel-and-Expenses.docx", file)
    Versions(store).record(load_folder(file.parent))
    assert write_approved(store, company / "a") is None
    assert Loop(store).golden() == []
    assert [one.id for one in Loop(store).expired()] == [approved]


def test_the_same_answers_make_the_same_file_and_so_the_same_run(store: Store, company: Path, approved: str) -> None:
    first, second = write_approved(store, company / "a"), write_approved(store, company / "a")
    assert first == second
    assert len(list((company / "a").iterdir())) == 1
