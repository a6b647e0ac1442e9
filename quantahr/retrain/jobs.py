"""The jobs in the database: requests and wishes from the chat, leases for the driver, messages for the bots.

The database itself holds the rule of one active job (a unique column), so that it is true whoever asks, from whichever
platform, at the same moment. A driver writes only under its lease, which a successor's lease invalidates.
"""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from quantahr.retrain.job import FINAL, Job, JobError, Options, Wishes
from quantahr.store import Store
from quantahr.store.tables import AuditRow, JobMessageRow, JobRow

ACTIVE = "active"
NOTICE_LEASE_SECONDS = 60.0


class LeaseLostError(JobError):
    """Another process drives this job now."""


@dataclass(frozen=True, slots=True)
class Notice:
    """The message about a job in one place, leased to the bot that brings it up to date."""

    job: str
    platform: str
    place: str
    address: Mapping[str, Any]
    remote: str | None
    pictured: bool
    revision: int


class Leased:
    """A job in the hands of one driver."""

    def __init__(self, jobs: "Jobs", job: Job, wishes: Wishes, token: str, seconds: float) -> None:
        self._jobs, self._token, self._seconds = jobs, token, seconds
        self.job, self.wishes = job, wishes

    def save(self, job: Job) -> None:
        """Write the job down, read the wishes anew and renew the lease. Raises LeaseLostError."""
        self.wishes = self._jobs._save(self.job, job, self._token, self._seconds)
        self.job = job

    def renew(self) -> None:
        """Keep the job while a step takes its time; a lost lease shows at the next save."""
        self._jobs._renew(self.job.id, self._token, self._seconds)


