"""A library that keeps up with its folder.

Three ideas. Every round looks at each file's size and times, hashes only those that changed, and parses only those
whose bytes did: a quiet folder costs a few stat calls, on network drives too, where change events are not delivered.
A file whose time is too close to the look is looked at again, since a second save in the same tick leaves no trace.
And a document that is bad while it is still being saved keeps its last good version until the file has settled.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from quantahr.errors import PolicyError
from quantahr.policies.folder import assemble, load_document, policy_files, unreadable
from quantahr.policies.model import Document, Finding, Library

_log = logging.getLogger(__name__)
_SETTLED_NS = 2_000_000_000
_Stamp = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Known:
    stamp: _Stamp
    trusted: bool
    file_hash: str
    document: Document | None
    finding: Finding | None


class LibraryFollower:
    """Follows the folder `root` in a thread of its own.

    `on_change` gets the new library after each change (not after `start`), in that thread; if it raises, it is called
    again in the next round. `interval` is the pause between rounds in seconds. Also a context manager.
    """

    def __init__(self, root: Path, on_change: Callable[[Library], None], interval: float = 2.0) -> None:
        self._root, self._on_change, self._interval = root, on_change, interval
        self._known: dict[str, _Known] = {}
        self._library = Library((), ())
        self._pending = False
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def library(self) -> Library:
        """The library as of the last round."""
        return self._library

    def start(self) -> Library:
        """Read the folder, begin to follow it, and return the library. Raises PolicyError when there is no folder."""
        self._library = self._look()
        self._stopped.clear()
        self._thread = threading.Thread(target=self._follow, name="policy-folder", daemon=True)
        self._thread.start()
        return self._library

    def stop(self) -> None:
        """End following; returns when the thread has ended. A follower can be stopped twice and started again."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def check(self) -> bool:
        """One round: True when the library changed. Raises PolicyError when the folder cannot be listed."""
        library = self._look()
        changed = (library.documents, library.findings) != (self._library.documents, self._library.findings)
        if changed:
            self._library = library
        return changed

    def _follow(self) -> None:
        absent = False
        while not self._stopped.wait(self._interval):
            try:
                self._pending = self.check() or self._pending
                absent = False
            except PolicyError:
                if not absent:
                    _log.warning(
                        "The policy folder cannot be read; the last version of %d documents stays in use.",
                        len(self._library.documents),
                    )
                absent = True
            if self._pending:
                self._announce()

    def _announce(self) -> None:
        try:
            self._on_change(self._library)
            self._pending = False
        except Exception as error:
            _log.warning("Taking over the changed policies failed (%s); trying again.", type(error).__name__)

    def _look(self) -> Library:
        known = {}
        for path in policy_files(self._root):
            name = path.relative_to(self._root).as_posix()
            known[name] = self._read(path, name, self._known.get(name))
        before, self._known = self._known, known
        if known.keys() == before.keys() and all(known[name] is before[name] for name in known):
            return self._library
        documents = [item.document for item in known.values() if item.document is not None]
        return assemble(documents, [item.finding for item in known.values() if item.finding is not None])

    def _read(self, path: Path, name: str, before: _Known | None) -> _Known:
        looked_ns = time.time_ns()
        stamp, changed_ns = _stamp(path)
        settled = looked_ns - changed_ns > _SETTLED_NS
        if before is not None and before.stamp == stamp and before.trusted:
            return before
        digest = _digest(path)
        if before is not None and digest and digest == before.file_hash and before.stamp[3:] == stamp[3:]:
            return _Known(stamp, settled, digest, before.document, before.finding)
        try:
            document = load_document(path, root=self._root)
        except PolicyError as error:
            if not settled and before is not None and before.document is not None:
                return _Known(stamp, False, "", before.document, before.finding)
            return _Known(stamp, settled, digest, None, unreadable(name, error))
        return _Known(stamp, settled, document.file_hash, document, None)


def _stamp(path: Path) -> tuple[_Stamp, int]:
    """What tells that a file may have changed, and when it last did (ns); zeros for one that cannot be looked at."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0, 0, 0), 0
    link = int(path.is_symlink())
    stamp = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_mode, link)
    return stamp, max(found.st_mtime_ns, found.st_ctime_ns)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
