"""Canary prompts: a few fixed questions that a version must answer before it serves anybody.

They are sanity, not quality; quality was judged by the gate. A model that is damaged, mismatched or gone astray says
nothing, repeats itself, or ignores the excerpt it is given. One slip of three is allowed: small models have their
moods, and the answer check behind them catches the rest. Saying that it does not know is sane too, if not every time.
They are asked one after the other: what is computed together differs a little, and workers could judge differently.
"""

import re
import time
from collections import Counter
from typing import Final

from quantahr.prompt import NO_ANSWER, Excerpt, build_messages
from worker.engines.base import Engine, EngineError

SECONDS: Final = 30.0
"""For one canary, on a machine that is answering other questions meanwhile."""

_MAX_TOKENS: Final = 32
_SLIPS: Final = 1
_ABSTAINED: Final = "abstained"
_CANARIES: Final = (
    ("How many days of annual leave do I get?", "Annual leave", "Every employee gets 25 days of annual leave.", "25"),
    ("When must I hand in expense claims?", "Expenses", "Hand in expense claims within 30 days of the cost.", "30"),
    ("Who approves remote work abroad?", "Remote work", "Remote work abroad is approved by the People team.", "people"),
)


def check_canaries(engine: Engine, *, rest_seconds: float = 0.0) -> str:
    """Why this engine must not serve, as a sentence for an administrator; empty if it may.

    `rest_seconds` is what another engine, which answers meanwhile, gets of the cores after each canary.
    """
    problems = []
    for question, label, text, expected in _CANARIES:
        began = time.monotonic()
        late = began + SECONDS

        def overdue(_: str, late: float = late) -> bool:
            return time.monotonic() > late

        try:
            answer = engine.generate(
                build_messages(question, [Excerpt(1, label, text)]), max_tokens=_MAX_TOKENS, on_text=overdue
            )
        except EngineError as error:
            return f"It failed on a canary prompt: {error}"
        if answer.finish == "cancelled":
            return f"It needed more than {SECONDS:.0f} seconds for a canary prompt. Is the machine overloaded?"
        if problem := judge(answer.text, expected):
            problems.append(problem)
        time.sleep(rest_seconds)
    insane = [problem for problem in problems if problem != _ABSTAINED]
    if len(insane) <= _SLIPS and len(problems) < len(_CANARIES):
        return ""
    return (
        f"It failed {len(problems)} of {len(_CANARIES)} canary prompts ({', '.join(dict.fromkeys(problems))}). "
        "Train again, or activate another version."
    )


def judge(answer: str, expected: str) -> str:
    """What is wrong with the answer to one canary, in a few words; empty if nothing is."""
    words = re.findall(r"\w+", answer.lower())
    if not words:
        return "no answer"
    if answer.strip().startswith(NO_ANSWER.rstrip(".")):
        return _ABSTAINED
    _, most = Counter(words).most_common(1)[0]
    if len(words) >= 12 and most > len(words) / 3:
        return "the same word again and again"
    if expected not in words:
        return "not from the excerpt"
    return ""
