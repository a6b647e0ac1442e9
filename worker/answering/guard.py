"""What is recognised before any document is searched: who must hear this is a human, or nobody.

Three ideas. A disclosure (something happened to someone) goes to a named human whatever else is asked; a question about
the rules on the same topic is an ordinary question, answered with a pointer to that human. Patterns carry the cases
that somebody thought of and live in guard.yaml; the classifier beside them (disclosure.py) adds what means the same and
overrules a word in harmless use, but never one of danger to oneself. And nothing here stores, logs or repeats
what was written.
"""

import functools
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal, Protocol

import yaml

from quantahr.messages import Contact
from worker.answering import language, replies
from worker.answering.disclosure import CERTAIN, DANGER, SELF_HARM, UNLIKELY, Disclosure

MAX_CHARACTERS = 4000
"""Longer messages are not questions; the reply asks for a shorter one."""

_ALWAYS = frozenset({SELF_HARM})

Kind = Literal["ask", "sensitive", "refused", "smalltalk", "invalid"]


class ContactsLike(Protocol):
    """The part of `quantahr.settings.Contacts` that is read here."""

    @property
    def hr(self) -> Contact: ...
    @property
    def emergency(self) -> Contact: ...
    @property
    def topics(self) -> Mapping[str, Contact]: ...


@dataclass(frozen=True, slots=True)
class Judgement:
    """What to do with a message. `kind` "ask": search the documents; else `reply` is the whole answer.

    `topic` names what was recognised; `contact` whom the reply names. `pointer`, if not empty, is a sentence to put
    under an ordinary answer on a delicate topic.
    """

    kind: Kind
    topic: str = ""
    reply: str = ""
    contact: Contact | None = None
    pointer: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """guard.yaml, compiled. Topics are in the order in which they are tried: danger to life first."""

    topics: dict[str, tuple[re.Pattern[str], ...]]
    unless_policy: frozenset[str]
    policy_question: tuple[re.Pattern[str], ...]
    about_words: re.Pattern[str]
    persons: re.Pattern[str]
    misspelt: tuple[tuple[re.Pattern[str], str], ...]
    delicate: dict[str, re.Pattern[str]]
    injection: tuple[re.Pattern[str], ...]
    small_talk: dict[str, re.Pattern[str]]


@functools.cache
def rules() -> Rules:
    """The packaged rules."""
    raw: dict[str, Any] = yaml.safe_load(
        resources.files("worker.answering").joinpath("guard.yaml").read_text(encoding="utf-8")
    )
    macros = {name: _joined(text) for name, text in raw["macros"].items()}

    def compiled(pattern: str) -> re.Pattern[str]:
        for name, text in macros.items():
            pattern = pattern.replace(f"{{{name}}}", text)
        return re.compile(pattern)

    return Rules(
        topics={name: tuple(map(compiled, topic["disclosures"])) for name, topic in raw["topics"].items()},
        unless_policy=frozenset(name for name, topic in raw["topics"].items() if topic.get("unless_policy")),
        policy_question=tuple(map(compiled, raw["policy_question"])),
        about_words=compiled(raw["about_words"]),
        persons=compiled(raw["persons"]),
        misspelt=tuple((compiled(slip), meant) for slip, meant in raw["misspelt"].items()),
        delicate={name: compiled(pattern) for name, pattern in raw["delicate"].items()},
        injection=tuple(map(compiled, raw["injection"])),
        small_talk={name: compiled(pattern) for name, pattern in raw["small_talk"].items()},
    )


