"""Sending what is due: claim, write the text, queue it. Called by the beat's tick as often as one likes.

Safe to run in several workers, to be killed anywhere and to run again; `quantahr.people.onboarding` says why.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from quantahr.people import joiner as arithmetic
from quantahr.people.joiner import Joiner, Kept, Parcel
from quantahr.people.journeys import Journeys, Step, fill
from quantahr.people.onboarding import Letter, LostError, Onboarding
from quantahr.people.words import card
from quantahr.settings import Settings
from worker.people.personal import Passage

log = logging.getLogger(__name__)

Read = Callable[[Step, Joiner], Passage | None]
REMINDER = "A gentle reminder: these are still open. Press “Done” when they are, or ask me if something is unclear."
SEVERAL = "A few things for you:"


def send_due(
    onboarding: Onboarding, journeys: Journeys, settings: Settings, read: Read, now: float, *, limit: int = 20
) -> int:
    """Send everything that is due. Returns how many messages were queued."""
    for joiner in onboarding.unplanned(journeys.version):
        onboarding.lay(joiner, arithmetic.plan(joiner, journeys, settings.company.name), journeys.version)
    sent = 0
    for joiner, token in onboarding.claim(limit):
        try:
            steps = onboarding.steps(joiner)
            what = arithmetic.due(joiner, steps, journeys, now, hr=hr_address(joiner, settings) is not None)
            letters = [_letter(joiner, parcel, steps, journeys, settings, read, now) for parcel in what.parcels]
            sent += onboarding.settle(joiner, token, what, letters)
        except LostError:
            log.info("joiner %s is looked after by another process", joiner.id)
        except Exception as error:
            # The type only: an exception's text may hold what was to be sent. The others get theirs all the same.
            log.error("joiner %s: nothing was sent (%s); tried again in some minutes", joiner.id, type(error).__name__)  # noqa: TRY400
    return sent


def render_step(step: Step, joiner: Joiner, journeys: Journeys, settings: Settings, read: Read) -> str:
    """The text of one step for this person: what HR wrote, then what the documents say, then where."""
    fields = joiner.fields(journeys, settings.company.name)
    parts = [f"*{fill(step.title, fields)}*", fill(step.text, fields)]
    if step.policy and (passage := read(step, joiner)):
        parts += [passage.text, f"({'; '.join(passage.where)})"]
    return "\n".join(part for part in parts if part)


def hr_address(joiner: Joiner, settings: Settings) -> Mapping[str, Any] | None:
    """Where HR reads; None if nobody configured that."""
    if joiner.platform == "slack":
        return {"channel": settings.slack.hr_channel} if settings.slack.hr_channel else None
    if joiner.platform == "teams" and settings.teams.hr_conversation:
        return {"tenant": joiner.tenant, "conversation": settings.teams.hr_conversation}
    return None


def _letter(
    joiner: Joiner, parcel: Parcel, rows: list[Kept], journeys: Journeys, settings: Settings, read: Read, now: float
) -> Letter:
    by_id = {row.step: row for row in rows}
    lines = []
    for name in parcel.steps:
        step, row = journeys.step(name), by_id[name]
        if parcel.reminder or step is None:
            text = f"*{row.title}*"
        else:
            text = render_step(step, joiner, journeys, settings, read)
        button = [("Done", f"done:{joiner.id}:{joiner.run}:{name}")] if row.asks else []
        lines.append((text, button))
    intro = REMINDER if parcel.reminder else SEVERAL if len(lines) > 1 else ""
    user = joiner.recipient(parcel.recipient)
    to_hr = parcel.recipient == "hr"
    address = hr_address(joiner, settings) if to_hr else {"tenant": joiner.tenant, "user": user}
    day = journeys.place(joiner.location).date(now)
    return Letter(parcel.id(joiner, day), parcel, address or {}, card(intro, lines))
