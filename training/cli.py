"""`quantahr train`, `export` and `dataset`: what an administrator types.

A terminal gets a progress bar; a log file gets a line every `logging_steps`. The text of documents is shown only by
`dataset --preview`, on the terminal, and nowhere else.
"""

import statistics
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from quantahr.errors import ModelError
from quantahr.settings import load_settings
from training.config import DEFAULT_CONFIG, QloraConfig, TrainingConfigError, load_config

app = typer.Typer(no_args_is_help=True, help="Train the model on your own documents.")

ConfigFile = Annotated[Path, typer.Option("--config", help="The training configuration.")]


@app.command()
def train(
    config: ConfigFile = DEFAULT_CONFIG,
    platform: Annotated[
        Literal["aws", "local"] | None, typer.Option(help="Where; instead of compute.platform.")
    ] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Instead of training.max_steps.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder, instead of runs/NAME-ID.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the newest checkpoint of this run.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show data, memory, time and price; train nothing.")
    ] = False,
) -> None:
    """Train a QLoRA adapter."""
    from training.run import execute, make_plan, make_rough_plan

    console = Console(highlight=False)
    chosen = load_config(config)
    if platform:
        chosen = with_platform(chosen, platform)
    if chosen.compute.platform == "aws" and not dry_run:
        raise TrainingConfigError(
            "A run on AWS is priced and confirmed before it starts: ask for it with /hr-retrain in the chat, or see "
            "its price with --dry-run. On a machine that is already the training machine, use --platform local."
        )
    state_dir = load_settings().state_dir
    try:
        plan = make_plan(chosen, state_dir=state_dir, max_steps=max_steps)
    except ModelError:
        if dry_run:
            # The base is missing; what does not depend on it can still be shown before that is said.
            _introduce(console, make_rough_plan(chosen, max_steps=max_steps))
            console.print("Tokens are estimated. Memory, time and price need the base:", style="yellow")
        raise
    _introduce(console, plan)
    if dry_run:
        from training.estimate import estimate

        show_estimate(console, estimate(plan, state_dir=state_dir))
        return
    with ExitStack() as stack:
        progress = stack.enter_context(Progress(console, plan.config))
        folder = execute(plan, state_dir=state_dir, out=out, resume=resume, on_step=progress.step, say=progress.say)
    console.print(f"Done: {folder}", style="green")
    console.print(f"Judge it: quantahr eval --adapter {folder} --register", soft_wrap=True)


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A folder checkpoint-NNNNNN.")],
    out: Annotated[Path, typer.Option(help="The run folder to make.")],
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Make a run folder of a checkpoint, for a run that was cut off."""
    from training.run import export_checkpoint

    folder = export_checkpoint(checkpoint, load_config(config), out, state_dir=load_settings().state_dir)
    Console(highlight=False).print(f"Done: {folder}", style="green")


@app.command()
def dataset(
    config: ConfigFile = DEFAULT_CONFIG,
    preview: Annotated[bool, typer.Option("--preview", help="Also show ten examples as the model sees them.")] = False,
) -> None:
    """Show what the model would be trained on: counts, lengths, what is dropped and how often each section is seen."""
    from training.run import make_plan

    console = Console(highlight=False)
    plan = make_plan(load_config(config), state_dir=load_settings().state_dir)
    show_plan(console, plan)
    lengths = sorted(len(example) for step in plan.schedule.steps for batch in step for example in batch)
    tenths = statistics.quantiles(lengths, n=100) if len(lengths) > 1 else lengths * 99
    console.print(
        f"Tokens of an example: median {tenths[49]:.0f}, 99 of 100 below {tenths[98]:.0f}, longest {lengths[-1]} "
        f"(limit {plan.config.model.max_sequence_length}; none is ever cut)."
    )
    if preview:
        show_samples(console, plan, count=10)


def with_platform(config: QloraConfig, platform: Literal["aws", "local"]) -> QloraConfig:
    """The configuration with another compute.platform."""
    return config.model_copy(update={"compute": config.compute.model_copy(update={"platform": platform})})


def _introduce(console: Console, plan: Any) -> None:
    for warning in plan.warnings:
        console.print(f"Note: {warning}", style="yellow")
    show_plan(console, plan)


def show_plan(console: Console, plan: Any) -> None:
    """The data and the schedule as a table; no text of the documents."""
    facts = plan.facts()
    table = Table("dataset", "passages", "questions", "rows", "examples seen", "each passage is seen")
    for entry in facts["datasets"]:
        seen = facts["seen"][entry["type"]]
        examples = sum(count for (name, _), count in plan.schedule.seen.items() if name == entry["type"])
        table.add_row(
            entry["type"],
            str(entry["passages"]),
            str(entry["questions"]),
            str(entry["ready_rows"]),
            str(examples),
            f"{seen['mean']} times ({seen['least']} to {seen['most']})",
        )
    console.print(table)
    kinds = ", ".join(f"{name} {count}" for name, count in facts["kinds"].items())
    console.print(f"Kinds of examples: {kinds}.")
    dropped = ", ".join(f"{count} × {reason}" for reason, count in facts["dropped"].items())
    console.print(f"Dropped: {dropped or 'nothing'}.")
    console.print(f"Run {plan.run_id}: {len(plan.schedule.steps)} steps on {plan.base}.")


def show_samples(console: Console, plan: Any, *, count: int) -> None:
    """Evenly spaced examples, decoded from the very tokens that are trained on."""
    examples = [example for step in plan.schedule.steps for batch in step for example in batch]
    for number, at in enumerate(range(0, len(examples), max(1, len(examples) // count)), 1):
        if number > count:
            break
        console.rule(f"example {number}")
        console.print(plan.tokenizer.decode(examples[at].prompt), markup=False, end="")
        console.print(plan.tokenizer.decode(examples[at].answer), markup=False, style="bold green")


def show_estimate(console: Console, found: Any) -> None:
    """Memory, time and price."""
    table = Table("what", "estimate")
    for name, value in found.rows():
        table.add_row(name, value)
    console.print(table)


class Progress:
    """Steps as a bar on a terminal, as lines elsewhere; loss, tokens a second and the time left in both."""

    def __init__(self, console: Console, config: QloraConfig) -> None:
        from rich import progress

        self._console, self._training = console, config.training
        self._bar: progress.Progress | None = None
        self._seconds = self._tokens = 0.0
        self._count = 0
        if sys.stdout.isatty():
            self._bar = progress.Progress(
                progress.TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
                progress.BarColumn(),
                progress.TextColumn("{task.description}"),
                console=console,
            )
            self._task = self._bar.add_task("", total=config.training.max_steps)

    def __enter__(self) -> "Progress":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def say(self, text: str) -> None:
        self._console.print(text)

    def step(self, point: Any) -> None:
        total = self._training.max_steps
        self._seconds += point.seconds
        self._tokens += point.tokens
        self._count += 1
        left = (total - point.step) * self._seconds / self._count
        line = f"loss {point.loss:.3f}, {self._tokens / self._seconds:.0f} tokens/s, {_clock(left)} left"
        if self._bar:
            self._bar.update(self._task, completed=point.step, description=line)
        elif point.step % self._training.logging_steps == 0 or point.step == total:
            self._console.print(f"step {point.step}/{total}: {line}")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
