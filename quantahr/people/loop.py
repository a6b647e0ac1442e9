"""The loop that makes answers better: what nothing answered, and what HR approved.

Three ideas. HR sees clusters and counts, never people: a cluster of fewer than five askers is not shown at all. An
approved answer is tied to the sections it rests on; when one of them changes it is silent, and neither taught nor asked
for, until HR looks again. And of what was asked only HR's wording is taught; the others' ways to ask it measure.
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from quantahr.people.corrections import DAY, Corrections
from quantahr.people.words import Button, card
from quantahr.store import Store
from quantahr.store.people_tables import GapRow, GoldenRow, SectionVersionRow, StandardAnswerRow
from quantahr.store.tables import AuditRow

FEWEST = 5
"""People behind anything that is counted."""
EXPIRES_DAYS = 180
"""A standard answer that rests on no section is looked at again after this."""
_FACT = re.compile(r"\d[\d.,]*\d(?:\s?%|\s[a-z]+)?|\d(?:\s?%|\s[a-z]+)?")
EACH = 8
"""Of a kind in the digest: what fits into one message on both platforms."""
SHOWN = 240
"""Characters of a draft in the digest; the form has the whole of it."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A cluster of unanswered questions, ready to be shown."""

    id: str
    question: str
    variants: tuple[str, ...]
    people: int
    asked: int
    document: str
    heading: str
    sections: tuple[str, ...]
    draft: str


@dataclass(frozen=True, slots=True)
class Standard:
    """An approved answer that is in force."""

    id: str
    question: str
    variants: tuple[str, ...]
    text: str
    sections: tuple[str, ...]
    audience: tuple[str, ...]
    approved_at: float


@dataclass(frozen=True, slots=True)
class Expired:
    """An approved answer that is silent: a policy under it changed, or nobody has looked at it for half a year."""

    id: str
    question: str
    text: str
    changed: bool


