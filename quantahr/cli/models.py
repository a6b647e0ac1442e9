"""`quantahr models`: which versions there are, which one serves, and the way back."""

import getpass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from quantahr.cli.stack import joined
from quantahr.registry import Registry, Version
from quantahr.settings import Settings, load_settings

app = typer.Typer(
    name="models", no_args_is_help=True, help="The versions of the model: list, activate, and back again."
)
out = Console(highlight=False)

Config = Annotated[Path | None, typer.Option("--config", help="The settings file; config/quantahr.yaml by default.")]
VersionId = Annotated[str, typer.Argument(help="A version's id, or its beginning.")]


@app.command("list")
def list_versions(config: Config = None) -> None:
    """All versions, oldest first, with what the gate measured."""
    registry = Registry.open(load_settings(config))
    active = registry.active()
    table = Table("", "Version", "Made", "Correct, well cited", "Gate", "Run")
    for version in registry.versions():
        table.add_row("→" if active and version.id == active.id else "", *_cells(version))
    out.print(table)
    if active is None:
        out.print("Active: the base model alone.")


@app.command()
def show(version: VersionId, config: Config = None) -> None:
    """One version: its files and hashes, where it came from, how it was judged, and when it was active."""
    registry = Registry.open(load_settings(config))
    found = registry.get(version)
    table = Table.grid(padding=(0, 2))
    table.add_row("Version", found.id)
    table.add_row("Made", found.created or "shipped")
    table.add_row("Base", f"{found.base} {found.base_sha256[:12] if found.base_sha256 else ''}")
    table.add_row("Run", found.run or "unknown")
    table.add_row("Parent", found.parent or "none")
    for name, file in found.files.items():
        table.add_row("File", f"{name}, {file.bytes:,} bytes, sha256 {file.sha256}")
    for name, value in found.metrics.items():
        table.add_row("Measured", f"{name}: {value:g}")
    table.add_row("Gate", escape(_gate(found)))
    for reason in found.judgement.reasons if found.judgement else ():
        table.add_row("", escape(reason))
    for change in registry.pointer().history:
        if change.active == found.id:
            how = " against the gate" if change.override else " by rollback" if change.rollback else ""
            table.add_row(
                "Active", escape(f"from {change.at}{how}, {change.actor}: {change.reason or 'no reason given'}")
            )
    out.print(table)


@app.command()
def add(
    source: Annotated[Path, typer.Argument(help="The folder of a finished run, or a GGUF adapter.", exists=True)],
    config: Config = None,
) -> None:
    """Register an adapter. It does not serve before it was judged (quantahr eval) and activated."""
    from quantahr.registry import served_base

    settings = load_settings(config)
    registry = Registry.open(settings)
    active = registry.active()
    version = registry.add(source, base=served_base(settings), parent=active.id if active else None)
    out.print(f"Registered as {version.id}. Judge it: quantahr eval --adapter {version.id} --register", soft_wrap=True)


@app.command()
def activate(
    version: Annotated[str, typer.Argument(help="A version's id, its beginning, or `base`.")],
    override: Annotated[
        str | None, typer.Option(help="Activate it although the gate did not let it pass; say why.")
    ] = None,
    config: Config = None,
) -> None:
    """Make a version serve. All workers follow within seconds; no answer is interrupted."""
    from quantahr.registry.activation import activate as carry_out

    settings = joined(load_settings(config))
    pointer = carry_out(settings, version, actor=_me(), reason=override or "", override=override is not None)
    _follow(settings, pointer.serial, f"Active: {_name(settings)}.")


@app.command()
def rollback(
    reason: Annotated[str, typer.Option(help="Why; it is kept in the history.")] = "", config: Config = None
) -> None:
    """Go back to the version that was active before."""
    from quantahr.registry.activation import rollback as carry_out

    settings = joined(load_settings(config))
    pointer = carry_out(settings, actor=_me(), reason=reason)
    _follow(settings, pointer.serial, f"Back to: {_name(settings)}.")


def _follow(settings: Settings, serial: int, text: str) -> None:
    """Say what was decided, and what each running worker makes of it."""
    from quantahr.registry.activation import wait_for_workers

    out.print(text)
    states = wait_for_workers(settings, serial)
    if not states:
        out.print("No worker is running; the next one starts with it.")
    for state in states:
        if state.refused and state.serial >= serial:
            out.print(f"[red]{escape(state.worker)} goes on with {state.serving}:[/] {escape(state.problem)}")
        elif state.serial >= serial:
            out.print(f"{escape(state.worker)} serves {state.serving}.")
        else:
            out.print(f"{escape(state.worker)} still serves {state.serving}; it will follow.")


def _cells(version: Version) -> tuple[str, ...]:
    share = version.metrics.get("correct_cited")
    measured = f"{share:.1%}" if share is not None else ""
    return version.id, version.created or "shipped", measured, _gate(version), version.run or ""


def _gate(version: Version) -> str:
    if version.judgement is None:
        return "shipped" if not version.created else "not judged"
    return "passed" if version.judgement.passed else "not passed"


def _name(settings: Settings) -> str:
    active = Registry.open(settings).active()
    return active.id if active else "the base model alone"


def _me() -> str:
    return f"cli:{getpass.getuser()}"
