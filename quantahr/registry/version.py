"""A model version: an adapter's files, what it was trained on, and how it was judged.

A version's id is the first twelve hex digits of the sha256 of its weights: the very id that stands in the provenance of
every answer, and nothing can be changed under it unnoticed. A version holds its weights in two forms, for llama.cpp and
for PEFT; it is named by the former, whichever of the two an engine reads.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from quantahr.errors import ModelError
from quantahr.gguf_header import ADAPTER_KEY, BASE_KEY, Header, cached_sha256, check_adapter, read_header
from quantahr.registry.storage import RegistryError

MANIFEST = "manifest.json"
GGUF = "adapter.gguf"
PEFT = "adapter"
PEFT_FILES = ("adapter_config.json", "adapter_model.safetensors")
PEFT_WEIGHTS = f"{PEFT}/adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class File:
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the gate said: whether it may serve, why, and the version it was held against."""

    passed: bool
    reasons: tuple[str, ...]
    against: str | None


@dataclass(frozen=True, slots=True)
class Version:
    """`base`: the name of the model that it was trained on; `base_sha256`: that model's GGUF file, where it is known.

    `parent`: the version that served when it was made. `metrics`: the gate's numbers (shares between 0 and 1, words,
    milliseconds). `created`: ISO time, UTC. `files` by name within the version's folder.
    """

    id: str
    base: str
    created: str
    files: Mapping[str, File]
    base_sha256: str | None = None
    parent: str | None = None
    run: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    judgement: Judgement | None = None

    def dump(self) -> bytes:
        """The manifest."""
        return (json.dumps({"format": 1, **asdict(self)}, indent=2, sort_keys=True) + "\n").encode()


def load_version(data: bytes, where: str) -> Version:
    """The version in a manifest. Raises RegistryError."""
    try:
        row = json.loads(data)
        judged = row.get("judgement")
        return Version(
            id=row["id"],
            base=row["base"],
            created=row["created"],
            files={name: File(**facts) for name, facts in row["files"].items()},
            base_sha256=row.get("base_sha256"),
            parent=row.get("parent"),
            run=row.get("run"),
            metrics=row.get("metrics") or {},
            judgement=Judgement(judged["passed"], tuple(judged["reasons"]), judged.get("against")) if judged else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RegistryError(f"The manifest {where} is damaged. Add that version again from its run folder.") from None


def describe(source: Path, *, created: str) -> tuple[Version, Mapping[str, Path]]:
    """What an adapter is, from its files: a run folder (adapter.gguf, adapter/, manifest.json), or one GGUF file.

    Every file that the run's manifest names must be as it says. Returns the version and its files by name.
    Raises RegistryError, and ModelError for a damaged or truncated GGUF.
    """
    paths = _files_of(source)
    if GGUF in paths:
        read_header(paths[GGUF])  # whole? said more clearly than by a hash that differs
    facts = _run_manifest(source)
    files = {name: File(cached_sha256(path), path.stat().st_size) for name, path in paths.items()}
    for name, file in files.items():
        promised = facts.get("files", {}).get(name)
        if promised and promised.get("sha256") != file.sha256:
            raise RegistryError(
                f"{paths[name]} is not the file that the manifest beside it describes: it was changed or copied badly. "
                "Copy the whole run folder again."
            )
    named = str(facts.get("base") or "")
    header = read_header(paths[GGUF]) if GGUF in paths else None
    made_from = header.text(ADAPTER_KEY) if header else None
    if made_from and PEFT_WEIGHTS in files and files[PEFT_WEIGHTS].sha256 != made_from:
        raise RegistryError(
            f"{source} holds two different adapters: its {GGUF} was not made from its {PEFT_WEIGHTS}. Copy the whole "
            "run folder again."
        )
    base = facts.get("base_sha256") or (header.text(BASE_KEY) if header else None)
    version = Version(
        id=_identity(paths),
        base=named or _peft_base(paths) or "unknown",
        created=str(facts.get("created") or created),
        files=files,
        base_sha256=base,
        parent=facts.get("parent"),
        run=facts.get("run_id") or facts.get("run"),
        metrics=facts.get("metrics") or {},
    )
    return version, paths


def verify(version: Version, paths: Mapping[str, Path]) -> None:
    """Raises RegistryError when a file is missing, truncated or not the one that the manifest describes."""
    for name, file in version.files.items():
        path = paths[name]
        size = path.stat().st_size if path.is_file() else 0
        if size != file.bytes:
            raise RegistryError(
                f"{path} has {size:,} bytes and should have {file.bytes:,}: it is cut off. Add version {version.id} "
                "again, or activate another one."
            )
        if cached_sha256(path) != file.sha256:
            raise RegistryError(
                f"{path} is not the file that was added as {version.id} (its hash differs). Add that version again, "
                "or activate another one."
            )


def check_base(version: Version, adapter: Path | None, base: Header) -> None:
    """Raises ModelError when the GGUF adapter was made for another base than `base`, or there is none to tell by."""
    if adapter is None:
        raise ModelError(
            f"Version {version.id} has no {GGUF}: it does not say whether it belongs to {base.path.name}, and the "
            "llamacpp engine cannot read it. Add the folder of a run that was trained on that model."
        )
    check_adapter(read_header(adapter), base)


def adapter_id(path: Path) -> str:
    """The id of the version that an adapter on this disk is: a GGUF file, or a PEFT folder of a run or a registry.

    A PEFT folder that was copied out of its run's folder is known by its own weights instead. Raises OSError.
    """
    if path.is_file():
        return _identity({GGUF: path})
    beside, weights = path.parent / GGUF, path / "adapter_model.safetensors"
    return _identity({GGUF: beside} if beside.is_file() else {PEFT_WEIGHTS: weights})


def _identity(paths: Mapping[str, Path]) -> str:
    return cached_sha256(paths[GGUF] if GGUF in paths else paths[PEFT_WEIGHTS])[:12]


def _files_of(source: Path) -> dict[str, Path]:
    if source.is_file():
        return {GGUF: source}
    paths = {GGUF: source / GGUF, **{f"{PEFT}/{name}": source / PEFT / name for name in PEFT_FILES}}
    found = {name: path for name, path in paths.items() if path.is_file()}
    if not found:
        raise RegistryError(
            f"{source} holds no adapter: neither {GGUF} nor {PEFT}/. Name the folder of a finished run (runs/NAME-ID)."
        )
    return found


def _run_manifest(source: Path) -> dict[str, Any]:
    file = source / MANIFEST
    if not source.is_dir() or not file.is_file():
        return {}
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        facts = None
    if not isinstance(facts, dict) or not isinstance(facts.get("files", {}), dict):
        raise RegistryError(f"{file} is damaged. Copy the whole run folder again.")
    return facts


def _peft_base(paths: Mapping[str, Path]) -> str | None:
    config = paths.get(f"{PEFT}/adapter_config.json")
    if config is None:
        return None
    try:
        name = json.loads(config.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        raise RegistryError(f"{config} is damaged. Copy the whole run folder again.") from None
    return str(name) if name else None
