"""`config/qlora_config.json`: what is trained, on what, how and where, read strictly.

The file's keys are the project's public format and stay valid as they are; what was added since is optional. A mistake
is reported by its path in the file ("model.lora.r") with what is allowed there, all mistakes at once, before anything
is downloaded. What is legal but unwise is a warning, never an error.
"""

import difflib
import glob
import hashlib
import json
import re
import typing
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from quantahr.errors import QuantaHRError

DEFAULT_CONFIG = Path("config/qlora_config.json")
SCHEMA_FILE = Path("config/qlora_config.schema.json")

TARGET_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class TrainingConfigError(QuantaHRError):
    """The training configuration has a mistake; the message lists each by its path with what is allowed."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Quantization(_Strict):
    """How the frozen base is held in memory on a GPU (bitsandbytes)."""

    load_in_4bit: bool = True
    bnb_4bit_compute_dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    bnb_4bit_use_double_quant: bool = True
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = "nf4"


class Lora(_Strict):
    """The small matrices that learn: W·x becomes W·x + (lora_alpha / r)·B·A·x in every target module."""

    r: int = Field(default=16, ge=1, le=256)
    lora_alpha: int = Field(default=32, ge=1)
    target_modules: Annotated[list[Literal[TARGET_MODULES]], Field(min_length=1)] = ["q_proj", "v_proj"]  # type: ignore[valid-type]
    lora_dropout: float = Field(default=0.05, ge=0, lt=1)
    bias: Literal["none"] = "none"
    """Biases belong to the base, which stays as it is: the adapter could not be swapped otherwise."""
    task_type: Literal["CAUSAL_LM"] = "CAUSAL_LM"


class Model(_Strict):
    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    base_llm_model: str = Field(min_length=1)
    """A Hugging Face name, a model folder, a .gguf file, or "packaged/SmolLM2-135M-Instruct"."""
    quantization: Quantization = Quantization()
    lora: Lora = Lora()
    max_sequence_length: int = Field(default=1024, ge=128, le=32768)
    """Tokens of one example, prompt and answer together. Longer ones are dropped and counted."""


class QuestionWriter(_Strict):
    """A stronger model that writes further questions about the sections; off unless configured."""

    url: str = Field(pattern=r"^https?://[^\s]+$")
    """An OpenAI-compatible server, up to and including /v1."""
    model: str = Field(min_length=1)
    questions_per_section: int = Field(default=4, ge=1, le=20)
    api_key_env: str | None = None
    """The environment variable that holds the key. The key itself never stands in this file."""


class _Dataset(_Strict):
    input_files: Annotated[list[str], Field(min_length=1)]
    """Files or patterns, relative to the folder from which the command runs."""


class DocxDataset(_Dataset):
    """The company's own policies."""

    type: Literal["docx"]
    weight: float = Field(default=2.0, gt=0)
    """The share of what is seen, relative to the other datasets."""
    question_writer: QuestionWriter | None = None


class AlpacaDataset(_Dataset):
    """Ready-made rows of instruction, input and output, as JSON or JSONL."""

    type: Literal["alpaca"]
    weight: float = Field(default=1.0, gt=0)
    include_prompt_inputs: bool = True
    """False leaves the rows' `input` out of the prompt."""


class HandbookDataset(_Dataset):
    """Whole handbooks with questions about them, each in a folder of its own: questions.jsonl and the documents in
    policies/. Both are named in `input_files`."""

    type: Literal["handbook"]
    weight: float = Field(default=1.0, gt=0)


Dataset = DocxDataset | AlpacaDataset | HandbookDataset


class Training(_Strict):
    per_device_train_batch_size: int = Field(default=4, ge=1)
    gradient_accumulation_steps: int = Field(default=4, ge=1)
    warmup_steps: int = Field(default=50, ge=0)
    max_steps: int = Field(default=1000, ge=1)
    learning_rate: float = Field(default=2e-4, gt=0, le=0.1)
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = "cosine"
    max_grad_norm: float = Field(default=1.0, gt=0)
    fp16: bool = False
    bf16: bool = False
    gradient_checkpointing: bool = False
    logging_steps: int = Field(default=10, ge=1)
    save_strategy: Literal["steps", "no"] = "steps"
    save_steps: int = Field(default=50, ge=1)
    save_total_limit: int = Field(default=5, ge=1)
    report_to: Literal["none"] = "none"
    """Nothing about a training run is sent to a tracking service."""
    resume_from_uploads: bool = False
    upload_to: str | None = None
    """A folder or s3://bucket/prefix that receives every checkpoint as it is saved."""
    seed: int = Field(default=17, ge=0)

    @property
    def examples_per_step(self) -> int:
        return self.per_device_train_batch_size * self.gradient_accumulation_steps


