"""The configuration file: what ships is valid, and every mistake is named by its path with what is allowed."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from training.config import (
    DEFAULT_CONFIG,
    SCHEMA_FILE,
    TrainingConfigError,
    json_schema,
    load_config,
    parse_config,
    warnings_for,
)

ROOT = Path(__file__).parents[2]
SHIPPED = json.loads((ROOT / DEFAULT_CONFIG).read_text())
DEMO = json.loads((ROOT / "config/demo_qlora_config.json").read_text())


def changed(change: Callable[[dict[str, Any]], None]) -> str:
    """The complaint about the shipped file with one change."""
    values = copy.deepcopy(SHIPPED)
    change(values)
    with pytest.raises(TrainingConfigError) as caught:
        parse_config(values, root=ROOT)
    return str(caught.value)


def test_the_shipped_files_are_valid_as_they_stand() -> None:
    config = load_config(ROOT / DEFAULT_CONFIG, root=ROOT)
    assert config.model.lora.target_modules == ["q_proj", "v_proj"]
    assert config.training.examples_per_step == 16
    demo = load_config(ROOT / "config/demo_qlora_config.json", root=ROOT)
    assert (demo.compute.platform, demo.model.base_llm_model) == ("local", "packaged/SmolLM2-135M-Instruct")


@pytest.mark.parametrize(
    ("change", "path", "hint"),
    [
        (lambda v: v["model"]["lora"].update(rank=8), "model.lora.rank", "Allowed here: r, lora_alpha"),
        (lambda v: v["training"].update(learning_rat=1), "training.learning_rat", 'Did you mean "learning_rate"?'),
        (lambda v: v["model"]["lora"].update(r="16"), "model.lora.r", "valid integer"),
        (lambda v: v["model"]["lora"].update(r=0), "model.lora.r", "greater than or equal to 1"),
        (
            lambda v: v["model"]["quantization"].update(bnb_4bit_compute_dtype="fp16"),
            "model.quantization.bnb_4bit_compute_dtype",
            "'float16', 'bfloat16' or 'float32'",
        ),
        (lambda v: v["model"]["lora"].update(target_modules=["query"]), "model.lora.target_modules[0]", "'q_proj'"),
        (
            lambda v: v["datasets"].append({"type": "csv", "input_files": ["a"]}),
            "datasets[2].type",
            '"docx", "alpaca" or "handbook"',
        ),
        (lambda v: v["datasets"][0].update(input_files=["no/*.docx"]), "datasets[0].input_files[0]", "no file matches"),
        (lambda v: v["datasets"][0].update(input_files=["README.md", "pyproject.toml"]), "datasets[0]", ".docx"),
        (lambda v: v["training"].update(bf16=True), "training.fp16 and training.bf16", "only one"),
        (lambda v: v["compute"].pop("instance_type"), "compute.instance_type", "needed when"),
        (lambda v: v["training"].update(upload_to="ftp://x"), "training.upload_to", "s3://bucket/prefix"),
        (lambda v: v.pop("model"), "model", "missing"),
    ],
)
def test_a_mistake_is_named_by_its_path_with_what_is_allowed(
    change: Callable[[dict[str, Any]], None], path: str, hint: str
) -> None:
    complaint = changed(change)
    assert f"- {path}" in complaint
    assert hint in complaint


def test_all_mistakes_are_named_at_once() -> None:
    def change(values: dict[str, Any]) -> None:
        values["model"]["lora"]["r"] = -1
        values["compute"]["platform"] = "azure"

    complaint = changed(change)
    assert "model.lora.r" in complaint
    assert "compute.platform" in complaint


def test_a_file_that_is_not_json_is_named_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "qlora_config.json"
    path.write_text('{"model": {},\n "datasets" []}')
    with pytest.raises(TrainingConfigError, match="line 2"):
        load_config(path)


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "qlora_config.json"
    path.write_text('{"model": {"name": "a", "name": "b"}}')
    with pytest.raises(TrainingConfigError, match='"name" stands twice'):
        load_config(path)


def test_the_schema_in_the_repository_is_the_models_and_accepts_what_ships() -> None:
    written = json.loads((ROOT / SCHEMA_FILE).read_text())
    assert written == json.loads(json.dumps(json_schema()))
    for values in (SHIPPED, DEMO):
        jsonschema.validate(values, written)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**SHIPPED, "extra": 1}, written)


def test_what_is_unwise_is_a_warning() -> None:
    config = parse_config(SHIPPED, root=ROOT)
    said = "\n".join(warnings_for(config, gpu_has_bf16=True, chat_template=False))
    assert "training.fp16" in said
    assert "Ubuntu 24.04" in said
    assert "no chat template" in said
    assert warnings_for(parse_config(DEMO, root=ROOT), gpu_has_bf16=True, chat_template=True) == []


def test_the_fingerprint_follows_what_decides_the_weights_and_nothing_else() -> None:
    config = parse_config(SHIPPED, root=ROOT)
    elsewhere = config.model_copy(update={"compute": config.compute.model_copy(update={"platform": "local"})})
    often = config.model_copy(update={"training": config.training.model_copy(update={"save_steps": 7})})
    other = config.model_copy(update={"training": config.training.model_copy(update={"seed": 7})})
    assert config.fingerprint() == elsewhere.fingerprint() == often.fingerprint()
    assert config.fingerprint() != other.fingerprint()
