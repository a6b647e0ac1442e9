"""Letting the model phrase given sentences, and believing it only sentence by sentence.

The same rule as for answers: without an adapter that was trained for it the documents' own words are better, and what
the model adds to them is never shown.
"""

import logging
import time
from collections.abc import Callable, Sequence

from quantahr.prompt import NO_ANSWER, Excerpt, build_messages
from quantahr.settings import Settings
from worker.answering import verify
from worker.answering.release import Release
from worker.engines.base import ContextLimitError, EngineError
from worker.serving import Serving

log = logging.getLogger(__name__)

Phrase = Callable[[str, Sequence[Excerpt]], list[str]]
"""Question and excerpts → checked sentences; empty if the model is silent, wrong or not trained."""


def quote_only(question: str, excerpts: Sequence[Excerpt]) -> list[str]:
    """A `Phrase` without a model."""
    del question, excerpts
    return []


def phrase_with(settings: Settings, serving: Serving) -> Phrase:
    """A `Phrase` by the engine in service."""

    def phrase(question: str, excerpts: Sequence[Excerpt]) -> list[str]:
        if not settings.answering.phrase:
            return []
        with serving.lease() as engine:
            deadline = time.monotonic() + settings.answering.timeout_seconds

            def check(sentence: str) -> str | None:
                if sentence.startswith(NO_ANSWER.rstrip(".")):
                    return "abstains"
                return verify.check(sentence, excerpts, before=release.sentences)

            release = Release(check, lambda _: None, lambda: time.monotonic() > deadline)
            try:
                generation = engine.generate(
                    build_messages(question, excerpts), max_tokens=settings.model.max_tokens, on_text=release.feed
                )
                release.end(complete=generation.finish == "stop")
            except (ContextLimitError, EngineError) as error:
                log.info("a text is quoted and not phrased (%s)", type(error).__name__)
            return list(release.sentences)

    return phrase
