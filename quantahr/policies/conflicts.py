"""Two documents that say the same thing with different numbers.

The idea: compare only sentences that share their rare words and a unit ("€", "days") but not the amounts. Measured on
the sample handbook, headings included, the one true pair shares 53% of its words' weight and the next best pair 22%,
so the line is drawn at 40%. Sentences that name different places or teams are about different people and are left
alone, as are table rows.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from quantahr.policies.blocks import sentences
from quantahr.policies.model import Finding, Section

_SHARED = 0.4
_RARE = 20
_MAX_SENTENCES = 20_000
_WORDS = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()
_NUMBERS = {word: str(number) for number, word in enumerate(_WORDS, 1)}
_NUMBER = r"(\d+(?:[.,]\d+)*|" + "|".join(_WORDS) + ")"
_UNITS = re.compile(rf"\b{_NUMBER}[\s-]+(?:[a-z]+\s+)?(days?|weeks?|months?|years?|hours?|times)\b", re.IGNORECASE)
_MONEY = re.compile(r"([€£$])\s?(\d+(?:[.,]\d+)*)")
_TABLE_ROW = re.compile(r"^[^:;.]+: [^;]+; [^:;]+: ")


@dataclass(frozen=True, slots=True)
class _Claim:
    """A sentence with amounts, by unit; `names` are its capitalised words but the first."""

    section: Section
    sentence: str
    words: frozenset[str]
    amounts: dict[str, frozenset[str]]
    names: frozenset[str]


def contradictions(sections: Sequence[Section]) -> list[Finding]:
    """A finding for each pair of sentences of two documents that seem to contradict each other, in reading order."""
    claims = [claim for section in sections for claim in _claims(section)][:_MAX_SENTENCES]
    frequency = Counter(word for claim in claims for word in claim.words)
    weight = {word: math.log(len(claims) / count) for word, count in frequency.items()}
    by_word: dict[str, list[int]] = defaultdict(list)
    for index, claim in enumerate(claims):
        for word in claim.words:
            if frequency[word] <= _RARE:
                by_word[word].append(index)
    pairs = sorted({(a, b) for found in by_word.values() for a in found for b in found if a < b})
    return [_finding(claims[a], claims[b]) for a, b in pairs if _contradict(claims[a], claims[b], weight)]


def _claims(section: Section) -> Iterator[_Claim]:
    heading = _content_words(" ".join(section.heading_path))
    for line in section.text.split("\n"):
        if _TABLE_ROW.match(line):
            continue
        for sentence in sentences(line):
            bare = re.sub(r"\([^)]*\)|\[[^\]]*\]", " ", sentence)
            amounts: dict[str, set[str]] = defaultdict(set)
            for number, unit in _UNITS.findall(bare):
                amounts[unit.lower().rstrip("s")].add(_NUMBERS.get(number.lower(), number))
            for unit, number in _MONEY.findall(bare):
                amounts[unit].add(number.replace(",", "").rstrip("."))
            words = _content_words(bare)
            if amounts and len(words) >= 3:
                names = frozenset(re.findall(r"(?<=[\w,] )[A-Z]\w+", bare))
                frozen = {unit: frozenset(found) for unit, found in amounts.items()}
                yield _Claim(section, sentence, words | heading, frozen, names)


def _content_words(text: str) -> frozenset[str]:
    """Words of four letters and more, cut to six as a rough stem, without number words."""
    return frozenset(word[:6] for word in re.findall(r"[^\W\d_]{4,}", text.lower()) if word not in _NUMBERS)


def _contradict(one: _Claim, other: _Claim, weight: dict[str, float]) -> bool:
    if one.section.document == other.section.document or one.names != other.names:
        return False
    units = one.amounts.keys() & other.amounts.keys()
    if not any(one.amounts[unit] != other.amounts[unit] for unit in units) or _for_different_people(one, other):
        return False
    shared = sum(weight[word] for word in one.words & other.words)
    return shared >= _SHARED * sum(weight[word] for word in one.words | other.words) > 0


def _for_different_people(one: _Claim, other: _Claim) -> bool:
    """Whether their files are siblings such as Leave-Spain and Leave-Ireland; Leave-2025 and Leave-2026 are not."""
    first, second = (set(re.findall(r"[^\W\d_]+", Path(claim.section.document).stem.lower())) for claim in (one, other))
    return bool(first & second) and bool(first - second) and bool(second - first) and len(first ^ second) <= 2


def _finding(one: _Claim, other: _Claim) -> Finding:
    where = " > ".join(one.section.heading_path)
    place = f"{other.section.document}, {' > '.join(other.section.heading_path)}"
    detail = f'"{one.sentence}" – but {place}: "{other.sentence}"'
    return Finding(
        one.section.document, "contradiction", where, detail, "Decide which one holds and correct the other."
    )
