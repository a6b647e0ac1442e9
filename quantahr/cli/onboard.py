"""`quantahr onboard …`: journeys before anybody gets them, and many joiners at once."""

import csv
import datetime
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from quantahr.people.command import day
from quantahr.people.errors import PeopleError
from quantahr.people.joiner import Joiner, plan
from quantahr.people.journeys import Journeys, Step, load_journeys
from quantahr.people.onboarding import Onboarding
from quantahr.settings import Settings, load_settings
from quantahr.store import Store

if TYPE_CHECKING:
    from worker.people.onboarding import Read

app = typer.Typer(help="Onboarding journeys: check, preview, import.", no_args_is_help=True)
out = Console()

Config = Annotated[Path | None, typer.Option("--config", help="The settings file; config/quantahr.yaml by default.")]
COLUMNS = ("person", "name", "start", "role", "location", "contract", "manager", "buddy")


@app.command()
def check(config: Config = None) -> None:
    """Read config/onboarding.yaml and say what is wrong with it, line by line."""
    settings = load_settings(config)
    journeys = load_journeys(settings.people.onboarding)
    steps = sum(len(journey.steps) for journey in journeys.journeys)
    out.print(
        f"{settings.people.onboarding} is fine: {len(journeys.journeys)} journeys with {steps} steps, "
        f"{len(journeys.locations)} locations.",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def preview(
    location: Annotated[str, typer.Option(help="A location of the file; its default one if not given.")] = "",
    role: Annotated[str, typer.Option(help="The role of the sample person.")] = "Data engineer",
    contract: Annotated[str, typer.Option(help="The contract of the sample person.")] = "",
    start: Annotated[str, typer.Option(help="The first day, 2027-01-11; two weeks from today by default.")] = "",
    name: Annotated[str, typer.Option(help="The name of the sample person.")] = "Sam Sample",
    texts: Annotated[bool, typer.Option(help="Also what the documents say; takes some seconds.")] = True,
    config: Config = None,
) -> None:
    """Show the whole journey of a sample person, as it would be sent."""
    settings = load_settings(config)
    journeys = load_journeys(settings.people.onboarding)
    first = day(start) if start else datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=14)
    sample = sample_joiner(journeys, name=name, role=role, contract=contract, location=location, start=first)
    place = journeys.place(sample.location)
    who = f"{sample.name}, {role}, {place.name} ({place.country}), first day {first.isoformat()}\n"
    out.print(who, markup=False, highlight=False, soft_wrap=True)
    for when, to, text in rendered(settings, journeys, sample, texts=texts):
        out.print(f"— {when} to {to}", style="bold", markup=False, highlight=False)
        out.print(f"{text}\n", markup=False, highlight=False, soft_wrap=True)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help=f"A CSV file with the columns {', '.join(COLUMNS)}.")],
    platform: Annotated[str, typer.Option(help="slack or teams: where these people are written to.")],
    tenant: Annotated[str, typer.Option(help="The Slack team id (T…) or the Entra tenant id.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    config: Config = None,
) -> None:
    """Begin journeys for everybody in a table. Nothing is begun while a row is wrong."""
    settings = load_settings(config)
    journeys = load_journeys(settings.people.onboarding)
    rows, problems = read_table(file, journeys, platform)
    for problem in problems:
        out.print(problem, markup=False, highlight=False, soft_wrap=True)
    if problems:
        out.print(f"{len(problems)} rows have to be mended; nobody was imported.", highlight=False)
        raise typer.Exit(1)
    if dry_run:
        for row in rows:
            line = f"{row['who']}: {row['start']}, {row['role']}, {row['location']}"
            out.print(line, markup=False, highlight=False, soft_wrap=True)
        out.print(f"{len(rows)} journeys would begin. Nothing was changed.", highlight=False)
        return
    store = Store.open(settings)
    try:
        onboarding = Onboarding(store)
        new = 0
        for row in rows:
            told = {name: row[name] for name in ("user", "email", *COLUMNS) if name not in {"person", "start"}}
            _, begun = onboarding.enrol(platform=platform, tenant=tenant, by="cli", start=day(row["start"]), **told)
            new += begun
    finally:
        store.close()
    out.print(f"{new} journeys begun, {len(rows) - new} changed.", highlight=False)


def read_table(file: Path, journeys: Journeys, platform: str) -> tuple[list[dict[str, str]], list[str]]:
    """The rows of a table, and what is wrong with them, row by row. Raises PeopleError if it is no such table."""
    if platform not in {"slack", "teams"}:
        raise PeopleError(f"--platform {platform} is unknown. Use slack or teams.")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PeopleError(f"{file} cannot be read ({type(error).__name__}). Save it as CSV (UTF-8).") from None
    lines = text.splitlines()
    separator = ";" if lines and lines[0].count(";") > lines[0].count(",") else ","
    table = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    columns = [name.strip().lower() for name in table.fieldnames or ()]
    if missing := [name for name in ("person", "start") if name not in columns]:
        raise PeopleError(f"{file} has no column `{missing[0]}`. The first line names: {', '.join(COLUMNS)}.")
    if unknown := [name for name in columns if name not in COLUMNS]:
        raise PeopleError(f"{file} has a column `{unknown[0]}`, which is not known. Known are: {', '.join(COLUMNS)}.")
    rows, problems, seen = [], [], set()
    for raw in table:
        number = table.line_num
        row = dict.fromkeys(COLUMNS, "") | {
            str(name).strip().lower(): (value or "").strip() for name, value in raw.items() if isinstance(value, str)
        }
        if not any(row.values()):
            continue
        for said in _wrong(row, journeys, platform):
            problems.append(f"{file.name}, row {number}: {said}")
        who = row["person"].removeprefix(f"{platform}:").lstrip("@")
        if who in seen:
            problems.append(f"{file.name}, row {number}: {row['person']} stands here twice.")
        seen.add(who)
        row |= {"who": row["person"], "user": "" if "@" in who else who, "email": who if "@" in who else ""}
        row["location"] = journeys.find_location(row["location"]) or ""
        for name in ("manager", "buddy"):
            row[name] = row[name].removeprefix(f"{platform}:").lstrip("@")
        rows.append(row)
    return rows, problems


def sample_joiner(
    journeys: Journeys, *, name: str, role: str, contract: str, location: str, start: datetime.date
) -> Joiner:
    """Somebody to show a journey for. Raises PeopleError for an unknown location."""
    found = journeys.find_location(location)
    if found is None:
        raise PeopleError(f"There is no location {location}. Known are {', '.join(journeys.locations)}.")
    return Joiner(
        "sample", "slack", "", "USAMPLE", "", name, start, role, found, contract, "UBOSS", "UBUDDY", "active", 1
    )  # fmt: skip


def rendered(settings: Settings, journeys: Journeys, joiner: Joiner, *, texts: bool) -> Iterator[tuple[str, str, str]]:
    """(day and time, recipient, text) of every step. With `texts` the documents are read; no language model is used."""
    from worker.people.onboarding import Read, render_step

    read: Read = _reader(settings, journeys) if texts else _unread
    place = journeys.place(joiner.location)
    for planned in plan(joiner, journeys, settings.company.name):
        step = journeys.step(planned.step)
        if step is not None:
            when = datetime.datetime.fromtimestamp(planned.due, place.zone)
            done = "\n[Done]" if step.ask else ""
            text = render_step(step, joiner, journeys, settings, read).replace("*", "") + done
            yield f"{when:%a %d %b %Y, %H:%M} {place.zone.key}", planned.recipient, text


def _reader(settings: Settings, journeys: Journeys) -> "Read":
    from quantahr.policies import load_folder
    from quantahr.retrieval import EmbeddingCache, Index, load_embedder
    from worker.people.personal import Passage, Personal

    embedder = load_embedder(settings.model.embedding)
    cache = EmbeddingCache(settings.state_dir / "embeddings.db")
    index = Index.build(load_folder(settings.policies_dir).sections, embedder, cache)
    personal = Personal(lambda: index, embedder)

    def read(step: Step, someone: Joiner) -> Passage | None:
        return personal.read(step.policy or "", journeys.places(someone.location), document=step.document)

    return read


def _unread(step: Step, someone: Joiner) -> None:
    """A preview without the documents."""
    del step, someone


def _wrong(row: dict[str, str], journeys: Journeys, platform: str) -> Iterator[str]:
    if not row["person"]:
        yield "the person is missing; an account id or an e-mail address."
    elif ":" in row["person"] and not row["person"].startswith(f"{platform}:"):
        yield f"“{row['person']}” is not on {platform}."
    try:
        day(row["start"])
    except PeopleError as error:
        yield str(error)
    if journeys.find_location(row["location"]) is None:
        yield f"there is no location “{row['location']}”; known are {', '.join(journeys.locations)}."