class Jobs:
    """All retrain jobs of the installation."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # For the chat

    def request(self, options: Options, by: str) -> tuple[Job, bool]:
        """A new job, or the active one with False. `by` is platform:user."""
        for _ in range(3):
            if active := self.active():
                return active[0], False
            now = self._store.clock()
            job = Job(id=f"j{secrets.token_hex(5)}", options=options, requested_by=by, created_at=now, changed_at=now)
            row = JobRow(
                id=job.id, state=job.state, active=ACTIVE, document=job.model_dump(mode="json"), created_at=now
            )
            try:
                with self._store.session.begin() as session:
                    session.add(row)
                    self._note(session, by, "retrain.requested", job.id)
            except IntegrityError:
                continue  # somebody else was a moment earlier
            return job, True
        raise JobError("The database does not take a new job. Look at its log, then type /hr-retrain again.")

    def get(self, identifier: str) -> tuple[Job, Wishes] | None:
        with self._store.session() as session:
            row = session.get(JobRow, identifier)
            return (Job.model_validate(row.document), _wishes(row)) if row else None

    def active(self) -> tuple[Job, Wishes] | None:
        """The job that has not ended yet."""
        with self._store.session() as session:
            row = session.scalar(select(JobRow).where(JobRow.active == ACTIVE))
            return (Job.model_validate(row.document), _wishes(row)) if row else None

    def history(self, limit: int = 10) -> list[Job]:
        """The newest jobs, newest first."""
        with self._store.session() as session:
            rows = session.scalars(select(JobRow).order_by(JobRow.created_at.desc()).limit(limit))
            return [Job.model_validate(row.document) for row in rows]

    def confirm(self, identifier: str, by: str) -> bool:
        """Start the planned job. False if it cannot be confirmed (any more), or was before."""
        return self._wish(
            identifier,
            by,
            "retrain.confirmed",
            [JobRow.state == "requested", JobRow.confirmed_by.is_(None), JobRow.cancelled_by.is_(None)],
            {"confirmed_by": by},
        )

    def cancel(self, identifier: str, by: str) -> bool:
        """End the job. False if it has ended, is decided, or was cancelled before."""
        return self._wish(
            identifier,
            by,
            "retrain.cancelled",
            [JobRow.active == ACTIVE, JobRow.cancelled_by.is_(None), JobRow.decision.is_(None)],
            {"cancelled_by": by},
        )

    def decide(self, identifier: str, decision: Literal["approve", "reject"], by: str) -> bool:
        """Approve or reject the candidate. False unless it waits for exactly that."""
        return self._wish(
            identifier,
            by,
            f"retrain.{decision}",
            [JobRow.state == "awaiting_approval", JobRow.cancelled_by.is_(None), JobRow.decision.is_(None)],
            {"decision": decision, "decided_by": by},
        )

    # For the bots

    def watch(self, identifier: str, platform: str, place: str, address: Mapping[str, Any]) -> None:
        """Show the job in this place from now on, in one message."""
        row = JobMessageRow(job=identifier, platform=platform, place=place[:256], address=dict(address))
        try:
            with self._store.session.begin() as session:
                session.add(row)
        except IntegrityError:
            return  # it is shown there already

    def due(self, platform: str, limit: int = 10) -> list[Notice]:
        """Take the messages that do not show the newest state."""
        now = self._store.clock()
        with self._store.session.begin() as session:
            query = (
                select(JobMessageRow, JobRow.revision)
                .join(JobRow, JobRow.id == JobMessageRow.job)
                .where(
                    JobMessageRow.platform == platform,
                    JobMessageRow.shown < JobRow.revision,
                    JobMessageRow.leased_until <= now,
                    JobMessageRow.not_before <= now,
                )
                .limit(limit)
                .with_for_update(skip_locked=True)
            )
            found = []
            for row, revision in session.execute(query).all():
                row.leased_until = now + NOTICE_LEASE_SECONDS
                found.append(Notice(row.job, row.platform, row.place, row.address, row.remote, row.pictured, revision))
            return found

    def shown(self, notice: Notice, remote: str | None, *, pictured: bool, pause: float) -> None:
        """The message shows `notice.revision` now; it is not touched again for `pause` seconds."""
        now = self._store.clock()
        self._settle(
            notice, shown=notice.revision, remote=remote, pictured=pictured, leased_until=0.0, not_before=now + pause
        )

    def not_shown(self, notice: Notice, pause: float) -> None:
        """It did not work; try again after `pause` seconds."""
        self._settle(notice, leased_until=0.0, not_before=self._store.clock() + pause)

    def forget_place(self, notice: Notice) -> None:
        """Nobody can be reached there any more."""
        self._settle(notice, shown=2**31 - 1, leased_until=0.0)

    def curve(self, identifier: str) -> bytes | None:
        """The loss curve as PNG, once there is one."""
        with self._store.session() as session:
            return session.scalar(select(JobRow.curve).where(JobRow.id == identifier))

    # For the driver

    @contextmanager
    def lease(self, identifier: str, seconds: float = 60.0) -> Iterator[Leased | None]:
        """Drive a job alone for `seconds`, renewed by every save. None if another process does, or it is unknown."""
        token, now = secrets.token_hex(8), self._store.clock()
        taken = (
            update(JobRow)
            .where(JobRow.id == identifier, JobRow.leased_until <= now)
            .values(lease=token, leased_until=now + seconds)
        )
        with self._store.session.begin() as session:
            got: Any = session.execute(taken)
            row = session.get(JobRow, identifier, populate_existing=True) if got.rowcount else None
        if row is None:
            yield None
            return
        try:
            yield Leased(self, Job.model_validate(row.document), _wishes(row), token, seconds)
        finally:
            with self._store.session.begin() as session:
                session.execute(
                    update(JobRow)
                    .where(JobRow.id == identifier, JobRow.lease == token)
                    .values(lease=None, leased_until=0.0)
                )

    def keep_curve(self, identifier: str, picture: bytes) -> None:
        with self._store.session.begin() as session:
            session.execute(update(JobRow).where(JobRow.id == identifier).values(curve=picture))

    def _save(self, before: Job, job: Job, token: str, seconds: float) -> Wishes:
        now = self._store.clock()
        values: dict[str, Any] = {"leased_until": now + seconds}
        if job != before:
            values |= {
                "document": job.model_dump(mode="json"),
                "state": job.state,
                "revision": JobRow.revision + 1,
                "active": None if job.state in FINAL else ACTIVE,
            }
        with self._store.session.begin() as session:
            held = update(JobRow).where(JobRow.id == job.id, JobRow.lease == token).values(**values)
            got: Any = session.execute(held)
            if not got.rowcount:
                raise LeaseLostError("Another process drives this job now; this one steps back.")
            if job.state != before.state:
                self._note(session, "system", f"retrain.{job.state}", job.id)
            row = session.get_one(JobRow, job.id, populate_existing=True)
            return _wishes(row)

    def _renew(self, identifier: str, token: str, seconds: float) -> None:
        with self._store.session.begin() as session:
            session.execute(
                update(JobRow)
                .where(JobRow.id == identifier, JobRow.lease == token)
                .values(leased_until=self._store.clock() + seconds)
            )

    def _wish(self, identifier: str, by: str, action: str, where: list[Any], values: dict[str, Any]) -> bool:
        wish = update(JobRow).where(JobRow.id == identifier, *where)
        with self._store.session.begin() as session:
            got: Any = session.execute(wish.values(**values, revision=JobRow.revision + 1))
            if got.rowcount:
                self._note(session, by, action, identifier)
            return bool(got.rowcount)

    def _note(self, session: Any, actor: str, action: str, subject: str) -> None:
        session.add(AuditRow(at=self._store.clock(), actor=actor, action=action, subject=subject, detail={}))

    def _settle(self, notice: Notice, **values: Any) -> None:
        with self._store.session.begin() as session:
            session.execute(
                update(JobMessageRow)
                .where(
                    JobMessageRow.job == notice.job,
                    JobMessageRow.platform == notice.platform,
                    JobMessageRow.place == notice.place,
                )
                .values(**values)
            )


def _wishes(row: JobRow) -> Wishes:
    return Wishes.model_validate(
        {
            "confirmed_by": row.confirmed_by,
            "cancelled_by": row.cancelled_by,
            "decision": row.decision,
            "decided_by": row.decided_by,
        }
    )
