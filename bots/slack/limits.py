"""Slack's limits, and how much of them is left in this workspace.

Painting a growing answer is a luxury, the finished answer is not: so only painting asks here before it calls, and when
a minute's share is used up, answers go on with a status and one post. What a workspace turns out not to know (streams,
statuses, newer blocks) is remembered, so that each is tried once.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Final, Literal

PIECE: Final = 9000
"""Characters of answer in one message: with sources and buttons it stays below the 13,000 that Slack takes."""
MARKDOWN_CALL: Final = 12_000
SECTION: Final = 2900
"""A section block takes 3,000."""
PACE_SECONDS: Final = 1.0
STATUS_SECONDS: Final = 100.0
"""Slack forgets a status after two minutes."""

Call = Literal["start", "append", "update", "status"]
_A_MINUTE: Final[dict[Call, int]] = {"start": 18, "append": 90, "update": 40, "status": 300}
"""Below tier 2 (20), tier 4 (100), tier 3 (50, of which finished answers need some) and 600 for statuses."""


class Workspace:
    """What one workspace can do, and what is left of its budget. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._calls: dict[Call, deque[float]] = {call: deque() for call in _A_MINUTE}
        self._until: dict[Call, float] = {}
        self.streams = True
        self.statuses = True
        self.modern_blocks = True
        """Markdown blocks and feedback buttons; else sections and plain buttons."""

    def take(self, call: Call) -> bool:
        """Spend one call of the minute's budget. False if there is none left."""
        now = self._clock()
        calls = self._calls[call]
        while calls and calls[0] <= now - 60:
            calls.popleft()
        if now < self._until.get(call, 0.0) or len(calls) >= _A_MINUTE[call]:
            return False
        calls.append(now)
        return True

    def pause(self, call: Call, seconds: float) -> None:
        """Slack asked for a rest."""
        self._until[call] = self._clock() + seconds
