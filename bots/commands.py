"""What stands behind `/hr`, the same on every platform: a question, or one of a few words.

Pure: text in, a command out. Anything that is not a known word is a question, because people ask before they read help.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ask:
    """A question."""

    text: str


@dataclass(frozen=True, slots=True)
class Help:
    """How to use the command."""


@dataclass(frozen=True, slots=True)
class Stop:
    """End the answer that is on its way."""


Command = Ask | Help | Stop

HELP_WORDS = frozenset({"", "help", "?", "-h", "--help"})
STOP_WORDS = frozenset({"stop", "cancel", "stop it", "stop please", "please stop"})


def parse(text: str) -> Command:
    """The command in what was typed after `/hr`."""
    words = " ".join(text.split())
    if words.casefold() in HELP_WORDS:
        return Help()
    return Stop() if is_stop(words) else Ask(words)


def is_stop(text: str) -> bool:
    """Whether a message says no more than that the answer should end."""
    return " ".join(text.casefold().split()).strip(" .!") in STOP_WORDS