def check(text: str, contacts: ContactsLike, disclosure: Disclosure | None = None) -> Judgement:
    """Judge a message by the patterns and, if it is given, by what a disclosure sounds like."""
    plain = normalise(text)
    if len(text) > MAX_CHARACTERS:
        return Judgement("invalid", "length", replies.too_long(MAX_CHARACTERS))
    if not re.search(r"\w", plain):
        return Judgement("invalid", "empty", replies.no_words(has_characters=bool(text.strip())))
    if topic := sensitive_topic(plain, disclosure):
        return _sensitive(topic, contacts)
    if is_injection(plain, text):
        return Judgement("refused", "injection", replies.refused(contacts.hr), contacts.hr)
    for name, pattern in rules().small_talk.items():
        if pattern.search(plain):
            return Judgement("smalltalk", name, replies.small_talk(name, contacts.hr))
    if not re.search(r"[^\W\d_]{2}", plain):
        return Judgement("invalid", "words", replies.no_words(has_characters=True))
    if (spoken := language.detect(text)) != "en":
        return Judgement("invalid", "language", replies.other_language(spoken, contacts.hr))
    return Judgement("ask", pointer=_pointer(plain, contacts))


def normalise(text: str) -> str:
    """Lower case, plain quotes, no accents, no markup, single spaces: what the rules are written for."""
    text = unicodedata.normalize("NFKD", text)
    text = "".join(mark for mark in text if not unicodedata.combining(mark) and unicodedata.category(mark) != "Cf")
    text = text.lower().replace("’", "'").replace("‘", "'").replace("`", "'").replace("“", '"').replace("”", '"')
    text = re.sub(r"[*_~]+(?=\S)|(?<=\S)[*_~]+", "", text)
    text = re.sub(r"([a-z])\1{2,}", r"\1\1", text)
    text = re.sub(r"\bu\b", "you", re.sub(r"\bur\b", "your", text))
    text = " ".join(text.split())
    for slip, meant in rules().misspelt:
        text = slip.sub(meant, text)
    return text


def sensitive_topic(plain: str, disclosure: Disclosure | None = None) -> str:
    """The topic of a disclosure, or an empty string. `plain` is normalised.

    Danger to life is never overruled; else a word in harmless use is told by the message's meaning.
    """
    named = _named_topic(plain)
    if disclosure is None or named in _ALWAYS or _is_small_talk(plain):
        return named
    heard = disclosure.score(plain)
    if heard.sure >= CERTAIN:
        return named or heard.topic
    if heard.danger >= DANGER:
        return SELF_HARM
    return named if heard.sure >= UNLIKELY else ""


def _named_topic(plain: str) -> str:
    """The topic whose words stand in the message."""
    found = rules()
    if found.about_words.search(plain) and not found.persons.search(plain):
        return ""
    about_rules = any(pattern.search(plain) for pattern in found.policy_question)
    for topic, patterns in found.topics.items():
        if any(pattern.search(plain) for pattern in patterns) and not (about_rules and topic in found.unless_policy):
            return topic
    return ""


def _is_small_talk(plain: str) -> bool:
    return any(pattern.search(plain) for pattern in rules().small_talk.values())


def is_injection(plain: str, text: str) -> bool:
    """Whether a message tries to change what the assistant is, or to get at what it is told."""
    encoded = re.search(r"(?:[A-Za-z0-9+/]{40,}={0,2})|(?:\b[01]{8}\b ?){4,}|(?:\\x[0-9a-f]{2}){4,}", text)
    return bool(encoded) or any(pattern.search(plain) for pattern in rules().injection)


def _sensitive(topic: str, contacts: ContactsLike) -> Judgement:
    if topic == "privacy":
        return Judgement("sensitive", topic, replies.private_data(contacts.hr), contacts.hr)
    contact = contacts.topics.get(topic, contacts.hr)
    return Judgement("sensitive", topic, replies.sensitive(topic, contact, contacts.emergency), contact)


def _pointer(plain: str, contacts: ContactsLike) -> str:
    for topic, pattern in rules().delicate.items():
        if pattern.search(plain):
            return replies.pointer(contacts.topics.get(topic, contacts.hr))
    return ""


def _joined(pattern: str) -> str:
    """Patterns may be broken over lines in the file; a break and its indentation mean nothing."""
    return re.sub(r"\s*\n\s*", "", pattern).replace("| ", "|").strip()
