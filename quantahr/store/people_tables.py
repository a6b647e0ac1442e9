"""The tables about people: joiners and steps, versions of policy sections, standard answers, questions without one.

Everything here about a person can be exported and deleted by (platform, tenant, user).
"""

from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from quantahr.store.tables import Base


class JoinerRow(Base):
    """Somebody who starts, or has started. `user` is empty until the person has an account; `email` finds it then."""

    __tablename__ = "joiners"
    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    platform: Mapped[str] = mapped_column(String(16))
    tenant: Mapped[str] = mapped_column(String(128))
    user: Mapped[str] = mapped_column("user_id", String(128))
    email: Mapped[str] = mapped_column(String(160))
    name: Mapped[str] = mapped_column(String(160))
    start: Mapped[str] = mapped_column(String(10))
    """ISO date of the first day."""
    role: Mapped[str] = mapped_column(String(120))
    location: Mapped[str] = mapped_column(String(80))
    contract: Mapped[str] = mapped_column(String(80))
    manager: Mapped[str] = mapped_column(String(128))
    buddy: Mapped[str] = mapped_column(String(128))
    status: Mapped[str] = mapped_column(String(12))
    """active, paused, stopped."""
    run: Mapped[int]
    """Grows when the journey is begun anew."""
    planned_with: Mapped[str] = mapped_column(String(16))
    """Hash of the journeys that the steps were planned from."""
    next_at: Mapped[float]
    """When there may be something to send."""
    lease: Mapped[str | None] = mapped_column(String(32))
    leased_until: Mapped[float]
    created_by: Mapped[str] = mapped_column(String(160))
    created_at: Mapped[float]
    __table_args__ = (
        Index("joiners_by_user", "platform", "tenant", "user_id"),
        Index("joiners_due", "status", "next_at"),
    )


class StepRow(Base):
    """One step of one joiner's journey: the unique key behind "exactly once"."""

    __tablename__ = "onboarding_steps"
    joiner: Mapped[str] = mapped_column(ForeignKey("joiners.id", ondelete="CASCADE"), primary_key=True)
    run: Mapped[int] = mapped_column(primary_key=True)
    step: Mapped[str] = mapped_column(String(64), primary_key=True)
    recipient: Mapped[str] = mapped_column(String(12))
    """joiner, manager, buddy, hr."""
    title: Mapped[str] = mapped_column(String(200))
    due: Mapped[float]
    state: Mapped[str] = mapped_column(String(12))
    """waiting, sent, done, skipped, late (too old to be useful when it could have been sent)."""
    asks: Mapped[bool]
    """Whether somebody has to do something and press "Done"."""
    sent_at: Mapped[float | None]
    done_at: Mapped[float | None]
    done_by: Mapped[str] = mapped_column(String(128))
    reminders: Mapped[int]
    reminded_at: Mapped[float | None]


class PeriodRow(Base):
    """Work that is done once in a while by whoever comes first: the beat itself, retention, the weekly digest."""

    __tablename__ = "periods"
    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    holder: Mapped[str] = mapped_column(String(64))
    until: Mapped[float]
    """Nobody else takes it before this."""


class SectionVersionRow(Base):
    """A section as it was: what "What changed?" and corrections compare."""

    __tablename__ = "section_versions"
    section: Mapped[str] = mapped_column(String(320), primary_key=True)
    document: Mapped[str] = mapped_column(String(512))
    title: Mapped[str] = mapped_column(String(512))
    heading: Mapped[str] = mapped_column(String(512))
    """The heading path, joined by " > "."""
    position: Mapped[int]
    text: Mapped[str] = mapped_column(Text)
    audience: Mapped[list[Any]]
    effective: Mapped[str | None] = mapped_column(String(10))
    hash: Mapped[str] = mapped_column("content_hash", String(64))
    first_seen: Mapped[float]
    gone_at: Mapped[float | None]
    __table_args__ = (Index("versions_by_document", "document"), Index("versions_gone", "gone_at"))


class StandardAnswerRow(Base):
    """An answer that HR approved; served before any other."""

    __tablename__ = "standard_answers"
    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    question: Mapped[str] = mapped_column(Text)
    variants: Mapped[list[Any]]
    """Other ways in which the same was asked, without names."""
    text: Mapped[str] = mapped_column(Text)
    sections: Mapped[list[Any]]
    """Section ids it rests on: it expires when one of them is gone."""
    audience: Mapped[list[Any]]
    approved_by: Mapped[str] = mapped_column(String(160))
    approved_at: Mapped[float]
    expires_at: Mapped[float]
    retired_at: Mapped[float | None]


class GoldenRow(Base):
    """A golden question that HR's approval added; the next retraining is judged by it."""

    __tablename__ = "golden_questions"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    standard: Mapped[str] = mapped_column(ForeignKey("standard_answers.id", ondelete="CASCADE"))
    question: Mapped[str] = mapped_column(Text)
    answer: Mapped[str] = mapped_column(Text)
    sections: Mapped[list[Any]]
    added_at: Mapped[float]


class GapRow(Base):
    """A cluster of questions that nothing answered, asked by enough people to be shown."""

    __tablename__ = "gaps"
    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    question: Mapped[str] = mapped_column(Text)
    variants: Mapped[list[Any]]
    people: Mapped[int]
    asked: Mapped[int]
    document: Mapped[str] = mapped_column(String(512))
    heading: Mapped[str] = mapped_column(String(512))
    sections: Mapped[list[Any]]
    draft: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(12))
    """open, approved, dismissed."""
    found_at: Mapped[float]
