"""Every version of a policy section that this installation has read, kept by its content hash.

The worker records the library whenever the folder changes. A document that could not be read for once has not lost its
sections: only what is gone from a readable document, or with the file itself, is marked as gone.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from quantahr.policies import Library
from quantahr.store import Store
from quantahr.store.people_tables import SectionVersionRow


@dataclass(frozen=True, slots=True)
class Version:
    """One state of a section."""

    section: str
    document: str
    title: str
    heading: str
    text: str
    audience: tuple[str, ...]
    effective: str | None
    hash: str
    first_seen: float
    gone_at: float | None


class Versions:
    """The versions in the database."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def record(self, library: Library) -> None:
        """Keep what is new, and note what is gone. Several workers may do this at once."""
        unreadable = {finding.document for finding in library.findings if finding.kind == "unreadable"}
        now = self._store.clock()
        current = {section.id: section for section in library.sections}
        try:
            with self._store.session.begin() as session:
                kept = {row.section: row for row in session.scalars(select(SectionVersionRow))}
                for identifier, row in kept.items():
                    if identifier in current:
                        row.gone_at = None
                    elif row.gone_at is None and row.document not in unreadable:
                        row.gone_at = now
                for section in (one for one in current.values() if one.id not in kept):
                    session.add(
                        SectionVersionRow(
                            section=section.id,
                            document=section.document,
                            title=section.title[:512],
                            heading=" > ".join(section.heading_path)[:512],
                            position=section.order,
                            text=section.text,
                            audience=list(section.audience),
                            effective=section.effective_date.isoformat() if section.effective_date else None,
                            hash=section.content_hash,
                            first_seen=now,
                        )
                    )
        except IntegrityError:
            return  # another worker has recorded the same library

    def changes(self) -> list[tuple[Version | None, Version | None]]:
        """(before, after) of every section that changed, came or went since the first reading; newest first."""
        with self._store.session() as session:
            rows = [_version(row) for row in session.scalars(select(SectionVersionRow))]
        began: dict[str, float] = {}
        for row in rows:
            began[row.document] = min(row.first_seen, began.get(row.document, row.first_seen))
        places: dict[tuple[str, str], list[Version]] = {}
        for row in rows:
            places.setdefault((row.document, row.heading), []).append(row)
        found: list[tuple[float, tuple[Version | None, Version | None]]] = []
        for versions in places.values():
            ordered = sorted(versions, key=lambda one: one.first_seen)
            newest = next((one for one in reversed(ordered) if one.gone_at is None), None)
            older = [one for one in ordered if one.gone_at is not None]
            if newest is None and older:
                found.append((older[-1].gone_at or 0.0, (older[-1], None)))
            elif newest is not None and older:
                found.append((newest.first_seen, (older[-1], newest)))
            elif newest is not None and newest.first_seen > began[newest.document]:
                found.append((newest.first_seen, (None, newest)))
        return [pair for _, pair in sorted(found, key=lambda one: -one[0])]

    def since(self) -> str | None:
        """The day of the first reading, as an ISO date."""
        with self._store.session() as session:
            first = session.scalar(select(func.min(SectionVersionRow.first_seen)))
        return None if first is None else datetime.datetime.fromtimestamp(first, datetime.UTC).date().isoformat()

    def of(self, sections: Sequence[str]) -> list[Version]:
        """These versions, if they are kept."""
        query = select(SectionVersionRow).where(SectionVersionRow.section.in_(sections))
        with self._store.session() as session:
            return [_version(row) for row in session.scalars(query)]


def _version(row: SectionVersionRow) -> Version:
    return Version(
        row.section, row.document, row.title, row.heading, row.text, tuple(row.audience), row.effective, row.hash,
        row.first_seen, row.gone_at,
    )  # fmt: skip
