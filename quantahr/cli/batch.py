"""`quantahr batch`: the progress bar around `worker.batch`."""

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from quantahr.settings import Settings


def run(settings: Settings, questions: Path, output: Path, console: Console) -> None:
    """Answer `questions` into `output`, showing how far it is. Raises QuantaHRError."""
    from worker.batch import run_batch

    columns = (TextColumn("Answering"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("answers", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        answered = run_batch(settings, questions, output, progress)
    console.print(f"{answered} answered, written to {output}.", highlight=False)
