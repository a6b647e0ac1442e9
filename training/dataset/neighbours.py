"""What stands beside the right section in the evidence: units of other sections, so that the model learns to choose.

In a training they are what the worker's own retrieval brings up for the same questions, so that training sees the
evidence that serving sends. What was embedded once, by the worker or an earlier run, is not embedded again.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from quantahr.policies import Section
from quantahr.retrieval import Embedder, EmbeddingCache, Index, load_embedder
from quantahr.retrieval.embedder import Vectors
from quantahr.retrieval.query import understand
from quantahr.retrieval.units import split_units
from training.dataset.material import Ask, Material

Neighbours = dict[str, tuple[tuple[str, int], ...]]
"""As `Material.neighbours`."""

Search = Callable[[Sequence[Section], Material], Neighbours]
"""Finds the neighbours of every passage of a material that was made of these sections."""


def beside(sections: Sequence[Section], material: Material) -> Neighbours:
    """No search: the sections before and after stand in for what one would find."""
    known = [section.id for section in sections if section.id in material.passages]
    found = {}
    for at, key in enumerate(known):
        near = (*known[max(0, at - 2) : at], *known[at + 1 : at + 3])
        found[key] = tuple((other, unit) for other in near for unit in range(len(material.passages[other].units))[:2])
    return found


def retrieved(cache: Path) -> Search:
    """The worker's own retrieval. `cache` is the file that keeps embeddings, the worker's or a copy."""

    def search(sections: Sequence[Section], material: Material) -> Neighbours:
        kept = EmbeddingCache(cache)
        try:
            return _retrieved(sections, material, kept)
        finally:
            kept.close()

    return search


def _retrieved(sections: Sequence[Section], material: Material, cache: EmbeddingCache) -> Neighbours:
    embedder = _Kept(load_embedder(), cache)
    index = Index.build(sections, embedder, cache)
    # Manager-only sections are neighbours too: the evidence in training is never shown to anyone.
    everyone = {audience for section in sections for audience in section.audience}
    asks = _first_of_each(material.asks, 3)
    understood = [understand(ask.question, index.view(everyone).speller) for ask in asks]
    embedder.embed([text for query in understood for text in (query.text, query.expanded)])  # all at once: faster
    found: dict[str, dict[tuple[str, int], None]] = {}
    for ask in asks:
        for evidence in index.search(ask.question, audiences=everyone).evidence:
            if evidence.section.id == ask.passage or evidence.section.id not in material.passages:
                continue
            end = evidence.start + len(evidence.text)
            for number, unit in enumerate(split_units(evidence.section.text)):
                if evidence.start <= unit.start < end:
                    found.setdefault(ask.passage, {})[evidence.section.id, number] = None
    return {key: tuple(units) for key, units in found.items()}


def _first_of_each(asks: Sequence[Ask], count: int) -> list[Ask]:
    """At most `count` questions of each passage."""
    taken: Counter[str] = Counter()
    chosen = []
    for ask in asks:
        taken[ask.passage] += 1
        if taken[ask.passage] <= count:
            chosen.append(ask)
    return chosen


class _Kept:
    """An embedder that asks the model once for every text."""

    def __init__(self, embedder: Embedder, cache: EmbeddingCache) -> None:
        self._embedder, self._cache = embedder, cache
        self.name, self.words = embedder.name, embedder.words

    def embed(self, texts: Sequence[str]) -> Vectors:
        return self._cache.embed(self._embedder, texts)
