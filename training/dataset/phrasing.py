"""How people type on a phone: the same question with capitals lost, letters dropped or swapped and words shortened.

Numbers are left alone: a mistyped number would be another question.
"""

import random
import re

_SHORT = {
    "holiday": "hols",
    "holidays": "hols",
    "annual leave": "pto",
    "grandmother": "gran",
    "weekend": "w/e",
    "working from home": "wfh",
    "work from home": "wfh",
    "please": "pls",
    "you": "u",
    "are": "r",
    "your": "ur",
    "because": "bc",
    "with": "w",
    "without": "w/o",
    "year": "yr",
    "weeks": "wks",
    "week": "wk",
    "months": "mths",
    "department": "dept",
    "manager": "mgr",
    "information": "info",
    "maximum": "max",
    "employee": "emp",
    "as soon as possible": "asap",
    "through": "thru",
    "tomorrow": "tmrw",
    "going to": "gonna",
}
_OPENINGS = ("hi, ", "hey ", "hello, ", "quick q: ", "sorry to bother, ", "hi there! ", "pls help - ", "morning, ")


def typed(question: str, rng: random.Random) -> str:
    """The question as somebody in a hurry writes it. It stays readable; digits never change."""
    text = question
    if rng.random() < 0.7:
        text = text[:1].lower() + text[1:] if rng.random() < 0.4 else text.lower()
    if rng.random() < 0.6:
        text = text.rstrip("?.!")
    if rng.random() < 0.5:
        text = text.replace("'", "").replace("’", "")
    if rng.random() < 0.5:
        text = _shorten(text, rng)
    if rng.random() < 0.5:
        text = _typo(text, rng)
    if rng.random() < 0.12:
        text = rng.choice(_OPENINGS) + text
    return text


def _shorten(text: str, rng: random.Random) -> str:
    present = [long for long in _SHORT if re.search(rf"\b{long}\b", text, re.IGNORECASE)]
    for long in rng.sample(present, min(len(present), 2)):
        text = re.sub(rf"\b{long}\b", _SHORT[long], text, count=1, flags=re.IGNORECASE)
    return text


def _typo(text: str, rng: random.Random) -> str:
    words = text.split(" ")
    places = [index for index, word in enumerate(words) if len(word) > 4 and word.isalpha()]
    if not places:
        return text
    place = rng.choice(places)
    word = words[place]
    at = rng.randrange(1, len(word) - 2)
    words[place] = rng.choice(
        (
            word[:at] + word[at + 1 :],
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
            word[:at] + word[at] + word[at:],
        )
    )
    return " ".join(words)
