"""A chat message turned into what a handbook can be searched for.

People write "hi! gran died, can i hav time of"; handbooks say "Bereavement leave". The message is cleaned (greetings,
chat shorthand, typos), and what a handbook would call it is added, never put in its place: the words that were typed
stay the first evidence of what was meant. A follow-up ("and for part-timers?") is read together with the question
before it.
"""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, TypeVar

import yaml

from quantahr.retrieval.lexical import STOP_WORDS, stem, words
from quantahr.retrieval.spelling import Speller

_FOLLOW_UP = re.compile(
    r"^(?:and|but|or|also|so|then|what about|how about|what if|same for|is (?:that|it|this)|does (?:that|it|this)|"
    r"do (?:they|these|those)|are (?:they|these|those)|can (?:that|it|they)|for (?:how|what|which)|which|why|"
    r"who (?:is|are) (?:that|they)|ok(?:ay)?|in that case|even)\b",
    re.IGNORECASE,
)
_POINTS_BACK = re.compile(r"\b(?:it|that|this|they|them|those|these|there|one|ones)\b", re.IGNORECASE)
T = TypeVar("T")

_MAX_WORDS = 80
"""A question is read up to here; longer messages are stories whose question stands at the start or the end."""


@dataclass(frozen=True, slots=True)
class Query:
    """A question, understood.

    `text` is the cleaned question; `expanded` adds the handbook's words for it (equal to `text` if there are none);
    `terms` maps stems to weights: 1 for the asker's own, less for added ones; `own` are the asker's own stems.
    """

    text: str
    expanded: str
    terms: dict[str, float]
    own: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lexicon:
    """`lexicon.yaml`, prepared: phrases as stem sequences, found by their first stem."""

    abbreviations: dict[str, str]
    openers: frozenset[str]
    hints: dict[str, list[tuple[tuple[str, ...], tuple[str, ...]]]]
    synonyms: dict[str, list[tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]]]
    words: frozenset[str]


@functools.cache
def lexicon() -> Lexicon:
    """The packaged lexicon of HR words."""
    raw: dict[str, Any] = yaml.safe_load(
        resources.files("quantahr.retrieval").joinpath("lexicon.yaml").read_text(encoding="utf-8")
    )
    abbreviations = {str(short): str(long) for short, long in raw["abbreviations"].items()}
    hints: dict[str, list[tuple[tuple[str, ...], tuple[str, ...]]]] = {}
    known = set(words(" ".join(abbreviations) + " " + " ".join(abbreviations.values())))
    for phrases, *formal in raw["hints"]:
        for phrase in phrases:
            key = _stem_phrase(str(phrase))
            hints.setdefault(key[0], []).append((key, tuple(map(str, formal))))
            known.update(words(str(phrase)))
        known.update(words(" ".join(map(str, formal))))
    synonyms: dict[str, list[tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]]] = {}
    for group in raw["synonyms"]:
        keys = [_stem_phrase(str(phrase)) for phrase in group]
        known.update(word for phrase in group for word in words(str(phrase)))
        for key in keys:
            synonyms.setdefault(key[0], []).append((key, tuple(other for other in keys if other != key)))
    openers = frozenset(str(phrase) for phrase in raw["small_talk"])
    return Lexicon(abbreviations, openers, hints, synonyms, frozenset(known))


def understand(text: str, speller: Speller, earlier: Sequence[str] = ()) -> Query:
    """The query for a chat message; `earlier` are the previous questions of the thread, oldest first."""
    cleaned = clean(text, speller)
    if earlier and is_follow_up(cleaned):
        start = next((at for at in range(len(earlier) - 1, 0, -1) if not is_follow_up(earlier[at])), 0)
        before = " ".join(clean(question, speller) for question in earlier[start:])
        cleaned = f"{before} {cleaned}".strip()
    own = tuple(dict.fromkeys(stem(word) for word in words(cleaned) if word not in STOP_WORDS))
    added = _hints(cleaned)
    terms = dict.fromkeys(own, 1.0)
    for phrase in added:
        for word in words(phrase):
            if word not in STOP_WORDS:
                terms.setdefault(stem(word), 0.5)
    for other in _synonyms(cleaned):
        for part in other:
            if part not in STOP_WORDS:
                terms.setdefault(part, 0.4 / len(other))
    expanded = f"{cleaned} ({', '.join(added[:4])})" if added else cleaned
    return Query(cleaned, expanded, terms, own)


