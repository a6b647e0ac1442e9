"""Which version is active, and how it came to that: one small document, changed in one write.

The history stands in the same document as the pointer, so that no crash can leave the two disagreeing. A rollback goes
back to what was active before the last activation that was not itself undone.
"""

import json
from dataclasses import asdict, dataclass

from quantahr.registry.storage import RegistryError

BASE = "base"
"""Active: the base model alone, without an adapter."""


@dataclass(frozen=True, slots=True)
class Change:
    """One move of the pointer. `active`: a version's id, BASE, or None for what is shipped. `at`: ISO time, UTC."""

    serial: int
    active: str | None
    at: str
    actor: str
    reason: str = ""
    override: bool = False
    """It was activated although the gate had not let it pass."""
    rollback: bool = False


@dataclass(frozen=True, slots=True)
class Pointer:
    """The state of the registry. `serial` grows with every change; 0 before the first."""

    history: tuple[Change, ...] = ()

    @property
    def serial(self) -> int:
        return self.history[-1].serial if self.history else 0

    @property
    def active(self) -> str | None:
        return self.history[-1].active if self.history else None

    def before(self) -> str | None:
        """What a rollback would make active. Raises RegistryError when nothing was active before."""
        trail: list[str | None] = [None]
        for change in self.history:
            if change.rollback:
                trail.pop()
            else:
                trail.append(change.active)
        if len(trail) < 2:
            raise RegistryError("There is nothing to go back to: no other version was active before this one.")
        return trail[-2]

    def moved(self, change: Change) -> "Pointer":
        return Pointer((*self.history, change))

    def dump(self) -> bytes:
        changes = [asdict(change) for change in self.history]
        return (json.dumps({"format": 1, "active": self.active, "history": changes}, indent=1) + "\n").encode()


def load_pointer(data: bytes) -> Pointer:
    """Raises RegistryError when the document is damaged."""
    try:
        return Pointer(tuple(Change(**change) for change in json.loads(data)["history"]))
    except (ValueError, KeyError, TypeError):
        raise RegistryError(
            "The pointer of the model registry (pointer.json) is damaged. Restore it from a backup, or delete it and "
            "type `quantahr models activate VERSION`."
        ) from None