class Loop:
    """Gaps and standard answers in the database."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # Gaps

    def replace_gaps(self, gaps: Sequence[Gap]) -> None:
        """The clusters of today. What HR dismissed stays so until it grows, what HR answered while that is in force."""
        now = self._store.clock()
        with self._store.session.begin() as session:
            known = {row.id: row for row in session.scalars(select(GapRow))}
            answered = {asked.casefold() for row in self._live(session) for asked in (row.question, *row.variants)}
            for gap in gaps:
                if gap.people < FEWEST or answered & {asked.casefold() for asked in (gap.question, *gap.variants)}:
                    continue
                row = known.pop(gap.id, None)
                if row is None:
                    row = GapRow(id=gap.id, state="open", people=0)
                    session.add(row)
                elif row.state == "approved" or (row.state == "dismissed" and gap.people > row.people):
                    row.state = "open"
                row.question, row.variants, row.people, row.asked = (
                    gap.question,
                    list(gap.variants),
                    gap.people,
                    gap.asked,
                )
                row.document, row.heading, row.sections = gap.document, gap.heading, list(gap.sections)
                row.draft, row.found_at = gap.draft, now
            for row in known.values():
                if row.state == "open":
                    session.delete(row)

    def gaps(self) -> list[Gap]:
        """The open ones, most people first."""
        query = select(GapRow).where(GapRow.state == "open", GapRow.people >= FEWEST).order_by(GapRow.people.desc())
        with self._store.session() as session:
            return [_gap(row) for row in session.scalars(query)]

    def gap(self, identifier: str) -> Gap | None:
        with self._store.session() as session:
            row = session.get(GapRow, identifier)
            return _gap(row) if row and row.state == "open" else None

    def dismiss(self, identifier: str, by: str) -> None:
        with self._store.session.begin() as session:
            session.execute(update(GapRow).where(GapRow.id == identifier).values(state="dismissed"))
            self._note(session, by, "gap.dismissed", identifier)

    # Standard answers

    def approve(self, gap: str, question: str, answer: str, by: str) -> bool:
        """Keep a standard answer for a gap, and its golden questions. Returns False if the gap is settled."""
        with self._store.session.begin() as session:
            taken: Any = session.execute(
                update(GapRow).where(GapRow.id == gap, GapRow.state == "open").values(state="approved")
            )
            row = session.get(GapRow, gap)
            if not taken.rowcount or row is None:
                return False
            self._keep(session, question, answer, by, asked=[row.question, *row.variants], sections=row.sections)
        return True

    def renew(self, standard: str, question: str, answer: str, by: str) -> bool:
        """Approve an expired answer again, resting on what its sections say now. Returns False if it is settled."""
        with self._store.session.begin() as session:
            row = self._retire(session, standard)
            if row is None:
                return False
            old = select(SectionVersionRow).where(SectionVersionRow.section.in_(row.sections))
            places = {(one.document, one.heading) for one in session.scalars(old)}
            current = session.scalars(select(SectionVersionRow).where(SectionVersionRow.gone_at.is_(None)))
            sections = [one.section for one in current if (one.document, one.heading) in places]
            self._keep(session, question, answer, by, asked=[row.question, *row.variants], sections=sections)
        return True

    def retire(self, standard: str, by: str) -> bool:
        """End a standard answer for good. Returns False if it had ended."""
        with self._store.session.begin() as session:
            self._note(session, by, "standard.retired", standard)
            return self._retire(session, standard) is not None

    def standard(self, identifier: str) -> Standard | None:
        """One that has not been retired, in force or not."""
        with self._store.session() as session:
            row = session.get(StandardAnswerRow, identifier)
            return _standard(row) if row and row.retired_at is None else None

    def standards(self) -> list[Standard]:
        """Those that may be served; whether their sections are still there is the index's to say."""
        now = self._store.clock()
        query = select(StandardAnswerRow).where(
            StandardAnswerRow.retired_at.is_(None), StandardAnswerRow.expires_at > now
        )
        with self._store.session() as session:
            return [_standard(row) for row in session.scalars(query)]

    def expired(self) -> list[Expired]:
        """Those that have fallen silent, and that HR has not looked at since."""
        with self._store.session() as session:
            live = {row.id for row in self._live(session)}
            query = select(StandardAnswerRow).where(StandardAnswerRow.retired_at.is_(None))
            rows = session.scalars(query.order_by(StandardAnswerRow.approved_at))
            now = self._store.clock()
            return [Expired(row.id, row.question, row.text, row.expires_at > now) for row in rows if row.id not in live]

    def taught(self) -> list[tuple[Standard, str]]:
        """What the next training learns: answers in force that everybody may read, each with its heading."""
        with self._store.session() as session:
            current = select(SectionVersionRow).where(SectionVersionRow.gone_at.is_(None))
            known = {row.section: row for row in session.scalars(current)}
            return [
                (_standard(row), known[row.sections[0]].heading if row.sections else "")
                for row in self._live(session)
                if all(one in known and "employee" in known[one].audience for one in row.sections)
            ]

    def golden(self) -> list[dict[str, Any]]:
        """The golden questions of answers in force, in the form of data/golden/golden.jsonl.

        Only of answers that rest on sections: a model is judged by what the documents can tell it.
        """
        found = []
        with self._store.session() as session:
            live = [row.id for row in self._live(session)]
            known = session.execute(
                select(SectionVersionRow.section, SectionVersionRow.heading).where(SectionVersionRow.gone_at.is_(None))
            )
            headings = {section: heading for section, heading in known}  # noqa: C416 - rows are not pairs to dict()
            query = select(GoldenRow).where(GoldenRow.standard.in_(live)).order_by(GoldenRow.id)
            for row in session.scalars(query):
                sources = [headings[section] for section in row.sections if section in headings]
                if sources:
                    expect = [[fact.strip()] for fact in _FACT.findall(row.answer)[:3]]
                    told = {"id": row.id, "question": row.question, "kind": "answerable"}
                    found.append({**told, "expect": expect, "sources": sources})
        return found

    def _live(self, session: Session) -> list[StandardAnswerRow]:
        """The answers in force, as far as the database knows the documents."""
        gone = set(session.scalars(select(SectionVersionRow.section).where(SectionVersionRow.gone_at.is_not(None))))
        query = (
            select(StandardAnswerRow)
            .where(StandardAnswerRow.retired_at.is_(None), StandardAnswerRow.expires_at > self._store.clock())
            .order_by(StandardAnswerRow.approved_at, StandardAnswerRow.id)
        )
        return [row for row in session.scalars(query) if not gone.intersection(row.sections)]

    def _keep(
        self, session: Session, question: str, answer: str, by: str, *, asked: Sequence[str], sections: Sequence[str]
    ) -> None:
        now, identifier = self._store.clock(), secrets.token_hex(6)
        others = [one for one in dict.fromkeys(asked) if one != question]
        session.add(
            StandardAnswerRow(
                id=identifier,
                question=question,
                variants=others,
                text=answer,
                sections=list(sections),
                audience=["employee"],
                approved_by=by,
                approved_at=now,
                expires_at=now + EXPIRES_DAYS * DAY,
            )
        )
        session.flush()
        # The approved wording is what the model learns from; only where there is no other one does it measure, too.
        for number, one in enumerate(others or [question]):
            session.add(
                GoldenRow(
                    id=f"standard-{identifier}-{number}",
                    standard=identifier,
                    question=one,
                    answer=answer,
                    sections=list(sections),
                    added_at=now,
                )
            )
        self._note(session, by, "standard.approved", identifier)

    def _retire(self, session: Session, identifier: str) -> StandardAnswerRow | None:
        changed: Any = session.execute(
            update(StandardAnswerRow)
            .where(StandardAnswerRow.id == identifier, StandardAnswerRow.retired_at.is_(None))
            .values(retired_at=self._store.clock())
        )
        return session.get(StandardAnswerRow, identifier) if changed.rowcount else None

    # For HR

    def digest(self) -> dict[str, Any] | None:
        """What HR is shown, without a name; None if there is nothing."""
        rows: list[tuple[str, Sequence[Button]]] = []
        for gap in self.gaps()[:EACH]:
            where = f"Closest in {gap.document} › {gap.heading}." if gap.document else "No document is about it."
            text = (
                f"*“{gap.question}”*\n{gap.people} people asked, {gap.asked} times. {where}\nDraft: {_cut(gap.draft)}"
            )
            rows.append((text, [("Approve…", f"approve:{gap.id}"), ("Dismiss", f"dismiss:{gap.id}")]))
        for old in self.expired()[:EACH]:
            why = "its policy has changed" if old.changed else f"it is older than {EXPIRES_DAYS} days"
            text = f"*Silent:* the standard answer to “{old.question}”: {why}.\nIt said: {_cut(old.text)}"
            rows.append((text, [("Approve again…", f"renew:{old.id}"), ("Retire", f"retire:{old.id}")]))
        for change in Corrections(self._store).changes()[:EACH]:
            people = f"{change.people} people were" if change.people >= FEWEST else f"Fewer than {FEWEST} people were"
            text = f"*Changed:* {change.document} › {change.heading}\n{people} answered from the old text in 30 days."
            rows.append((text, [("Send a correction", f"correct:{change.section}")]))
        if not rows:
            return None
        return card(f"What I could not answer, and what has changed. Counts below {FEWEST} are not shown.", rows)

    def _note(self, session: Session, actor: str, action: str, subject: str) -> None:
        session.add(AuditRow(at=self._store.clock(), actor=actor, action=action, subject=subject, detail={}))


def send_digest(store: Store, week: str, addresses: Sequence[tuple[str, Mapping[str, Any]]]) -> int:
    """Queue the digest of a week to each HR address (platform, address), once. Returns how many were queued."""
    message = Loop(store).digest()
    if message is None:
        return 0
    return sum(
        store.queue_message(f"digest-{platform}-{week}", platform, address, "people", message)
        for platform, address in addresses
    )


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN].rsplit(' ', 1)[0]} …"


def _standard(row: StandardAnswerRow) -> Standard:
    return Standard(
        row.id, row.question, tuple(row.variants), row.text, tuple(row.sections), tuple(row.audience), row.approved_at
    )


def _gap(row: GapRow) -> Gap:
    return Gap(
        row.id, row.question, tuple(row.variants), row.people, row.asked, row.document, row.heading,
        tuple(row.sections), row.draft,
    )  # fmt: skip
