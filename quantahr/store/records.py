"""What the store gives back: plain frozen records, detached from the database."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Turn:
    """One earlier question of a thread, with how it ended. `text` is None if it was sensitive."""

    question: str
    text: str | None
    verdict: str


@dataclass(frozen=True, slots=True)
class Escalation:
    """A question shown to HR, with its asker's consent."""

    id: str
    question: str | None
    platform: str
    tenant: str
    user: str
    text: str
    address: Mapping[str, Any]
    state: str
    replied_by: str | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message of the outbox, leased to the bot that will send it."""

    id: str
    platform: str
    address: Mapping[str, Any]
    kind: str
    payload: Mapping[str, Any]
    attempts: int
