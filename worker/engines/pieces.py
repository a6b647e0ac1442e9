"""Text that grows, cut into pieces that can be shown: for engines whose server or library does not do it.

A piece is held back while it may still change: half of a character, or the beginning of a stop string.
"""

from collections.abc import Sequence


class Pieces:
    """Feed it the whole text so far; it gives what is new and certain."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._stop = [word for word in stop if word]
        self._released = 0
        self._text = ""
        self.stopped = False
        """True once a stop string has come; the text ends before it."""

    @property
    def text(self) -> str:
        """What has been released."""
        return self._text[: self._released]

    def grow(self, text: str) -> str:
        """`text` is everything so far. Returns the new piece, possibly empty."""
        if self.stopped:
            return ""
        self._text = text
        ends = [found for word in self._stop if (found := text.find(word, max(0, self._released - len(word)))) >= 0]
        if ends:
            self.stopped = True
            return self._release(min(ends))
        certain = len(text.rstrip("\ufffd"))
        for word in self._stop:
            held = next((n for n in range(len(word) - 1, 0, -1) if text[:certain].endswith(word[:n])), 0)
            certain = min(certain, len(text) - held)
        return self._release(certain)

    def finish(self) -> str:
        """Nothing more comes: what was held back."""
        return "" if self.stopped else self._release(len(self._text))

    def _release(self, end: int) -> str:
        piece = self._text[self._released : end]
        self._released = max(self._released, end)
        return piece
