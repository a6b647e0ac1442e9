"""What the beat asks for: onboarding steps that are due. Each is safe to run at any time, anywhere, again.

The beat only names the work; what is due stands in the database.
"""

import datetime
import logging

from quantahr.bus.scripts import OUTBOX
from quantahr.errors import QuantaHRError
from quantahr.people.joiner import Joiner
from quantahr.people.journeys import Step, load_journeys
from quantahr.people.loop import Loop, send_digest
from quantahr.people.onboarding import Onboarding
from worker.people.gaps import find_gaps, unanswered
from worker.people.onboarding import send_due
from worker.people.personal import Passage
from worker.runtime import Runtime

log = logging.getLogger(__name__)


def run_work(runtime: Runtime, work: str) -> None:
    """Do one kind of work; what HR has to mend is logged and tried again at the next tick."""
    try:
        if work == "onboarding":
            onboarding(runtime)
        elif work == "gaps":
            gaps(runtime)
        elif work == "digest":
            digest(runtime)
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
    personal = runtime.people.personal

    def read(step: Step, joiner: Joiner) -> Passage | None:
        return personal.read(step.policy or "", journeys.places(joiner.location), document=step.document)

    sent = send_due(Onboarding(runtime.store), journeys, settings, read, runtime.store.clock())
    if sent:
        log.info("onboarding: %d messages queued", sent)
        runtime.bus.announce(OUTBOX)
    return sent


def gaps(runtime: Runtime) -> int:
    """Look for what many asked and nothing answered. Returns how many clusters there are."""
    store = runtime.store
    found = find_gaps(unanswered(store, store.clock()), runtime.knowledge.embedder, runtime.knowledge.index())
    Loop(store).replace_gaps(found)
    log.info("gaps: %d clusters", len(found))
    return len(found)


def digest(runtime: Runtime) -> int:
    """Send HR the digest of this week, once. Returns how many messages were queued."""
    gaps(runtime)
    settings, store = runtime.settings, runtime.store
    day = datetime.datetime.fromtimestamp(store.clock(), datetime.UTC).isocalendar()
    addresses: list[tuple[str, dict[str, str]]] = []
    if settings.slack.hr_channel:
        addresses.append(("slack", {"channel": settings.slack.hr_channel}))
    if settings.teams.hr_conversation:
        addresses.append(
            ("teams", {"tenant": settings.teams.tenant_id, "conversation": settings.teams.hr_conversation})
        )
    sent = send_digest(store, f"{day.year}-{day.week:02d}", addresses)
    if sent:
        runtime.bus.announce(OUTBOX)
    return sent
