"""The commands. Each is thin: it reads settings, calls a room, and prints what came of it.

A room is imported only inside the command that needs it, so that a bot's image needs no model code and the other way
round.
"""

import logging
import os
import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from quantahr.cli.stack import joined
from quantahr.errors import QuantaHRError
from quantahr.settings import Settings, load_settings

app = typer.Typer(
    name="quantahr",
    help="A private HR assistant for Slack and Microsoft Teams.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
out = Console()
errors = Console(stderr=True)

Config = Annotated[Path | None, typer.Option("--config", help="The settings file; config/quantahr.yaml by default.")]


def main() -> None:
    """Run the command line. Ends the process."""
    logging.basicConfig(
        level=os.environ.get("LOG_LEVEL", "WARNING").upper(), format="%(levelname)s %(name)s: %(message)s"
    )
    try:
        app()
    except QuantaHRError as error:
        errors.print(f"[bold red]Sorry:[/] {error}", highlight=False, markup=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


@app.command()
def version() -> None:
    """Print the version."""
    out.print(installed_version("quantahr"))


@app.command()
def up(
    question: Annotated[str | None, typer.Option("--ask", help="Ask this, print the answer and end.")] = None,
    browser: Annotated[bool, typer.Option(help="Open the chat in the browser.")] = False,
    config: Config = None,
) -> None:
    """Start everything on this machine (Redis, a worker, a chat) and talk to it; Ctrl-C ends everything."""
    from quantahr.cli.talk import up as start

    if not start(load_settings(config), out, question=question, browser=browser):
        raise typer.Exit(1)


@app.command()
def ask(question: str, config: Config = None) -> None:
    """Ask the workers that are running."""
    from quantahr.cli.talk import ask as ask_running

    if not ask_running(joined(load_settings(config)), question, out):
        raise typer.Exit(1)


@app.command()
def bots(
    only: Annotated[list[str] | None, typer.Option(help="slack, teams, console; else all configured.")] = None,
    config: Config = None,
) -> None:
    """Run the bots: Slack, Teams and the console, whichever have credentials."""
    from bots.run import run_bots

    run_bots(load_settings(config), only=only or ())


@app.command()
def worker(config: Config = None, name: Annotated[str | None, typer.Option(help="The worker's name.")] = None) -> None:
    """Run a worker: it takes questions from the queue and answers them with the model."""
    from worker.app import run_worker

    run_worker(load_settings(config), name=name)


@app.command()
def index(
    folder: Annotated[
        Path | None, typer.Argument(help="The documents; policies_dir of the settings by default.")
    ] = None,
    sections: Annotated[bool, typer.Option("--sections", help="Also list every section.")] = False,
    config: Config = None,
) -> None:
    """Read the HR documents and list what HR should mend in them."""
    from quantahr.cli.index import print_library

    settings = load_settings(config)
    print_library(folder or settings.policies_dir, out, with_sections=sections)


@app.command()
def batch(
    policies: Annotated[Path, typer.Option(help="A folder of .docx or .md documents.")],
    questions: Annotated[Path, typer.Option(help='JSON lines of {"id", "question"}.')],
    output: Annotated[Path, typer.Option("--out", help="JSON lines of answers; continued if it exists.")],
    model: Annotated[Path | None, typer.Option(help="A GGUF model; the packaged one by default.")] = None,
    adapter: Annotated[Path | None, typer.Option(help="A GGUF LoRA adapter.")] = None,
    config: Config = None,
) -> None:
    """Answer a file of questions, by the same path as the chat."""
    from quantahr.cli.batch import run

    run(_with_model(load_settings(config), policies, model, adapter), questions, output, errors)


def _with_model(settings: Settings, policies: Path, model: Path | None, adapter: Path | None) -> Settings:
    changed = {key: str(value) for key, value in (("path", model), ("adapter", adapter)) if value}
    return settings.model_copy(
        update={"policies_dir": policies, "model": settings.model.model_copy(update=changed)},
    )
