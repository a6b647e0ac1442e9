"""What the worker knows: an index that follows the policy folder.

The folder is read in a background thread; a search always gets one whole index, the newest that is ready.
"""

import logging
import threading
from collections.abc import Callable

from quantahr.errors import PolicyError
from quantahr.heap import give_back_memory
from quantahr.policies import Library, LibraryFollower
from quantahr.retrieval import Embedder, EmbeddingCache, Index, load_embedder
from quantahr.settings import Settings
from worker.answering.disclosure import Disclosure

log = logging.getLogger(__name__)

LOOK_SECONDS = 3.0


class Knowledge:
    """The index in force. `start` returns at once; `index` waits for the first one."""

    def __init__(self, settings: Settings, *, look_seconds: float = LOOK_SECONDS) -> None:
        self._settings = settings
        self._embedder = load_embedder(settings.model.embedding)
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        self._cache = EmbeddingCache(settings.state_dir / "embeddings.db")
        self._index: Index | None = None
        self._disclosure: Disclosure | None = None
        self._ready = threading.Event()
        self._failure: Exception | None = None
        self._follower = LibraryFollower(settings.policies_dir, self._changed, look_seconds)
        self._listeners: list[Callable[[Library, Index], None]] = []
        self._known: tuple[Library, Index] | None = None
        self._telling = threading.Lock()

    @property
    def embedder(self) -> Embedder:
        """The embedding model that the index uses."""
        return self._embedder

    def start(self) -> None:
        """Begin to follow the folder. Raises PolicyError if there is no such folder."""
        if not self._settings.policies_dir.is_dir():
            raise PolicyError(
                f"There is no folder {self._settings.policies_dir}. Create it and put the HR documents (.docx or .md) "
                "in it, or name another one with policies_dir."
            )
        # Beside the loading of the model, which takes as long.
        threading.Thread(target=self._first, name="first index", daemon=True).start()

    def listen(self, listener: Callable[[Library, Index], None]) -> None:
        """Call `listener` with every new library and its index, and with the present one if there is one already."""
        with self._telling:
            self._listeners.append(listener)
            if self._known:
                listener(*self._known)

    def index(self) -> Index:
        """The newest index. The first call waits until the folder has been read once."""
        self._ready.wait()
        if self._index is None:
            raise self._failure or PolicyError("The policy folder could not be indexed; the worker's log says why.")
        return self._index

    def disclosure(self) -> Disclosure:
        """What recognises a disclosure by its meaning. The first call waits as `index` does."""
        self._ready.wait()
        if self._disclosure is None:
            raise self._failure or PolicyError("The embedding model could not be loaded; the worker's log says why.")
        return self._disclosure

    def close(self) -> None:
        self._follower.stop()
        self._cache.close()

    def _first(self) -> None:
        try:
            self._disclosure = Disclosure()
            self._changed(self._follower.start())
        except Exception as error:
            self._fail(error)

    def _changed(self, library: Library) -> None:
        try:
            sections = library.sections
            before = self._index
            index = before.update(sections) if before else Index.build(sections, self._embedder, self._cache)
        except Exception as error:
            self._fail(error)
            return
        self._index = index
        self._ready.set()
        give_back_memory()
        log.info("index %s: %d sections of %d documents", index.version, len(index), len(library.documents))
        with self._telling:
            self._known = library, index
            for listener in self._listeners:
                listener(library, index)

    def _fail(self, error: Exception) -> None:
        log.error("the policy folder could not be indexed: %s", type(error).__name__)
        self._failure = error
        self._ready.set()
