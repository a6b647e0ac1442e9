"""What this assistant never does, whoever asks: judge people.

Ranking or scoring candidates and employees is high-risk under the EU AI Act (Annex III, 4), and reading emotions at
work is forbidden by it (Art. 5). So the help with recruiting and managing is drafting, checklists and logistics; a
request for a score, a ranking, a recommendation about a person or a reading of somebody's mood is refused by plain
rules, before anything else looks at it.
"""

import re
from typing import Final

JUDGING: Final = (
    "I do not score, rank, compare or recommend people, and I do not help to decide about one: under the EU AI Act "
    "such systems are high-risk, and here a person decides. I can draft the advert, the questions, the letters and the "
    "schedule; the judgement is yours."
)
FEELINGS: Final = (
    "I do not read emotions, moods or attitudes of people: at work the EU AI Act forbids it (Art. 5). If you worry "
    "about somebody, please talk with them; I can draft an invitation to a conversation."
)
_WHO: Final = (
    r"(?:(?i:candidates?|applicants?|employees?|people|persons?|someone|somebody|colleagues?|team ?members?|staff|"
    r"workers?|hires?|cvs?|resumes?|résumés?|applications?|them|him|her|he|she|they)|[A-Z][a-zà-ÿ]+)"
)
_ADJ: Final = r"(?:(?:the|this|that|these|those|our|my|all|each|every|both|two|three|four|five|six|\d+|best|top)\s+)*"
_JUDGING: Final = re.compile(
    rf"\b(?i:rank|score|rate|grade|shortlist|short-list|stack[- ]rank)(?i:s|d|ed|ing)?\s+(?i:{_ADJ}){_WHO}\b|"
    rf"\b(?i:rank(?:ing)?|scor(?:e|es|ing)|rating) (?i:of|for|between|among) (?i:{_ADJ}){_WHO}\b|"
    rf"\b(?i:compare|evaluate|assess|judge)\s+(?i:{_ADJ})"
    r"(?i:candidates?|applicants?|employees?|cvs?|resumes?|colleagues?)\b|"
    r"\b(?i:(?:who|which|whom) (?:of them |candidate |applicant |employee |one |person )?"
    r"(?:should|shall|do|would|to|can) (?:we |i |you |be )?"
    r"(?:hire|hired|fire|fired|promote|promoted|dismiss|dismissed|"
    r"choose|pick|select|recommend|invite|let go|keep|reject))\b|"
    r"\b(?i:(?:best|better|strongest|weakest|most suitable|most qualified|worst) "
    r"(?:candidate|applicant|employee|cv|hire|"
    r"performer|fit))\b|"
    rf"\b(?i:should (?:we|i) (?:hire|fire|promote|dismiss|reject|employ|let go|keep))\s+{_WHO}\b|"
    rf"\b(?i:recommend (?:whether|if|who|whom|which|hiring|firing|promoting|dismissing))\b|"
    rf"\b(?i:(?:is|are)) {_WHO} "
    r"(?i:a good fit|suitable|good enough|worth (?:hiring|keeping|promoting)|likely to (?:leave|quit|fail))\b|"
    r"\b(?i:(?:predict|likelihood|probability|risk)\b.{0,40}"
    r"\b(?:leav\w+|quit\w*|resign\w*|burn ?out|attrition|perform\w*))"
)
_FEELINGS: Final = re.compile(
    r"\b(?:sentiment(?: analysis)?|emotions?|emotional state|mood|facial expressions?|tone of voice|"
    r"(?:how|is|are) \w+ (?:feeling|feels?|motivated|unhappy|angry|frustrated|loyal|stressed|engaged)|"
    r"(?:analy[sz]e|detect|read|measure|gauge)\b.{0,30}\b(?:feelings?|attitude|morale|stress|engagement|personality|"
    r"motivation))\b",
    re.IGNORECASE,
)


def refusal(text: str) -> str | None:
    """Why this request is not carried out; None if it may be."""
    if _FEELINGS.search(text):
        return FEELINGS
    return JUDGING if _JUDGING.search(text) else None
