"""A joiner and the steps of their journey, and what is to be sent now. Pure: no clock, no database, no network.

Two ideas. A plan is computed whole from the start date, the place and the file, and laid over the rows that exist, so
that changing either never sends anything twice. And what is due is gathered: after a weekend, or after three days
without a server, one person gets one message with what is still useful, and the rest only stands in their checklist.
"""

import datetime
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from quantahr.people.journeys import Journeys, Recipient, fill
from quantahr.people.worktime import WorkPlace

State = Literal["waiting", "sent", "done", "skipped", "late"]
HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Joiner:
    """Who starts where and when. Ids are the platform's; `user` is empty until there is an account."""

    id: str
    platform: str
    tenant: str
    user: str
    email: str
    name: str
    start: datetime.date
    role: str
    location: str
    contract: str
    manager: str
    buddy: str
    status: str
    run: int
    planned_with: str = ""

    def fields(self, journeys: Journeys, company: str) -> Mapping[str, str]:
        """What {fields} in texts become."""
        return {
            "first_name": self.name.split(" ")[0] if self.name else "there",
            "name": self.name or "your new colleague",
            "role": self.role or "a new colleague",
            "location": journeys.place(self.location).name,
            "country": journeys.place(self.location).country,
            "start": f"{self.start.day} {self.start:%B %Y}",
            "manager": "your manager",
            "buddy": "your buddy",
            "company": company,
        }

    def recipient(self, to: str) -> str:
        """The user who gets what is for `to`; empty if nobody was named, and for hr."""
        return {"joiner": self.user, "manager": self.manager, "buddy": self.buddy}.get(to, "")


@dataclass(frozen=True, slots=True)
class Planned:
    """A step of the file, computed for one person."""

    step: str
    recipient: Recipient
    title: str
    due: float
    asks: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """A step as the database has it."""

    step: str
    recipient: str
    title: str
    due: float
    state: str
    asks: bool
    sent_at: float | None = None
    done_at: float | None = None
    reminders: int = 0
    reminded_at: float | None = None


@dataclass(frozen=True, slots=True)
class Parcel:
    """One message to one recipient: the steps that are due, or reminders of those that are open."""

    recipient: str
    steps: tuple[str, ...]
    reminder: bool = False

    def id(self, joiner: Joiner, day: datetime.date) -> str:
        """The same for the same message, whoever computes it; a reminder is another one each day."""
        parts = [joiner.id, str(joiner.run), self.recipient, *sorted(self.steps)]
        parts += [f"reminder {day.isoformat()}"] if self.reminder else []
        return f"onb-{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:40]}"


@dataclass(frozen=True, slots=True)
class Due:
    """What a joiner's journey needs now: what to send, what has become useless, when to look again."""

    parcels: tuple[Parcel, ...]
    late: tuple[str, ...]
    next_at: float


def plan(joiner: Joiner, journeys: Journeys, company: str = "the company") -> list[Planned]:
    """Every step for this person, in order of time."""
    place = journeys.place(joiner.location)
    fields = joiner.fields(journeys, company)
    steps = journeys.steps_for(role=joiner.role, location=place.name, contract=joiner.contract)
    found = [
        Planned(step.id, step.to, fill(step.title, fields), place.due(joiner.start, step.day, step.time), step.ask)
        for step in steps
    ]
    return sorted(found, key=lambda one: one.due)


def in_order(steps: Iterable[Kept], journeys: Journeys) -> list[Kept]:
    """By time; what is due at the same moment as it stands in the file."""
    return sorted(steps, key=lambda one: (one.due, journeys.position(one.step), one.step))


def due(joiner: Joiner, steps: Iterable[Kept], journeys: Journeys, now: float, *, hr: bool = True) -> Due:
    """What to send at `now`. Nothing outside the working hours of the joiner's place.

    `hr` says whether HR has a place where it can be told something; what cannot reach anybody is left waiting.
    """
    place = journeys.place(joiner.location)
    rows = in_order(steps, journeys)
    opening = place.next_opening(now)
    if opening > now:
        return Due((), (), opening)
    late: list[str] = []
    groups: dict[str, list[str]] = {}
    for row in rows:
        if row.state != "waiting" or row.due > now:
            continue
        step = journeys.step(row.step)
        if step is None or place.working_days_between(row.due, now) > step.useful_days:
            late.append(row.step)
        elif to := _reachable(joiner, row.recipient, hr=hr):
            groups.setdefault(to, []).append(row.step)
    parcels = [Parcel(to, tuple(names)) for to, names in groups.items()]
    for to, names in _to_remind(joiner, rows, journeys, place, now, hr=hr).items():
        # Whoever gets something new today is not reminded in the same breath.
        if to not in groups:
            parcels.append(Parcel(to, tuple(names), reminder=True))
    return Due(tuple(parcels), tuple(late), _next_look(rows, journeys, now))


def _reachable(joiner: Joiner, recipient: str, *, hr: bool) -> str:
    """Who gets it: the named person, or HR where nobody was named; empty if nobody can."""
    if recipient == "hr" or (recipient in {"manager", "buddy"} and not joiner.recipient(recipient)):
        return "hr" if hr else ""
    return recipient if joiner.recipient(recipient) else ""


def _to_remind(
    joiner: Joiner, rows: Sequence[Kept], journeys: Journeys, place: WorkPlace, now: float, *, hr: bool
) -> dict[str, list[str]]:
    rule = journeys.reminders
    found: dict[str, list[str]] = {}
    for row in rows:
        since = row.reminded_at or row.sent_at
        if row.state != "sent" or not row.asks or row.reminders >= rule.times or since is None:
            continue
        to = _reachable(joiner, row.recipient, hr=hr)
        if to and place.working_days_between(since, now) >= rule.after_days:
            found.setdefault(to, []).append(row.step)
    return found


def _next_look(rows: Sequence[Kept], journeys: Journeys, now: float) -> float:
    times = [row.due for row in rows if row.state == "waiting" and row.due > now]
    waiting = any(row.state == "waiting" and row.due <= now for row in rows)
    reminding = any(row.state == "sent" and row.asks and row.reminders < journeys.reminders.times for row in rows)
    # A reminder, or somebody who can be reached only later, is looked for every few hours.
    if waiting or reminding:
        times.append(now + 3 * HOUR)
    return min(times, default=now + 24 * HOUR)