def clean(text: str, speller: Speller) -> str:
    """The message without greetings, shorthand and slips of the finger."""
    text = text.replace("’", "'").replace("‘", "'").replace("“", '"').replace("”", '"')
    text = re.sub(r"[^\w\s'&/.,:;?!()%€$£+-]", " ", text)
    text = re.sub(r"([?!.,])[?!.,]+", r"\1", text)
    text = re.sub(r"(\w)\1{2,}", r"\1\1", text)
    tokens = text.split()
    if len(tokens) > _MAX_WORDS:
        tokens = tokens[: _MAX_WORDS // 2] + tokens[-_MAX_WORDS // 2 :]
    tokens = _spell_out(tokens)
    tokens = _trim(tokens)
    return " ".join(_respell(token, speller) for token in tokens)


def is_follow_up(text: str) -> bool:
    """Whether a question cannot be understood without the one before it."""
    content = [word for word in words(text) if word not in STOP_WORDS]
    if len(content) <= 1:
        return True
    opens = bool(_FOLLOW_UP.match(text))
    return (opens and len(content) <= 5) or (len(content) <= 3 and bool(_POINTS_BACK.search(text)))


def _spell_out(tokens: list[str]) -> list[str]:
    short = lexicon().abbreviations
    found: list[str] = []
    at = 0
    while at < len(tokens):
        for size in (2, 1):
            part = tokens[at : at + size]
            bare = [token.lower().strip("?!.,;:()\"'") for token in part]
            long = short.get(" ".join(bare)) if len(part) == size else None
            if long is not None:
                ending = re.search(r"[?!.,;:]*$", part[-1])
                found.append(long + (ending.group() if ending else ""))
                at += size
                break
        else:
            found.append(tokens[at])
            at += 1
    return " ".join(found).split()


def _trim(tokens: list[str]) -> list[str]:
    openers = lexicon().openers

    def plain(part: list[str]) -> str:
        return " ".join(part).lower().replace("'", "").strip("?!.,;:-() ")

    bare = {opener.replace("'", "") for opener in openers}
    changed = True
    while changed and len(tokens) > 1:
        changed = False
        for size in (5, 4, 3, 2, 1):
            if len(tokens) > size and plain(tokens[:size]) in bare:
                tokens, changed = tokens[size:], True
                break
            if len(tokens) > size + 1 and plain(tokens[-size:]) in bare:
                tokens, changed = tokens[:-size], True
                break
    return tokens


def _respell(token: str, speller: Speller) -> str:
    match = re.fullmatch(r"(\W*)([A-Za-z]+)(\W*|'[a-z]+\W*)", token)
    if not match:
        return token
    before, word, after = match.groups()
    # A capital inside a sentence is a name or an abbreviation: leave it.
    if word.isupper() and len(word) > 1 and len(word) < 6:
        return token
    corrected = speller.correct(word.lower())
    return token if corrected == word.lower() else f"{before}{corrected}{after}"


def _hints(text: str) -> list[str]:
    found: dict[str, int] = {}
    for key, formal in _matches(text, lexicon().hints):
        for phrase in formal:
            found[phrase] = max(found.get(phrase, 0), len(key))
    # What a longer phrase says is the more certain.
    return sorted(found, key=lambda phrase: -found[phrase])


def _synonyms(text: str) -> list[tuple[str, ...]]:
    return [other for _, others in _matches(text, lexicon().synonyms) for other in others]


def _matches(text: str, table: dict[str, list[tuple[tuple[str, ...], T]]]) -> list[tuple[tuple[str, ...], T]]:
    sequence = [stem(word) for word in words(text)]
    found = []
    for at, first in enumerate(sequence):
        for key, value in table.get(first, ()):
            if tuple(sequence[at : at + len(key)]) == key:
                found.append((key, value))
    return found


def _stem_phrase(phrase: str) -> tuple[str, ...]:
    return tuple(stem(word) for word in words(phrase))
