"""What is deleted every day because it is old enough."""

import logging

from sqlalchemy import delete

from quantahr.people.onboarding import Onboarding
from quantahr.settings import Settings
from quantahr.store import Store
from quantahr.store.people_tables import GapRow, SectionVersionRow

log = logging.getLogger(__name__)
DAY = 86_400


def purge(store: Store, settings: Settings) -> dict[str, int]:
    """Delete what is older than the configured periods. Returns how many rows went, by kind."""
    days = settings.retention.questions_days
    gone = {
        "questions": store.purge(questions_days=days, audit_days=settings.retention.audit_days),
        "journeys": Onboarding(store).purge(days),
    }
    old = store.clock() - days * DAY
    with store.session.begin() as session:
        # Their texts come from questions, so they leave with them.
        session.execute(delete(GapRow).where(GapRow.found_at < old))
        session.execute(delete(SectionVersionRow).where(SectionVersionRow.gone_at < old - 365 * DAY))
    log.info("retention: %d questions and %d journeys deleted", gone["questions"], gone["journeys"])
    return gone
