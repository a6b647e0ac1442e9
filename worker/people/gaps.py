"""What nothing answered, by meaning: clusters of questions, large enough that nobody can be recognised in them.

Questions without an answer, with a thumb down, or passed on to HR are grouped around the one that is most like all
others. Names, addresses and numbers are taken out of what is shown. The draft is what the documents say nearest to it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from sqlalchemy import or_, select

from quantahr.people.corrections import DAY, DAYS
from quantahr.people.loop import FEWEST, Gap
from quantahr.people.names import without_names
from quantahr.retrieval import Embedder, Index
from quantahr.retrieval.embedder import Vectors
from quantahr.store import Store
from quantahr.store.tables import AnswerRow, EscalationRow, FeedbackRow, QuestionRow

ALIKE: Final = 0.68
VARIANTS: Final = 8
MOST: Final = 5000
"""Questions looked at, the newest."""
TO_WRITE: Final = "[Nothing in the documents answers this. Write the answer here.]"


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A question, and who asked it (as a key that is only counted)."""

    text: str
    person: str


def unanswered(store: Store, now: float) -> list[Unanswered]:
    """The questions of the last 30 days that nothing answered, or not well. Sensitive ones have no text and are out."""
    since = now - DAYS * DAY
    query = (
        select(QuestionRow)
        .join(AnswerRow, AnswerRow.question == QuestionRow.id)
        .outerjoin(FeedbackRow, FeedbackRow.question == QuestionRow.id)
        .outerjoin(EscalationRow, EscalationRow.question == QuestionRow.id)
        .where(
            QuestionRow.asked_at >= since,
            QuestionRow.text.is_not(None),
            or_(AnswerRow.verdict == "abstained", FeedbackRow.rating < 0, EscalationRow.id.is_not(None)),
        )
        .order_by(QuestionRow.asked_at.desc())
        .limit(MOST)
    )
    with store.session() as session:
        rows = session.scalars(query).unique().all()
    return [Unanswered(row.text or "", f"{row.platform}:{row.tenant}:{row.user}") for row in rows]


def find_gaps(questions: Sequence[Unanswered], embedder: Embedder, index: Index) -> list[Gap]:
    """The clusters that at least FEWEST people are in, most people first."""
    if not questions:
        return []
    vectors = embedder.embed([one.text for one in questions])
    gaps = []
    for members in clusters(vectors):
        people = {questions[at].person for at in members}
        if len(people) < FEWEST:
            continue
        middle = vectors[members].mean(axis=0)
        near = sorted(members, key=lambda at: -float(vectors[at] @ middle))
        texts = list(dict.fromkeys(without_names(questions[at].text) for at in near))
        gaps.append(_gap(texts, len(people), len(members), index))
    return sorted(gaps, key=lambda gap: -gap.people)


def clusters(vectors: Vectors, alike: float = ALIKE) -> list[list[int]]:
    """Groups of row numbers: each row joins the group whose middle it is most like, if it is like it at all."""
    groups: list[list[int]] = []
    sums: list[Vectors] = []
    for at, vector in enumerate(vectors):
        scores = [float(total @ vector / max(1e-9, float(np.linalg.norm(total)))) for total in sums]
        best = int(np.argmax(scores)) if scores else -1
        if best >= 0 and scores[best] >= alike:
            groups[best].append(at)
            sums[best] = sums[best] + vector
        else:
            groups.append([at])
            sums.append(vector.copy())
    return groups


def _gap(texts: Sequence[str], people: int, asked: int, index: Index) -> Gap:
    found = index.search(texts[0], audiences=("employee",), k=1)
    nearest = found.hits[0].section if found.hits and found.answerable > 0.1 else None
    draft, sections = TO_WRITE, []
    if found.answerable >= 0.35 and found.evidence:
        pieces = found.evidence[:3]
        draft = " ".join(" ".join(piece.text.split()) for piece in pieces)
        sections = list(dict.fromkeys(piece.section.id for piece in pieces))
    identity = hashlib.sha256(texts[0].casefold().encode()).hexdigest()[:16]
    return Gap(
        id=identity,
        question=texts[0],
        variants=tuple(texts[1 : VARIANTS + 1]),
        people=people,
        asked=asked,
        document=nearest.document if nearest else "",
        heading=" › ".join(nearest.heading_path) if nearest else "",
        sections=tuple(sections),
        draft=draft,
    )
