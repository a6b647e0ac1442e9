"""Evaluate a version, hold it against the one that serves, and say whether it may replace it."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from quantahr.grading import Golden
from quantahr.registry import BASE, Judgement, Registry, RegistryError, Version
from quantahr.settings import Settings
from training.gate.measure import Difference, Graded, Line, compare, measure_all
from training.gate.promotion import Decision, Rule, decide
from training.gate.run import Candidate, answer_all

GOLDEN = Path("data/golden")
QUOTE = "quote"
"""Instead of a version: the documents' own sentences, the floor that a model has to beat."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The new version's answers, and the old one's to the same questions if there is one, with all measurements."""

    name: str
    new: Sequence[Graded]
    against: str | None = None
    old: Sequence[Graded] | None = None
    decision: Decision | None = None
    lines: dict[str, Line] = field(default_factory=dict)
    old_lines: dict[str, Line] = field(default_factory=dict)
    differences: dict[str, Difference] = field(default_factory=dict)

    def pairs(self) -> list[tuple[Graded, Graded | None]]:
        """New and old answer to each question."""
        old: Sequence[Graded | None] = self.old or [None] * len(self.new)
        return list(zip(self.new, old, strict=True))

    @property
    def metrics(self) -> dict[str, float]:
        """The values for the registry."""
        return {name: round(line.value, 4) for name, line in self.lines.items()}

    @property
    def judgement(self) -> Judgement | None:
        """The decision for the registry."""
        if self.decision is None:
            return None
        return Judgement(self.decision.passed, self.decision.reasons, self.against)


def evaluate(
    new: Candidate,
    questions: Sequence[Golden],
    policies: Path,
    folder: Path,
    *,
    against: Candidate | None = None,
    rule: Rule | None = None,
    resume: bool = True,
) -> Evaluation:
    """Let `new`, and `against` if given, answer the questions; measure, compare and decide.

    Leaves the answers in `folder`/new and `folder`/old, and with `resume` goes on with what is there already.
    Raises EvaluationError.
    """
    answers = answer_all(new, questions, policies, folder / "new", resume=resume)
    evaluation = Evaluation(new.name, answers, lines=measure_all(answers))
    if against is None:
        return evaluation
    before = answer_all(against, questions, policies, folder / "old", resume=resume)
    old_lines, differences = measure_all(before), compare(before, answers)
    decision = decide(rule or Rule(), old_lines, evaluation.lines, differences)
    return replace(
        evaluation, against=against.name, old=before, old_lines=old_lines, differences=differences, decision=decision
    )


def candidate(settings: Settings, registry: Registry, wanted: str | None, *, config: Path | None = None) -> Candidate:
    """What `wanted` means: a version's id, a GGUF file, a run folder, "base", "quote", or None for what is active.

    Raises RegistryError and ModelError.
    """
    if wanted == QUOTE:
        return Candidate("quoting", adapter="none", quote=True, config=config)
    if wanted in {BASE, "none"}:
        return Candidate("the base model", adapter="none", config=config)
    if wanted is None:
        version = registry.active()
        if version is None:
            return Candidate("the base model", adapter="none", config=config)
    elif (path := Path(wanted)).exists():
        return Candidate(path.name, adapter=str(_weights(path, settings.model.engine)), config=config)
    else:
        version = registry.get(wanted)
    return Candidate(version.id, adapter=str(registry.adapter(version, settings.model.engine)), config=config)


def with_model(chosen: Candidate, model: Path) -> Candidate:
    """The same candidate on another base."""
    return replace(chosen, name=f"{chosen.name} on {model.name}", model=model)


def forget_answers(folder: Path) -> None:
    """Remove the questions and answers of a sealed evaluation, so that nobody can tune on them."""
    for part in ("new", "old"):
        shutil.rmtree(folder / part, ignore_errors=True)


def register(registry: Registry, settings: Settings, source: Path, evaluation: Evaluation) -> Version:
    """Put a judged adapter into the registry, whatever the decision; activating it is another step.

    Raises RegistryError and ModelError.
    """
    from quantahr.registry import served_base

    active = registry.active()
    return registry.add(
        source,
        base=served_base(settings),
        parent=active.id if active else None,
        metrics=evaluation.metrics,
        judgement=evaluation.judgement,
    )


def _weights(path: Path, engine: str) -> Path:
    if path.is_file():
        return path
    inside = path / ("adapter.gguf" if engine == "llamacpp" else "adapter")
    if not inside.exists():
        raise RegistryError(f"{path} holds no {inside.name}. Name the folder of a finished run (runs/NAME-ID).")
    return inside
