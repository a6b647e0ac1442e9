"""`quantahr batch`: the progress bar around `worker.batch`."""

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from quantahr.settings import Settings


def run(settings: Settings, questions: Path, output: Path, console: Console) -> None:
    """Answer `questions` into `output`, showing how far it is. Raises QuantaHRError."""
    from worker.batch import run_batch

    columns = (TextColumn("Answering"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console)
    task = bar.add_task("answers", total=None)

    def progress(done: int, total: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)

    try:
        answered = run_batch(settings, questions, output, progress)
    finally:
        if bar.live.is_started:
            bar.stop()
    console.print(f"{answered} answered, written to {escape(str(output))}.", highlight=False)
