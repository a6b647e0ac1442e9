"""The chat in the terminal: the same conversation, printed."""

import asyncio
import getpass
import os
import secrets
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from bots import wording
from bots.conversation import Answer, Conversation, Incoming
from quantahr.messages import Final, Source

TENANT = "local"
MAX_LINE = 64 * 1024


class TerminalSurface:
    """Prints one answer as it grows, then its sources."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None
        self._printed = ""
        self.done = asyncio.Event()
        self.answer: Answer | None = None

    @property
    def address(self) -> Mapping[str, Any]:
        """Empty: a terminal that is gone cannot be found again."""
        return {}

    async def status(self, text: str) -> None:
        if not self._console.is_terminal:
            return
        if self._status is None:
            self._status = self._console.status(text)
            self._status.start()
        else:
            self._status.update(text)

    async def show(self, text: str) -> None:
        self._quiet()
        # What stands on the screen stays: a second attempt that words it differently is shown whole by `finish`.
        if text.startswith(self._printed):
            self._console.print(escape(text[len(self._printed) :]), end="", highlight=False, soft_wrap=True)
            self._printed = text

    async def finish(self, answer: Answer) -> None:
        self._quiet()
        end = answer.end
        if end.text.startswith(self._printed):
            self._console.print(escape(end.text[len(self._printed) :]), highlight=False, soft_wrap=True)
        else:
            self._console.print("\n" + escape(end.text), highlight=False, soft_wrap=True)
        if isinstance(end, Final):
            self._sources(end)
        self.answer = answer
        self.done.set()

    def _sources(self, end: Final) -> None:
        if end.sources:
            self._console.print()
        for source in end.sources:
            effective = f", effective {source.effective}" if source.effective else ""
            where = f"{_where(source)} (version {source.version}{effective})"
            self._console.print(f"[dim]\\[{source.number}] {where}[/]", highlight=False, soft_wrap=True)
        if end.verdict == "abstained" and end.closest:
            self._console.print(f"\n[dim]{wording.CLOSEST}:[/]")
            for source in end.closest:
                self._console.print(f"[dim]  {_where(source)}[/]", highlight=False, soft_wrap=True)

    def _quiet(self) -> None:
        if self._status:
            self._status.stop()
            self._status = None


def _where(source: Source) -> str:
    return escape(f"{source.document}: {source.heading}")


async def ask_once(conversation: Conversation, question: str, console: Console, *, thread: str) -> Answer:
    """Ask one question and print the answer. Raises QueueError if it could not be asked."""
    surface = TerminalSurface(console)
    incoming = Incoming(
        platform="console",
        tenant=TENANT,
        conversation="terminal",
        thread=thread,
        user=getpass.getuser(),
        event=secrets.token_hex(12),
        text=question,
        private=True,
    )
    identifier = await conversation.ask(incoming, surface)
    try:
        await surface.done.wait()
    except asyncio.CancelledError:
        if identifier:
            await conversation.stop(identifier, incoming.user)
        raise
    assert surface.answer is not None  # noqa: S101 - set together with `done`
    return surface.answer


async def chat(conversation: Conversation, console: Console) -> None:
    """Ask and answer until the user leaves (`exit`, Ctrl-D, Ctrl-C)."""
    thread = secrets.token_hex(6)
    console.print(
        f"\n{escape(wording.WELCOME)}\n[dim]{escape(wording.NOTICE)} Type exit to leave.[/]\n", highlight=False
    )
    while True:
        console.print("[bold cyan]You:[/] ", end="")
        question = await _line()
        if question is None or question.strip().lower() in {"exit", "quit", ":q"}:
            return
        if question.strip():
            console.print("[bold green]QuantaHR:[/] ", end="")
            await ask_once(conversation, question, console, thread=thread)
            console.print()


async def _line() -> str | None:
    """The next line that is typed, None at its end.

    Not `input` in a thread: a thread that waits for the keyboard cannot be ended, and would hold up Ctrl-C.
    """
    loop = asyncio.get_running_loop()
    typed = asyncio.Event()
    keyboard = sys.stdin.fileno()
    loop.add_reader(keyboard, typed.set)
    try:
        await typed.wait()
    finally:
        loop.remove_reader(keyboard)
    line = os.read(keyboard, MAX_LINE)
    return line.decode(sys.stdin.encoding, errors="replace") if line else None
