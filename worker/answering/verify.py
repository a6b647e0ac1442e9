"""The last word before anything is shown: does this sentence stand in the evidence?

A small model turns "28 days" into "30 days" without noticing. So every number, date, amount, name and address of a
sentence must stand in the evidence it cites, read in any of the ways people write them; a "not" must not appear or
vanish; and most of its words must come from there. It is asked sentence by sentence while the answer streams: what was
shown is never taken back.
"""

import re
from collections.abc import Sequence
from typing import Protocol

from quantahr.retrieval.lexical import STOP_WORDS, stem, words
from worker.answering.facts import facts, held

MIN_SUPPORT = 0.6
"""Share of a sentence's content words that must stand in the evidence."""
MAX_WORDS = 70

_CITATION = re.compile(r"\[(\d+)\]")
_NEGATION = re.compile(
    r"\b(?:not|no|never|cannot|can't|can’t|won't|won’t|don't|don’t|doesn't|doesn’t|isn't|isn’t|aren't|aren’t|mustn't|"
    r"without|neither|nor|none|nobody|nothing|unable|prohibited|forbidden|excluded|ineligible|refused?|unless|except|only)\b",
    re.I,
)
_PLAIN_NEGATION = re.compile(r"\b(?:not|never|cannot|\w+n['’]t)\b", re.I)
_PHRASING = frozenset(
    stem(word)
    for word in "yes no answer according excerpt document handbook states state says mean means means following follow "
    "apply applies include includes including entitle entitled eligible receive receives able allow allowed permit "
    "required require ensure provide provided please note however therefore additionally also total per each day days "
    "week weeks month months year years hour hours time manager because well within least most people person".split()
)


class ExcerptLike(Protocol):
    """The part of `quantahr.prompt.Excerpt` that is read here."""

    @property
    def number(self) -> int: ...
    @property
    def label(self) -> str: ...
    @property
    def text(self) -> str: ...


def check(
    sentence: str, excerpts: Sequence[ExcerptLike], *, question: str = "", before: Sequence[str] = ()
) -> str | None:
    """Why a sentence must not be shown, in one word, or None if it may.

    It is held against the excerpts it cites, or all of them if it cites none. What the asker said himself (`question`)
    may be repeated; `before` are the sentences shown so far.
    """
    cited = citations(sentence)
    numbers = {excerpt.number for excerpt in excerpts}
    if not excerpts or not cited <= numbers:
        return "citation"
    plain = _CITATION.sub("", sentence).strip()
    if problem := _rambles(plain, before):
        return problem
    used = [excerpt for excerpt in excerpts if not cited or excerpt.number in cited]
    text = "\n".join(f"{excerpt.label}. {excerpt.text}" for excerpt in used)
    if missing := facts(plain) - held(text) - facts(question):
        return f"unsupported {min(fact.kind for fact in missing)}"
    if _support(plain, f"{text}\n{question}") < MIN_SUPPORT:
        return "support"
    if _flips(plain, used):
        return "negation"
    return None


def citations(text: str) -> set[int]:
    """The numbers that a text cites."""
    return {int(number) for number in _CITATION.findall(text)}


def with_citation(text: str, excerpts: Sequence[ExcerptLike]) -> str:
    """The text, with a citation of the excerpt that supports it best if it cites none."""
    if citations(text) or not excerpts or not text.strip():
        return text
    best = max(excerpts, key=lambda excerpt: (_overlap(text, excerpt.text), -excerpt.number))
    return f"{text.rstrip()} [{best.number}]"


def _support(sentence: str, text: str) -> float:
    content = _content(sentence) - _PHRASING
    if not content:
        return 1.0
    return len(content & _content(text)) / len(content)


def _overlap(text: str, excerpt: str) -> float:
    wanted, held = _content(text), _content(excerpt)
    return len(wanted & held) + sum(fact in facts(excerpt) for fact in facts(text))


def _content(text: str) -> set[str]:
    return {stem(word) for word in words(text) if word not in STOP_WORDS and not word.isdigit()}


def _flips(sentence: str, excerpts: Sequence[ExcerptLike]) -> bool:
    """Whether a "not" has come or gone, against the clauses of the evidence that this sentence is nearest to."""
    clauses = [
        part for excerpt in excerpts for part in re.split(r"[.!?;:]\s+|,? but |\n", excerpt.text) if _content(part)
    ]
    wanted = _content(sentence)
    ranked = sorted(clauses, key=lambda part: -len(wanted & _content(part)) / (3 + len(_content(part))))
    if not ranked or not wanted & _content(ranked[0]):
        return False
    if _PLAIN_NEGATION.search(sentence):
        return not any(_NEGATION.search(part) for part in ranked[:3]) and not re.match(r"not?\b", sentence, re.I)
    if not _PLAIN_NEGATION.search(ranked[0]) or _NEGATION.search(sentence):
        return False
    # The evidence says "not" and the sentence does not: a flip if it repeats nearly all of that clause.
    nearest = _content(ranked[0])
    return len(wanted & nearest) >= 0.75 * len(nearest)


def _rambles(sentence: str, before: Sequence[str]) -> str | None:
    tokens = words(sentence)
    if not tokens:
        return "empty"
    if len(tokens) > MAX_WORDS:
        return "long"
    if len(tokens) >= 8:
        triples = [tuple(tokens[at : at + 3]) for at in range(len(tokens) - 2)]
        if len(set(triples)) < 0.75 * len(triples):
            return "repetition"
    said = [set(words(earlier)) for earlier in before]
    if any(len(set(tokens) & earlier) > 0.85 * len(set(tokens)) for earlier in said if len(tokens) > 3):
        return "repetition"
    if re.search(
        r"\b(?:as an ai|language model|i'm sorry|i cannot|the excerpts?|the question|question:|excerpt \d)\b",
        sentence,
        re.I,
    ):
        return "meta"
    return None