class Compute(_Strict):
    platform: Literal["aws", "local"] = "local"
    instance_type: str | None = Field(default=None, pattern=r"^[a-z0-9-]+\.[a-z0-9-]+$")
    boot_os_query: str | None = None
    spot: bool = False
    """Rent a machine that may be taken back at two minutes' notice, for less; the job goes on on the next one."""
    max_minutes: int = Field(default=240, ge=5, le=1440)
    """The machine is ended after this, finished or not."""
    max_cost: float = Field(default=20.0, gt=0, le=1000)
    """US dollars; whichever of the two caps is reached first counts."""


class QloraConfig(_Strict):
    """The whole file."""

    model: Model
    datasets: Annotated[list[Annotated[Dataset, Field(discriminator="type")]], Field(min_length=1)]
    training: Training = Training()
    compute: Compute = Compute()

    @model_validator(mode="before")
    @classmethod
    def _without_schema_link(cls, values: Any) -> Any:
        # Editors find the schema by this key; it says nothing about the training.
        if isinstance(values, dict):
            values = {key: value for key, value in values.items() if key != "$schema"}
        return values

    def fingerprint(self) -> str:
        """sha256 over what decides the weights but the data and the base: neither files' names nor where it runs."""
        relevant = self.model_dump(mode="json", exclude={"compute"})
        relevant["model"].pop("base_llm_model")
        for dataset in relevant["datasets"]:
            dataset.pop("input_files")
        for name in ("logging_steps", "save_strategy", "save_steps", "save_total_limit", "report_to"):
            relevant["training"].pop(name)
        relevant["training"].pop("resume_from_uploads")
        relevant["training"].pop("upload_to")
        return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()


def load_config(path: Path, *, root: Path | None = None) -> QloraConfig:
    """The configuration in `path`. Patterns are looked up under `root` (the current folder).

    Raises TrainingConfigError naming every mistake by its path, with what is allowed.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_no_duplicates)
    except FileNotFoundError:
        raise TrainingConfigError(f"There is no file {path}. Copy {DEFAULT_CONFIG} and edit the copy.") from None
    except json.JSONDecodeError as error:
        raise TrainingConfigError(
            f"{path}, line {error.lineno}, column {error.colno} is not valid JSON: {error.msg}."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingConfigError(f"{path} cannot be read: {type(error).__name__}. It must be UTF-8 text.") from None
    return parse_config(values, name=str(path), root=root)


def parse_config(values: object, *, name: str = "the configuration", root: Path | None = None) -> QloraConfig:
    """As `load_config`, from the parsed JSON."""
    try:
        config = QloraConfig.model_validate(values)
    except ValidationError as error:
        raise TrainingConfigError(_message(name, [_explain(problem) for problem in error.errors()])) from None
    problems = _impossible(config) + _missing_files(config, root or Path())
    if problems:
        raise TrainingConfigError(_message(name, problems))
    return config


def dataset_files(dataset: Dataset, root: Path) -> list[Path]:
    """The files a dataset names, each once, in order of their names. Word's lock files (~$…) are not documents."""
    found: set[Path] = set()
    for pattern in dataset.input_files:
        found |= {Path(match) for match in glob.glob(str(root / pattern), recursive=True)}  # noqa: PTH207 (patterns may be absolute)
    return sorted(path for path in found if path.is_file() and not path.name.startswith("~$"))


def warnings_for(
    config: QloraConfig, *, gpu_has_bf16: bool | None = None, chat_template: bool | None = None
) -> list[str]:
    """What is allowed but unwise, as sentences. None stands for what is not known yet: no GPU or tokenizer seen."""
    found = []
    training, quantization = config.training, config.model.quantization
    if training.fp16 and gpu_has_bf16:
        found.append(
            "training.fp16: this GPU has bfloat16, which trains more reliably (float16 overflows on some runs). "
            'Consider "fp16": false, "bf16": true and "bnb_4bit_compute_dtype": "bfloat16".'
        )
    if training.bf16 and gpu_has_bf16 is False:
        found.append("training.bf16: this machine computes bfloat16 slowly or not at all; float32 will be used.")
    if quantization.load_in_4bit and (training.fp16, quantization.bnb_4bit_compute_dtype) == (True, "bfloat16"):
        found.append("training.fp16 with bnb_4bit_compute_dtype bfloat16 converts back and forth; use one of the two.")
    query = config.compute.boot_os_query
    if config.compute.platform == "aws" and query and re.search(r"Ubuntu (18|20)\.04", query):
        found.append(
            "compute.boot_os_query: images for this Ubuntu are no longer published and the query may match none. "
            'Current: "Deep Learning OSS Nvidia Driver AMI GPU PyTorch*Ubuntu 24.04*".'
        )
    if chat_template is False:
        found.append(
            f"model.base_llm_model: {config.model.base_llm_model} has no chat template, so the project's plain prompt "
            "format is used. An instruction-tuned model usually answers better."
        )
    if not any(dataset.type == "docx" for dataset in config.datasets):
        found.append("datasets: no docx dataset, so the model learns how to answer but not from your own documents.")
    if training.warmup_steps >= training.max_steps:
        found.append("training.warmup_steps is not less than max_steps: the learning rate never reaches its value.")
    if training.save_strategy == "no" and (training.upload_to or training.resume_from_uploads):
        found.append('training.save_strategy is "no": there will be no checkpoints to upload or to resume from.')
    return found


