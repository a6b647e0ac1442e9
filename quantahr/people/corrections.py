"""Corrections: a section changed, and people were answered from the old text a short while ago.

Two ideas. The store knows who, HR sees only how many. And a correction shows the old words beside the new ones, to
those whose roles may read both, so that nobody has to find out what is different.
"""

import difflib
import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from quantahr.people.words import Button, card
from quantahr.store import Store
from quantahr.store.people_tables import SectionVersionRow, StandardAnswerRow
from quantahr.store.tables import AnswerRow, QuestionRow

DAYS = 30
DAY = 86_400.0
REACHABLE = frozenset({"slack", "teams"})
PIECE = 600
"""Characters of one side of a difference."""
PIECES = 6
_STANDARD = "standard:"


@dataclass(frozen=True, slots=True)
class Change:
    """A section that became another one. `people` were answered from the old text in the last 30 days."""

    section: str
    document: str
    heading: str
    old: str
    new: str
    audience: tuple[str, ...]
    """Roles that may read both."""
    people: int


class Corrections:
    """What changed after it was answered from, and the message to those whom it reached."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def changes(self) -> list[Change]:
        """Sections that changed in the last 30 days after somebody was answered from them."""
        since = self._store.clock() - DAYS * DAY
        with self._store.session() as session:
            gone = list(session.scalars(select(SectionVersionRow).where(SectionVersionRow.gone_at >= since)))
            reached = self._reached(session, since) if gone else {}
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
                people = len(reached.get(old.section, ()))
                if new is not None and people and new.text != old.text:
                    audience = _both(old.audience, new.audience)
                    found.append(Change(old.section, old.document, old.heading, old.text, new.text, audience, people))
        return found

    def send(self, section: str, by: str, roles: Callable[[str, str], Collection[str]]) -> int:
        """Queue the correction to everyone who was answered from `section`, once. Returns how many were queued.

        Nobody gets a text that their roles may not see.
        """
        change = next((one for one in self.changes() if one.section == section), None)
        if change is None:
            return 0
        since = self._store.clock() - DAYS * DAY
        with self._store.session() as session:
            reached = self._reached(session, since).get(section, set())
        message = letter(change)
        count = 0
        for platform, tenant, user in sorted(reached):
            if platform not in REACHABLE or not set(change.audience) & {*roles(platform, user), "employee"}:
                continue
            key = hashlib.sha256(f"{section}\0{platform}\0{tenant}\0{user}".encode()).hexdigest()[:40]
            address = {"tenant": tenant, "user": user}
            count += self._store.queue_message(f"fix-{key}", platform, address, "people", message)
        self._store.audit(by, "correction.sent", section[:160], people=count)
        return count

    def _reached(self, session: Any, since: float) -> dict[str, set[tuple[str, str, str]]]:
        """Section → who was answered from it since then, directly or by a standard answer that rested on it."""
        rests = {row.id: list(row.sections) for row in session.scalars(select(StandardAnswerRow))}
        query = (
            select(QuestionRow.platform, QuestionRow.tenant, QuestionRow.user, AnswerRow.sources)
            .join(AnswerRow, AnswerRow.question == QuestionRow.id)
            .where(AnswerRow.answered_at >= since)
        )
        found: dict[str, set[tuple[str, str, str]]] = {}
        for platform, tenant, user, sources in session.execute(query):
            for source in sources:
                name = str(source.get("section"))
                for section in rests.get(name.removeprefix(_STANDARD), []) if name.startswith(_STANDARD) else [name]:
                    found.setdefault(section, set()).add((platform, tenant, user))
        return found


def letter(change: Change) -> dict[str, Any]:
    """The message: what it said, beside what it says now."""
    text = (
        f"*A correction.* In the last weeks I answered you from “{change.heading}” in {change.document}. That passage "
        "has changed since."
    )
    pieces = differences(change.old, change.new)
    rows: list[tuple[str, Sequence[Button]]] = [
        ("\n".join(f"*{side}* {_cut(words)}" for side, words in (("Before:", old), ("Now:", new)) if words), ())
        for old, new in pieces[:PIECES]
    ]
    if len(pieces) > PIECES:
        rows.append((f"There is more that has changed; ask me “What changed in {change.document}?”.", ()))
    return card(text, rows)


def differences(old: str, new: str) -> list[tuple[str, str]]:
    """The lines that differ as (before, now); one side is empty where a line came or went."""
    before, after = old.splitlines(), new.splitlines()
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    return [
        ("\n".join(before[a:b]), "\n".join(after[c:d])) for kind, a, b, c, d in matcher.get_opcodes() if kind != "equal"
    ]


def _cut(text: str) -> str:
    return text if len(text) <= PIECE else f"{text[:PIECE].rsplit(' ', 1)[0]} …"


def _both(old: Collection[str], new: Collection[str]) -> tuple[str, ...]:
    """The roles that may read the old text and the new one; everybody is an employee."""
    if "employee" in old:
        return tuple(new)
    return tuple(old) if "employee" in new else tuple(sorted(set(old) & set(new)))
