"""Onboarding in the database: who is on which journey, and every step sent exactly once.

Two ideas. Whoever sends holds a lease on the joiner, and the message, the state of its steps and the end of the lease
are written in one transaction: a process that dies before it has sent nothing, one that dies after it has sent once,
and of two that overlap one fails. And a journey is edited by laying a new plan over the old rows: what was sent stays.
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from quantahr.people.errors import PeopleError
from quantahr.people.joiner import Due, Joiner, Kept, Parcel, Planned
from quantahr.store import Store
from quantahr.store.people_tables import JoinerRow, StepRow
from quantahr.store.tables import AuditRow, OutboxRow

LEASE_SECONDS = 300.0
TITLE = 200
_COLUMNS = {"user": "user_id"}


class LostError(PeopleError):
    """Another process has taken over this joiner; nothing was written."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A rendered parcel: its outbox id, where it goes, what it says."""

    id: str
    parcel: Parcel
    address: Mapping[str, Any]
    payload: Mapping[str, Any]


class Onboarding:
    """All joiners of the installation."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # People

    def enrol(
        self,
        *,
        platform: str,
        tenant: str,
        by: str,
        start: date,
        user: str = "",
        email: str = "",
        name: str = "",
        role: str = "",
        location: str = "",
        contract: str = "",
        manager: str = "",
        buddy: str = "",
    ) -> tuple[Joiner, bool]:
        """Begin a journey, or change the details of one that runs. Returns the joiner, and whether it is new.

        Raises PeopleError if neither an account nor an e-mail address is known.
        """
        if not user and not email:
            raise PeopleError("Name the person: an account (@person) or an e-mail address.")
        told: dict[str, Any] = {
            "start": start.isoformat(),
            "user": user,
            "email": email.lower(),
            "name": name,
            "role": role,
            "location": location,
            "contract": contract,
            "manager": manager,
            "buddy": buddy,
        }
        for field, value in told.items():
            kind: Any = JoinerRow.__table__.c[_COLUMNS.get(field, field)].type
            if len(value) > kind.length:
                raise PeopleError(f"The {field} has {len(value)} characters; at most {kind.length} are kept.")
        with self._store.session.begin() as session:
            row = self._running(session, platform, tenant, user, email.lower())
            new = row is None
            if row is None:
                row = JoinerRow(
                    id=secrets.token_hex(6),
                    platform=platform,
                    tenant=tenant,
                    status="active",
                    run=1,
                    planned_with="",
                    next_at=0.0,
                    leased_until=0.0,
                    created_by=by,
                    created_at=self._store.clock(),
                    **told,
                )
                session.add(row)
            else:
                for field, value in told.items():
                    if value:
                        setattr(row, field, value)
                row.planned_with, row.next_at = "", 0.0
            session.flush()
            self._note(session, by, "onboarding.enrolled" if new else "onboarding.changed", row.id)
            return _joiner(row), new

    def arrived(self, *, platform: str, tenant: str, user: str, email: str, name: str) -> Joiner | None:
        """Somebody has an account now: the journey that waits for it goes on. None if no journey waits."""
        with self._store.session.begin() as session:
            row = self._running(session, platform, tenant, user, email.lower())
            if row is None:
                return None
            row.user, row.name = user, row.name or name
            row.planned_with, row.next_at = "", 0.0
            return _joiner(row)

    def find(self, platform: str, tenant: str, user: str) -> Joiner | None:
        """The journey of a user that runs or is paused."""
        with self._store.session() as session:
            row = self._running(session, platform, tenant, user, "")
            return _joiner(row) if row else None

    def get(self, identifier: str) -> Joiner | None:
        with self._store.session() as session:
            row = session.get(JoinerRow, identifier)
            return _joiner(row) if row else None

    def led_by(self, platform: str, tenant: str, user: str) -> list[Joiner]:
        """Those whose manager or buddy `user` is."""
        return self._listed(
            JoinerRow.platform == platform,
            JoinerRow.tenant == tenant,
            or_(JoinerRow.manager == user, JoinerRow.buddy == user),
            JoinerRow.status != "stopped",
        )

    def everyone(self, platform: str, tenant: str) -> list[Joiner]:
        """All that are on their way, for HR."""
        return self._listed(JoinerRow.platform == platform, JoinerRow.tenant == tenant, JoinerRow.status != "stopped")

    def steps(self, joiner: Joiner) -> list[Kept]:
        """The steps of the current run, in order of time."""
        query = select(StepRow).where(StepRow.joiner == joiner.id, StepRow.run == joiner.run)
        with self._store.session() as session:
            return [_kept(row) for row in session.scalars(query.order_by(StepRow.due, StepRow.step))]

    # Changes

    def set_status(self, identifier: str, status: str, by: str) -> bool:
        """active, paused or stopped. Returns False if there is no such joiner."""
        with self._store.session.begin() as session:
            row = session.get(JoinerRow, identifier)
            if row is None:
                return False
            row.status, row.next_at = status, 0.0
            self._note(session, by, f"onboarding.{status}", identifier)
            return True

    def restart(self, identifier: str, by: str, start: date | None = None) -> bool:
        """Begin the journey anew, from `start` if it is given. Returns False if there is no such joiner."""
        with self._store.session.begin() as session:
            row = session.get(JoinerRow, identifier)
            if row is None:
                return False
            row.run += 1
            row.start = start.isoformat() if start else row.start
            row.status, row.planned_with, row.next_at = "active", "", 0.0
            self._note(session, by, "onboarding.restarted", identifier)
            return True

    def mark(self, identifier: str, run: int, step: str, state: str, by: str) -> bool:
        """Set a step to done or skipped. Returns False if it was so before, or does not exist."""
        with self._store.session.begin() as session:
            changed: Any = session.execute(
                update(StepRow)
                .where(
                    StepRow.joiner == identifier, StepRow.run == run, StepRow.step == step,
                    StepRow.state.not_in(("done", state)),
                )
                .values(state=state, done_at=self._store.clock(), done_by=by)
            )  # fmt: skip
            return bool(changed.rowcount)

    # Sending

    def unplanned(self, version: str, limit: int = 50) -> list[Joiner]:
        """Joiners whose steps were computed from another version of the file, or of their details."""
        return self._listed(JoinerRow.status != "stopped", JoinerRow.planned_with != version, limit=limit)

    def lay(self, joiner: Joiner, steps: Sequence[Planned], version: str) -> None:
        """Lay a plan over the rows: new steps come, waiting ones move or go, what was sent stays.

        Nothing happens if another process has laid it, or if the journey's details have changed since they were read.
        """
        with self._store.session.begin() as session:
            # First of all a write: of two processes the second one waits here, and finds that it is done.
            mine: Any = session.execute(
                update(JoinerRow)
                .where(
                    JoinerRow.id == joiner.id,
                    JoinerRow.run == joiner.run,
                    JoinerRow.planned_with == joiner.planned_with,
                    JoinerRow.start == joiner.start.isoformat(),
                    JoinerRow.role == joiner.role,
                    JoinerRow.location == joiner.location,
                    JoinerRow.contract == joiner.contract,
                )
                .values(planned_with=version, next_at=0.0)
            )
            if not mine.rowcount:
                return
            query = select(StepRow).where(StepRow.joiner == joiner.id, StepRow.run == joiner.run).with_for_update()
            rows = {row.step: row for row in session.scalars(query)}
            for one in steps:
                row = rows.pop(one.step, None)
                if row is None:
                    session.add(
                        StepRow(
                            joiner=joiner.id, run=joiner.run, step=one.step, recipient=one.recipient,
                            title=one.title[:TITLE],
                            due=one.due, state="waiting", asks=one.asks, done_by="", reminders=0,
                        )
                    )  # fmt: skip
                elif row.state == "waiting":
                    row.recipient, row.title, row.due, row.asks = one.recipient, one.title[:TITLE], one.due, one.asks
            for row in rows.values():
                if row.state == "waiting":
                    session.delete(row)

    def claim(self, limit: int = 20) -> list[tuple[Joiner, str]]:
        """Take joiners for whom there may be something to send, each with the token of its lease."""
        now, token = self._store.clock(), secrets.token_hex(8)
        free = (
            JoinerRow.status == "active",
            JoinerRow.next_at <= now,
            JoinerRow.leased_until <= now,
            JoinerRow.planned_with != "",
        )
        first = select(JoinerRow.id).where(*free).order_by(JoinerRow.next_at).limit(limit)
        with self._store.session.begin() as session:
            # One statement: whoever comes second at the same moment finds the rows leased.
            session.execute(
                update(JoinerRow)
                .where(JoinerRow.id.in_(first.scalar_subquery()), *free)
                .values(lease=token, leased_until=now + LEASE_SECONDS)
            )
            taken = session.scalars(select(JoinerRow).where(JoinerRow.lease == token).order_by(JoinerRow.next_at))
            return [(_joiner(row), token) for row in taken]

    def settle(self, joiner: Joiner, token: str, what: Due, letters: Iterable[Letter]) -> int:
        """Queue the letters, mark their steps and give the lease back, all or nothing. Returns how many were queued.

        Raises LostError if somebody else took over, or a step was changed in the meantime.
        """
        now = self._store.clock()
        count = 0
        try:
            with self._store.session.begin() as session:
                mine: Any = session.execute(
                    update(JoinerRow)
                    .where(
                        JoinerRow.id == joiner.id,
                        JoinerRow.lease == token,
                        JoinerRow.run == joiner.run,
                        JoinerRow.status == "active",
                    )
                    .values(lease=None, leased_until=0.0, next_at=what.next_at)
                )
                if not mine.rowcount:
                    raise LostError(f"Joiner {joiner.id} was taken over by another process.")
                for letter in letters:
                    self._send(session, joiner, letter, now)
                    count += 1
                if what.late:
                    self._move(session, joiner, what.late, "waiting", state="late")
        except IntegrityError:
            raise LostError(f"A message to joiner {joiner.id} was queued before.") from None
        return count

    def _send(self, session: Session, joiner: Joiner, letter: Letter, now: float) -> None:
        parcel = letter.parcel
        if parcel.reminder:
            moved = self._move(session, joiner, parcel.steps, "sent", reminders=StepRow.reminders + 1, reminded_at=now)
        else:
            moved = self._move(session, joiner, parcel.steps, "waiting", state="sent", sent_at=now)
        if moved != len(parcel.steps):
            raise LostError(f"A step of joiner {joiner.id} was changed while it was sent.")
        where = letter.address.get("conversation") or letter.address.get("channel") or letter.address.get("user") or ""
        session.add(
            OutboxRow(
                id=letter.id, platform=joiner.platform, address=dict(letter.address), kind="people",
                payload=dict(letter.payload), order_key=f"{joiner.platform}:{where}", not_before=0.0, state="waiting",
                queued_at=now,
            )
        )  # fmt: skip
        session.flush()

    def _move(self, session: Session, joiner: Joiner, steps: Sequence[str], before: str, **values: Any) -> int:
        changed: Any = session.execute(
            update(StepRow)
            .where(
                StepRow.joiner == joiner.id,
                StepRow.run == joiner.run,
                StepRow.step.in_(steps),
                StepRow.state == before,
            )
            .values(**values)
        )
        return int(changed.rowcount)

    # Retention

    def purge(self, days: int) -> int:
        """Delete journeys that were stopped, or whose last step lies more than `days` back."""
        old = self._store.clock() - days * 86_400
        latest = select(func.max(StepRow.due)).where(StepRow.joiner == JoinerRow.id).scalar_subquery()
        with self._store.session.begin() as session:
            gone = list(session.scalars(select(JoinerRow.id).where(func.coalesce(latest, JoinerRow.created_at) < old)))
            session.execute(delete(StepRow).where(StepRow.joiner.in_(gone)))
            session.execute(delete(JoinerRow).where(JoinerRow.id.in_(gone)))
        return len(gone)

    def _listed(self, *conditions: Any, limit: int = 500) -> list[Joiner]:
        query = select(JoinerRow).where(*conditions).order_by(JoinerRow.start, JoinerRow.id).limit(limit)
        with self._store.session() as session:
            return [_joiner(row) for row in session.scalars(query)]

    def _running(self, session: Session, platform: str, tenant: str, user: str, email: str) -> JoinerRow | None:
        query = select(JoinerRow).where(
            JoinerRow.platform == platform, JoinerRow.tenant.in_((tenant, "")), JoinerRow.status != "stopped"
        )
        if user and (row := session.scalar(query.where(JoinerRow.user == user))) is not None:
            return row
        return session.scalar(query.where(JoinerRow.email == email, JoinerRow.user.in_(("", user)))) if email else None

    def _note(self, session: Session, actor: str, action: str, subject: str) -> None:
        session.add(AuditRow(at=self._store.clock(), actor=actor, action=action, subject=subject, detail={}))


def _joiner(row: JoinerRow) -> Joiner:
    return Joiner(
        row.id, row.platform, row.tenant, row.user, row.email, row.name, date.fromisoformat(row.start), row.role,
        row.location, row.contract, row.manager, row.buddy, row.status, row.run, row.planned_with,
    )  # fmt: skip


def _kept(row: StepRow) -> Kept:
    return Kept(
        row.step, row.recipient, row.title, row.due, row.state, row.asks, row.sent_at, row.done_at, row.reminders,
        row.reminded_at,
    )  # fmt: skip
