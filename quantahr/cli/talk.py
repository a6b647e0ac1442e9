"""`quantahr ask` and `quantahr up`: talking to a worker from this terminal."""

import asyncio
import contextlib
import signal
import sys
import webbrowser

from rich.console import Console

from quantahr.bus import Asking
from quantahr.cli.stack import Stack
from quantahr.errors import QuantaHRError
from quantahr.settings import Settings, load_secrets
from quantahr.store import Store


def ask(settings: Settings, question: str, console: Console) -> bool:
    """Ask one question of the workers at `settings.redis_url`. Returns False if it ended in an apology."""

    async def run() -> bool:
        from bots.console.terminal import ask_once
        from bots.conversation import Conversation

        store = Store.open(settings)
        bus = Asking(settings)
        conversation = Conversation(settings, bus, store)
        try:
            if not await bus.ping():
                raise QuantaHRError("Nothing is running. Start it with `quantahr up` (or `make demo`), then ask again.")
            answer = await ask_once(conversation, question, console, thread="ask")
            return answer.end.type == "final"
        finally:
            await conversation.close()
            await bus.close()
            store.close()

    return asyncio.run(run())


def up(settings: Settings, console: Console, *, question: str | None, browser: bool) -> bool:
    """Start everything, talk, and end everything that was started. Returns False if the question was not answered."""
    signal.signal(signal.SIGTERM, _leave)
    with Stack(settings, lambda text: console.print(f"[dim]{text}[/]") if question is None else None) as stack:
        running = settings.model_copy(update={"redis_url": stack.url})
        with console.status("Loading the model and reading the HR documents…") if console.is_terminal else _quietly():
            stack.wait_for_worker()
        if question is not None:
            return ask(running, question, console)
        asyncio.run(_serve(running, console, browser=browser and not stack.joined, page=not stack.joined))
    console.print("[dim]Stopped.[/]")
    return True


async def _serve(settings: Settings, console: Console, *, browser: bool, page: bool) -> None:
    from bots.console.web import serve

    from bots.console.terminal import chat
    from bots.conversation import Conversation

    store = Store.open(settings)
    bus = Asking(settings)
    conversation = Conversation(settings, bus, store)
    try:
        async with serve(settings, load_secrets(), conversation) if page else _nothing() as address:
            if address:
                console.print(f"Chat in the browser: [link={address}]{address}[/link]", highlight=False)
                if browser:
                    await asyncio.to_thread(webbrowser.open, address)
            if sys.stdin.isatty():
                await chat(conversation, console)
            else:
                console.print("Press Ctrl-C to stop.")
                await asyncio.Event().wait()
    finally:
        await conversation.close()
        await bus.close()
        store.close()


def _quietly() -> contextlib.nullcontext[None]:
    return contextlib.nullcontext()


def _nothing() -> contextlib.nullcontext[str]:
    return contextlib.nullcontext("")


def _leave(number: int, frame: object) -> None:
    del number, frame
    raise KeyboardInterrupt
