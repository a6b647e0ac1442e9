"""What kind of answer a question asks for, and which sentences look like one.

"How many" wants a number, "when" a date or a deadline, "who" a person or a role. An embedding hears the topic and is
nearly deaf to this.
"""

import re

import numpy as np
from numpy.typing import NDArray

_NUMBER_WORDS = (
    r"(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|"
    r"sixteen|seventeen|eighteen|"
    r"nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|half|double|twice|third|"
    r"quarter|once|unlimited)"
)

_QUESTION = {
    "quantity": re.compile(
        r"\bhow (?:many|much|long|often|far|big|old|late|early|soon|big|quickly|fast)\b|\b(?:amount|"
        r"number|percent|maximum|minimum|limit|rate|cap|budget)\b",
        re.I,
    ),
    "time": re.compile(
        r"\bwhen\b|\bwhat (?:time|date|day|month)\b|\buntil\b|\bdeadline\b|\bby when\b|\bhow (?:soon|"
        r"early|long|late)\b|\bdue\b",
        re.I,
    ),
    "person": re.compile(
        r"\bwho(?:m|se)?\b|\bcontact\b|\bspeak to\b|\btalk to\b|\bask\b.*\?|\bapprov|\bsign(?:s|ed)? "
        r"(?:it )?off\b|\bwhich (?:team|department|person)\b",
        re.I,
    ),
    "place": re.compile(
        r"\bwhere\b|\bwhich (?:form|system|site|app|tool|portal)\b|\bwhat (?:form|system|site|app|tool|portal)\b", re.I
    ),
    "permission": re.compile(
        r"^(?:so |and |but )?(?:can|could|may|am i|are we|is it|do i|do we|does|will|would|should|"
        r"must|is there|are there|have i|has)\b|\ballowed\b|\bok(?:ay)? (?:to|if)\b|\bhave to\b",
        re.I,
    ),
    "way": re.compile(
        r"\bhow (?:do|can|should|would|to|does|is|are)\b|\bwhat (?:do|should|must) (?:i|we)\b|"
        r"\bsteps?\b|\bprocess\b|\bprocedure\b|\bwhat happens\b",
        re.I,
    ),
}
_ANSWER = {
    "quantity": re.compile(rf"\d|\b{_NUMBER_WORDS}\b|%|[€$£]", re.I),
    "time": re.compile(
        rf"\b(?:january|february|march|april|may|june|july|august|september|october|november|december|"
        rf"monday|tuesday|wednesday|"
        rf"thursday|friday|saturday|sunday|before|after|within|by|until|from|no later|advance|deadline|"
        rf"immediately|(?:\d+|{_NUMBER_WORDS}) "
        rf"(?:\w+ )?(?:days?|weeks?|months?|years?|hours?|minutes?))\b|\d{{1,2}}[:.]\d{{2}}|\d\s?(?:am|pm)\b",
        re.I,
    ),
    "person": re.compile(
        r"\b(?:manager|director|hr|human resources|supervisor|officer|head|team|department|payroll|"
        r"representative|committee|ceo|"
        r"executive|president|partner|coordinator|administrator|lead|finance|security|it)\b|@|"
        r"\b[A-Z][a-z]+ [A-Z][a-z]+\b"
    ),
    "place": re.compile(
        r"\b(?:form|portal|system|intranet|folder|site|app|office|website|page|tool|link|online)\b|@|https?:|www\.",
        re.I,
    ),
    "permission": re.compile(
        r"\b(?:may|can|cannot|can't|must|should|shall|allowed|permitted|not|entitled|eligible|"
        r"required|prohibited|unless|only|no|never|will)\b",
        re.I,
    ),
    "way": re.compile(
        r"\b(?:must|should|submit|complete|contact|inform|notify|request|send|fill|report|apply|call|"
        r"email|write|provide|form|tell|speak)\b",
        re.I,
    ),
}
KINDS = tuple(_QUESTION)


def asked(question: str) -> NDArray[np.float32]:
    """Which kinds of answer a question asks for: 0 or 1 for each of KINDS."""
    return np.array([bool(_QUESTION[kind].search(question)) for kind in KINDS], np.float32)


def offered(text: str) -> NDArray[np.float32]:
    """Which kinds of answer a sentence could give: 0 or 1 for each of KINDS."""
    return np.array([bool(_ANSWER[kind].search(text)) for kind in KINDS], np.float32)
