"""`quantahr privacy …`: what is kept about a person, shown or deleted."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from quantahr.people.privacy import Person, Privacy, receipt_text
from quantahr.settings import load_settings
from quantahr.store import Store

app = typer.Typer(help="Show or delete everything that is kept about a person.", no_args_is_help=True)
out = Console()

Who = Annotated[str, typer.Option("--person", help="slack:U0123ABC or teams:<Entra object id>.")]
Config = Annotated[Path | None, typer.Option("--config", help="The settings file; config/quantahr.yaml by default.")]


@app.command()
def export(
    person: Who,
    output: Annotated[Path | None, typer.Option("--out", help="A file; the terminal by default.")] = None,
    config: Config = None,
) -> None:
    """Write everything about a person as JSON."""
    settings = load_settings(config)
    store = Store.open(settings)
    try:
        text = receipt_text(Privacy(settings, store).export(Person.parse(person)))
        store.audit("cli", "privacy.exported", Person.parse(person).stranger)
    finally:
        store.close()
    if output is None:
        out.print(text, markup=False, highlight=False, soft_wrap=True)
    else:
        output.write_text(text, encoding="utf-8")
        out.print(f"Wrote {output}.", highlight=False, soft_wrap=True)


@app.command()
def delete(
    person: Who,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    output: Annotated[Path | None, typer.Option("--receipt", help="Where to file the receipt.")] = None,
    config: Config = None,
) -> None:
    """Delete everything about a person from the database, Redis and files, and print a receipt."""
    who = Person.parse(person)
    if not yes and not typer.confirm(f"Delete everything about {who.id}? This cannot be undone."):
        raise typer.Exit(1)
    settings = load_settings(config)
    store = Store.open(settings)
    try:
        receipt = receipt_text(Privacy(settings, store).delete(who))
        store.audit("cli", "privacy.deleted", who.stranger)
    finally:
        store.close()
    if output is not None:
        output.write_text(receipt, encoding="utf-8")
    out.print(receipt, markup=False, highlight=False, soft_wrap=True)
