"""The rule of the doors: bots, worker and training import only quantahr, which imports none of them.

Read from the source, because an import inside a function counts as well; and checked at run time, because what a room
pulls in through a library counts, too.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("bots", "worker", "training")
LIGHT = "torch transformers onnxruntime xllamacpp docx gguf boto3 peft matplotlib".split()


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported(file: Path) -> Iterator[str]:
    """The top-level packages that a module names anywhere."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_never_imports_another_room(room: str) -> None:
    files = modules(room)
    assert files
    others = set(ROOMS) - {room}
    assert {str(file): found for file in files if (found := others & set(imported(file)))} == {}


def test_the_kernel_imports_no_room() -> None:
    files = [file for file in modules("quantahr") if file.parent != ROOT / "quantahr" / "cli"]
    assert files
    assert {str(file): found for file in files if (found := set(ROOMS) & set(imported(file)))} == {}


def test_production_code_never_imports_the_tests() -> None:
    files = [file for room in (*ROOMS, "quantahr") for file in modules(room)]
    assert [str(file) for file in files if {"tests", "benchmarks", "pytest"} & set(imported(file))] == []


def loaded_by(*names: str) -> set[str]:
    """The top-level packages in memory after importing modules, in a fresh interpreter."""
    code = f"import sys, {', '.join(names)}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def names_of(room: str) -> list[str]:
    found = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in modules(room)]
    return [name.removesuffix(".__init__") for name in found if not name.endswith("__main__")]


def test_a_bot_has_no_model_no_torch_and_no_document_reader_in_memory() -> None:
    assert loaded_by(*names_of("bots")) & {*LIGHT, "worker", "training"} == set()


def test_the_worker_never_loads_torch_or_a_bot() -> None:
    loaded = loaded_by("worker.app", "worker.engines.llamacpp", "worker.batch")
    assert loaded & {"torch", "transformers", "peft", "boto3", "bots", "training", "slack_bolt", "botbuilder"} == set()


def test_a_model_is_judged_without_torch() -> None:
    assert loaded_by(*[name for name in names_of("training") if name.startswith("training.gate")]) & {"torch"} == set()


def test_the_command_line_loads_a_room_only_when_a_command_needs_it() -> None:
    assert loaded_by("quantahr.cli.main") & {*LIGHT, *ROOMS} == set()


@pytest.mark.parametrize("room", [*ROOMS, "quantahr"])
def test_a_module_stays_small_enough_to_hold_in_the_head(room: str) -> None:
    assert [str(file) for file in modules(room) if len(file.read_text(encoding="utf-8").splitlines()) > 500] == []


@pytest.mark.parametrize("room", [*ROOMS, "quantahr"])
def test_every_module_says_what_it_is(room: str) -> None:
    files = [file for file in modules(room) if file.stat().st_size and "versions" not in file.parts]
    assert [str(file) for file in files if not ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))] == []
