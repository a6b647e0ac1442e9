"""When somebody can be written to: working hours, weekends, holidays and time zones of a location.

A day is counted on the calendar of the person's own place and becomes seconds since 1970 only at the end, so that a
change of the clocks moves nothing: 09:30 stays 09:30 in Berlin.
"""

import datetime
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class WorkPlace:
    """A location of the company. `weekend` holds weekdays, Monday being 0."""

    name: str
    country: str
    zone: ZoneInfo
    opens: datetime.time = datetime.time(9)
    closes: datetime.time = datetime.time(17)
    weekend: frozenset[int] = frozenset({5, 6})
    holidays: frozenset[datetime.date] = field(default=frozenset())

    def works(self, day: datetime.date) -> bool:
        """Whether `day` is a working day here."""
        return day.weekday() not in self.weekend and day not in self.holidays

    def moment(self, day: datetime.date, at: datetime.time | None = None) -> float:
        """Seconds since 1970 of `at` (the opening by default) on `day` here, kept within working hours."""
        wanted = self.opens if at is None else min(max(at, self.opens), self.closes)
        return datetime.datetime.combine(day, wanted, self.zone).timestamp()

    def due(self, start: datetime.date, offset: int, at: datetime.time | None = None) -> float:
        """When a step `offset` calendar days after the first day is due.

        What falls on a free day moves to the next working day; before the first day it moves to the one before, so that
        it still arrives in time.
        """
        step = -DAY if offset < 0 else DAY
        return self.moment(self._working(start + offset * DAY, step), at)

    def next_opening(self, now: float) -> float:
        """`now` if people work here now, else when they next begin."""
        local = datetime.datetime.fromtimestamp(now, self.zone)
        if self.works(local.date()) and self.opens <= local.time() < self.closes:
            return now
        day = local.date() if local.time() < self.opens else local.date() + DAY
        return self.moment(self._working(day, DAY))

    def working_days_between(self, begin: float, end: float) -> int:
        """How many working days begin after `begin` and not after `end`."""
        first = datetime.datetime.fromtimestamp(begin, self.zone).date()
        last = datetime.datetime.fromtimestamp(end, self.zone).date()
        return sum(self.works(first + number * DAY) for number in range(1, (last - first).days + 1))

    def date(self, moment: float) -> datetime.date:
        """The calendar day of a moment here."""
        return datetime.datetime.fromtimestamp(moment, self.zone).date()

    def _working(self, day: datetime.date, step: datetime.timedelta) -> datetime.date:
        for _ in range(366):
            if self.works(day):
                return day
            day += step
        return day
