"""Words: tokens, stems and BM25 over them.

A stem of a rare word is what a question and its section most often share, and what an embedding most often blurs
("probation", "P45", "mileage"); common words say little and are left out.
"""

import functools
import math
import re
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import snowballstemmer
from numpy.typing import NDArray

Scores = NDArray[np.float32]

_WORD = re.compile(r"[a-z0-9]+(?:['’][a-z]+)?|[a-zà-ÿß]+")
_STEMMER = snowballstemmer.stemmer("english")
_STEM_LOCK = threading.Lock()

STOP_WORDS = frozenset(
    "a an the of to in on at for from by with and or but if then than so as is are was were be been being am do "
    "does did done have has had having i me my mine we us our ours you your yours he him his she her hers it its "
    "they them their this that these those there here what which who whom whose when where why how can could may "
    "might must shall should will would not no nor any some all each every either neither such own same too very "
    "just also only get gets got getting give gives given need needs want wants please about into over under after "
    "before during while because until unless s t d ll m re ve don didn doesn isn aren wasn weren won wouldn couldn "
    "shouldn cannot im ive id youre theres whats hows lets let know tell say says said go goes going gonna wanna "
    "actually really like thing things company policy policies employee employees staff work question ask asking "
    "anyone someone something hi hello hey thanks thank ok okay yes one use used using make made take taken takes "
    "happen happens up out off much many long".split()
)


def words(text: str) -> list[str]:
    """Lower-case words and numbers, in order. A possessive ending is dropped."""
    return [re.sub(r"['’]s?$", "", word) for word in _WORD.findall(text.lower().replace("’", "'"))]


@functools.lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """The stem under which forms of a word meet."""
    with _STEM_LOCK:  # the stemmer keeps its state in itself
        return str(_STEMMER.stemWord(word))


def stems(text: str) -> list[str]:
    """Stems of the words that carry meaning."""
    return [
        stem(word.replace("'", ""))
        for word in words(text)
        if word not in STOP_WORDS and word.replace("'", "") not in STOP_WORDS
    ]


class Bm25:
    """BM25 over bags of stems; a stem may weigh more than its count (a heading counts more than a sentence)."""

    def __init__(self, bags: Sequence[Mapping[str, float]], *, k1: float = 1.2, b: float = 0.6) -> None:
        self.size = len(bags)
        lengths = np.array([sum(bag.values()) for bag in bags], np.float32)
        mean = float(lengths.mean()) if self.size else 1.0
        norm = k1 * (1 - b + b * lengths / max(mean, 1e-6))
        postings: dict[str, tuple[list[int], list[float]]] = {}
        for number, bag in enumerate(bags):
            for term, count in bag.items():
                ids, counts = postings.setdefault(term, ([], []))
                ids.append(number)
                counts.append(count)
        self._postings: dict[str, tuple[NDArray[np.int64], Scores]] = {}
        self._idf: dict[str, float] = {}
        for term, (ids, counts) in postings.items():
            at = np.array(ids, np.int64)
            count_array = np.array(counts, np.float32)
            idf = self._idf[term] = math.log(1 + (self.size - len(ids) + 0.5) / (len(ids) + 0.5))
            self._postings[term] = at, (idf * count_array * (k1 + 1) / (count_array + norm[at])).astype(np.float32)

    def idf(self, term: str) -> float:
        """How rare a stem is; one that never occurs is the rarest."""
        return self._idf.get(term, math.log(1 + (self.size + 0.5) / 0.5))

    def __contains__(self, term: str) -> bool:
        return term in self._postings

    def scores(self, query: Mapping[str, float]) -> Scores:
        """The score of every bag; `query` maps stems to weights."""
        total = np.zeros(self.size, np.float32)
        for term, weight in query.items():
            posting = self._postings.get(term)
            if posting is not None:
                total[posting[0]] += weight * posting[1]
        return total

    def coverage(self, query: Mapping[str, float]) -> Scores:
        """For every bag, the share of the query's rarity that occurs in it, between 0 and 1."""
        total = np.zeros(self.size, np.float32)
        whole = 0.0
        for term, weight in query.items():
            value = weight * self.idf(term)
            whole += value
            posting = self._postings.get(term)
            if posting is not None:
                total[posting[0]] += value
        return total / whole if whole else total


def bag(parts: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Weighted stem counts of (text, weight) parts."""
    counts: Counter[str] = Counter()
    for text, weight in parts:
        for term in stems(text):
            counts[term] += weight  # type: ignore[assignment]
    return dict(counts)
