"""The facts of a sentence that must not be invented: numbers, amounts, dates, times, names, addresses.

People write one fact in many ways ("twenty-eight days" and "28 days", "1 March" and "01/03", "€1,500" and "1500 EUR");
here each becomes one normal form, so that two sentences can be compared by set difference.
"""

import re
from collections.abc import Callable
from typing import NamedTuple


class Fact(NamedTuple):
    """`kind` is number, amount, percent, date, month, weekday, time, name or address; `value` its normal form."""

    kind: str
    value: str


_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = {word: 20 + 10 * at for at, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split())}
_ORDINALS = {
    word: at + 1
    for at, word in enumerate(
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth "
        "thirteenth fourteenth fifteenth".split()
    )
}
_WORD_NUMBERS = {word: at for at, word in enumerate(_UNITS)} | _TENS
_FACTORS = {"hundred": 100, "thousand": 1000, "million": 1_000_000}
_MULTIPLES = {
    "half": "0.5",
    "twice": "2",
    "double": "2",
    "triple": "3",
    "dozen": "12",
    "fortnight": "2 weeks",
    "fortnightly": "2 weeks",
    "couple": "2",
}
_MONTHS = "january february march april may june july august september october november december".split()
_WEEKDAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
# "8 may claim" is no date: May needs its capital.
_MONTH = "|".join(
    "(?-i:May)" if name == "may" else f"{name}|{name[:3]}" + ("|sept" if name == "september" else "")
    for name in _MONTHS
)
_CURRENCIES = {
    "€": "eur",
    "eur": "eur",
    "euro": "eur",
    "euros": "eur",
    "£": "gbp",
    "gbp": "gbp",
    "pound": "gbp",
    "pounds": "gbp",
    "quid": "gbp",
    "$": "usd",
    "usd": "usd",
    "dollar": "usd",
    "dollars": "usd",
    "us$": "usd",
    "chf": "chf",
    "franc": "chf",
    "francs": "chf",
    "zł": "pln",
    "pln": "pln",
    "aud": "aud",
    "a$": "aud",
    "cad": "cad",
    "c$": "cad",
    "inr": "inr",
    "₹": "inr",
    "rs": "inr",
    "sek": "sek",
    "nok": "nok",
    "dkk": "dkk",
    "sgd": "sgd",
    "s$": "sgd",
    "nzd": "nzd",
    "nz$": "nzd",
    "p": "pence",
    "pence": "pence",
    "cents": "cent",
    "cent": "cent",
}
_NUMBER = r"\d{1,3}(?:[,' \u00a0\u202f]\d{3})+(?:\.\d+)?|\d+(?:[.,]\d+)?"
_SIGN = "|".join(re.escape(sign) for sign in sorted(_CURRENCIES, key=len, reverse=True) if not sign.isalpha())
_CODE = "|".join(sorted((code for code in _CURRENCIES if code.isalpha() and code != "rs"), key=len, reverse=True))
_ADDRESS = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]*\w|(?:https?://|www\.)[^\s)\]>,;]*[^\s)\]>,;.]", re.I)
_DATE_WORDS = re.compile(
    rf"\b(?P<d1>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? (?P<m1>{_MONTH})\b\.?(?:,? (?P<y1>\d{{4}}))?|"
    rf"\b(?P<m2>{_MONTH})\.? (?P<d2>\d{{1,2}})(?:st|nd|rd|th)?\b(?:,? (?P<y2>\d{{4}}))?",
    re.I,
)
_DATE_DIGITS = re.compile(
    r"\b(\d{4})-(\d{1,2})-(\d{1,2})\b|\b(\d{1,2})[./](\d{1,2})(?:[./](\d{2,4}))?\b(?!\s*(?:%|hours|days))"
)
_TIME = re.compile(
    r"\b(\d{1,2})(?:[:.](\d{2}))?\s?(am|pm|a\.m\.|p\.m\.)|\b(\d{1,2}):(\d{2})\b|\b(noon|midday|midnight)\b", re.I
)
_AMOUNT = re.compile(
    rf"(?P<s>(?:{_SIGN})|\b(?:{_CODE})\s)\s?(?P<n1>{_NUMBER})(?P<k1>k\b)?|"
    rf"(?P<n2>{_NUMBER})(?P<k2>k\b)?\s?(?P<t>(?:{_SIGN})|(?:{_CODE})\b)",
    re.I,
)
_PERCENT = re.compile(rf"({_NUMBER})\s?(?:%|per ?cent\b|percent\b)", re.I)
_PLAIN = re.compile(rf"(?<![\w.,])(?:{_NUMBER})(?:st|nd|rd|th|k)?(?!\w)", re.I)
_NAME = re.compile(r"(?<![.!?:;•\-–“\"(]\s)(?<![.!?:;•“\"(])(?<!^)\b[A-Z][a-zà-ÿ]+(?:[ -][A-Z][a-zà-ÿ]+)+\b")
_CODE_WORD = re.compile(r"\b(?=[A-Z0-9-]*\d)(?=[A-Z0-9-]*[A-Z])[A-Z0-9]+(?:-[A-Z0-9]+)*\b")


def held(text: str) -> frozenset[Fact]:
    """The facts that a source holds: as `facts`, with every capitalised word as a name, wherever it stands."""
    names = {Fact("name", word.lower()) for word in re.findall(r"\b[A-Z][\w’'-]*", text)}
    parts = {Fact("name", part) for name in names for part in re.split(r"[-'’]", name.value) if part}
    ones = (
        {Fact("number", "1"), Fact("number", "2")}
        if re.search(r"\b(?:an?|each|every|per|both|either)\b", text, re.I)
        else set()
    )
    return facts(text) | names | parts | ones


def facts(text: str) -> frozenset[Fact]:
    """The facts of a text, in normal form."""
    found: set[Fact] = set()
    text = text.replace("’", "'")
    text = _take(_ADDRESS, text, lambda match: found.add(Fact("address", match.group().lower().rstrip("./"))))
    _names(text, found)
    _take(_CODE_WORD, text, lambda match: found.add(Fact("name", match.group().lower())))
    text = _CODE_WORD.sub(" ", text)
    text = digits(text)
    text = _take(_DATE_WORDS, text, lambda match: _date_words(match, found))
    text = _take(_TIME, text, lambda match: _time(match, found))
    text = _take(_PERCENT, text, lambda match: found.add(Fact("percent", _number(match.group(1)))))
    text = _take(_AMOUNT, text, lambda match: _amount(match, found))
    text = _take(_DATE_DIGITS, text, lambda match: _date_digits(match, found))
    _take(_PLAIN, text, lambda match: found.add(Fact("number", _number(match.group()))))
    lower = text.lower()
    found.update(Fact("month", name) for name in _MONTHS if name != "may" and re.search(rf"\b{name}\b", lower))
    found.update(Fact("weekday", name) for name in _WEEKDAYS if re.search(rf"\b{name}s?\b", lower))
    return frozenset(found)


def digits(text: str) -> str:
    """The text with number words as digits: "twenty-eight" becomes "28", "two and a half" becomes "2.5"."""
    tokens = re.findall(r"\w+|\s+|[^\w\s]", text)
    result: list[str] = []
    at = 0
    while at < len(tokens):
        value, end = _spoken(tokens, at)
        if end > at:
            result.append(value)
            at = end
        else:
            result.append(tokens[at])
            at += 1
    joined = "".join(result)
    return re.sub(r"\b(\d+) and (?:a|0\.5)(?: 0\.5| half)?\b(?= (?:day|week|month|hour|year|time))", r"\1.5", joined)


def _spoken(tokens: list[str], at: int) -> tuple[str, int]:
    """The number that begins at a token, and where it ends; (anything, at) if none does."""
    word = tokens[at].lower()
    if word in _MULTIPLES:
        return _MULTIPLES[word], at + 1
    if word in _ORDINALS and word != "second":
        return f"{_ORDINALS[word]}th", at + 1
    if word not in _WORD_NUMBERS and word not in ("hundred", "thousand"):
        return "", at
    total = _WORD_NUMBERS.get(word, 1)
    end = at + 1
    if word in _FACTORS:
        total, end = 1, at
    while end < len(tokens):
        gap = 1 if tokens[end].strip() in ("", "-") else 0
        if not gap:
            break
        following = tokens[end + gap].lower() if end + gap < len(tokens) else ""
        if following in _FACTORS:
            total *= _FACTORS[following]
        elif following in _WORD_NUMBERS and word in _TENS and _WORD_NUMBERS[following] < 10 and gap and total % 10 == 0:
            total += _WORD_NUMBERS[following]
        elif (
            following == "and"
            and total >= 100
            and end + gap + 2 < len(tokens)
            and tokens[end + gap + 2].lower() in _WORD_NUMBERS
        ):
            end += gap + 1
            continue
        elif following in _WORD_NUMBERS and total >= 100 and total % 100 == 0 and _WORD_NUMBERS[following] < 100:
            total += _WORD_NUMBERS[following]
        else:
            break
        word = following
        end += gap + 1
    return str(total), end


def _take(pattern: re.Pattern[str], text: str, keep: Callable[[re.Match[str]], object]) -> str:
    """Gives every match to `keep`, and returns the text without them."""
    for match in pattern.finditer(text):
        keep(match)
    return pattern.sub(" ", text)


def _number(text: str) -> str:
    text = re.sub(r"(?:st|nd|rd|th)$", "", text.lower())
    factor = 1000 if text.endswith("k") else 1
    text = re.sub(r"[ '\u00a0\u202fk]", "", text)
    text = re.sub(r",(?=\d{3}(?:\D|$))", "", text).replace(",", ".")
    value = float(text) * factor
    return str(int(value)) if value == int(value) else str(value)


def _amount(match: re.Match[str], found: set[Fact]) -> None:
    sign = (match["s"] or match["t"]).strip().lower()
    text = (match["n1"] or match["n2"]) + (match["k1"] or match["k2"] or "")
    found.add(Fact("amount", f"{_number(text)} {_CURRENCIES[sign]}"))


def _month(name: str) -> int:
    return next(at for at, month in enumerate(_MONTHS, 1) if month.startswith(name.lower()[:3]))


def _date_words(match: re.Match[str], found: set[Fact]) -> None:
    day, month, year = match["d1"] or match["d2"], match["m1"] or match["m2"], match["y1"] or match["y2"]
    found.add(Fact("date", f"{int(day)}.{_month(month)}"))
    if year:
        found.add(Fact("number", year))


def _date_digits(match: re.Match[str], found: set[Fact]) -> None:
    if match.group(1):
        year, month, day = match.group(1, 2, 3)
    else:
        day, month, year = match.group(4, 5, 6)
    if not (1 <= int(day) <= 31 and 1 <= int(month) <= 12):
        found.add(Fact("number", _number(f"{day}.{month}")))
        return
    found.add(Fact("date", f"{int(day)}.{int(month)}"))
    if not match.group(1) and not year:
        # "1.5" may be a date or a number: it must stand as either.
        found.discard(Fact("date", f"{int(day)}.{int(month)}"))
        found.add(
            Fact("date", f"{int(day)}.{int(month)}") if "/" in match.group() else Fact("number", _number(match.group()))
        )
    elif year:
        found.add(Fact("number", year if len(year) == 4 else f"20{year}"))


def _time(match: re.Match[str], found: set[Fact]) -> None:
    if word := match.group(6):
        found.add(Fact("time", "0:00" if word.lower() == "midnight" else "12:00"))
        return
    hour = int(match.group(1) or match.group(4))
    minute = match.group(2) or match.group(5) or "00"
    half = (match.group(3) or "").lower()[:1]
    if half == "p" and hour < 12:
        hour += 12
    if half == "a" and hour == 12:
        hour = 0
    found.add(Fact("time", f"{hour}:{minute}"))


def _names(text: str, found: set[Fact]) -> None:
    for match in _NAME.finditer(text):
        for word in re.split(r"[ -]", match.group()):
            if word.lower() not in _MONTHS and word.lower() not in _WEEKDAYS:
                found.add(Fact("name", word.lower()))
