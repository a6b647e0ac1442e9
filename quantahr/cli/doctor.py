"""`quantahr doctor`: what is missing or wrong, and how to mend it, before anything fails.

Each check is a function from settings to results and changes nothing but what starting would change anyway (the
database is brought to this version's schema). What a machine does not have installed, because another one does that
part, is not examined there.
"""

import importlib.util
import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, Literal

import redis
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from quantahr.bus import scripts
from quantahr.embedded_redis import find_server
from quantahr.errors import QuantaHRError, QueueError, SettingsError
from quantahr.settings import Secrets, Settings, load_secrets
from quantahr.store import Store

GIB = 1 << 30
State = Literal["good", "note", "bad"]
_MARKS = {"good": "[green]✓[/]", "note": "[yellow]![/]", "bad": "[red]✗[/]"}
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the examination. `fix` is empty when there is nothing to do."""

    name: str
    state: State
    detail: str
    fix: str = ""


def examine(settings: Settings) -> list[Result]:
    """Every check, in the order in which things are needed. Raises nothing that a check can meet."""
    checks: tuple[Callable[[Settings], Iterator[Result]], ...] = (
        _ourselves,
        _redis,
        _database,
        _policies,
        _model,
        _embedding,
        _room,
        _slack,
        _teams,
        _console,
    )
    results: list[Result] = []
    for check in checks:
        try:
            results.extend(check(settings))
        except QuantaHRError as error:
            results.append(Result(check.__name__.strip("_"), "bad", str(error)))
    return results


def show(results: list[Result], console: Console) -> None:
    """Print the results as a table, and what they come to."""
    table = Table(box=None, show_header=False, padding=(0, 1))
    for result in results:
        fix = f"\n[dim]→ {escape(result.fix)}[/]" if result.fix else ""
        table.add_row(_MARKS[result.state], f"[bold]{escape(result.name)}[/]", escape(result.detail) + fix)
    console.print(table)
    bad = sum(result.state == "bad" for result in results)
    notes = sum(result.state == "note" for result in results)
    if bad:
        console.print(f"{bad} to mend before QuantaHR can work, {notes} to know about.", highlight=False)
    else:
        console.print(f"Nothing stands in the way; {notes} to know about.", highlight=False)


def _ourselves(_: Settings) -> Iterator[Result]:
    found = ".".join(str(part) for part in sys.version_info[:3])
    yield Result("QuantaHR", "good", f"{installed_version('quantahr')} on Python {found}")


def _redis(settings: Settings) -> Iterator[Result]:
    try:
        with redis.Redis.from_url(settings.redis_url, socket_connect_timeout=3, socket_timeout=3) as raw:
            client: Any = raw
            version = client.info("server")["redis_version"]
            policy = client.config_get("maxmemory-policy").get("maxmemory-policy", "")
            log = client.config_get("appendonly").get("appendonly", "")
            ready = client.exists(scripts.READY)
            waiting = client.zcard(scripts.WAITING)
    except (redis.RedisError, ValueError):
        yield from _no_redis()
        return
    yield Result("Redis", "good", f"{version} answers")
    if policy != "noeviction":
        fix = "Set maxmemory-policy noeviction, or Redis may throw accepted questions away."
        yield Result("Redis memory", "bad", f"maxmemory-policy is {policy or 'unknown'}", fix)
    if log != "yes":
        fix = "Set appendonly yes, or a restart of Redis loses the questions that wait."
        yield Result("Redis on disk", "note", "appendonly is off", fix)
    if ready:
        yield Result("Worker", "good", f"ready; {waiting} questions wait")
    else:
        yield Result("Worker", "note", f"none is ready; {waiting} questions wait", "Start one: quantahr worker")


def _no_redis() -> Iterator[Result]:
    try:
        server = find_server()
    except QueueError as error:
        yield Result("Redis", "bad", "none answers at redis_url", " ".join(str(error).split()))
        return
    fix = "Nothing for the demo: `quantahr up` starts one. Else start it, or correct redis_url."
    yield Result("Redis", "note", f"none answers at redis_url; {server.name} is installed", fix)


def _database(settings: Settings) -> Iterator[Result]:
    store = Store.open(settings)
    try:
        kind = store.engine.dialect.name
    finally:
        store.close()
    yield Result("Database", "good", f"{kind}, at this version's schema")


def _policies(settings: Settings) -> Iterator[Result]:
    folder = settings.policies_dir
    if not folder.is_dir():
        fix = "Create it and put the HR documents (.docx or .md) in it, or name another one with policies_dir."
        yield Result("HR documents", "bad", f"there is no folder {folder}", fix)
        return
    if not _installed("docx"):
        return
    from quantahr.policies import load_folder

    library = load_folder(folder)
    if not library.documents:
        fix = "Put .docx or .md files in it, or name another folder with policies_dir."
        yield Result("HR documents", "bad", f"{folder} holds none that can be read", fix)
        return
    detail = f"{len(library.documents)} in {folder}, {len(library.sections)} sections"
    yield Result("HR documents", "good", detail)
    findings = [*library.findings, *(finding for document in library.documents for finding in document.findings)]
    if findings:
        yield Result("For HR", "note", f"{len(findings)} places in the documents to look at", "quantahr index")


def _model(settings: Settings) -> Iterator[Result]:
    model = settings.model
    if model.engine == "tgi":
        if model.url:
            yield Result("Model", "good", f"on the server {model.url}")
        else:
            yield Result("Model", "bad", "engine tgi without a server", "Set model.url, for example http://tgi:8080.")
        return
    library = "xllamacpp" if model.engine == "llamacpp" else "torch"
    if not _installed(library):
        state: State = "bad" if _installed("onnxruntime") else "note"
        extra = "worker" if model.engine == "llamacpp" else "worker,training"
        yield Result("Model", state, f"{library} is not installed here", f"pip install 'quantahr[{extra}]'")
        return
    if model.engine == "transformers" and not (model.path or "").endswith(".gguf"):
        yield Result("Model", "good", f"{model.path or 'the packaged one'}, by transformers")
        return
    from quantahr.gguf import packaged_gguf
    from quantahr.gguf_header import check_model, read_header

    file = Path(model.path).expanduser() if model.path else packaged_gguf()
    check_model(read_header(file))
    size = file.stat().st_size
    yield Result("Model", "good", f"{file.name}, {size / 1e6:.0f} MB")
    free = _free_memory()
    if free is not None and free < 2 * size + GIB // 2:
        fix = "Close other programs, or name a smaller model."
        yield Result("Memory", "note", f"{free / GIB:.1f} GiB free", fix)
    elif free is not None:
        yield Result("Memory", "good", f"{free / GIB:.1f} GiB free")


def _embedding(settings: Settings) -> Iterator[Result]:
    if not _installed("onnxruntime"):
        return
    if settings.model.embedding and not Path(settings.model.embedding).exists():
        yield Result("Embedding model", "note", f"{settings.model.embedding}, from the Hugging Face hub")
        return
    from quantahr.retrieval import load_embedder

    load_embedder(settings.model.embedding)
    yield Result("Embedding model", "good", settings.model.embedding or "the packaged MiniLM")


def _room(settings: Settings) -> Iterator[Result]:
    folder = settings.state_dir.resolve()
    existing = next(part for part in (folder, *folder.parents) if part.exists())
    free = shutil.disk_usage(existing).free
    if free < GIB:
        yield Result("Disk", "bad", f"{free / GIB:.1f} GiB free at {existing}", "Free at least 1 GiB.")
    else:
        yield Result("Disk", "good", f"{free / GIB:.0f} GiB free")


def _slack(settings: Settings) -> Iterator[Result]:
    secrets = load_secrets()
    if not secrets.slack_bot_token:
        yield Result("Slack", "good", "not configured")
        return
    if not _begins(secrets, "slack_bot_token", "xoxb-"):
        fix = "Copy the Bot User OAuth Token of the app (OAuth & Permissions)."
        yield Result("Slack", "bad", "SLACK_BOT_TOKEN does not begin with xoxb-", fix)
    elif settings.slack.mode == "socket" and not _begins(secrets, "slack_app_token", "xapp-"):
        fix = "Make an app-level token with connections:write (Basic Information), or set slack.mode to http."
        yield Result("Slack", "bad", "SLACK_APP_TOKEN is missing or does not begin with xapp-", fix)
    elif settings.slack.mode == "http" and not secrets.slack_signing_secret:
        fix = "Copy the Signing Secret of the app (Basic Information)."
        yield Result("Slack", "bad", "SLACK_SIGNING_SECRET is missing", fix)
    else:
        yield Result("Slack", "good", f"tokens are there, mode {settings.slack.mode}")
    if not settings.slack.hr_channel:
        fix = "Set slack.hr_channel to the id of HR's channel."
        yield Result("Slack, HR's channel", "note", "not set: “Ask a human” can only name the contact", fix)


def _begins(secrets: Secrets, name: str, start: str) -> bool:
    value = getattr(secrets, name)
    return bool(value) and str(value.get_secret_value()).startswith(start)


def _teams(settings: Settings) -> Iterator[Result]:
    teams = settings.teams
    if not teams.app_id:
        yield Result("Teams", "good", "development, without an app" if teams.development else "not configured")
        return
    if not _UUID.fullmatch(teams.app_id):
        fix = "Copy the Application (client) ID of the app registration."
        yield Result("Teams", "bad", "teams.app_id is not an id", fix)
    elif teams.app_type != "MultiTenant" and not _UUID.fullmatch(teams.tenant_id):
        fix = "Copy the Directory (tenant) ID of the app registration."
        yield Result("Teams", "bad", "teams.tenant_id is not an id", fix)
    elif teams.app_type != "UserAssignedMSI" and not load_secrets().teams_app_password:
        yield Result("Teams", "bad", "TEAMS_APP_PASSWORD is missing", "Make a client secret and set it.")
    else:
        yield Result("Teams", "good", f"configured, {teams.app_type}")


def _console(settings: Settings) -> Iterator[Result]:
    console = settings.console
    if not console.enabled:
        return
    if not _installed("aiohttp"):
        yield Result("Browser page", "note", "aiohttp is not installed here", "pip install 'quantahr[console]'")
        return
    from bots.console.web import needs_token

    if needs_token(console.host) and not load_secrets().quantahr_console_token:
        fix = "Set QUANTAHR_CONSOLE_TOKEN to a long random word (openssl rand -hex 24), or use 127.0.0.1."
        yield Result("Browser page", "bad", f"{console.host} can be reached by others, and there is no token", fix)
        return
    from quantahr.cli.talk import check_port

    try:
        check_port(settings)
    except SettingsError as error:
        state: State = "note" if _answers(console.host, console.port) else "bad"
        fix = "Fine if that is QuantaHR itself; else choose another console.port."
        yield Result("Browser page", state, str(error).partition(". ")[0], fix)
        return
    yield Result("Browser page", "good", f"port {console.port} on {console.host} is free")


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _free_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
