"""Release of a growing answer, sentence by sentence: what has been shown never has to be taken back.

Pieces of text go in; whole sentences that pass the check come out. The first sentence that does not pass ends the
generation, and what was released before it stands.
"""

import re
from collections.abc import Callable
from typing import Final

_END: Final = re.compile(r"(?:[.!?]['”\")]*(?:\s*\[\d+\])*)(?=\s|$)")
_ABBREVIATION: Final = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|no|approx|incl|max|min|mr|mrs|ms|dr|art|sec|p\.a|a\.m|p\.m)|\d)\.$", re.I
)
_CITATION: Final = re.compile(r"\s*\[\d+\]")


class Release:
    """`check` says why a sentence must not be shown (None if it may); `emit` gets what may be shown."""

    def __init__(
        self, check: Callable[[str], str | None], emit: Callable[[str], None], stopped: Callable[[], bool]
    ) -> None:
        self._check = check
        self._emit = emit
        self._stopped = stopped
        self._buffer = ""
        self.sentences: list[str] = []
        self.rejected: str | None = None
        """Why the generation was ended early."""

    @property
    def text(self) -> str:
        """What has been released."""
        return " ".join(self.sentences)

    def feed(self, piece: str) -> bool:
        """Take the next piece. Returns True if the generation should end."""
        self._buffer += piece
        while self.rejected is None and (cut := _boundary(self._buffer)):
            self._release(self._buffer[:cut])
            self._buffer = self._buffer[cut:]
        return self.rejected is not None or self._stopped()

    def end(self, *, complete: bool) -> None:
        """The generation has ended; `complete` if by itself, so that what is left is a whole sentence."""
        rest, self._buffer = self._buffer.strip(), ""
        if rest and complete and self.rejected is None:
            self._release(rest)

    def _release(self, sentence: str) -> None:
        sentence = " ".join(sentence.split())
        if not sentence:
            return
        self.rejected = self._check(sentence)
        if self.rejected is None:
            self._emit(f" {sentence}" if self.sentences else sentence)
            self.sentences.append(sentence)


def _boundary(text: str) -> int:
    """Where the first whole sentence ends, its citations included; 0 if that cannot be told yet."""
    for match in _END.finditer(text):
        end = match.end()
        # At the very end of what has come, a citation or the rest of an abbreviation may still follow.
        rest = text[end:]
        if _ABBREVIATION.search(text[: match.start() + 1]) and (not rest.strip() or rest.lstrip()[:1].islower()):
            continue
        while citation := _CITATION.match(text, end):
            end = citation.end()
        if text[end:].strip() and not text[end:].lstrip().startswith("["):
            return end
        if "\n" in text[end:]:
            return end
    return 0
