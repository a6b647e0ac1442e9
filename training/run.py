"""One training run from configuration to run folder: read, schedule, train with checkpoints, export, manifest.

The run's id (`training.identity`) is a hash of data, configuration and base. The same inputs give the same id, resume
each other's checkpoints and land in the same folder; anything else is another run. The folder's manifest is written
last.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantahr.errors import QuantaHRError
from training.checkpoints import MANIFEST, Checkpoints, read_checkpoint, verify, write_manifest
from training.config import QloraConfig, warnings_for
from training.dataset.alpaca import read_alpaca
from training.dataset.example import Encoder
from training.dataset.material import Material
from training.dataset.schedule import Schedule, build_schedule
from training.identity import base_identity, run_id
from training.shape import require_base
from training.uploads import open_place

RUNS = Path("runs")


class RunFolderError(QuantaHRError):
    """The run folder cannot be written."""


STANDARD = ":standard-"
"""What stands before the id of one of HR's answers, in the rows that quantahr.people.approved writes."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is known before the first step. `tokenizer` is the base's."""

    config: QloraConfig
    run_id: str
    base: str
    tokenizer: Any
    materials: tuple[Material, ...]
    schedule: Schedule
    warnings: tuple[str, ...]

    @property
    def folder_name(self) -> str:
        return f"{self.config.model.name}-{self.run_id}"

    def facts(self) -> dict[str, Any]:
        """What the run folder and the manifest say of the data: counts and hashes, no text."""
        return {
            "datasets": [
                {
                    "type": material.name,
                    "fingerprint": material.fingerprint(),
                    "passages": len(material.passages),
                    "questions": len(material.asks),
                    "held_out_questions": len(material.held_out),
                    "ready_rows": len(material.ready),
                }
                for material in self.materials
            ],
            "standard_answers": sorted(
                key.rpartition(STANDARD)[2]
                for material in self.materials
                for key in material.passages
                if STANDARD in key
            ),
            "seen": {name: times_seen(self.schedule, name) for name in dict.fromkeys(m.name for m in self.materials)},
            "kinds": {f"{name}/{kind}": count for (name, kind), count in sorted(self.schedule.kinds.items())},
            "dropped": dict(sorted(self.schedule.dropped.items())),
        }


def read_materials(config: QloraConfig, *, state_dir: Path, root: Path = Path()) -> tuple[Material, ...]:
    """The datasets, in the configuration's order."""
    materials = []
    for dataset in config.datasets:
        if dataset.type == "alpaca":
            materials.append(read_alpaca(dataset, root=root))
        elif dataset.type == "handbook":
            from training.dataset.handbooks import read_handbooks

            materials.append(read_handbooks(dataset, cache=state_dir / "embeddings.db", root=root))
        else:
            from training.dataset.neighbours import retrieved
            from training.dataset.policies import read_policies
            from training.dataset.writer import EndpointWriter

            asked = dataset.question_writer
            writer = EndpointWriter(asked, state_dir / "questions") if asked else None
            search = retrieved(state_dir / "embeddings.db")
            materials.append(read_policies(dataset, search=search, root=root, writer=writer))
    return tuple(materials)


def make_plan(config: QloraConfig, *, state_dir: Path, root: Path = Path(), max_steps: int | None = None) -> Plan:
    """Reads the data and lays out every step. `max_steps` replaces the configured number."""
    from training.base import load_tokenizer

    require_base(config.model.base_llm_model)
    config = with_steps(config, max_steps)
    materials = read_materials(config, state_dir=state_dir, root=root)
    tokenizer = load_tokenizer(config, state_dir)
    encoder = Encoder(tokenizer)
    schedule = build_schedule(materials, config.training, encoder, max_tokens=config.model.max_sequence_length)
    warnings = tuple(warnings_for(config, chat_template=encoder.has_template))
    identity = run_id(config, root=root)
    return Plan(config, identity, base_identity(config), tokenizer, materials, schedule, warnings)


def make_rough_plan(config: QloraConfig, *, root: Path = Path(), max_steps: int | None = None) -> Plan:
    """The same without the base: its tokens are estimated, and what is said about its tokenizer is left out."""
    from training.outline import lay_out

    config = with_steps(config, max_steps)
    materials, schedule = lay_out(config, root)
    warnings = tuple(warnings_for(config))
    return Plan(config, run_id(config, root=root), base_identity(config), None, materials, schedule, warnings)


def with_steps(config: QloraConfig, max_steps: int | None) -> QloraConfig:
    """The configuration with another training.max_steps, if one is given."""
    if max_steps is None:
        return config
    return config.model_copy(update={"training": config.training.model_copy(update={"max_steps": max_steps})})


def times_seen(schedule: Schedule, dataset: str) -> dict[str, float]:
    """How often a passage or section of a dataset is seen in the run: the least, the mean and the most."""
    counts = [count for (name, _), count in schedule.seen.items() if name == dataset]
    if not counts:
        return {"sources": 0, "least": 0, "mean": 0.0, "most": 0}
    mean = round(sum(counts) / len(counts), 1)
    return {"sources": len(counts), "least": min(counts), "mean": mean, "most": max(counts)}


