"""Work done once in a while by whoever comes first, however many beats run.

One row per kind of work, taken by a conditional update: the database decides, so two beats on two machines never both
get it, and one that was killed is followed by another when its time is up.
"""

from typing import Any

from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from quantahr.store import Store
from quantahr.store.people_tables import PeriodRow


def take(store: Store, name: str, seconds: float, holder: str) -> bool:
    """Whether `holder` may do the work `name` now; nobody else may for `seconds`, itself included."""
    now = store.clock()
    with store.session.begin() as session:
        changed: Any = session.execute(
            update(PeriodRow)
            .where(PeriodRow.name == name, PeriodRow.until <= now)
            .values(holder=holder, until=now + seconds)
        )
        if changed.rowcount:
            return True
        if session.get(PeriodRow, name) is not None:
            return False
    try:
        with store.session.begin() as session:
            session.add(PeriodRow(name=name, holder=holder, until=now + seconds))
    except IntegrityError:
        return False
    return True


def keep(store: Store, name: str, seconds: float, holder: str) -> bool:
    """As `take`, but the holder itself may renew before its time is up."""
    now = store.clock()
    with store.session.begin() as session:
        changed: Any = session.execute(
            update(PeriodRow).where(PeriodRow.name == name, PeriodRow.holder == holder).values(until=now + seconds)
        )
        if changed.rowcount:
            return True
    return take(store, name, seconds, holder)
