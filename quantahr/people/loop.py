"""The loop that makes answers better: what nothing answered, what HR approved, and whom an old answer reached.

Two ideas. HR sees clusters and counts, never people: a cluster of fewer than five askers is not shown at all. And an
approved answer is tied to the sections it rests on; when one of them changes it is silent until HR looks again.
"""

import hashlib
import re
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update

from quantahr.people.words import Button, card
from quantahr.store import Store
from quantahr.store.people_tables import GapRow, GoldenRow, SectionVersionRow, StandardAnswerRow
from quantahr.store.tables import AnswerRow, AuditRow, QuestionRow

FEWEST = 5
"""People behind anything that is counted."""
DAYS = 30
EXPIRES_DAYS = 180
"""A standard answer that rests on no section is looked at again after this."""
DAY = 86_400.0
_FACT = re.compile(r"\d[\d.,]*\d(?:\s?%|\s[a-z]+)?|\d(?:\s?%|\s[a-z]+)?")
REACHABLE = frozenset({"slack", "teams"})


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
class Change:
    """A section that became another one. `people` were answered from the old text in the last 30 days."""

    section: str
    document: str
    heading: str
    old: str
    new: str
    audience: tuple[str, ...]
    people: int


class Loop:
    """Gaps, standard answers and corrections in the database."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # Gaps

    def replace_gaps(self, gaps: Sequence[Gap]) -> None:
        """The clusters of today; what HR approved or dismissed stays so until it grows."""
        now = self._store.clock()
        with self._store.session.begin() as session:
            known = {row.id: row for row in session.scalars(select(GapRow))}
            for gap in gaps:
                if gap.people < FEWEST:
                    continue
                row = known.pop(gap.id, None)
                if row is None:
                    row = GapRow(id=gap.id, state="open", people=0)
                    session.add(row)
                elif row.state == "dismissed" and gap.people > row.people:
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
        now = self._store.clock()
        with self._store.session.begin() as session:
            row = session.get(GapRow, gap, with_for_update=True)
            if row is None or row.state != "open":
                return False
            row.state = "approved"
            identifier = secrets.token_hex(6)
            session.add(
                StandardAnswerRow(
                    id=identifier,
                    question=question,
                    variants=list(row.variants),
                    text=answer,
                    sections=list(row.sections),
                    audience=["employee"],
                    approved_by=by,
                    approved_at=now,
                    expires_at=now + EXPIRES_DAYS * DAY,
                )
            )
            session.flush()
            for number, asked in enumerate(dict.fromkeys([question, *row.variants])):
                session.add(
                    GoldenRow(
                        id=f"standard-{identifier}-{number}",
                        standard=identifier,
                        question=asked,
                        answer=answer,
                        sections=list(row.sections),
                        added_at=now,
                    )
                )
            self._note(session, by, "standard.approved", identifier)
        return True

    def standards(self) -> list[Standard]:
        """Those in force; whether their sections still exist is the index's to say."""
        now = self._store.clock()
        query = select(StandardAnswerRow).where(
            StandardAnswerRow.retired_at.is_(None), StandardAnswerRow.expires_at > now
        )
        with self._store.session() as session:
            return [
                Standard(
                    row.id, row.question, tuple(row.variants), row.text, tuple(row.sections), tuple(row.audience),
                    row.approved_at,
                )
                for row in session.scalars(query)
            ]  # fmt: skip

    def golden(self) -> list[dict[str, Any]]:
        """The golden questions of approved answers, in the form of data/golden/golden.jsonl.

        Only of answers that rest on sections: a model is judged by what the documents can tell it.
        """
        query = select(GoldenRow).join(StandardAnswerRow).where(StandardAnswerRow.retired_at.is_(None))
        found = []
        with self._store.session() as session:
            known = session.execute(select(SectionVersionRow.section, SectionVersionRow.heading))
            headings = {section: heading for section, heading in known}  # noqa: C416 - rows are not pairs to dict()
            for row in session.scalars(query.order_by(GoldenRow.id)):
                sources = [headings[section] for section in row.sections if section in headings]
                if sources:
                    expect = [[fact.strip()] for fact in _FACT.findall(row.answer)[:3]]
                    told = {"id": row.id, "question": row.question, "kind": "answerable"}
                    found.append({**told, "expect": expect, "sources": sources})
        return found

    # Corrections

    def changes(self) -> list[Change]:
        """Sections that changed in the last 30 days after somebody was answered from them."""
        since = self._store.clock() - DAYS * DAY
        with self._store.session() as session:
            gone = list(session.scalars(select(SectionVersionRow).where(SectionVersionRow.gone_at >= since)))
            found = []
            for old in gone:
                new = session.scalar(
                    select(SectionVersionRow)
                    .where(
                        SectionVersionRow.document == old.document,
                        SectionVersionRow.heading == old.heading,
                        SectionVersionRow.gone_at.is_(None),
                    )
                    .order_by(SectionVersionRow.first_seen.desc())
                )
                people = len(self._reached(session, old.section, since)) if new is not None else 0
                if new is not None and people and new.text != old.text:
                    audience = tuple(new.audience)
                    found.append(Change(old.section, old.document, old.heading, old.text, new.text, audience, people))
        return found

    def correct(self, section: str, by: str, roles: Callable[[str, str], Collection[str]]) -> int:
        """Queue the correction to everyone who was answered from `section`, once. Returns how many were queued.

        Nobody gets a text that their roles may not see.
        """
        change = next((one for one in self.changes() if one.section == section), None)
        if change is None:
            return 0
        since = self._store.clock() - DAYS * DAY
        count = 0
        with self._store.session() as session:
            reached = self._reached(session, section, since)
        for (platform, tenant, user), _ in sorted(reached.items()):
            if platform not in REACHABLE or not set(change.audience) & {*roles(platform, user), "employee"}:
                continue
            key = hashlib.sha256(f"{section}\0{platform}\0{tenant}\0{user}".encode()).hexdigest()[:40]
            text = (
                f"*A correction.* In the last weeks I answered you from “{change.heading}” in {change.document}. That "
                "passage has changed since. It now says:"
            )
            message = card(text, [(change.new[:2500], ())])
            address = {"tenant": tenant, "user": user}
            count += self._store.queue_message(f"fix-{key}", platform, address, "people", message)
        self._store.audit(by, "correction.sent", section[:160], people=count)
        return count

    # For HR

    def digest(self) -> dict[str, Any] | None:
        """What HR is shown, without a name; None if there is nothing."""
        rows: list[tuple[str, Sequence[Button]]] = []
        for gap in self.gaps()[:10]:
            where = f"Closest in {gap.document} › {gap.heading}." if gap.document else "No document is about it."
            text = f"*“{gap.question}”*\n{gap.people} people asked, {gap.asked} times. {where}\nDraft: {gap.draft}"
            rows.append((text, [("Approve…", f"approve:{gap.id}"), ("Dismiss", f"dismiss:{gap.id}")]))
        for change in self.changes()[:10]:
            people = f"{change.people} people were" if change.people >= FEWEST else f"Fewer than {FEWEST} people were"
            text = f"*Changed:* {change.document} › {change.heading}\n{people} answered from the old text in 30 days."
            rows.append((text, [("Send a correction", f"correct:{change.section}")]))
        if not rows:
            return None
        return card(f"What I could not answer, and what has changed. Counts below {FEWEST} are not shown.", rows)

    def _reached(self, session: Any, section: str, since: float) -> dict[tuple[str, str, str], int]:
        """Who was answered from a section since then, and how often."""
        query = (
            select(QuestionRow.platform, QuestionRow.tenant, QuestionRow.user, AnswerRow.sources)
            .join(AnswerRow, AnswerRow.question == QuestionRow.id)
            .where(AnswerRow.answered_at >= since)
        )
        found: dict[tuple[str, str, str], int] = {}
        for platform, tenant, user, sources in session.execute(query):
            if any(source.get("section") == section for source in sources):
                found[platform, tenant, user] = found.get((platform, tenant, user), 0) + 1
        return found

    def _note(self, session: Any, actor: str, action: str, subject: str) -> None:
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


def _gap(row: GapRow) -> Gap:
    return Gap(
        row.id, row.question, tuple(row.variants), row.people, row.asked, row.document, row.heading,
        tuple(row.sections), row.draft,
    )  # fmt: skip
