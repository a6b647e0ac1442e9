"""What crosses the queue, and the only description of it.

Three ideas. Every message carries a version and is frozen, so that a bot and a worker of different releases either
understand each other or say so. Only small ids and text cross: documents, vectors and pickles never do. And a
question's id is derived from the platform's own event id, so a redelivered event is the same question, answered once.

An answer is a sequence of events on one Redis Stream per question:
`accepted, queued*, started, status*, sources?, delta*, final | error`. A second `started` (another attempt, after a
worker died) means: forget the deltas so far.
"""

import hashlib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

VERSION: Literal[1] = 1

Platform = Literal["slack", "teams", "console", "batch"]
Role = Literal["employee", "manager", "hr", "admin"]
Kind = Literal["ask", "summary", "draft"]
"""ask: a question; summary: of a topic, of what changed, or of an uploaded document; draft: a text for HR's desk."""
Verdict = Literal["answered", "quoted", "abstained", "sensitive", "refused", "smalltalk", "invalid"]
"""answered: phrased by the model and checked; quoted: the documents' own sentences; abstained: nothing supports an
answer; sensitive: routed to a named human; refused: instructions, other people's data; smalltalk: greetings and help;
invalid: empty, far too long, no words."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Question(_Message):
    """One employee's question, as a bot accepted it."""

    v: Literal[1] = VERSION
    id: str = Field(min_length=8, max_length=64)
    platform: Platform
    tenant: str
    conversation: str
    """The platform's conversation: a Slack channel or DM id, a Teams conversation id."""
    thread: str
    """What follow-ups belong to; unique together with platform, tenant and conversation."""
    user: str
    text: str
    private: bool
    """True if only the asker can see where the answer goes (a DM, an ephemeral message, the console)."""
    roles: tuple[Role, ...] = ("employee",)
    asked_at: float
    """Seconds since 1970, UTC."""
    kind: Kind = "ask"


class Source(_Message):
    """A section that an answer rests on, as shown to the asker."""

    number: int
    """What the text cites: [1]."""
    section: str
    document: str
    heading: str
    """The heading path, joined by " > "."""
    passage: str
    """The sentences that were used."""
    version: str
    """First 12 hex digits of the section's content hash."""
    effective: str | None = None
    """ISO date, if the document states one."""


class Provenance(_Message):
    """What produced an answer, precisely enough to reproduce it."""

    model: str
    adapter: str | None = None
    index: str
    engine: str
    attempt: int = 1


class Contact(_Message):
    """A human to turn to."""

    name: str
    detail: str = ""
    """E-mail, phone, room or link, as the administrator wrote it."""


class Accepted(_Message):
    type: Literal["accepted"] = "accepted"


class Queued(_Message):
    type: Literal["queued"] = "queued"
    position: int
    """How many questions are ahead of this one."""


class Started(_Message):
    type: Literal["started"] = "started"
    attempt: int


class Status(_Message):
    type: Literal["status"] = "status"
    text: str


class Sources(_Message):
    type: Literal["sources"] = "sources"
    sources: tuple[Source, ...]


class Delta(_Message):
    """Checked text, to be appended."""

    type: Literal["delta"] = "delta"
    text: str


class Final(_Message):
    """The whole answer. It repeats what streamed, so that a bot which missed the deltas needs nothing else."""

    type: Literal["final"] = "final"
    verdict: Verdict
    text: str
    sources: tuple[Source, ...] = ()
    closest: tuple[Source, ...] = ()
    """The nearest passages, always shown folded, so that usefulness never rests on the model's eloquence."""
    contact: Contact | None = None
    asker_only: bool = False
    """Must not appear where anyone but the asker can read it."""
    stopped: bool = False
    """The asker stopped it."""
    provenance: Provenance | None = None
    ms_first_token: float | None = None
    ms_total: float | None = None


class Failed(_Message):
    type: Literal["error"] = "error"
    code: Literal["unavailable", "timeout", "busy", "internal", "stopped"]
    text: str
    """An apology fit for the employee, with what to do next."""


Event = Annotated[
    Accepted | Queued | Started | Status | Sources | Delta | Final | Failed,
    Field(discriminator="type"),
]
_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


def dump_event(event: Event) -> bytes:
    """One event as JSON."""
    return event.model_dump_json(exclude_defaults=False).encode()


def load_event(data: bytes) -> Event:
    """The event in `data`. Raises pydantic.ValidationError for anything that is not one."""
    return _EVENT.validate_json(data)


def question_id(platform: Platform, tenant: str, event: str) -> str:
    """The id of the question that a platform event carries: 24 hex digits, the same for every redelivery."""
    return hashlib.sha256(f"{platform}\0{tenant}\0{event}".encode()).hexdigest()[:24]
