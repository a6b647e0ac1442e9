"""Let a version answer the golden questions, by the very path, engine and quantization that serve.

That is `quantahr batch` in a process of its own: training never imports the worker, and what is measured is what an
employee would have got.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantahr.errors import QuantaHRError
from quantahr.gguf import file_sha256
from quantahr.grading import Golden, plain, read_golden
from training.gate.measure import Graded, grade_rows

DERIVED = 50
_NUMBER = re.compile(r"\d[\d.,]*\d|\d")


class EvaluationError(QuantaHRError):
    """The golden questions could not be answered."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is to answer. `name` is for people; `adapter`: a path, "none" for the base alone; `quote`: never phrase.

    `config` is the settings file, `model` a GGUF instead of the configured one.
    """

    name: str
    adapter: str | None = None
    quote: bool = False
    model: Path | None = None
    config: Path | None = None


def gather(files: Sequence[Path], policies: Path, *, derived: bool) -> list[Golden]:
    """The golden questions of all files, and `derived` ones from the policies' sections. Raises QuantaHRError."""
    questions: dict[str, Golden] = {}
    for file in files:
        for golden in read_golden(file):
            if questions.setdefault(golden.id, golden) != golden:
                raise EvaluationError(f"The id {golden.id} stands in two files of questions. Give one of them another.")
    for golden in derive(policies) if derived else ():
        questions.setdefault(golden.id, golden)
    if not questions:
        raise EvaluationError("There are no golden questions. Put some into data/golden/*.jsonl; its README says how.")
    return list(questions.values())


def derive(policies: Path, limit: int = DERIVED) -> list[Golden]:
    """Questions that training makes of the sections and holds out: those whose answer is a number, so it can be graded.

    At most `limit`, chosen by hash, so that they stay the same while the policies do.
    """
    from quantahr.policies import load_folder
    from quantahr.retrieval.units import split_units
    from training.dataset.policies import section_asks

    found = {}
    for section in load_folder(policies).sections:
        units = tuple(unit.quoted for unit in split_units(section.text))
        if not units or "employee" not in section.audience:
            continue
        for ask in section_asks(section, units)[1]:
            asked = plain(ask.question)
            numbers = [number for number in dict.fromkeys(_NUMBER.findall(ask.answer)) if plain(number) not in asked]
            if numbers:
                mark = hashlib.sha256(f"{ask.passage}\0{ask.question}".encode()).hexdigest()[:10]
                expect = tuple((number,) for number in numbers)
                source = " > ".join(section.heading_path)
                found[mark] = Golden(f"derived-{mark}", ask.question, "answerable", expect, (source,))
    return [found[mark] for mark in sorted(found)][:limit]


def answer_all(
    candidate: Candidate, questions: Sequence[Golden], policies: Path, folder: Path, *, resume: bool = True
) -> list[Graded]:
    """Let the candidate answer, and grade it. Leaves questions.jsonl and answers.jsonl in `folder`.

    With `resume`, a run of the same candidate, questions and policies that was cut off goes on where it was.
    Raises EvaluationError with what the worker said.
    """
    folder.mkdir(parents=True, exist_ok=True)
    asked, answers, mark = folder / "questions.jsonl", folder / "answers.jsonl", folder / "same.txt"
    lines = [json.dumps({"id": golden.id, "question": golden.question}, ensure_ascii=False) for golden in questions]
    identity = _identity(candidate, lines, policies)
    if not (resume and mark.is_file() and mark.read_text(encoding="ascii") == identity):
        answers.unlink(missing_ok=True)
    asked.write_text("\n".join(lines) + "\n", encoding="utf-8")
    mark.write_text(identity, encoding="ascii")
    done = subprocess.run(
        command(candidate, asked, answers, policies),
        env=os.environ | ({"QUANTAHR_ANSWERING__PHRASE": "false"} if candidate.quote else {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=None if sys.stderr.isatty() else subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = "\n".join((done.stderr or "").strip().splitlines()[-5:])
        raise EvaluationError(f"{candidate.name} could not answer the golden questions. {said}".rstrip())
    return grade_rows(questions, read_answers(answers))


def _identity(candidate: Candidate, questions: Sequence[str], policies: Path) -> str:
    """The hash of everything that an answer depends on and that may differ between two runs into one folder."""
    parts = [candidate.adapter or "", str(candidate.quote), str(candidate.model), *questions]
    files = [Path(candidate.adapter or ""), candidate.model or Path(), *sorted(policies.rglob("*"))]
    parts += [f"{path}:{file_sha256(path)}" for path in files if path.is_file()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def command(candidate: Candidate, asked: Path, answers: Path, policies: Path) -> list[str]:
    """The command line that answers."""
    parts = [sys.executable, "-m", "quantahr", "batch", "--policies", str(policies), "--questions", str(asked)]
    parts += ["--out", str(answers)]
    for option, value in (
        ("--model", candidate.model),
        ("--adapter", candidate.adapter),
        ("--config", candidate.config),
    ):
        if value is not None:
            parts += [option, str(value)]
    return parts


def read_answers(file: Path) -> dict[str, dict[str, Any]]:
    """The rows that `quantahr batch` wrote, by id."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return {row["id"]: row for row in rows}
