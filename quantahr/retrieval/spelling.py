"""Spelling: what was probably meant, judged by the words of the company's own documents.

Two ideas. A known word is never touched: not one of the documents, not one that the embedding model knows whole, not
one of the HR lexicon. And a slip is weighed by how it happens: a neighbouring key, two letters swapped, a doubled
letter or a vowel heard wrongly cost less than an arbitrary letter.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_VOWELS = frozenset("aeiouy")
_SOUND_ALIKE = frozenset(
    {"ck", "kc", "cs", "sc", "sz", "zs", "fv", "vf", "iy", "yi", "ks", "sk", "gj", "jg", "qk", "kq"}
)


def _neighbours() -> frozenset[str]:
    pairs = set()
    for y, row in enumerate(_ROWS):
        for x, key in enumerate(row):
            for other_y, other_x in ((y, x + 1), (y + 1, x), (y + 1, x - 1)):
                if other_y < len(_ROWS) and 0 <= other_x < len(_ROWS[other_y]):
                    other = _ROWS[other_y][other_x]
                    pairs |= {key + other, other + key}
    return frozenset(pairs)


_NEIGHBOURS = _neighbours()


def distance(typed: str, meant: str, limit: float = 2.0) -> float:
    """The cost of typing `typed` for `meant`; `limit` + 1 as soon as it exceeds the limit."""
    if abs(len(typed) - len(meant)) > limit * 2:
        return limit + 1
    before: list[float] = []
    last = [0.0]
    for j in range(1, len(meant) + 1):
        last.append(last[-1] + _gap(meant, j - 1))
    for i, a in enumerate(typed, 1):
        row = [last[0] + _gap(typed, i - 1)]
        for j, b in enumerate(meant, 1):
            cost = min(last[j - 1] + _swap(a, b), last[j] + _gap(typed, i - 1), row[j - 1] + _gap(meant, j - 1))
            if i > 1 and j > 1 and a == meant[j - 2] and b == typed[i - 2] and a != b:
                cost = min(cost, before[j - 2] + 0.6)
            row.append(cost)
        if min(row) > limit:
            return limit + 1
        before, last = last, row
    return last[-1]


def _gap(word: str, at: int) -> float:
    doubled = (at > 0 and word[at] == word[at - 1]) or (at + 1 < len(word) and word[at] == word[at + 1])
    return 0.5 if doubled else 0.8 if word[at] in _VOWELS else 1.0


def _swap(a: str, b: str) -> float:
    if a == b:
        return 0.0
    if a in _VOWELS and b in _VOWELS:
        return 0.6
    return 0.7 if a + b in _NEIGHBOURS or a + b in _SOUND_ALIKE else 1.0


class Speller:
    """Corrects single words. `counts` are the words of the documents, `known` other words that are right."""

    def __init__(self, counts: Mapping[str, int], lexicon: Collection[str], known: Collection[str]) -> None:
        self._known = known
        self._counts = Counter({word: 1 for word in lexicon if len(word) > 3})
        self._counts.update({word: count for word, count in counts.items() if word.isalpha()})
        self._by_pair: dict[str, list[str]] = defaultdict(list)
        for word in self._counts:
            if len(word) > 3:
                for pair in _pairs(word):
                    self._by_pair[pair].append(word)

    def correct(self, word: str) -> str:
        """The word itself if it is known or nothing near is; else the likeliest word of the documents or lexicon."""
        if len(word) < 4 or not word.isascii() or not word.isalpha() or word in self._counts or word in self._known:
            return word
        if any(
            word.endswith(ending) and self._is_word(word, ending)
            for ending in ("s", "es", "ed", "ing", "ly", "er", "ers", "d")
        ):
            return word
        shared = Counter(other for pair in _pairs(word) for other in self._by_pair.get(pair, ()))
        limit = 1.0 if len(word) <= 5 else 1.7 if len(word) <= 8 else 2.2
        best, best_cost = word, limit + 0.001
        for other, _ in shared.most_common(60):
            cost = distance(word, other, limit) + (0.3 if other[0] != word[0] else 0.0)
            # A word that the documents use often is likelier; this only decides between near equals.
            cost -= min(0.15, 0.03 * self._counts[other])
            if cost < best_cost:
                best, best_cost = other, cost
        return best

    def _is_word(self, word: str, ending: str) -> bool:
        root = word[: -len(ending)]
        return len(root) > 2 and any(form in self._counts or form in self._known for form in (root, root + "e"))


def _pairs(word: str) -> set[str]:
    framed = f"^{word}$"
    return {framed[at : at + 2] for at in range(len(framed) - 1)}
