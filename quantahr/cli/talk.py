"""`quantahr ask` and `quantahr up`: talking to a worker from this terminal."""

import asyncio
import contextlib
import errno
import signal
import socket
import sys
import webbrowser
from collections.abc import AsyncIterator

from rich.console import Console

from bots.conversation import Conversation
from quantahr.bus import Asking
from quantahr.cli.stack import Stack, joined
from quantahr.errors import QuantaHRError, SettingsError
from quantahr.settings import Settings, load_secrets
from quantahr.store import Store

PREPARING = "Loading the model and reading the HR documents (the first time takes longer)…"


def ask(settings: Settings, question: str, console: Console) -> bool:
    """Ask one question of the workers that run. Returns False if it ended in an apology."""
    return asyncio.run(_ask(joined(settings), question, console))


def up(settings: Settings, console: Console, *, question: str | None, browser: bool) -> bool:
    """Start everything, talk, and end everything that was started. Returns False if the question was not answered."""
    # An end by SIGTERM is as orderly as one by Ctrl-C, which asyncio knows how to handle; a shell that starts us in the
    # background has us ignore the latter.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    if question is not None:
        with Stack(settings) as stack:
            with Console(stderr=True).status(PREPARING):
                stack.wait_for_worker()
            return asyncio.run(_ask(_at(settings, stack), question, console))
    with contextlib.suppress(KeyboardInterrupt):
        with Stack(settings) as stack:
            if stack.joined:
                console.print("[dim]A demo is running on this folder already; this is a second way into it.[/]")
            else:
                check_port(settings)
            with console.status(PREPARING):
                stack.wait_for_worker()
            asyncio.run(_talk(_at(settings, stack), console, browser=browser, page=not stack.joined))
        console.print("[dim]Stopped.[/]")
        return True
    console.print("\n[dim]Stopped.[/]")
    return True


def check_port(settings: Settings) -> None:
    """Raise SettingsError if the page's port is taken: better before the model is loaded than after."""
    host, port = settings.console.host, settings.console.port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        why = "is used by another program" if error.errno == errno.EADDRINUSE else "cannot be opened"
        raise SettingsError(
            f"Port {port} on {host} {why}. Choose another one, for example:\n\n"
            f"    QUANTAHR_CONSOLE__PORT={port + 1} make demo\n\nor console.port in config/quantahr.yaml."
        ) from None


def _at(settings: Settings, stack: Stack) -> Settings:
    return settings.model_copy(update={"redis_url": stack.url})


@contextlib.asynccontextmanager
async def _conversation(settings: Settings) -> AsyncIterator[Conversation]:
    store = await asyncio.to_thread(Store.open, settings)
    bus = Asking(settings)
    conversation = Conversation(settings, bus, store)
    try:
        yield conversation
    finally:
        await conversation.close()
        await bus.close()
        store.close()


async def _ask(settings: Settings, question: str, console: Console) -> bool:
    from bots.console.terminal import ask_once

    async with _conversation(settings) as conversation:
        if not await conversation.bus.ping():
            raise QuantaHRError(
                "No Redis answers, so nothing is running here. Start everything with `quantahr up` (or `make demo`) "
                "and ask in another terminal, or name your Redis with redis_url."
            )
        answer = await ask_once(conversation, question, console, thread="ask")
        return answer.end.type == "final"


async def _talk(settings: Settings, console: Console, *, browser: bool, page: bool) -> None:
    from bots.console.terminal import chat
    from bots.console.web import serve

    async with _conversation(settings) as conversation, contextlib.AsyncExitStack() as open_pages:
        if page:
            address = await open_pages.enter_async_context(serve(settings, load_secrets(), conversation))
            console.print(f"Chat in the browser: [link={address}]{address}[/link]", highlight=False)
            if browser and _has_display():
                await asyncio.to_thread(webbrowser.open, address)
        if sys.stdin.isatty():
            await chat(conversation, console)
        else:
            console.print("Press Ctrl-C to stop.")
            await asyncio.Event().wait()


def _has_display() -> bool:
    """Whether there is a browser with a window: a text browser would take this terminal over."""
    with contextlib.suppress(webbrowser.Error):
        return not isinstance(webbrowser.get(), webbrowser.GenericBrowser)
    return False
