"""People in a chat, whatever the platform: what parity scripts are written against.

A fake platform is a `World`; it hands out `Person`s who write, press and look. What they see is a `Shown`: the
platform's own message, reduced to what a human notices. A script that holds in every world proves them equal.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Where = Literal["private", "channel"]
Button = Literal["up", "down", "human", "stop", "sources", "closest"]


@dataclass(frozen=True, slots=True)
class Shown:
    """One message as somebody sees it. `raw` is the platform's own form, for scripts of that platform only."""

    id: str
    where: Where
    thread: str
    text: str
    sources: str
    buttons: tuple[Button, ...]
    by_bot: bool
    growing: bool
    """Still being written."""
    only_me: bool
    """Nobody else sees it, although it stands where others could."""
    raw: Any = None


class Person(Protocol):
    """Somebody with an account."""

    @property
    def id(self) -> str: ...

    async def write(self, text: str, where: Where = "private", thread: str | None = None) -> str:
        """Say something to the assistant; in a channel with a mention, unless it is in a thread already.

        Returns the thread in which an answer is expected.
        """

    async def press(self, button: Button, shown: Shown) -> None:
        """Press a button under a message; “human” includes agreeing."""

    async def unfolded(self) -> str:
        """The text of what was opened last (a modal, a card)."""

    async def answer_as_hr(self, text: str) -> None:
        """Reply to the newest question in HR's channel."""

    def sees(self, where: Where | None = None) -> Sequence[Shown]:
        """All messages that this person can see now, oldest first."""


class World(Protocol):
    """A fake platform with the bot connected to it."""

    platform: str
    streams: bool
    """Whether answers grow before the person's eyes in private."""

    def person(self, name: str) -> Person: ...

    async def deliver_again(self) -> None:
        """The platform delivers the last event once more, as it does when an acknowledgement was lost."""


async def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait until `condition` gives something true, and return it. Raises AssertionError if it never does."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not (found := condition()):
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"still waiting after {seconds} s")
        await asyncio.sleep(0.02)
    return found


def answers(person: Person, where: Where | None = None) -> list[Shown]:
    """The finished messages of the assistant."""
    return [shown for shown in person.sees(where) if shown.by_bot and not shown.growing]


async def answer(person: Person, containing: str, where: Where | None = None) -> Shown:
    """Wait for a finished answer with these words in it."""
    found = await until(lambda: [shown for shown in answers(person, where) if containing in shown.text])
    assert len(found) == 1, f"{len(found)} answers contain it"
    shown: Shown = found[0]
    return shown
