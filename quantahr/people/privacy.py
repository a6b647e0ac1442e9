"""Everything that is kept about one person: shown on request, or deleted, with a receipt.

Two ideas. One list of places serves both, so that what can be deleted is exactly what can be seen. And what others need
to keep (who approved what) is not deleted but stripped of the name: an audit row of a deleted person says that somebody
did it, and no longer who.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from quantahr.bus import scripts
from quantahr.bus.answering import connect
from quantahr.people.errors import PeopleError
from quantahr.people.names import without_names
from quantahr.settings import Settings
from quantahr.store import Store
from quantahr.store.people_tables import GoldenRow, JoinerRow, StandardAnswerRow, StepRow
from quantahr.store.tables import (
    AnswerRow,
    AuditRow,
    Base,
    EscalationRow,
    FeedbackRow,
    JobRow,
    OutboxRow,
    QuestionRow,
    ReferenceRow,
)

FILES: Final = (".jsonl", ".log", ".txt", ".csv")
"""Files of lines: reports of evaluations, logs, tables."""
RUNS: Final = Path("runs")
"""Where `quantahr train` leaves its results."""
SHORTEST: Final = 6
LARGEST: Final = 50 * 2**20


@dataclass(frozen=True, slots=True)
class Person:
    """An account: platform and the platform's id."""

    platform: str
    user: str

    @classmethod
    def parse(cls, text: str) -> "Person":
        """ "slack:U1" or "teams:<Entra object id>". Raises PeopleError."""
        platform, _, user = text.partition(":")
        if platform not in {"slack", "teams", "console", "batch"} or not user:
            raise PeopleError(f"“{text}” names nobody. Write slack:U0123ABC or teams:<Entra object id>.")
        return cls(platform, user)

    @property
    def id(self) -> str:
        return f"{self.platform}:{self.user}"

    @property
    def pattern(self) -> re.Pattern[str]:
        """The id in a text. A short one (a console user) counts only with its platform: it would be found in words."""
        return _word(self.user if len(self.user) >= SHORTEST else self.id)

    @property
    def stranger(self) -> str:
        """What stands in the audit instead, once the person is deleted."""
        return f"deleted:{hashlib.sha256(self.id.encode()).hexdigest()[:12]}"


