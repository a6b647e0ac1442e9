"""The outbox's loop ends when it is told to, whatever else happens in that moment."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bots import outbox
from bots.outbox import Outbox, Sent


class Quiet:
    """A store without messages, and a bus that says when it is asked to."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[str] = asyncio.Queue()
        self.looked = 0

    def lease_messages(self, _platform: str, _seconds: float) -> list[Any]:
        self.looked += 1
        return []

    async def subscribe(self, _channel: str) -> AsyncIterator[str]:
        while True:
            yield await self.said.get()


@pytest.mark.parametrize("turns", range(6))
async def test_it_ends_although_a_message_comes_in_the_same_moment(turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "LOOK_SECONDS", 0.5)
    quiet: Any = Quiet()

    async def send(_: Any) -> Sent:
        return Sent()

    running = asyncio.create_task(Outbox("teams", quiet, quiet, send).run())
    while not quiet.looked:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    quiet.said.put_nowait("new")
    # The loop takes a few turns from hearing of a message to looking for it; it may be ended in any of them.
    for _ in range(turns):
        await asyncio.sleep(0)
    running.cancel()
    done, _ = await asyncio.wait({running}, timeout=3)
    assert done
    assert running.cancelled()
