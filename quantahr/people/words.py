"""A message with rows and buttons, in no platform's terms: what the outbox carries and each bot renders.

{"text": intro, "rows": [{"text": …, "buttons": [{"label", "value"}]}]}. Texts use *bold* for titles and are otherwise
plain; a value comes back when its button is pressed.
"""

from collections.abc import Iterable, Sequence
from typing import Any

Button = tuple[str, str]
"""Label and value."""


def card(text: str, rows: Iterable[tuple[str, Sequence[Button]]] = ()) -> dict[str, Any]:
    """The message as JSON."""
    return {
        "text": text,
        "rows": [
            {"text": line, "buttons": [{"label": label, "value": value} for label, value in buttons]}
            for line, buttons in rows
        ],
    }


def plain(message: dict[str, Any]) -> str:
    """All of its words, for notifications and for places without buttons."""
    parts = [str(message.get("text", "")), *(str(row.get("text", "")) for row in message.get("rows", ()))]
    return "\n\n".join(part.replace("*", "") for part in parts if part)
