"""The tables. Times are seconds since 1970, UTC, so that both databases agree on them."""

from typing import Any, ClassVar

from sqlalchemy import JSON, Float, ForeignKey, Index, Integer, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    type_annotation_map: ClassVar[dict[Any, Any]] = {dict[str, Any]: JSON, list[Any]: JSON, float: Float}


class QuestionRow(Base):
    """A question. `text` is null for a sensitive one."""

    __tablename__ = "questions"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    platform: Mapped[str] = mapped_column(String(16))
    tenant: Mapped[str] = mapped_column(String(128))
    conversation: Mapped[str] = mapped_column(String(256))
    thread: Mapped[str] = mapped_column(String(256))
    user: Mapped[str] = mapped_column("user_id", String(128))
    text: Mapped[str | None] = mapped_column(Text)
    asked_at: Mapped[float]
    __table_args__ = (
        Index("questions_by_thread", "platform", "tenant", "conversation", "thread", "asked_at"),
        Index("questions_by_user", "platform", "user_id"),
        Index("questions_by_time", "asked_at"),
    )


class AnswerRow(Base):
    """The answer to a question, with what produced it. `text` is null for a sensitive one."""

    __tablename__ = "answers"
    question: Mapped[str] = mapped_column(ForeignKey("questions.id", ondelete="CASCADE"), primary_key=True)
    verdict: Mapped[str] = mapped_column(String(16))
    text: Mapped[str | None] = mapped_column(Text)
    sources: Mapped[list[Any]]
    """[{section, document, heading, version}], without the passages."""
    model: Mapped[str | None] = mapped_column(String(64))
    adapter: Mapped[str | None] = mapped_column(String(64))
    index: Mapped[str | None] = mapped_column("policy_index", String(64))
    ms_first_token: Mapped[float | None]
    ms_total: Mapped[float | None]
    answered_at: Mapped[float]


class FeedbackRow(Base):
    __tablename__ = "feedback"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    question: Mapped[str] = mapped_column(ForeignKey("questions.id", ondelete="CASCADE"))
    user: Mapped[str] = mapped_column("user_id", String(128))
    rating: Mapped[int]
    """+1 or -1."""
    reasons: Mapped[list[Any]]
    comment: Mapped[str | None] = mapped_column(Text)
    at: Mapped[float]
    __table_args__ = (UniqueConstraint("question", "user_id"),)


class EscalationRow(Base):
    """A question that its asker agreed to show to HR."""

    __tablename__ = "escalations"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    question: Mapped[str | None] = mapped_column(ForeignKey("questions.id", ondelete="CASCADE"))
    platform: Mapped[str] = mapped_column(String(16))
    tenant: Mapped[str] = mapped_column(String(128))
    user: Mapped[str] = mapped_column("user_id", String(128))
    text: Mapped[str] = mapped_column(Text)
    address: Mapped[dict[str, Any]]
    """Where the reply goes."""
    state: Mapped[str] = mapped_column(String(16))
    """open, answered."""
    replied_by: Mapped[str | None] = mapped_column(String(128))
    opened_at: Mapped[float]
    closed_at: Mapped[float | None]


class AuditRow(Base):
    """Who did what that others may want to know. Ids only."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    at: Mapped[float]
    actor: Mapped[str] = mapped_column(String(160))
    action: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(160))
    detail: Mapped[dict[str, Any]]


class OutboxRow(Base):
    """A message that a bot has still to deliver, or has delivered."""

    __tablename__ = "outbox"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    """Chosen by the sender, so that the same message is never queued twice."""
    platform: Mapped[str] = mapped_column(String(16))
    address: Mapped[dict[str, Any]]
    kind: Mapped[str] = mapped_column(String(32))
    payload: Mapped[dict[str, Any]]
    order_key: Mapped[str] = mapped_column(String(256))
    """Messages with the same key are delivered in the order they were queued."""
    not_before: Mapped[float]
    state: Mapped[str] = mapped_column(String(16))
    """waiting, sent, undeliverable."""
    attempts: Mapped[int] = mapped_column(default=0)
    leased_until: Mapped[float] = mapped_column(default=0.0)
    remote: Mapped[str | None] = mapped_column(String(256))
    """The platform's id of the sent message."""
    error: Mapped[str | None] = mapped_column(String(256))
    queued_at: Mapped[float]
    sent_at: Mapped[float | None]
    __table_args__ = (Index("outbox_waiting", "platform", "state", "not_before"),)


class ReferenceRow(Base):
    """How to reach a conversation unasked."""

    __tablename__ = "conversation_references"
    platform: Mapped[str] = mapped_column(String(16), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(128), primary_key=True)
    conversation: Mapped[str] = mapped_column(String(256), primary_key=True)
    user: Mapped[str] = mapped_column("user_id", String(128))
    """Whose personal conversation it is; empty for channels."""
    reference: Mapped[dict[str, Any]]
    reachable: Mapped[bool] = mapped_column(default=True)
    updated_at: Mapped[float]
    __table_args__ = (Index("references_by_user", "platform", "tenant", "user_id"),)


class JobRow(Base):
    """A retrain job. Only the driver that holds the lease writes `document`; only administrators write the wishes."""

    __tablename__ = "jobs"
    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    state: Mapped[str] = mapped_column(String(24))
    active: Mapped[str | None] = mapped_column(String(8), unique=True)
    """"active" until the job has ended, then null: the database allows one."""
    document: Mapped[dict[str, Any]]
    """quantahr.retrain.Job as JSON."""
    revision: Mapped[int] = mapped_column(default=0)
    """Grows with everything that people should see."""
    confirmed_by: Mapped[str | None] = mapped_column(String(160))
    cancelled_by: Mapped[str | None] = mapped_column(String(160))
    decision: Mapped[str | None] = mapped_column(String(16))
    decided_by: Mapped[str | None] = mapped_column(String(160))
    lease: Mapped[str | None] = mapped_column(String(32))
    leased_until: Mapped[float] = mapped_column(default=0.0)
    curve: Mapped[bytes | None] = mapped_column(LargeBinary)
    """The loss curve, PNG."""
    created_at: Mapped[float]


class JobMessageRow(Base):
    """The one message about a job in one place; it is edited as the job goes on."""

    __tablename__ = "job_messages"
    job: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    platform: Mapped[str] = mapped_column(String(16), primary_key=True)
    place: Mapped[str] = mapped_column(String(256), primary_key=True)
    address: Mapped[dict[str, Any]]
    remote: Mapped[str | None] = mapped_column(String(256))
    """The platform's id of the message."""
    shown: Mapped[int] = mapped_column(default=-1)
    """The job's revision that the message shows."""
    pictured: Mapped[bool] = mapped_column(default=False)
    """The loss curve has been posted."""
    leased_until: Mapped[float] = mapped_column(default=0.0)
    not_before: Mapped[float] = mapped_column(default=0.0)
