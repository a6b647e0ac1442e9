"""The task that answers a question. It carries an id; the question itself stays in Redis until it is answered."""

import logging

from quantahr.bus import Claim, LeaseLostError
from quantahr.messages import Failed, Final
from worker.answering.pipeline import request_of
from worker.runtime import Runtime

log = logging.getLogger(__name__)

LAST_ATTEMPT = 3
"""A question that has ended two workers is not given to a third one's neighbour."""

SORRY = "I am sorry: something went wrong on my side with this question. Please ask HR, and tell IT that it happened."


def answer_question(runtime: Runtime, identifier: str) -> str:
    """Answer a question and write its events. Returns what became of it, for the log.

    Safe to run any number of times for the same id, also at once: one attempt holds the lease, and the question is
    closed once.
    """
    with runtime.bus.claim(identifier) as claim:
        if not isinstance(claim, Claim):
            return claim
        try:
            return _attempt(runtime, claim)
        except LeaseLostError:
            return "lost"


def _attempt(runtime: Runtime, claim: Claim) -> str:
    if claim.attempt > LAST_ATTEMPT:
        claim.close(Failed(code="internal", text=SORRY))
        return "given up"
    if claim.stopped:
        claim.close(Failed(code="stopped", text="Stopped."))
        return "stopped"
    question = claim.question
    try:
        if question.kind != "ask":
            return _written(runtime, claim)
        limit = runtime.settings.answering.earlier_questions
        turns = runtime.store.earlier(question, limit) if limit else []
        earlier = [turn.text for turn in turns if turn.text]
        final = runtime.answerer.answer(request_of(question, earlier), claim.emit, lambda: claim.stopped)
    except LeaseLostError:
        raise
    except Exception as error:
        # The type only: an exception's text may hold the question.
        log.error("question %s failed: %s", question.id, type(error).__name__)  # noqa: TRY400
        claim.close(Failed(code="internal", text=SORRY))
        return "failed"
    if final.provenance:
        made = final.provenance.model_copy(update={"attempt": claim.attempt})
        final = final.model_copy(update={"provenance": made})
    return _keep(runtime, claim, final)


def _written(runtime: Runtime, claim: Claim) -> str:
    """A summary or a draft: nothing of it is kept."""
    final = runtime.people.write(claim, runtime.bus)
    return final.verdict if claim.close(final) else "lost"


def _keep(runtime: Runtime, claim: Claim, final: Final) -> str:
    # Kept before it is closed: a button under the answer finds its question.
    try:
        runtime.store.record_answer(claim.question, final)
    except Exception as error:
        # The employee gets the answer all the same.
        log.error("the answer to question %s could not be stored: %s", claim.question.id, type(error).__name__)  # noqa: TRY400
    return final.verdict if claim.close(final) else "lost"
