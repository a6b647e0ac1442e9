"""A draft for HR's desk: the template, filled with what HR wrote and what the documents say for that place."""

import json
import logging

from quantahr.errors import QuantaHRError
from quantahr.messages import Final
from quantahr.people.countries import Places
from quantahr.people.drafts import load_templates
from quantahr.people.journeys import load_journeys
from quantahr.people.refusal import refusal
from quantahr.settings import Settings
from worker.people.personal import Personal

log = logging.getLogger(__name__)


def draft(settings: Settings, personal: Personal, text: str) -> Final:
    """The draft that `text` ({"template", "values"} as JSON) asks for. Nobody but HR gets here."""
    told = json.loads(text)
    values = {str(name): str(value) for name, value in told["values"].items()}
    if why := refusal("\n".join(values.values())):
        return Final(verdict="refused", text=why, asker_only=True)
    template = load_templates(settings.people.drafts).get(str(told["template"]))
    if template is None:
        return Final(verdict="invalid", text="This template is no longer there.", asker_only=True)
    if missing := template.missing(values):
        return Final(verdict="invalid", text=f"Please fill in: {', '.join(missing)}.", asker_only=True)
    places = _places(settings, values.get("location", ""))
    where: list[str] = []

    def policy(question: str) -> str:
        passage = personal.read(question, places)
        if passage is None:
            return ""
        where.extend(place for place in passage.where if place not in where)
        return passage.text

    written = template.render(values, policy)
    if where:
        written += "\n\nFrom the documents (delete before sending): " + "; ".join(where)
    return Final(verdict="quoted", text=written, asker_only=True)


def _places(settings: Settings, location: str) -> Places:
    """Whose rules go into the draft; with an unknown location none that differ between countries."""
    try:
        journeys = load_journeys(settings.people.onboarding)
        found = journeys.find_location(location) if location else None
    except QuantaHRError as error:
        log.info("drafts know no locations (%s)", type(error).__name__)
        return Places(location)
    return journeys.places(found) if found else Places(location)
