"""Teams' limits per conversation, kept by waiting: 7 messages in a second, 60 in 30 seconds, 1,800 in an hour."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

LIMITS: Final = ((7, 1.0), (60, 30.0), (1800, 3600.0))
MARGIN: Final = 0.05
"""Seconds: what leaves here evenly may arrive there bunched."""
KEPT: Final = 5000
"""Conversations remembered; the quietest are forgotten first."""


class Rates:
    """When each conversation may be written to. `clock` and `sleep` are for tests."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._sent: dict[str, deque[float]] = {}

    async def wait(self, conversation: str) -> None:
        """Return once a message may be sent to `conversation`, and count it."""
        while (pause := self._pause(conversation)) > 0:
            await self._sleep(pause)

    def _pause(self, conversation: str) -> float:
        """Seconds to wait; at 0 the message is counted."""
        now = self._clock()
        # Taken out and put back, so that the dictionary's order is by the last use.
        sent = self._sent.pop(conversation, None) or deque(maxlen=LIMITS[-1][0])
        self._sent[conversation] = sent
        if len(self._sent) > KEPT:
            del self._sent[next(iter(self._sent))]
        pause = max(
            (sent[-count] + seconds + MARGIN - now for count, seconds in LIMITS if len(sent) >= count), default=0.0
        )
        if pause <= 0:
            sent.append(now)
        return pause
