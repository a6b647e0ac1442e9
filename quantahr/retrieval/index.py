"""The index: sections of the handbook, ready to be searched by anyone's question.

Three ideas. A section is prepared once and reused as long as its content hash stays, so an index follows a changed
folder in the time of the change. An index never changes: a search sees one version from beginning to end. And what the
asker may not read is not merely hidden: each audience searches a view of its own that was built without it, words and
statistics included.
"""

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantahr.retrieval.cues import offered
from quantahr.retrieval.embedder import Embedder, EmbeddingCache, Vectors, embed_with
from quantahr.retrieval.evidence import choose
from quantahr.retrieval.lexical import Bm25, bag, words
from quantahr.retrieval.query import lexicon, understand
from quantahr.retrieval.reader import Reads, default_reader
from quantahr.retrieval.scoring import Scorer, View, default_scorer
from quantahr.retrieval.sections import EVERYONE, Hit, Retrieval, SectionLike
from quantahr.retrieval.spelling import Speller
from quantahr.retrieval.units import Unit, split_units

_WINDOW = 3
"""Units that are embedded together, with their heading, to be found by what they say as a whole."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A section with everything that does not depend on its neighbours.

    `unit_vectors` are [units, dimension], of each unit under its heading; `bare_vectors` without it;
    `window_vectors` are [windows, dimension]; `unit_kinds` are [units, len(KINDS)].
    """

    section: SectionLike
    units: tuple[Unit, ...]
    unit_vectors: Vectors
    bare_vectors: Vectors
    window_vectors: Vectors
    heading_vector: Vectors
    unit_kinds: NDArray[np.float32]
    unit_bags: tuple[dict[str, float], ...]
    bag: dict[str, float]
    heading_bag: dict[str, float]
    words: Counter[str]


class Index:
    """Immutable. Build one with `Index.build`; `update` gives a new one that reuses what did not change."""

    def __init__(
        self,
        prepared: Sequence[Prepared],
        embedder: Embedder,
        cache: EmbeddingCache | None,
        scorer: Scorer,
        reader: Callable[[], Reads | None],
    ) -> None:
        self._prepared = tuple(prepared)
        self._embedder = embedder
        self._cache = cache
        self._scorer = scorer
        self._reader = reader
        self._views: dict[frozenset[str], View] = {}
        self._lock = threading.Lock()
        hashes = sorted(entry.section.content_hash for entry in prepared)
        self.version = hashlib.sha256("\n".join(hashes).encode()).hexdigest()[:12]
        """The first 12 hex digits of the SHA-256 over the sorted content hashes; the same as `Library.version`."""

    @classmethod
    def build(
        cls,
        sections: Iterable[SectionLike],
        embedder: Embedder,
        cache: EmbeddingCache | None = None,
        scorer: Scorer | None = None,
        reader: Callable[[], Reads | None] = default_reader,
    ) -> "Index":
        """An index of the sections. Embeds what the cache does not hold; asks for the reader with the first search."""
        chosen = scorer or default_scorer()
        return cls(_prepare(list(sections), embedder, cache), embedder, cache, chosen, reader)

    def update(self, sections: Iterable[SectionLike]) -> "Index":
        """An index of these sections instead; the unchanged ones are not prepared again."""
        wanted = list(sections)
        old = {_identity(entry.section): entry for entry in self._prepared}
        fresh = [section for section in wanted if _identity(section) not in old]
        old.update((_identity(entry.section), entry) for entry in _prepare(fresh, self._embedder, self._cache))
        return Index(
            [old[_identity(section)] for section in wanted], self._embedder, self._cache, self._scorer, self._reader
        )

    @property
    def sections(self) -> tuple[SectionLike, ...]:
        return tuple(entry.section for entry in self._prepared)

    def __len__(self) -> int:
        return len(self._prepared)

    def search(self, query: str, *, audiences: Collection[str], earlier: Sequence[str] = (), k: int = 5) -> Retrieval:
        """The best sections and evidence for a question of someone who belongs to `audiences`.

        `earlier` are the asker's previous questions of the same thread, oldest first. Every employee also sees what is
        for everyone.
        """
        view = self.view(audiences)
        if not view.entries:
            return Retrieval((), (), 0.0)
        asked = understand(query, view.speller, earlier)
        texts = [asked.text] if asked.expanded == asked.text else [asked.text, asked.expanded]
        vectors = self._embedder.embed(texts)
        ranking = self._scorer.rank(view, asked, vectors)
        hits = tuple(Hit(view.entries[at].section, float(ranking.sections[at])) for at in ranking.best_sections(k))
        evidence, reading = choose(view, asked.text, ranking, self._reader())
        return Retrieval(hits, evidence, self._scorer.answerable(view, asked, ranking, evidence, reading))

    def view(self, audiences: Collection[str]) -> View:
        """What people who belong to `audiences` may search, built on first use."""
        wanted = frozenset(audiences) | {EVERYONE}
        with self._lock:
            if wanted not in self._views:
                visible = [entry for entry in self._prepared if wanted.intersection(entry.section.audience)]
                self._views[wanted] = _view_of(visible, self._embedder)
            return self._views[wanted]

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of texts, by the index's own embedding model: float32 of shape [len(texts), dimension]."""
        return self._embedder.embed(texts)


