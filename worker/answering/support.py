"""Does the evidence answer the question? A second opinion, from a model that was trained to say when it does not.

Retrieval's own probability rests on likeness and on its small reader, and a near miss can deceive both. A trained model
has read the evidence, too: the probability that its answer would begin as its one sentence of abstention begins is its
doubt, had for the price of reading the prompt. Both together tell answerable from unanswerable a little better than
retrieval alone (benchmarks/RESULTS.md).
"""

import math
from typing import Final

from quantahr.prompt import NO_ANSWER, Excerpt, build_messages
from worker.engines.base import Engine

FIRST_WORD: Final = NO_ANSWER.split()[0]
WEIGHT: Final = 0.1
"""Of the model's doubt, in log-odds: the best of those tried on companies that were left out of training
(benchmarks/support_fit.py)."""
SHIFT: Final = -0.15
"""Added to the sum, in log-odds, so that as many of their questions are answered as without the model's opinion. A
stricter cut declines everyday questions."""
_FLOOR: Final = 1e-4
_UTTER_DOUBT: Final = 0.99
"""More doubt than this, and less than what it leaves, is rare."""


def doubt(engine: Engine, question: str, excerpts: list[Excerpt], earlier: tuple[str, ...]) -> float:
    """The probability that the model would decline to answer. Raises as `Engine.choose`."""
    return engine.choose(build_messages(question, excerpts, earlier=earlier), [FIRST_WORD])[FIRST_WORD]


def open_question(answerable: float, cut: float) -> bool:
    """Whether any doubt of the model could move retrieval's opinion over the cut, so that it is worth asking."""
    return together(answerable, 1 - _UTTER_DOUBT) >= cut > together(answerable, _UTTER_DOUBT)


def together(answerable: float, doubtful: float) -> float:
    """The probability that the evidence answers, from retrieval's opinion and the model's doubt."""
    odds = log_odds(answerable) - WEIGHT * log_odds(doubtful) + SHIFT
    return 1 / (1 + math.exp(-odds))


def log_odds(probability: float) -> float:
    """The log-odds of a probability, finite at 0 and 1, too."""
    return math.log((probability + _FLOOR) / (1 - probability + _FLOOR))
