"""The store's operations, one transaction each."""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import URL, Engine, create_engine, delete, event, func, make_url, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from quantahr.messages import Final, Platform, Question
from quantahr.settings import Secrets, Settings, load_secrets
from quantahr.store.records import Delivery, Escalation, Turn
from quantahr.store.schema import migrate
from quantahr.store.tables import (
    AnswerRow,
    AuditRow,
    EscalationRow,
    FeedbackRow,
    OutboxRow,
    QuestionRow,
    ReferenceRow,
)

DAY = 86_400
THREAD_SECONDS = 1800
"""A question is a follow-up of those asked in its thread during the last half hour."""


class Store:
    """The database. Thread-safe; `clock` gives seconds since 1970."""

    def __init__(self, url: str | URL, *, clock: Callable[[], float] = time.time) -> None:
        self.engine = _engine(url)
        self.clock = clock
        self.session = sessionmaker(self.engine, expire_on_commit=False)
        migrate(self.engine)

    @classmethod
    def open(cls, settings: Settings) -> "Store":
        """The configured database, at this version's schema; its password comes from DATABASE_PASSWORD, or from the
        file that DATABASE_PASSWORD_FILE names. Raises StoreError and SettingsError."""
        return cls(with_password(settings.database, load_secrets()))

    def close(self) -> None:
        self.engine.dispose()

    # Questions and answers

    def record_answer(self, question: Question, answer: Final) -> None:
        """Keep a question and its answer; of a sensitive one only that there was one. Repeating it changes nothing."""
        private = answer.verdict == "sensitive"
        sources = [
            source.model_dump(include={"number", "section", "document", "heading", "version"})
            for source in answer.sources
        ]
        made = answer.provenance
        with self.session.begin() as session:
            session.merge(
                QuestionRow(
                    id=question.id,
                    platform=question.platform,
                    tenant=question.tenant,
                    conversation=question.conversation,
                    thread=question.thread,
                    user=question.user,
                    text=None if private else question.text,
                    asked_at=question.asked_at,
                )
            )
            session.flush()
            session.merge(
                AnswerRow(
                    question=question.id,
                    verdict=answer.verdict,
                    text=None if private else answer.text,
                    sources=sources,
                    model=made.model if made else None,
                    adapter=made.adapter if made else None,
                    index=made.index if made else None,
                    ms_first_token=answer.ms_first_token,
                    ms_total=answer.ms_total,
                    answered_at=self.clock(),
                )
            )

    def earlier(self, question: Question, limit: int) -> list[Turn]:
        """The last `limit` questions of the same thread, oldest first.

        Where others can read along, everyone's count; elsewhere a thread is one person's anyway.
        """
        query = (
            select(QuestionRow, AnswerRow.verdict)
            .join(AnswerRow, AnswerRow.question == QuestionRow.id)
            .where(
                QuestionRow.platform == question.platform,
                QuestionRow.tenant == question.tenant,
                QuestionRow.conversation == question.conversation,
                QuestionRow.thread == question.thread,
                QuestionRow.asked_at < question.asked_at,
                QuestionRow.asked_at > question.asked_at - THREAD_SECONDS,
                QuestionRow.id != question.id,
            )
            .order_by(QuestionRow.asked_at.desc())
            .limit(limit)
        )
        if question.private:
            query = query.where(QuestionRow.user == question.user)
        with self.session() as session:
            rows = session.execute(query).all()
        return [Turn(row.id, row.text, verdict) for row, verdict in reversed(rows)]

    def question(self, identifier: str) -> QuestionRow | None:
        with self.session() as session:
            return session.get(QuestionRow, identifier)

    def answer(self, identifier: str) -> AnswerRow | None:
        with self.session() as session:
            return session.get(AnswerRow, identifier)

    def joined(self, platform: Platform, tenant: str, conversation: str, thread: str) -> bool:
        """Whether a question has been answered in this thread, so that follow-ups need no mention."""
        with self.session() as session:
            query = (
                select(func.count())
                .select_from(QuestionRow)
                .where(
                    QuestionRow.platform == platform,
                    QuestionRow.tenant == tenant,
                    QuestionRow.conversation == conversation,
                    QuestionRow.thread == thread,
                )
            )
            return bool(session.scalar(query))

    # Feedback and escalations

    def record_feedback(
        self, question: str, user: str, rating: int, reasons: Sequence[str] = (), comment: str | None = None
    ) -> bool:
        """Keep a rating (+1 or -1); a second one by the same person replaces the first.

        Returns False if there is no such question (any more).
        """
        with self.session.begin() as session:
            if session.get(QuestionRow, question) is None:
                return False
            row = session.scalar(select(FeedbackRow).where(FeedbackRow.question == question, FeedbackRow.user == user))
            row = row or FeedbackRow(question=question, user=user)
            row.rating, row.reasons, row.comment, row.at = rating, list(reasons), comment, self.clock()
            session.add(row)
        return True

    def open_escalation(
        self,
        *,
        question: str | None,
        platform: Platform,
        tenant: str,
        user: str,
        text: str,
        address: Mapping[str, Any],
        hr_address: Mapping[str, Any],
    ) -> Escalation | None:
        """Keep a question for HR and queue its message to HR, together. Returns None if this was done before."""
        identifier = secrets.token_hex(8)
        with self.session.begin() as session:
            if question is not None:
                known = select(EscalationRow).where(EscalationRow.question == question, EscalationRow.user == user)
                if session.scalar(known) is not None:
                    return None
            row = EscalationRow(
                id=identifier,
                question=question,
                platform=platform,
                tenant=tenant,
                user=user,
                text=text,
                address=dict(address),
                state="open",
                opened_at=self.clock(),
            )
            session.add(row)
            payload = {"escalation": identifier, "question": question, "user": user, "text": text}
            self._queue(
                session, f"escalation-{identifier}", platform, address=hr_address, kind="escalation", payload=payload
            )
            session.flush()
            return _escalation(row)

    def escalation(self, identifier: str) -> Escalation | None:
        with self.session() as session:
            row = session.get(EscalationRow, identifier)
            return _escalation(row) if row else None

    def answer_escalation(self, identifier: str, hr_user: str, text: str) -> Escalation | None:
        """Queue HR's reply to the employee and close the escalation. Returns None if it is closed or unknown."""
        with self.session.begin() as session:
            row = session.get(EscalationRow, identifier, with_for_update=True)
            if row is None or row.state != "open":
                return None
            row.state, row.replied_by, row.closed_at = "answered", hr_user, self.clock()
            payload = {"escalation": identifier, "question": row.text, "text": text, "by": hr_user}
            self._queue(
                session, f"hr-reply-{identifier}", row.platform, address=row.address, kind="hr_reply", payload=payload
            )
            self._note(session, f"{row.platform}:{hr_user}", "escalation.answered", identifier, {})
            return _escalation(row)

    # Outbox

    def queue_message(
        self,
        identifier: str,
        platform: str,
        address: Mapping[str, Any],
        kind: str,
        payload: Mapping[str, Any],
        *,
        not_before: float = 0.0,
    ) -> bool:
        """Queue a message for delivery. Returns False if `identifier` was queued before."""
        try:
            with self.session.begin() as session:
                self._queue(
                    session, identifier, platform, address=address, kind=kind, payload=payload, not_before=not_before
                )
        except IntegrityError:
            return False
        return True

    def lease_messages(self, platform: str, seconds: float, limit: int = 20) -> list[Delivery]:
        """Take messages that are due, for `seconds`; of one address only the oldest undelivered one."""
        now = self.clock()
        with self.session.begin() as session:
            first = (
                select(func.min(OutboxRow.queued_at))
                .where(
                    OutboxRow.platform == platform,
                    OutboxRow.state == "waiting",
                    # What is scheduled for later holds nobody up; what failed and waits for another try does.
                    or_(OutboxRow.not_before <= now, OutboxRow.attempts > 0),
                )
                .group_by(OutboxRow.order_key)
            )
            query = (
                select(OutboxRow)
                .where(
                    OutboxRow.platform == platform,
                    OutboxRow.state == "waiting",
                    OutboxRow.not_before <= now,
                    OutboxRow.leased_until <= now,
                    OutboxRow.queued_at.in_(first),
                )
                .order_by(OutboxRow.queued_at)
                .limit(limit)
                .with_for_update(skip_locked=True)
            )
            taken: dict[str, OutboxRow] = {}
            for row in session.scalars(query):
                taken.setdefault(row.order_key, row)
            for row in taken.values():
                row.leased_until = now + seconds
                row.attempts += 1
            return [Delivery(r.id, r.platform, r.address, r.kind, r.payload, r.attempts) for r in taken.values()]

    def message_sent(self, identifier: str, remote: str | None = None) -> None:
        self._settle(identifier, state="sent", remote=remote, sent_at=self.clock(), error=None)

    def message_undeliverable(self, identifier: str, error: str) -> None:
        self._settle(identifier, state="undeliverable", error=error)

    def message_retry(self, identifier: str, after_seconds: float, error: str) -> None:
        self._settle(identifier, not_before=self.clock() + after_seconds, leased_until=0.0, error=error)

    def _settle(self, identifier: str, **values: Any) -> None:
        with self.session.begin() as session:
            session.execute(update(OutboxRow).where(OutboxRow.id == identifier).values(**values))

    def _queue(
        self,
        session: Session,
        identifier: str,
        platform: str,
        *,
        address: Mapping[str, Any],
        kind: str,
        payload: Mapping[str, Any],
        not_before: float = 0.0,
    ) -> None:
        where = address.get("conversation") or address.get("channel") or address.get("user") or ""
        session.add(
            OutboxRow(
                id=identifier,
                platform=platform,
                address=dict(address),
                kind=kind,
                payload=dict(payload),
                order_key=f"{platform}:{where}",
                not_before=not_before,
                state="waiting",
                queued_at=self.clock(),
            )
        )

    # References

    def remember_reference(
        self, platform: Platform, tenant: str, conversation: str, user: str, reference: Mapping[str, Any]
    ) -> None:
        """How to reach a conversation unasked; the newest counts, and makes it reachable again."""
        with self.session.begin() as session:
            session.merge(
                ReferenceRow(
                    platform=platform,
                    tenant=tenant,
                    conversation=conversation,
                    user=user,
                    reference=dict(reference),
                    reachable=True,
                    updated_at=self.clock(),
                )
            )

    def reference(self, platform: Platform, tenant: str, conversation: str) -> ReferenceRow | None:
        with self.session() as session:
            return session.get(ReferenceRow, (platform, tenant, conversation))

    def reference_of_user(self, platform: Platform, tenant: str, user: str) -> ReferenceRow | None:
        """The personal conversation with a user, if there is one that can be reached."""
        query = (
            select(ReferenceRow)
            .where(
                ReferenceRow.platform == platform,
                ReferenceRow.tenant == tenant,
                ReferenceRow.user == user,
                ReferenceRow.reachable.is_(True),
            )
            .order_by(ReferenceRow.updated_at.desc())
        )
        with self.session() as session:
            return session.scalars(query).first()

    def unreachable(self, platform: Platform, tenant: str, conversation: str) -> None:
        """The bot was removed there: nothing is sent until it hears from that conversation again."""
        with self.session.begin() as session:
            session.execute(
                update(ReferenceRow)
                .where(
                    ReferenceRow.platform == platform,
                    ReferenceRow.tenant == tenant,
                    ReferenceRow.conversation == conversation,
                )
                .values(reachable=False, updated_at=self.clock())
            )

    # Audit and retention

    def audit(self, actor: str, action: str, subject: str = "", **detail: Any) -> None:
        """Record who did what. Ids and numbers only."""
        with self.session.begin() as session:
            self._note(session, actor, action, subject, detail)

    def audited(self, action: str | None = None, limit: int = 100) -> list[AuditRow]:
        """The newest audit rows, newest first."""
        query = select(AuditRow).order_by(AuditRow.id.desc()).limit(limit)
        if action:
            query = query.where(AuditRow.action == action)
        with self.session() as session:
            return list(session.scalars(query))

    def _note(self, session: Session, actor: str, action: str, subject: str, detail: Mapping[str, Any]) -> None:
        session.add(AuditRow(at=self.clock(), actor=actor, action=action, subject=subject, detail=dict(detail)))

    def purge(self, *, questions_days: int, audit_days: int) -> int:
        """Delete what is older than the retention period. Returns the number of questions deleted."""
        now = self.clock()
        old = now - questions_days * DAY
        with self.session.begin() as session:
            outdated = select(QuestionRow.id).where(QuestionRow.asked_at < old)
            for table in (FeedbackRow, EscalationRow, AnswerRow):
                session.execute(delete(table).where(table.question.in_(outdated)))
            session.execute(delete(EscalationRow).where(EscalationRow.opened_at < old))
            session.execute(delete(OutboxRow).where(OutboxRow.state != "waiting", OutboxRow.queued_at < old))
            session.execute(delete(AuditRow).where(AuditRow.at < now - audit_days * DAY))
            gone: Any = session.execute(delete(QuestionRow).where(QuestionRow.asked_at < old))
            return int(gone.rowcount)


def with_password(address: str, held: Secrets) -> URL:
    """The database's address with the password in it; one that stands in the address already, stays."""
    url = make_url(address)
    if held.database_password and url.host and url.password is None:
        return url.set(password=held.database_password.get_secret_value())
    return url


def _engine(url: str | URL) -> Engine:
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, hide_parameters=True)
    engine = create_engine(url, connect_args={"timeout": 30}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    return engine


def _escalation(row: EscalationRow) -> Escalation:
    return Escalation(
        row.id, row.question, row.platform, row.tenant, row.user, row.text, row.address, row.state, row.replied_by
    )
