"""What the beat asks for: onboarding steps that are due. Each is safe to run at any time, anywhere, again.

The beat only names the work; what is due stands in the database.
"""

import logging

from quantahr.bus.scripts import OUTBOX
from quantahr.errors import QuantaHRError
from quantahr.people.joiner import Joiner
from quantahr.people.journeys import Step, load_journeys
from quantahr.people.onboarding import Onboarding
from worker.people.onboarding import send_due
from worker.people.personal import Passage, Personal
from worker.people.phrasing import phrase_with
from worker.runtime import Runtime

log = logging.getLogger(__name__)


def run_work(runtime: Runtime, work: str) -> None:
    """Do one kind of work; what HR has to mend is logged and tried again at the next tick."""
    try:
        if work == "onboarding":
            onboarding(runtime)
        else:
            log.warning("there is no work called %s; the beat is of another version", work)
    except QuantaHRError as error:
        log.error("%s cannot be done: %s", work, error)  # noqa: TRY400 - our own errors say what to mend


def onboarding(runtime: Runtime) -> int:
    """Send the onboarding steps that are due. Returns how many messages were queued."""
    settings = runtime.settings
    if not settings.people.onboarding.exists():
        return 0
    journeys = load_journeys(settings.people.onboarding)
    personal = Personal(runtime.knowledge.index, runtime.knowledge.embedder, phrase_with(settings, runtime.serving))

    def read(step: Step, joiner: Joiner) -> Passage | None:
        return personal.read(step.policy or "", journeys.places(joiner.location), document=step.document)

    sent = send_due(Onboarding(runtime.store), journeys, settings, read, runtime.store.clock())
    if sent:
        log.info("onboarding: %d messages queued", sent)
        runtime.bus.announce(OUTBOX)
    return sent