class Privacy:
    """Export and deletion over the database, Redis and the state folder."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store

    def export(self, person: Person) -> dict[str, Any]:
        """Everything about a person, as JSON."""
        with self._store.session() as session:
            kept = {name: [_row(row) for row in rows] for name, rows in self._rows(session, person).items()}
            learned = self._learned(session, person)
        with connect(self._settings.redis_url) as client:
            passing = dict(self._redis(client, person))
        return {
            "person": person.id,
            "store": kept,
            "redis": passing,
            "files": [str(file) for file in self._files(person)],
            "approved_texts": learned,
        }

    def delete(self, person: Person) -> dict[str, Any]:
        """Delete everything about a person. Returns the receipt: counts, never contents."""
        counts: dict[str, int] = {}
        with connect(self._settings.redis_url) as client:
            keys = [key for key, _ in self._redis(client, person)]
            counts["redis"] = sum(self._forget(client, key) for key in keys)
        with self._store.session.begin() as session:
            learned = self._learned(session, person)
            for name, rows in self._rows(session, person).items():
                counts[name] = len(rows)
            self._erase(session, person)
        files = list(self._files(person))
        counts["files"] = sum(_strip(file, person.pattern) for file in files)
        return {
            "person": hashlib.sha256(person.id.encode()).hexdigest()[:16],
            "at": self._store.clock(),
            "deleted": counts,
            "kept_without_name": person.stranger,
            "files": [file.name for file in files],
            "approved_texts": learned,
        }

    def _rows(self, session: Session, person: Person) -> dict[str, list[Any]]:
        asked = (QuestionRow.platform == person.platform, QuestionRow.user == person.user)
        mine = select(QuestionRow.id).where(*asked)
        joined = (JoinerRow.platform == person.platform, JoinerRow.user == person.user)
        queries: dict[str, Any] = {
            "questions": select(QuestionRow).where(*asked),
            "answers": select(AnswerRow).where(AnswerRow.question.in_(mine)),
            "feedback": select(FeedbackRow).where(or_(FeedbackRow.user == person.user, FeedbackRow.question.in_(mine))),
            "escalations": select(EscalationRow).where(
                EscalationRow.platform == person.platform, EscalationRow.user == person.user
            ),
            "conversations": select(ReferenceRow).where(
                ReferenceRow.platform == person.platform, ReferenceRow.user == person.user
            ),
            "journeys": select(JoinerRow).where(*joined),
            "steps": select(StepRow).where(StepRow.joiner.in_(select(JoinerRow.id).where(*joined))),
            "leads": select(JoinerRow).where(
                JoinerRow.platform == person.platform,
                or_(JoinerRow.manager == person.user, JoinerRow.buddy == person.user),
            ),
            "audit": select(AuditRow).where(AuditRow.actor == person.id),
        }
        rows = {name: list(session.scalars(query)) for name, query in queries.items()}
        own = [person.pattern, *(_word(row.id) for row in rows["journeys"])]
        rows["messages"] = [
            row
            for row in session.scalars(select(OutboxRow).where(OutboxRow.platform == person.platform))
            if person.user in {row.address.get("user"), row.payload.get("user"), row.payload.get("by")}
            or any(one.search(json.dumps([row.id, row.address, row.payload])) for one in own)
        ]
        return rows

    def _erase(self, session: Session, person: Person) -> None:
        for row in self._rows(session, person)["messages"]:
            session.delete(row)
        asked = (QuestionRow.platform == person.platform, QuestionRow.user == person.user)
        mine = select(QuestionRow.id).where(*asked).scalar_subquery()
        session.execute(delete(FeedbackRow).where(or_(FeedbackRow.user == person.user, FeedbackRow.question.in_(mine))))
        session.execute(
            delete(EscalationRow).where(
                or_(
                    (EscalationRow.platform == person.platform) & (EscalationRow.user == person.user),
                    EscalationRow.question.in_(mine),
                )
            )
        )
        session.execute(delete(AnswerRow).where(AnswerRow.question.in_(mine)))
        session.execute(delete(QuestionRow).where(*asked))
        session.execute(
            delete(ReferenceRow).where(ReferenceRow.platform == person.platform, ReferenceRow.user == person.user)
        )
        joined = (JoinerRow.platform == person.platform, JoinerRow.user == person.user)
        gone = select(JoinerRow.id).where(*joined).scalar_subquery()
        session.execute(delete(StepRow).where(StepRow.joiner.in_(gone)))
        session.execute(delete(JoinerRow).where(*joined))
        for column in (JoinerRow.manager, JoinerRow.buddy):
            session.execute(
                update(JoinerRow)
                .where(JoinerRow.platform == person.platform, column == person.user)
                .values({column: ""})
            )
        session.execute(update(StepRow).where(StepRow.done_by == person.user).values(done_by=""))
        session.execute(update(EscalationRow).where(EscalationRow.replied_by == person.user).values(replied_by=None))
        named: list[Any] = [AuditRow.actor, JoinerRow.created_by, StandardAnswerRow.approved_by]
        named += [JobRow.confirmed_by, JobRow.cancelled_by, JobRow.decided_by]
        for column in named:
            session.execute(update(column.class_).where(column == person.id).values({column: person.stranger}))
        for job in session.scalars(select(JobRow)):
            text = json.dumps(job.document)
            if (named_there := json.dumps(person.id)) in text:
                job.document = json.loads(text.replace(named_there, json.dumps(person.stranger)))

    def _learned(self, session: Session, person: Person) -> list[dict[str, Any]]:
        """Approved answers whose wording came (without names) from this person's questions, or that this person
        approved: which datasets held them, and which adapters were trained on those."""
        asked = select(QuestionRow.text).where(
            QuestionRow.platform == person.platform, QuestionRow.user == person.user, QuestionRow.text.is_not(None)
        )
        texts = {without_names(text or "") for text in session.scalars(asked)}
        found = []
        for row in session.scalars(select(StandardAnswerRow)):
            asked_it, approved_it = bool(texts & {row.question, *row.variants}), row.approved_by == person.id
            if asked_it or approved_it:
                golden = list(session.scalars(select(GoldenRow.id).where(GoldenRow.standard == row.id)))
                why = [name for name, holds in (("asked", asked_it), ("approved", approved_it)) if holds]
                held = self._held(session, row.id)
                found.append({"standard_answer": row.id, "because": why, "golden": golden, **held})
        return found

    def _held(self, session: Session, answer: str) -> dict[str, list[str]]:
        """The trainings whose data held a standard answer, by the plans of all jobs and the manifests of all runs."""
        from quantahr.errors import QuantaHRError
        from quantahr.registry import Registry

        datasets, adapters = set[str](), set[str]()
        for job in session.scalars(select(JobRow)):
            plan = job.document.get("plan") or {}
            if answer in ((plan.get("taught") or {}).get("answers") or ()):
                datasets.add(str(plan["run"]))
                adapters.update([job.document["version"]] if job.document.get("version") else [])
        state = self._settings.state_dir
        for file in [*state.glob("retrain/*/result/dataset.json"), *RUNS.glob("*/dataset.json")]:
            told, manifest = _json(file), _json(file.with_name("manifest.json"))
            if answer in (told.get("standard_answers") or ()):
                datasets.add(str(manifest.get("run_id") or file.parent.name))
        try:
            known = Registry.open(self._settings).versions()
        except QuantaHRError:
            known = []
        adapters.update(version.id for version in known if version.run in datasets)
        return {"datasets": sorted(datasets), "adapters": sorted(adapters)}

    def _redis(self, client: Any, person: Person) -> Iterator[tuple[str, Any]]:
        """(key, what it holds) of everything in Redis that belongs to the person."""
        with self._store.session() as session:
            query = select(QuestionRow.id).where(
                QuestionRow.platform == person.platform, QuestionRow.user == person.user
            )
            questions = set(session.scalars(query))
        for key in client.scan_iter(match=scripts.question_key("*"), count=500):
            told = json.loads(client.get(key) or b"{}")
            if (told.get("platform"), told.get("user")) == (person.platform, person.user):
                questions.add(str(told["id"]))
                yield key.decode(), told
        for identifier in sorted(questions):
            if entries := client.xrange(scripts.answer_key(identifier)):
                yield scripts.answer_key(identifier), [fields[b"e"].decode() for _, fields in entries]
            if client.exists(scripts.upload_key(identifier)):
                yield scripts.upload_key(identifier), "a document"
        pending = scripts.pending_key(person.platform)
        for identifier, address in client.hgetall(pending).items():
            if identifier.decode() in questions or json.loads(address).get("user") == person.user:
                yield f"{pending}|{identifier.decode()}", json.loads(address)
        for key in client.scan_iter(match="qhr:kept:*", count=500):
            value = client.get(key)
            if value is not None and value.decode(errors="replace") in questions:
                yield key.decode(), value.decode()

    @staticmethod
    def _forget(client: Any, key: str) -> int:
        name, _, field = key.partition("|")
        return int(client.hdel(name, field) if field else client.delete(name))

    def _files(self, person: Person) -> Iterator[Path]:
        """Files of the state folder with lines that hold the person's id."""
        folder = self._settings.state_dir
        for file in sorted(folder.rglob("*")) if folder.is_dir() else []:
            if (
                file.suffix in FILES
                and file.is_file()
                and file.stat().st_size <= LARGEST
                and person.pattern.search(file.read_text(encoding="utf-8", errors="replace"))
            ):
                yield file


def _word(text: str) -> re.Pattern[str]:
    """`text` where it is not part of a longer id."""
    return re.compile(rf"(?<![A-Za-z0-9-]){re.escape(text)}(?![A-Za-z0-9-])")


def _row(row: Base) -> dict[str, Any]:
    return {column.key: getattr(row, column.key) for column in type(row).__mapper__.column_attrs}


def _strip(file: Path, named: re.Pattern[str]) -> int:
    """Take the lines with the id out of a file. Returns how many there were."""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if not named.search(line)]
    file.write_text("".join(kept), encoding="utf-8")
    return len(lines) - len(kept)


def _json(file: Path) -> dict[str, Any]:
    """What a manifest says; nothing of one that is missing or damaged."""
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def receipt_text(receipt: Mapping[str, Any]) -> str:
    """A receipt as JSON, to be filed."""
    return json.dumps(receipt, indent=2, ensure_ascii=False, default=str)
