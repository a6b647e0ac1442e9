"""`quantahr eval`: how good a version is, and whether it may replace the one that serves."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from quantahr.settings import load_settings

if TYPE_CHECKING:
    from training.gate.judge import Evaluation


def evaluate(
    adapter: Annotated[
        str | None,
        typer.Option(help="A version of the registry, a GGUF file, a run folder, or `base`. Else what is active."),
    ] = None,
    model: Annotated[Path | None, typer.Option(help="A GGUF model instead of the configured one.")] = None,
    policies: Annotated[
        Path | None, typer.Option(help="The documents; policies_dir of the settings by default.")
    ] = None,
    questions: Annotated[
        list[Path] | None, typer.Option(help="Golden questions; may be repeated. data/golden/*.jsonl by default.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="A version, `base`, `quote` or `none`. Else, with --adapter, what is active."),
    ] = None,
    quote: Annotated[
        bool, typer.Option("--quote", help="Never let the model phrase: the floor that it has to beat.")
    ] = False,
    sealed: Annotated[bool, typer.Option("--sealed", help="Show and write totals only, no question.")] = False,
    derived: Annotated[
        bool | None, typer.Option(help="Also ask questions made of the sections. Only without --questions by default.")
    ] = None,
    register: Annotated[
        bool, typer.Option("--register", help="Put the adapter into the registry with its judgement.")
    ] = False,
    rule: Annotated[Path | None, typer.Option(help="The promotion rule; config/gate.yaml by default.")] = None,
    output: Annotated[Path | None, typer.Option("--out", help="Where report.json and report.html go.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="The settings file; config/quantahr.yaml by default.")
    ] = None,
) -> None:
    """Let a version answer the golden questions, and hold it against the one that serves."""
    from quantahr.registry import Registry
    from training.gate import judge
    from training.gate.promotion import load_rule
    from training.gate.report import keep_with_run, write_report
    from training.gate.run import gather

    console = Console(highlight=False)
    settings = load_settings(config)
    registry = Registry.open(settings)
    folder = output or settings.state_dir / "eval" / time.strftime("%Y%m%d-%H%M%S")
    chosen = policies or settings.policies_dir
    asked = gather(
        _question_files(questions), chosen, derived=derived if derived is not None else not questions and not sealed
    )
    new = judge.candidate(settings, registry, judge.QUOTE if quote else adapter, config=config)
    held = None if against == "none" or (against is None and (adapter is None or quote)) else against or "active"
    old = (
        None if held is None else judge.candidate(settings, registry, None if held == "active" else held, config=config)
    )
    if model:
        new, old = judge.with_model(new, model), old and judge.with_model(old, model)
    evaluation = judge.evaluate(new, asked, chosen, folder, against=old, rule=load_rule(rule), resume=False)
    _show(console, evaluation)
    page = write_report(evaluation, folder, sealed=sealed)
    if sealed:
        judge.forget_answers(folder)
    page = (keep_with_run(page, Path(adapter)) if adapter else None) or page
    console.print(f"\nThe whole report: {escape(str(page))}", soft_wrap=True)
    if register and adapter:
        if Path(adapter).exists():
            version = judge.register(registry, settings, Path(adapter), evaluation)
        elif evaluation.judgement:
            version = registry.record_judgement(registry.get(adapter).id, evaluation.metrics, evaluation.judgement)
        else:
            raise typer.BadParameter("nothing was judged: leave out --against none.")
        console.print(f"Registered as {version.id}. Type: quantahr models activate {version.id}")


def _question_files(named: Sequence[Path] | None) -> list[Path]:
    from training.gate.judge import GOLDEN

    return list(named) if named else sorted(GOLDEN.glob("*.jsonl"))


def _show(console: Console, evaluation: "Evaluation") -> None:
    from training.gate.report import table_rows

    heads = ["", evaluation.name] + ([evaluation.against or "", "difference"] if evaluation.old is not None else [])
    table = Table(*heads)
    for row in table_rows(evaluation):
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)
    console.print(f"{len(evaluation.new)} questions; in brackets the 95% interval.")
    if evaluation.decision:
        passed = evaluation.decision.passed
        console.print("[green]It may be activated.[/]" if passed else "[red]It must not be activated.[/]")
        for reason in evaluation.decision.reasons:
            console.print(f"- {escape(reason)}")
