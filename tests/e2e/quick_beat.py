"""The real beat, in a hurry: `python -m tests.e2e.quick_beat`. It ticks each half second, its lease is two seconds."""

import functools

from quantahr.settings import load_settings
from worker import beat

TICK_SECONDS = 0.5
LEASE_SECONDS = 2.0
ONBOARDING_SECONDS = 2.0
"""Also how long a tick waits for a worker."""


def main() -> None:
    beat.EVERY["onboarding"] = ONBOARDING_SECONDS
    beat.LEASE_SECONDS = LEASE_SECONDS  # type: ignore[misc]
    beat.Beat.run = functools.partialmethod(beat.Beat.run, seconds=TICK_SECONDS)  # type: ignore[assignment,method-assign]
    beat.run_beat(load_settings())


if __name__ == "__main__":
    main()