def _identity(section: SectionLike) -> tuple[str, str, tuple[str, ...]]:
    return section.id, section.content_hash, section.audience


def heading_of(section: SectionLike) -> str:
    """The heading path as words; the document's title where it says more."""
    path = [part for part in section.heading_path if part.strip()]
    if len(path) <= 1 and section.title and section.title not in path:
        path = [section.title, *path]
    return " - ".join(path[-3:])


def _prepare(sections: Sequence[SectionLike], embedder: Embedder, cache: EmbeddingCache | None) -> list[Prepared]:
    texts: list[str] = []
    plans: list[tuple[SectionLike, tuple[Unit, ...], int, int]] = []
    for section in sections:
        units = split_units(section.text)
        heading = heading_of(section)
        own = [heading]
        own += [f"{heading}: {unit.quoted}" for unit in units]
        own += [unit.quoted for unit in units]
        windows = [units[at : at + _WINDOW] for at in range(0, max(1, len(units) - 1), _WINDOW - 1)] if units else []
        own += [f"{heading}. {' '.join(unit.quoted for unit in window)}" for window in windows]
        plans.append((section, units, len(texts), len(windows)))
        texts += own
    vectors = embed_with(embedder, cache, texts)
    found = []
    for section, units, at, window_count in plans:
        heading = heading_of(section)
        n = len(units)
        whole = f"{section.title} {' '.join(section.heading_path)}"
        heading_bag = bag([(whole, 1.0)])
        found.append(
            Prepared(
                section=section,
                units=units,
                heading_vector=vectors[at],
                unit_vectors=vectors[at + 1 : at + 1 + n],
                bare_vectors=vectors[at + 1 + n : at + 1 + 2 * n],
                window_vectors=vectors[at + 1 + 2 * n : at + 1 + 2 * n + window_count],
                unit_kinds=np.stack([offered(unit.quoted) for unit in units])
                if units
                else np.empty((0, 6), np.float32),
                unit_bags=tuple(bag([(unit.quoted, 1.0), (heading, 0.5)]) for unit in units),
                bag=bag([(section.text, 1.0), (" ".join(section.heading_path), 2.0), (section.title, 0.5)]),
                heading_bag=heading_bag,
                words=Counter(words(f"{whole} {section.text}")),
            )
        )
    return found


def _view_of(entries: Sequence[Prepared], embedder: Embedder) -> View:
    counts: Counter[str] = Counter()
    for entry in entries:
        counts.update(entry.words)
    kept = [entry for entry in entries if entry.units]
    owner = np.array([number for number, entry in enumerate(kept) for _ in entry.units], np.int64)
    window_owner = np.array([number for number, entry in enumerate(kept) for _ in entry.window_vectors], np.int64)

    def stacked(parts: list[Vectors]) -> Vectors:
        return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)

    return View(
        entries=tuple(kept),
        units=tuple(unit for entry in kept for unit in entry.units),
        owner=owner,
        first_window=np.searchsorted(window_owner, np.arange(len(kept))),
        first_unit=np.searchsorted(owner, np.arange(len(kept))),
        unit_vectors=stacked([entry.unit_vectors for entry in kept]),
        bare_vectors=stacked([entry.bare_vectors for entry in kept]),
        window_vectors=stacked([entry.window_vectors for entry in kept]),
        heading_vectors=np.stack([entry.heading_vector for entry in kept]) if kept else np.empty((0, 0), np.float32),
        unit_kinds=stacked([entry.unit_kinds for entry in kept]),
        unit_words=Bm25([unit_bag for entry in kept for unit_bag in entry.unit_bags]),
        section_words=Bm25([entry.bag for entry in kept]),
        heading_words=Bm25([entry.heading_bag for entry in kept]),
        speller=Speller(counts, lexicon().words, embedder.words),
    )
