"""Rules that turn a policy sentence into questions that it answers: limits, deadlines, permissions, approvals, how-tos.

The answer stays in the policy's own words, because they are the ones that were agreed; only its beginning is made to
reply ("Yes, …"). A rule fires only where the sentence's form makes the question certain: a section that no rule fits
still gets questions from its heading.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_NUMBER = (
    r"(?:\d[\d.,]*|an?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|sixteen|twenty(?:-\w+)?|"
    r"thirty)"
)
_TIME = re.compile(
    rf"\b(?P<much>{_NUMBER}(?: (?:to|and|or) {_NUMBER})?) "
    r"(?P<unit>(?:full |paid |working |calendar |consecutive |unpaid |further )*"
    r"(?:minutes|hours|days|weeks|months|years))\b",
    re.IGNORECASE,
)
_MONEY = re.compile(
    r"[€£$]\s?\d[\d.,]*\d|[€£$]\s?\d|\b(?:EUR|GBP|USD)\s?\d[\d.,]*\d|\b\d[\d.,]*\s?(?:%|euros?\b|pounds?\b)"
)
_END = r"(?=,| until\b| unless\b| if\b| when\b| as long\b| provided\b|;|:|\.|$)"
_PEOPLE = r"\b(?:you|employees|staff|everyone|colleagues)"
_MUST = re.compile(rf"{_PEOPLE} (?:must|have to|need to) ([a-z][^.;:]*?){_END}", re.IGNORECASE)
_MUST_NOT = re.compile(rf"{_PEOPLE} (?:must not|may not|cannot|can't) ([a-z][^.;:]*?){_END}", re.IGNORECASE)
_MAY = re.compile(rf"{_PEOPLE} (?:may|can) (?!not\b|'t|only\b)([a-z][^.;:]*?){_END}", re.IGNORECASE)
_NEED_NOT = re.compile(rf"\byou (?:do not|don't) (?:need|have) to ([a-z][^.;:]*?){_END}", re.IGNORECASE)
_DECIDER = re.compile(r"^(?P<who>[A-Z][^,;]{2,60}?) (?P<verb>approves?|decides?|signs?|agrees?|pays?) (?P<what>[^.;]+)")
_DECIDED = re.compile(r"^(?P<what>[A-Z][^,;]{2,80}?) (?:is|are|must be) (?P<verb>approved|decided|agreed) by ")
_CONSENT = re.compile(r"^(?P<what>[A-Z][^,;]{2,80}?) needs? the (?:written )?(?P<noun>approval|agreement|consent) of ")
_IF = re.compile(r"^(?:If|When) (you [^,]+|your [^,]+), (.+)$")
_HOW = re.compile(r"^To ([a-z][^,]+), (.+)$")
_ANYBODY = re.compile(r"^(?:Anybody|Anyone|Everyone|Everybody|All employees) (can|may) ([^.;:,]+)")
_ROW = re.compile(r"([^:;]{1,60}): ([^;]*)(?:; |$)")
_FUNCTION_WORDS = frozenset(
    "a all after an and anybody anyone as at before between by during each employees everybody everyone for from if in "
    "it on once one or staff the then this to up when with your you".split()
)
_PAPERWORK = frozenset({"version", "date", "document", "owner", "next review", "effective from", "status"})


@dataclass(frozen=True, slots=True)
class Asked:
    """A question about one unit with its answer; `rule` names the rule, for statistics."""

    rule: str
    question: str
    answer: str


def questions_for(unit: str) -> list[Asked]:
    """All questions that the rules find in one unit (a sentence, list item or table row)."""
    if row := _table_row(unit):
        return row
    if unit.partition(":")[0].lower() in _PAPERWORK:
        return []
    if not 4 <= len(unit.split()) <= 60 or unit.rstrip().endswith((":", "?")):
        return []
    found = [Asked(rule, _tidy(question), answer) for rule, question, answer in _fire(unit.strip())]
    return list({asked.question: asked for asked in found}.values())


def heading_questions(topic: str) -> list[str]:
    """Questions that a whole section answers, from its heading."""
    spoken = _spoken(topic)
    if re.match(r"(?:how|when|what|where|who|whether|why)\b", spoken):
        return [f"{spoken}?", f"Can you tell me {spoken}?"]
    return [f"What are the rules on {spoken}?", f"What should I know about {spoken}?", f"{spoken}?"]


def _fire(sentence: str) -> Iterator[tuple[str, str, str]]:
    if (match := _IF.match(sentence)) and len(re.findall(r"\b(?:you|we|it)\b", match[1])) <= 1 and len(match[2]) > 25:
        condition = _as_asker(match[1])
        yield "condition", f"What happens if {condition}?", _capital(match[2])
        yield "condition", f"{condition}, what now?", _capital(match[2])
    if match := _HOW.match(sentence):
        yield "how", f"How do I {_as_asker(match[1])}?", sentence
    if match := _MUST_NOT.search(sentence):
        yield "forbidden", f"Can I {_as_asker(match[1])}?", f"No: {_inline(sentence)}"
        yield "forbidden", f"Am I allowed to {_as_asker(match[1])}?", f"No: {_inline(sentence)}"
    elif match := _NEED_NOT.search(sentence):
        yield "needless", f"Do I have to {_as_asker(match[1])}?", f"No, {_inline(sentence)}"
    elif match := _MUST.search(sentence):
        yield "duty", f"Do I have to {_as_asker(match[1])}?", f"Yes, {_inline(sentence)}"
    elif (match := _MAY.search(sentence)) and not re.search(r"\b(?:no|not|never|only|except)\b", sentence):
        yield "permission", f"Can I {_as_asker(match[1])}?", f"Yes, {_inline(sentence)}"
    if match := _ANYBODY.match(sentence):
        yield "eligibility", f"Who can {match[2]}?", sentence
    if match := _DECIDED.match(sentence):
        yield "approval", f"Who {match['verb'].removesuffix('d')}s {_as_asker(_lower(match['what']))}?", sentence
    elif match := _CONSENT.match(sentence):
        yield "approval", f"Whose {match['noun']} do I need for {_as_asker(_lower(match['what']))}?", sentence
    elif match := _DECIDER.match(sentence):
        verb = match["verb"] if match["verb"].endswith("s") else f"{match['verb']}s"
        if (
            not match["who"]
            .lower()
            .startswith(("if ", "when ", "you ", "in ", "for ", "after ", "to ", "it ", "this "))
        ):
            yield "approval", f"Who {verb} {_as_asker(match['what'])}?", sentence
    yield from _gaps(sentence)


def _gaps(sentence: str) -> Iterator[tuple[str, str, str]]:
    """Questions by leaving out what is asked: "Overtime is entered within how many days?" is never a wrong question."""
    for clause in re.split(r"[;:]\s+", sentence.rstrip(".")):
        if not 5 <= len(clause.split()) <= 22:
            continue
        for match in list(_TIME.finditer(clause))[:2]:
            asked = f"{clause[: match.start()]}how many {match['unit']}{clause[match.end() :]}"
            yield "number", f"{_lower(_as_asker(asked))}?", sentence
        if money := _MONEY.search(clause):
            asked = f"{clause[: money.start()]}how much{clause[money.end() :]}"
            yield "money", f"{_lower(_as_asker(re.sub(r' [(][€£$][^)]*[)]', '', asked)))}?", sentence


def _table_row(unit: str) -> list[Asked]:
    cells = [(key.strip(), value.strip()) for key, value in _ROW.findall(unit) if value.strip()]
    if len(cells) < 2 or ";" not in unit or cells[0][0].lower() in _PAPERWORK:
        return []
    (_, name), *rest = cells
    found = []
    for column, value in rest:
        answer = f"For {name}, {column}: {value.rstrip('.')}."
        found.append(Asked("row", f"{column}, {name}?", answer))
        found.append(Asked("row", f"What does the table say about {column} for {name}?", answer))
    return found


def _as_asker(text: str) -> str:
    """The policy's "you" as the asker's "I"."""
    text = re.sub(r"\byou are\b", "I am", text.strip(), flags=re.I)
    text = re.sub(r"\byou were\b", "I was", text, flags=re.I)
    text = re.sub(r"\byourself\b", "myself", text, flags=re.I)
    text = re.sub(r"\byours\b", "mine", text, flags=re.I)
    text = re.sub(r"\byour\b", "my", text, flags=re.I)
    text = re.sub(r"\b(to|for|with|of|by|from|tell|ask|give|send|let|helps?|pays?) you\b", r"\1 me", text, flags=re.I)
    text = re.sub(r"\byou\b(?=$|[,.;])", "me", text, flags=re.I)
    text = re.sub(r"\byou\b", "I", text, flags=re.I)
    return text.rstrip(" .")


def _inline(sentence: str) -> str:
    first, _, rest = sentence.partition(" ")
    return f"{first.lower()} {rest}" if first.lower() in _FUNCTION_WORDS else sentence


def _spoken(topic: str) -> str:
    return _lower(re.sub(r"^[\d.)\s]+", "", topic.strip()).rstrip(" .:?"))


def _lower(text: str) -> str:
    # Abbreviations and names keep their capitals; a heading's first word is neither, most of the time.
    return text if re.match(r"[A-Z]{2}", text) else text[:1].lower() + text[1:]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _tidy(question: str) -> str:
    question = re.sub(r"\s+", " ", question).strip()
    return _capital(question)
