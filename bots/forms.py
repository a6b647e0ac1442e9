"""What a command answers, in no platform's terms: words with buttons, a form to fill in, or a text to be written.

Slack shows a form as a modal, Teams as a card; both send back the form's name, its data and what was filled in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from quantahr.messages import Kind, Platform

FieldKind = Literal["text", "long", "date", "person", "choice"]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who says or presses something. `name` may be empty."""

    platform: Platform
    tenant: str
    user: str
    name: str = ""

    @property
    def id(self) -> str:
        """As it stands in the audit: "slack:U1"."""
        return f"{self.platform}:{self.user}"


@dataclass(frozen=True, slots=True)
class Field:
    """One thing to fill in. `choices` are (value, label)."""

    name: str
    label: str
    kind: FieldKind = "text"
    required: bool = True
    initial: str = ""
    hint: str = ""
    choices: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Form:
    """`data` comes back with what was filled in."""

    name: str
    title: str
    submit: str
    fields: Sequence[Field]
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Work:
    """A text that the worker has to write: answered like a question, privately."""

    kind: Kind
    text: str
    word: bool = False
    """Also as a Word file."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What to show to the one who asked, and only to them. One of the three."""

    message: Mapping[str, Any] | None = None
    """As quantahr.people.words.card makes it."""
    form: Form | None = None
    work: Work | None = None
