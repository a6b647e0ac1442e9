"""HR's approved answers as training material: a file of rows, named by its content.

Only what HR wrote goes in, the question and the answer: how others asked it stays out (chat platforms forbid training
on what is said there) and measures the model instead. A file is never changed: a job teaches what its plan said.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select

from quantahr.people.loop import Loop, Standard
from quantahr.store import Store
from quantahr.store.people_tables import SectionVersionRow

PASSAGE = "standard-"
"""What the id of a standard answer stands behind in a row."""


@dataclass(frozen=True, slots=True)
class Approved:
    """`answers` are the ids of the standard answers in `file`; `share` is how many there are for each section."""

    file: Path
    answers: tuple[str, ...]
    share: float


def write_approved(store: Store, folder: Path) -> Approved | None:
    """Write what the next training learns from HR's answers; None if there is nothing. Needs the worker's packages."""
    taught = Loop(store).taught()
    if not taught:
        return None
    text = "".join(json.dumps(_row(one, heading), ensure_ascii=False) + "\n" for one, heading in taught)
    file = folder / f"approved-{hashlib.sha256(text.encode()).hexdigest()[:12]}.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.rename(file)
    with store.session() as session:
        sections = session.scalar(
            select(func.count()).select_from(SectionVersionRow).where(SectionVersionRow.gone_at.is_(None))
        )
    return Approved(file, tuple(one.id for one, _ in taught), round(len(taught) / max(sections or 0, len(taught)), 6))


def _row(standard: Standard, heading: str) -> dict[str, object]:
    """A question on a passage, in the form of data/general_knowledge: the answer is its own evidence."""
    from quantahr.retrieval.units import split_units

    text = " ".join(standard.text.split())
    return {
        "instruction": standard.question,
        "input": f"{heading or 'Answers by HR'}\n{text}",
        "output": text,
        "evidence": [unit.quoted for unit in split_units(text)],
        "passage_id": f"{PASSAGE}{standard.id}",
        "kind": "answerable",
    }
