"""Checkpoints: complete or absent, here and at the place they are uploaded to.

Three ideas. A checkpoint's manifest (files with sha256) is written last, on the disk and in the upload: without it
there is no checkpoint, whatever lies around. A checkpoint belongs to one run id, the hash of data, configuration and
base, and nothing else resumes from it. And old ones are removed only after the new one is complete, manifest first.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantahr.errors import QuantaHRError
from quantahr.gguf import file_sha256
from training.uploads import Place

if TYPE_CHECKING:
    # Not at run time: a judge reads manifests, too, on machines without torch.
    from training.trainer import TrainingState

MANIFEST = "manifest.json"


class CheckpointError(QuantaHRError):
    """A checkpoint is damaged or belongs to another run."""


class Checkpoints:
    """The checkpoints of one run in `folder`, copied to `uploads` (under the run's id) if given.

    Both sides keep the newest `limit`.
    """

    def __init__(self, folder: Path, run_id: str, *, limit: int, uploads: Place | None = None) -> None:
        self._folder, self._run_id, self._limit, self._uploads = folder, run_id, limit, uploads

    def save(self, state: "TrainingState") -> Path:
        """Writes the state as one folder, uploads it, and removes what is beyond the limit. Returns the folder."""
        import torch
        from safetensors.torch import save_file

        name = f"checkpoint-{state.step:06d}"
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=self._folder))
        try:
            save_file(state.adapter, partial / "adapter.safetensors")
            torch.save({"optimizer": state.optimizer, "scaler": state.scaler}, partial / "optimizer.pt")
            progress = {"step": state.step, "batch": state.batch, "curve": [asdict(point) for point in state.curve]}
            (partial / "progress.json").write_text(json.dumps(progress), encoding="utf-8")
            write_manifest(partial, {"run_id": self._run_id, "step": state.step})
            target = self._folder / name
            if target.exists():
                shutil.rmtree(target)
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        if self._uploads:
            for path in sorted(target.iterdir(), key=lambda path: path.name == MANIFEST):
                self._uploads.put(path, f"{self._run_id}/{name}/{path.name}")
        self._prune()
        return target

    def latest(self, *, from_uploads: bool = False) -> "TrainingState | None":
        """The newest complete and undamaged state of this run, or None. `from_uploads`: also one that is only there."""
        if from_uploads and self._uploads:
            self._download_newer()
        for folder in reversed(self._local()):
            if verify(folder, self._run_id):
                return _load(folder)
        return None

    def _local(self) -> list[Path]:
        return sorted(path for path in self._folder.glob("checkpoint-*") if path.is_dir())

    def _uploaded(self) -> dict[str, list[str]]:
        """Uploaded checkpoints by name, oldest first, each with its files' keys."""
        found: dict[str, list[str]] = {}
        for key in self._uploads.list(f"{self._run_id}/") if self._uploads else ():
            found.setdefault(key.split("/")[1], []).append(key)
        return {name: found[name] for name in sorted(found) if name.startswith("checkpoint-")}

    def _download_newer(self) -> None:
        assert self._uploads is not None  # noqa: S101 (for the type checker: the caller has looked)
        here = {path.name for path in self._local() if verify(path, self._run_id)}
        for name, keys in reversed(self._uploaded().items()):
            if here and name <= max(here):
                return
            if f"{self._run_id}/{name}/{MANIFEST}" not in keys:
                continue
            target = self._folder / name
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            for key in keys:
                self._uploads.get(key, target / Path(key).name)
            if verify(target, self._run_id):
                return
            shutil.rmtree(target)

    def _prune(self) -> None:
        for folder in self._local()[: -self._limit]:
            (folder / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
        if self._uploads:
            for keys in list(self._uploaded().values())[: -self._limit]:
                for key in sorted(keys, key=lambda key: not key.endswith(MANIFEST)):
                    self._uploads.delete(key)


def read_checkpoint(folder: Path) -> "tuple[str, TrainingState]":
    """(run id, state) of one checkpoint folder. Raises CheckpointError when it is not whole."""
    try:
        run_id = str(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["run_id"])
    except (OSError, ValueError, KeyError, TypeError):
        run_id = ""
    if not run_id or not verify(folder, run_id):
        raise CheckpointError(f"{folder} is not a whole checkpoint. Take the one before it.")
    return run_id, _load(folder)


def _load(folder: Path) -> "TrainingState":
    import torch
    from safetensors.torch import load_file

    from training.trainer import Point, TrainingState

    progress = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
    saved: dict[str, Any] = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
    return TrainingState(
        step=progress["step"],
        adapter=load_file(folder / "adapter.safetensors"),
        optimizer=saved["optimizer"],
        scaler=saved["scaler"],
        batch=progress["batch"],
        curve=[Point(**point) for point in progress["curve"]],
    )


def write_manifest(folder: Path, facts: dict[str, Any], *, without: str = "") -> None:
    """Writes manifest.json over the folder's files, with `facts`; last, so that its presence means complete.

    `without` names a subfolder that is left out.
    """
    files = {
        name: entry
        for name, entry in _described(folder, folder).items()
        if not without or without not in Path(name).parts
    }
    _put_manifest(folder, {**facts, "files": files})


def _described(folder: Path, inside: Path) -> dict[str, dict[str, Any]]:
    return {
        path.relative_to(folder).as_posix(): {"sha256": file_sha256(path), "bytes": path.stat().st_size}
        for path in _files(inside)
    }


def _put_manifest(folder: Path, facts: dict[str, Any]) -> None:
    text = json.dumps(facts, indent=2, sort_keys=True) + "\n"
    partial = folder / f".{MANIFEST}"
    partial.write_text(text, encoding="utf-8")
    partial.rename(folder / MANIFEST)


def extend_manifest(folder: Path, inside: str) -> None:
    """Adds the files of the subfolder `inside` to the folder's manifest, in place of what it said of them before."""
    facts = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    kept = {name: entry for name, entry in facts["files"].items() if not name.startswith(f"{inside}/")}
    _put_manifest(folder, {**facts, "files": {**kept, **_described(folder, folder / inside)}})


def verify(folder: Path, run_id: str) -> bool:
    """Whether the folder holds a complete checkpoint or result of this run: its manifest's files, unchanged."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return bool(manifest["run_id"] == run_id) and all(
            file_sha256(folder / name) == facts["sha256"] for name, facts in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and path.name != MANIFEST and not any(part.startswith(".") for part in parts):
            yield path
