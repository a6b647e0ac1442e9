"""The commands. Each is thin: it reads settings, calls a room, and prints what came of it.

A room is imported only inside the command that needs it, so that a bot's image needs no model code and the other way
round. An error that a person can mend is one message on stderr, with what to do; a traceback is for programmers.
"""

import importlib
import importlib.util
import logging
import os
import sys
import threading
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Any, Final, cast

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from quantahr.cli import infra, models, onboard, privacy
from quantahr.cli.evaluate import evaluate
from quantahr.errors import QuantaHRError
from quantahr.settings import Settings, load_settings

ELSEWHERE: Final = {"train": "training.cli", "export": "training.cli", "dataset": "training.cli"}
"""Commands that a room brings itself: name → the module whose `app` has it."""


class _Commands(TyperGroup):
    """Our commands, and those of rooms that are installed, which are imported only when they are asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        there = [name for name, module in ELSEWHERE.items() if importlib.util.find_spec(module.partition(".")[0])]
        return [*super().list_commands(ctx), *there]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in ELSEWHERE:
            return super().get_command(ctx, cmd_name)
        group = typer.main.get_command(importlib.import_module(ELSEWHERE[cmd_name]).app)
        return cast("TyperGroup", group).get_command(ctx, cmd_name)


app = typer.Typer(
    name="quantahr",
    cls=_Commands,
    help="A private HR assistant for Slack and Microsoft Teams. Try it with `quantahr up`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(models.app, name="models")
app.add_typer(onboard.app, name="onboard")
app.add_typer(privacy.app, name="privacy")
app.add_typer(infra.app, name="infra")
app.command("eval")(evaluate)
out = Console()
errors = Console(stderr=True)

Config = Annotated[
    Path | None,
    typer.Option("--config", help="The settings file; $QUANTAHR_CONFIG or config/quantahr.yaml by default."),
]


def main() -> None:
    """Run the command line. Ends the process."""
    level = logging.getLevelNamesMapping().get(os.environ.get("LOG_LEVEL", "").upper(), logging.WARNING)
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    try:
        app()
    except QuantaHRError as error:
        _sorry(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except ModuleNotFoundError as error:
        extra = {
            "docx": "worker",
            "xllamacpp": "worker",
            "onnxruntime": "worker",
            "aiohttp": "console",
            "boto3": "training",
            "torch": "training",
        }
        named = extra.get((error.name or "").partition(".")[0], "worker,bots")
        _sorry(f"This command needs {error.name}, which is not installed. Type: pip install 'quantahr[{named}]'")
    except Exception as error:
        if level <= logging.DEBUG:
            raise
        _sorry(
            f"That is a mistake in QuantaHR ({type(error).__name__}), not yours. The same command with LOG_LEVEL=DEBUG "
            "in front shows where; please report it."
        )


def _sorry(text: str) -> None:
    errors.print(f"[bold red]Sorry:[/] {escape(text)}", highlight=False, soft_wrap=True)
    if threading.active_count() > 1:
        # A thread that is busy in native code (the index is being made) would make an ordinary exit an abort.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
    sys.exit(1)


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
def ask(
    question: Annotated[str, typer.Argument(help="The question, in quotes.")],
    config: Config = None,
) -> None:
    """Ask the workers that are running, and print the answer with its sources."""
    from quantahr.cli.talk import ask as ask_running

    if not ask_running(load_settings(config), question, out):
        raise typer.Exit(1)


@app.command()
def doctor(config: Config = None) -> None:
    """Say what is missing or wrong, and how to mend it, before anything fails. Ends with 1 if something must be."""
    from quantahr.cli.doctor import examine, show
    from quantahr.cli.stack import joined

    results = examine(joined(load_settings(config)))
    show(results, out)
    if any(result.state == "bad" for result in results):
        raise typer.Exit(1)


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

    print_library(folder or load_settings(config).policies_dir, out, with_sections=sections)


@app.command()
def batch(
    policies: Annotated[Path, typer.Option(help="A folder of .docx or .md documents.")],
    questions: Annotated[Path, typer.Option(help='JSON lines of {"id", "question"}.')],
    output: Annotated[Path, typer.Option("--out", help="JSON lines of answers; continued if it exists.")],
    model: Annotated[Path | None, typer.Option(help="A GGUF model; the packaged one by default.")] = None,
    adapter: Annotated[Path | None, typer.Option(help="A GGUF LoRA adapter.")] = None,
    config: Config = None,
) -> None:
    """Answer a file of questions, by the same path as the chat; a run that was cut off goes on where it was."""
    from quantahr.cli.batch import run

    run(_with_model(load_settings(config), policies, model, adapter), questions, output, errors)


@app.command()
def worker(
    name: Annotated[str | None, typer.Option(help="The worker's name, where several run on one machine.")] = None,
    config: Config = None,
) -> None:
    """Run a worker: it takes questions from the queue and answers them with the model."""
    from worker.app import run_worker

    run_worker(load_settings(config), name=name)


@app.command()
def jobs(config: Config = None) -> None:
    """Drive retrain jobs: plan, start, follow and end them. One such process is enough; more do no harm."""
    from training.app import run_jobs

    run_jobs(load_settings(config))


@app.command()
def beat(config: Config = None) -> None:
    """Tick: onboarding, the weekly digest, daily retention. One is enough; more do no harm."""
    from worker.beat import run_beat

    run_beat(load_settings(config))


@app.command()
def bots(
    only: Annotated[
        list[str] | None, typer.Option(help="slack, teams or console; may be repeated. Else all that are configured.")
    ] = None,
    config: Config = None,
) -> None:
    """Run the bots: Slack, Teams and the console, whichever are configured."""
    from bots.run import run_bots

    run_bots(load_settings(config), only=only or ())


@app.command("teams-package")
def teams_package(
    website: Annotated[str, typer.Option(help="Your page about the assistant; Teams shows it. https://…")],
    output: Annotated[Path, typer.Option("--out", help="The package to write.")] = Path("quantahr-teams.zip"),
    privacy: Annotated[str | None, typer.Option(help="Your privacy page; the website by default.")] = None,
    terms: Annotated[str | None, typer.Option(help="Your terms of use; the website by default.")] = None,
    package_version: Annotated[str, typer.Option(help="Raise it when you upload again.")] = "1.0.0",
    config: Config = None,
) -> None:
    """Build the app package for Microsoft Teams, with your bot's id in it."""
    from bots.teams.package import build_package

    settings = load_settings(config)
    written = build_package(settings, output, website=website, privacy=privacy, terms=terms, version=package_version)
    out.print(f"Wrote {written}. Upload it in the Teams admin centre: Teams apps > Manage apps > Actions > Upload.")


@app.command()
def version() -> None:
    """Print the version."""
    out.print(installed_version("quantahr"), highlight=False)


def _with_model(settings: Settings, policies: Path, model: Path | None, adapter: Path | None) -> Settings:
    changed = {key: str(value) for key, value in (("path", model), ("adapter", adapter)) if value}
    return settings.model_copy(
        update={"policies_dir": policies, "model": settings.model.model_copy(update=changed)},
    )