def json_schema() -> dict[str, Any]:
    """The JSON Schema for editors; `config/qlora_config.schema.json` is this, written down."""
    schema = QloraConfig.model_json_schema()
    schema["properties"]["$schema"] = {"type": "string"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


_DATASETS: Final = {"docx": DocxDataset, "alpaca": AlpacaDataset, "handbook": HandbookDataset}


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise TrainingConfigError(f'The key "{twice}" stands twice in one object. Remove one of them.')
    return values


def _message(name: str, problems: list[str]) -> str:
    return f"{name} cannot be used:\n" + "\n".join(f"- {problem}" for problem in problems)


def _explain(problem: Any) -> str:
    loc = tuple(part for part in problem["loc"] if part not in _DATASETS)
    path = _path(loc)
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        known = _known_keys(problem["loc"][:-1])
        near = difflib.get_close_matches(str(loc[-1]), known, n=1)
        hint = f'Did you mean "{near[0]}"? ' if near else ""
        return f"{path}: there is no such key. {hint}Allowed here: {', '.join(known)}."
    if kind == "missing":
        return f"{path}: this key is missing."
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return f'{path}.type: must be "docx", "alpaca" or "handbook".'
    if kind == "literal_error":
        return f"{path}: must be {context['expected']}, not {json.dumps(problem['input'], default=str)}."
    reason = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{path}: {reason}, not {json.dumps(problem['input'], default=str)[:80]}."


def _path(loc: tuple[int | str, ...]) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".") or "(the whole file)"


def _known_keys(loc: tuple[int | str, ...]) -> list[str]:
    kind: Any = QloraConfig
    for part in loc:
        if part in _DATASETS:
            kind = _DATASETS[str(part)]
        elif isinstance(part, str) and hasattr(kind, "model_fields"):
            kind = kind.model_fields[part].annotation
            options = [option for option in typing.get_args(kind) if hasattr(option, "model_fields")]
            kind = options[0] if options else kind
    return list(getattr(kind, "model_fields", {}))


def _impossible(config: QloraConfig) -> list[str]:
    found = []
    training = config.training
    if training.fp16 and training.bf16:
        found.append("training.fp16 and training.bf16: only one of them may be true.")
    if len(set(config.model.lora.target_modules)) < len(config.model.lora.target_modules):
        found.append("model.lora.target_modules: the same module stands twice.")
    if config.compute.platform == "aws":
        found += [
            f'compute.{name}: needed when compute.platform is "aws".'
            for name in ("instance_type", "boot_os_query")
            if not getattr(config.compute, name)
        ]
    if training.upload_to and "://" in training.upload_to and not training.upload_to.startswith("s3://"):
        found.append("training.upload_to: must be a folder or s3://bucket/prefix.")
    return found


def _missing_files(config: QloraConfig, root: Path) -> list[str]:
    found = []
    suffixes = {
        "docx": (".docx",),
        "alpaca": (".json", ".jsonl"),
        "handbook": (".jsonl", ".md", ".docx"),
    }
    for number, dataset in enumerate(config.datasets):
        for index, pattern in enumerate(dataset.input_files):
            where = f"datasets[{number}].input_files[{index}]"
            single = dataset.model_copy(update={"input_files": [pattern]})
            files = dataset_files(single, root)
            if not files:
                found.append(f'{where}: no file matches "{pattern}" under {root.resolve()}.')
            elif wrong := [path.name for path in files if path.suffix.lower() not in suffixes[dataset.type]]:
                allowed = " or ".join(suffixes[dataset.type])
                found.append(f"{where}: {wrong[0]} is not a {allowed} file, as the type {dataset.type} needs.")
    return found
