"""The commands: what will be trained is shown before it is, and texts only when asked for."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from quantahr.errors import ModelError
from tests.training.conftest import settings_for
from training.base import choose_dtype
from training.cli import app
from training.config import TrainingConfigError, parse_config
from training.estimate import count_parameters, estimate, lora_parameters, read_instances
from training.run import make_plan
from training.shape import read_shape

REPOSITORY = Path(__file__).parents[2]
RUNNER = CliRunner()


@pytest.fixture
def here(tiny_base: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with config.json and data."""
    (workplace / "config.json").write_text(json.dumps(settings_for(tiny_base)))
    monkeypatch.chdir(workplace)
    return workplace


def test_a_dry_run_shows_data_memory_and_time_and_trains_nothing(here: Path) -> None:
    result = RUNNER.invoke(app, ["train", "--config", "config.json", "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "8 steps" in result.output
    assert "memory" in result.output
    assert "training time" in result.output
    assert not (here / "runs").exists()


def test_training_ends_with_the_run_folder(here: Path) -> None:
    result = RUNNER.invoke(app, ["train", "--config", "config.json", "--max-steps", "2", "--out", "result"])
    assert result.exit_code == 0, result.output
    assert "Done: result" in result.output
    assert json.loads((here / "result/manifest.json").read_text())["steps"] == 2
    assert "Harbour" not in result.output


def test_without_its_base_a_dry_run_shows_the_data_at_once_and_then_says_what_is_missing(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import httpx2
    from huggingface_hub import utils

    asked: list[str] = []

    class Nowhere:
        def head(self, url: str, **_: object) -> None:
            asked.append(url)
            raise httpx2.ConnectError("no such host")

    monkeypatch.setattr(utils, "get_session", Nowhere)
    values = json.loads((here / "config.json").read_text())
    values["model"]["base_llm_model"] = "acme/a-model-that-is-not-here"
    (here / "config.json").write_text(json.dumps(values))
    result = RUNNER.invoke(app, ["train", "--config", "config.json", "--dry-run"])
    assert isinstance(result.exception, ModelError)
    assert "acme/a-model-that-is-not-here cannot be loaded" in str(result.exception)
    assert "8 steps" in result.output
    assert "Tokens are estimated." in result.output
    assert len(asked) == 1


def test_a_run_on_aws_is_not_started_without_its_price(here: Path) -> None:
    values = json.loads((here / "config.json").read_text())
    values["compute"] = {"platform": "aws", "instance_type": "g5.xlarge", "boot_os_query": "x*"}
    (here / "config.json").write_text(json.dumps(values))
    result = RUNNER.invoke(app, ["train", "--config", "config.json"])
    assert isinstance(result.exception, TrainingConfigError)
    assert "--dry-run" in str(result.exception)


def test_the_dataset_shows_texts_only_in_the_preview(here: Path) -> None:
    plain = RUNNER.invoke(app, ["dataset", "--config", "config.json"])
    assert "Dropped: nothing." in plain.output
    assert "none is ever cut" in plain.output
    assert "Harbour" not in plain.output
    shown = RUNNER.invoke(app, ["dataset", "--config", "config.json", "--preview"])
    assert shown.output.count("example ") >= 10
    assert "<|im_start|>assistant" in shown.output


def test_the_price_of_a_rented_machine_follows_the_table(tiny_base: Path, workplace: Path) -> None:
    values = settings_for(tiny_base)
    values["compute"] = {"platform": "aws", "instance_type": "g5.xlarge", "boot_os_query": "x*"}
    plan = make_plan(parse_config(values, root=workplace), state_dir=workplace, root=workplace)
    table = REPOSITORY / "config/instances.json"
    found = estimate(plan, state_dir=workplace, instances=table)
    instance = read_instances(table)["g5.xlarge"]
    assert found.usd == pytest.approx((found.hours + 8 / 60) * instance.usd_per_hour)
    assert found.available_gib == instance.gpu_memory_gib


def test_parameters_are_counted_as_the_model_has_them(tiny_base: Path, workplace: Path) -> None:
    from training.base import load_base

    config = parse_config(settings_for(tiny_base), root=workplace)
    model = load_base(config, workplace).model
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    whole = sum(weight.numel() for weight in model.parameters())
    shape = read_shape(str(tiny_base))
    assert lora_parameters(config, shape) == trained
    assert count_parameters(shape) == whole - trained


@pytest.mark.parametrize(
    ("flags", "device", "has_bf16", "dtype", "said"),
    [
        ({"fp16": True}, "cpu", False, "float32", "emulates"),
        ({"fp16": True}, "cpu", True, "bfloat16", "no GPU"),
        ({"bf16": True}, "cpu", True, "bfloat16", ""),
        ({"fp16": True}, "cuda", True, "float16", "more stable"),
        ({"bf16": True}, "cuda", False, "float16", "no bfloat16"),
        ({}, "cpu", True, "float32", ""),
    ],
)
def test_the_precision_is_what_the_machine_has_and_is_said_aloud(
    tiny_base: Path, workplace: Path, flags: dict[str, bool], device: str, has_bf16: bool, dtype: str, said: str
) -> None:
    config = parse_config(settings_for(tiny_base, **flags), root=workplace)
    chosen, notes = choose_dtype(config, device=device, has_bf16=has_bf16)
    assert chosen == dtype
    assert said in " ".join(notes)
    assert bool(notes) == bool(said)


def test_a_base_in_four_bits_trains_too_and_stays_frozen(tiny_base: Path, workplace: Path) -> None:
    from training.base import load_base
    from training.trainer import train

    values = settings_for(tiny_base, max_steps=2)
    values["model"]["quantization"] = {"load_in_4bit": True, "bnb_4bit_compute_dtype": "float32"}
    plan = make_plan(parse_config(values, root=workplace), state_dir=workplace, root=workplace)
    base = load_base(plan.config, workplace)
    kinds = {type(module).__name__ for module in base.model.modules()}
    assert "Linear4bit" in kinds
    state = train(base, plan.schedule.steps, plan.config.training)
    assert len(state.curve) == 2
    assert all("lora_" in name for name in state.adapter)