def execute(
    plan: Plan,
    *,
    state_dir: Path,
    out: Path | None = None,
    resume: bool = False,
    on_step: Callable[[Any], None],
    say: Callable[[str], None],
) -> Path:
    """Trains, exports and returns the run folder: adapter/, adapter.gguf, config.json, dataset.json, curve.json and
    curve.png, manifest.json.

    `resume` continues from this run's newest checkpoint, here or (resume_from_uploads) where they are uploaded; a
    finished run is returned as it is. Without it the run starts at its first step.
    """
    training = plan.config.training
    folder = out or RUNS / plan.folder_name
    if resume and verify(folder, plan.run_id):
        say("This run is finished: same data, configuration and base. Change one of them, or leave out --resume.")
        return folder

    from training.base import load_base
    from training.trainer import TrainingState, train

    uploads = open_place(training.upload_to) if training.upload_to else None
    _make_ready(folder, resume=resume)
    checkpoints = Checkpoints(folder / "checkpoints", plan.run_id, limit=training.save_total_limit, uploads=uploads)
    state: TrainingState | None = None
    if resume:
        state = checkpoints.latest(from_uploads=training.resume_from_uploads)
        others = any((folder / "checkpoints").glob("checkpoint-*"))
        another = "The checkpoints here are of another run (data, configuration or base differ)"
        none = another if others else "No checkpoint of this run"
        say(f"Continuing after step {state.step}." if state else f"{none}: starting at step 1.")
    base = load_base(plan.config, state_dir)
    for note in base.notes:
        say(note)

    def save(saved: TrainingState) -> None:
        checkpoints.save(saved)
        say(f"Checkpoint after step {saved.step} saved{' and uploaded' if uploads else ''}.")

    final = train(base, plan.schedule.steps, training, resume=state, on_step=on_step, on_save=save, say=say)
    facts = {"run_id": plan.run_id, "base": plan.base}
    _export(plan.config, base, final.curve, folder, facts, data=plan.facts(), say=say)
    if uploads:
        files = [path for path in folder.rglob("*") if path.is_file() and "checkpoints" not in path.parts]
        for path in sorted(files, key=lambda path: path.name == MANIFEST):
            uploads.put(path, f"{plan.run_id}/result/{path.relative_to(folder).as_posix()}")
    return folder


def _make_ready(folder: Path, *, resume: bool) -> None:
    """Find out before the training, and not after hours of it, whether the folder can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RunFolderError(
            f"The run folder {folder} cannot be written ({error.strerror}). Name another one with --out, or mend its "
            "rights and free some space."
        ) from None
    # What an earlier run left here would be taken for this one's.
    shutil.rmtree(folder / "evaluation", ignore_errors=True)
    if not resume:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def export_checkpoint(checkpoint: Path, config: QloraConfig, out: Path, *, state_dir: Path) -> Path:
    """A run folder from a checkpoint alone, for a run that was cut off: what it had learned until then can be judged.

    `config` is the run's. Raises CheckpointError when the checkpoint is damaged or of another kind of LoRA.
    """
    from training.base import load_base
    from training.trainer import restore

    run_id, state = read_checkpoint(checkpoint)
    base = load_base(config, state_dir)
    restore(base, state)
    facts = {"run_id": run_id, "base": base.identity, "cut_off_after_step": state.step}
    _export(config, base, state.curve, out, facts, data=None, say=_silent)
    return out


def _silent(_: str) -> None:
    """For what nobody waits to hear."""


def _export(
    config: QloraConfig,
    base: Any,
    curve: Sequence[Any],
    folder: Path,
    facts: dict[str, Any],
    *,
    data: dict[str, Any] | None,
    say: Callable[[str], None],
) -> None:
    from quantahr.errors import ModelError
    from quantahr.gguf import PACKAGED_MODEL, file_sha256, packaged_gguf
    from training.export import export_gguf, result_facts, save_adapter, write_curve

    folder.mkdir(parents=True, exist_ok=True)
    save_adapter(base.model, folder / "adapter", base_name=config.model.base_llm_model)
    try:
        name = f"{config.model.name}-{facts['run_id']}"
        export_gguf(
            folder / "adapter",
            folder / "adapter.gguf",
            model_config=base.model.config,
            name=name,
            base_sha256=file_sha256(packaged_gguf()) if config.model.base_llm_model == PACKAGED_MODEL else None,
        )
    except ModelError as error:
        say(str(error))
    settings = config.model_dump(mode="json", exclude_none=True)
    (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    if data is not None:
        (folder / "dataset.json").write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    write_curve(curve, folder, title=config.model.name)
    learned = result_facts(settings, curve)
    write_manifest(folder, {**facts, "dtype": base.dtype, "device": base.device, **learned}, without="checkpoints")
