"""The plan is there in seconds, says what the run itself will say, and learns from the trainings that were seen."""

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from quantahr.errors import ModelError
from quantahr.gguf import PACKAGED_MODEL, packaged_gguf
from quantahr.retrain import Job, Options, Plan, Progress
from tests.training.conftest import settings_for
from training.config import DocxDataset, load_config
from training.dataset.arrange import arrange
from training.dataset.example import Encoder
from training.dataset.neighbours import beside
from training.dataset.policies import read_policies
from training.estimate import count_parameters
from training.identity import run_id
from training.launch.bundle import build
from training.outline import RoughEncoder, outline
from training.pace import Pace, measured
from training.planning import Request, make, plan_in_a_process
from training.run import make_plan
from training.shape import read_shape

REPOSITORY = Path(__file__).parents[2]
DOCUMENT = REPOSITORY / "data/hr_policies/Bereavement-and-Emergencies.docx"


@pytest.fixture
def company(workplace: Path, tiny_base: Path) -> Path:
    """A folder with rows, one of the sample documents, and a configuration that trains on both."""
    (workplace / "data" / "hr_policies").mkdir()
    shutil.copy(DOCUMENT, workplace / "data" / "hr_policies")
    values = settings_for(tiny_base, max_steps=30)
    values["datasets"].append({"type": "docx", "input_files": ["data/hr_policies/*.docx"]})
    (workplace / "qlora_config.json").write_text(json.dumps(values))
    return workplace


def request(root: Path, **more: Any) -> Request:
    return Request(config=root / "qlora_config.json", root=root, options=Options(platform="local"), live={}, **more)


def test_the_plan_counts_what_the_run_will_train_on(company: Path) -> None:
    config = load_config(company / "qlora_config.json", root=company)
    rough, exact = outline(config, root=company), make_plan(config, state_dir=company / "state", root=company)
    assert (rough.run_id, rough.steps) == (exact.run_id, 30)
    assert rough.examples == pytest.approx(exact.schedule.examples, rel=0.05)
    assert rough.warnings == exact.warnings


def test_the_tokens_of_a_real_vocabulary_are_estimated_well_enough(company: Path) -> None:
    from transformers import AutoTokenizer

    gguf = packaged_gguf()
    encoder = Encoder(AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name))
    material = read_policies(DocxDataset(type="docx", input_files=["data/hr_policies/*"]), search=beside, root=company)
    examples = [example for group in arrange(material, size=4, seed=1, epoch=0) for example in group]
    exact = sum(len(encoder.encode(example)) for example in examples)
    assert sum(len(RoughEncoder().encode(example)) for example in examples) == pytest.approx(exact, rel=0.12)


def test_a_run_has_one_name_from_the_plan_to_the_training_machine(
    company: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(company / "qlora_config.json", root=company)
    box = tmp_path / "box"
    for file in build("j1", config, root=company).files:
        if file.name.endswith(".tar.gz"):
            packed = tmp_path / file.name
            packed.write_bytes(file.data)
            with tarfile.open(packed) as archive:
                archive.extractall(box, filter="data")
        else:
            (box / file.name).write_bytes(file.data)
    monkeypatch.chdir(box)  # there, the base lies beside the configuration
    assert run_id(load_config(Path("qlora_config.json"))) == make(request(company)).run


def test_another_document_is_another_run(company: Path) -> None:
    before = make(request(company))
    assert before.changed == ("Bereavement-and-Emergencies.docx",)
    shutil.copy(DOCUMENT, company / "data/hr_policies/More.docx")
    assert make(request(company)).run != before.run


def test_nothing_heavy_is_loaded_for_a_plan(company: Path) -> None:
    script = (
        "import sys\nfrom training.planning import Request, make\n"
        "make(Request.model_validate_json(sys.stdin.read()))\n"
        "print([name for name in ('torch', 'transformers', 'onnxruntime', 'boto3') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], input=request(company).model_dump_json(), capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_what_a_training_took_is_the_estimate_of_the_next(company: Path) -> None:
    first = make(request(company))
    assert any("guess" in note for note in first.notes)
    job = Job(
        id="j1",
        options=Options(platform="local"),
        requested_by="slack:U1",
        created_at=0,
        changed_at=0,
        plan=first,
        progress=Progress(at=0, stage="exporting", step=30, steps=30, step_seconds=12.0),
    )
    paces = measured([job])
    second = plan_in_a_process(request(company, paces=paces))
    assert second.minutes == pytest.approx(30 * 12 / 60)
    assert not any("guess" in note for note in second.notes)
    elsewhere = Pace(base="another", where=first.where, seconds=1)
    assert any("guess" in note for note in make(request(company, paces=(elsewhere,))).notes)


def test_a_training_that_hardly_began_says_nothing_about_the_time() -> None:
    plan = Plan(base="b", documents=1, examples=8, tokens=80, steps=8, run="r", where="x", minutes=1, cap_minutes=9)
    job = Job(id="j", options=Options(), requested_by="slack:U1", created_at=0, changed_at=0, plan=plan)
    assert measured([job]) == ()
    begun = job.model_copy(update={"progress": Progress(at=0, stage="training", step=2, step_seconds=9.0)})
    assert measured([begun]) == ()


def test_a_base_is_known_by_its_description(tiny_base: Path) -> None:
    packaged = read_shape(PACKAGED_MODEL)
    assert count_parameters(packaged) == 134_515_008
    assert packaged.chat_template
    assert read_shape(str(tiny_base)).num_key_value_heads == 2
    with pytest.raises(ModelError, match="cannot be loaded"):
        read_shape("/nowhere/at/all")
