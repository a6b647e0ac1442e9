"""A run: it learns, it saves, it is killed and goes on, and it leaves a complete folder behind."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.conftest import ROWS, settings_for
from training import trainer
from training.checkpoints import CheckpointError, Checkpoints, verify
from training.config import QloraConfig, parse_config
from training.export import write_curve
from training.gate.report import keep_with_run
from training.run import RunFolderError, execute, export_checkpoint, make_plan
from training.trainer import Point, TrainingState
from training.uploads import FolderPlace

REPOSITORY = Path(__file__).parents[2]


def run(
    config: QloraConfig, workplace: Path, out: Path, *, resume: bool = False, said: list[str] | None = None
) -> list[Point]:
    points: list[Point] = []
    plan = make_plan(config, state_dir=workplace, root=workplace)
    execute(
        plan,
        state_dir=workplace,
        out=out,
        resume=resume,
        on_step=points.append,
        say=(said if said is not None else []).append,
    )
    return points


def test_a_run_learns_and_leaves_a_complete_folder(tiny_config: QloraConfig, workplace: Path) -> None:
    out = workplace / "out"
    points = run(tiny_config, workplace, out)
    assert len(points) == 8
    assert points[-1].loss < points[0].loss - 0.1
    manifest = json.loads((out / "manifest.json").read_text())
    assert verify(out, manifest["run_id"])
    names = set(manifest["files"])
    assert {"adapter/adapter_model.safetensors", "adapter.gguf", "config.json", "dataset.json", "curve.png"} <= names
    assert not any("checkpoint" in name for name in names)
    assert [entry["loss"] for entry in json.loads((out / "curve.json").read_text())] == [p.loss for p in points]
    assert manifest["steps"] == 8
    text = "".join(path.read_text() for path in (out / "dataset.json", out / "manifest.json"))
    assert "Bremen" not in text


def test_a_changed_file_is_no_longer_a_complete_folder(tiny_config: QloraConfig, workplace: Path) -> None:
    out = workplace / "out"
    run(tiny_config, workplace, out)
    run_id = json.loads((out / "manifest.json").read_text())["run_id"]
    with (out / "adapter.gguf").open("ab") as stream:
        stream.write(b"x")
    assert not verify(out, run_id)


def test_a_run_killed_at_a_random_step_goes_on_and_ends_in_the_same_curve(
    tiny_base: Path, workplace: Path, tmp_path: Path
) -> None:
    values = settings_for(tiny_base, max_steps=12, save_steps=2)
    values["model"]["lora"]["lora_dropout"] = 0.1
    config = parse_config(values, root=workplace)
    whole = run(config, workplace, tmp_path / "whole")

    (workplace / "config.json").write_text(json.dumps(values))
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom training.config import load_config\n"
        "from training.run import execute, make_plan\n"
        "plan = make_plan(load_config(Path('config.json')), state_dir=Path('.'))\n"
        "def step(point):\n    print(point.step, flush=True)\n    time.sleep(0.3)\n"
        "execute(plan, state_dir=Path('.'), out=Path('killed'), on_step=step, say=lambda text: None)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=workplace,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert process.stdout is not None
    killed_after = 0
    deadly = random.randint(1, 9)
    for line in process.stdout:
        killed_after = int(line)
        if killed_after == deadly:
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    assert killed_after == deadly
    assert not (workplace / "killed" / "manifest.json").exists()

    said: list[str] = []
    rest = run(config, workplace, workplace / "killed", resume=True, said=said)
    # At most save_steps are done again, and the curve is the one of the run that nobody killed.
    assert rest[0].step >= deadly - 1, f"killed after step {deadly}"
    assert any("Continuing after step" in text for text in said) == (rest[0].step > 1)
    curve = json.loads((workplace / "killed" / "curve.json").read_text())
    assert [point["step"] for point in curve] == list(range(1, 13))
    assert [point["loss"] for point in curve] == pytest.approx([point.loss for point in whole], rel=1e-4)


def test_new_data_is_a_new_run_that_starts_fresh(tiny_config: QloraConfig, workplace: Path) -> None:
    out = workplace / "out"
    said: list[str] = []
    run(tiny_config, workplace, out)
    rows = [*ROWS, {**ROWS[0], "instruction": "a new question"}]
    (workplace / "data/general_knowledge/rows.json").write_text(json.dumps(rows))
    again = run(tiny_config, workplace, out, resume=True, said=said)
    assert len(again) == 8
    assert said[0] == (
        "The checkpoints here are of another run (data, configuration or base differ): starting at step 1."
    )


def test_a_finished_run_is_not_trained_again(tiny_config: QloraConfig, workplace: Path) -> None:
    run(tiny_config, workplace, workplace / "out")
    said: list[str] = []
    assert run(tiny_config, workplace, workplace / "out", resume=True, said=said) == []
    assert "This run is finished" in said[0]


def test_a_lost_machine_goes_on_from_the_uploads(tiny_base: Path, workplace: Path, tmp_path: Path) -> None:
    place = tmp_path / "uploads"
    values = settings_for(tiny_base, upload_to=str(place), resume_from_uploads=True)
    config = parse_config(values, root=workplace)
    whole = run(config, workplace, tmp_path / "first")
    kept = sorted(path.name for path in next(place.iterdir()).glob("checkpoint-*"))
    assert kept == ["checkpoint-000006", "checkpoint-000008"]

    # The newest upload is half there: its manifest never came.
    (next(place.iterdir()) / "checkpoint-000008" / "manifest.json").unlink()
    rest = run(config, workplace, tmp_path / "second", resume=True)
    assert [point.step for point in rest] == [7, 8]
    assert [point.loss for point in rest] == pytest.approx([point.loss for point in whole[6:]], rel=1e-4)
    assert (next(place.iterdir()) / "result" / "manifest.json").exists()


def test_out_of_memory_halves_the_batch_says_so_and_changes_no_loss(
    tiny_base: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = settings_for(tiny_base)
    # Dropout draws differently for differently cut passes.
    values["model"]["lora"]["lora_dropout"] = 0.0
    config = parse_config(values, root=workplace)
    whole = run(config, workplace, workplace / "whole")
    honest = trainer.summed_loss

    def small(base: Any, packed: Any) -> torch.Tensor:
        if packed.examples > 1:
            raise torch.OutOfMemoryError("no memory for two")
        return honest(base, packed)

    monkeypatch.setattr(trainer, "summed_loss", small)
    said: list[str] = []
    halved = run(config, workplace, workplace / "halved", said=said)
    assert "Out of memory: 1 instead of 2 examples at a time, twice as many passes a step." in said
    assert [point.loss for point in halved] == pytest.approx([point.loss for point in whole], rel=1e-3)


def test_an_example_that_does_not_fit_alone_says_what_to_change(
    tiny_config: QloraConfig, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(base: Any, packed: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(trainer, "summed_loss", none)
    with pytest.raises(trainer.OutOfMemoryError, match="max_sequence_length"):
        run(tiny_config, workplace, workplace / "out")


def test_a_folder_that_cannot_be_written_is_named_before_the_training(
    tiny_config: QloraConfig, workplace: Path
) -> None:
    (workplace / "taken").write_text("a file")
    with pytest.raises(RunFolderError, match=r"taken/out cannot be written .*--out"):
        run(tiny_config, workplace, workplace / "taken" / "out")


def test_an_evaluation_joins_the_run_folder_and_its_manifest(tiny_config: QloraConfig, workplace: Path) -> None:
    out, judged = workplace / "out", workplace / "judged"
    judged.mkdir()
    run(tiny_config, workplace, out)
    run_id = json.loads((out / "manifest.json").read_text())["run_id"]
    for words in ("first", "second"):
        for name in ("report.json", "report.html"):
            (judged / name).write_text(words)
        assert keep_with_run(judged / "report.html", out) == out / "evaluation/report.html"
        assert verify(out, run_id)
    assert {"evaluation/report.json", "evaluation/report.html", "adapter.gguf"} <= set(
        json.loads((out / "manifest.json").read_text())["files"]
    )
    (out / "evaluation/report.json").write_text("better than it was")
    assert not verify(out, run_id)
    assert keep_with_run(judged / "report.html", workplace) is None
    # The next run into this folder has not been judged.
    run(tiny_config, workplace, out)
    assert not (out / "evaluation").exists()


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "run", limit=3)
    for step in (5, 10):
        checkpoints.save(TrainingState(step, {"a": torch.ones(2)}, {}, {}, 4))
    (tmp_path / "checkpoint-000010" / "adapter.safetensors").write_bytes(b"cut")
    state = checkpoints.latest()
    assert state is not None
    assert state.step == 5
    assert Checkpoints(tmp_path, "another run", limit=3).latest() is None


def test_a_run_that_was_cut_off_can_be_judged_by_its_last_checkpoint(tiny_config: QloraConfig, workplace: Path) -> None:
    run(tiny_config, workplace, workplace / "out")
    checkpoint = workplace / "out" / "checkpoints" / "checkpoint-000006"
    folder = export_checkpoint(checkpoint, tiny_config, workplace / "early", state_dir=workplace)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert verify(folder, manifest["run_id"])
    assert (manifest["cut_off_after_step"], manifest["steps"]) == (6, 6)
    last = export_checkpoint(
        checkpoint.with_name("checkpoint-000008"), tiny_config, workplace / "late", state_dir=workplace
    )
    whole = (workplace / "out/adapter/adapter_model.safetensors").read_bytes()
    assert (last / "adapter/adapter_model.safetensors").read_bytes() == whole
    (checkpoint / "progress.json").write_text("{}")
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        export_checkpoint(checkpoint, tiny_config, workplace / "never", state_dir=workplace)


def test_both_sides_keep_only_the_newest(tmp_path: Path) -> None:
    place = FolderPlace(tmp_path / "place")
    checkpoints = Checkpoints(tmp_path / "here", "run", limit=2, uploads=place)
    for step in range(1, 6):
        checkpoints.save(TrainingState(step, {"a": torch.ones(2)}, {}, {}, 4))
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["checkpoint-000004", "checkpoint-000005"]
    assert {key.split("/")[1] for key in place.list("run/")} == {"checkpoint-000004", "checkpoint-000005"}


def test_a_loss_that_is_no_number_stops_the_run(
    tiny_config: QloraConfig, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = trainer.summed_loss
    monkeypatch.setattr(trainer, "summed_loss", lambda base, packed: honest(base, packed) * float("nan"))
    with pytest.raises(trainer.DivergedError, match="learning_rate"):
        run(tiny_config, workplace, workplace / "out")


def test_the_loss_curve_fits_into_a_card_in_teams(tmp_path: Path) -> None:
    noise = random.Random(1)
    points = [Point(step, 3 - step / 400 + noise.random(), 1e-4, 1.0, 16, 4000, 2000, 1.0) for step in range(1, 1001)]
    write_curve(points, tmp_path, title="ABC-QLoRA-HR-Assistant")
    assert (tmp_path / "curve.png").stat().st_size <= 15_000
