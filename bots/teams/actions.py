"""What people press in Teams: a card's buttons and the thumbs under an answer.

A button comes as an invoke (Action.Execute), whose answer refreshes the card in place, or from older clients as a
message with the same data (Action.Submit), which is answered by a text.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bots import wording
from bots.teams import activities, cards, office, retrain
from bots.teams.connector import GoneError, RefusedError, UnavailableError
from bots.teams.desk import Desk
from bots.teams.place import Place
from quantahr.messages import Final as FinalEvent

log = logging.getLogger(__name__)

RATINGS: Final = {"like": 1, "dislike": -1}
COMMENT: Final = 2000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to tell the user, and the card in its new state if it changes."""

    text: str
    card: cards.Card | None = None


async def press(desk: Desk, place: Place, data: Mapping[str, Any], *, event: str, message: str = "") -> Outcome:
    """A button was pressed by the user of `place`, in the activity `event`, on the message with the id `message`."""
    match data.get("verb"):
        case cards.ESCALATE:
            return await _escalate(desk, place, str(data.get("question", "")))
        case cards.HR_REPLY:
            reply = str(data.get("reply") or "").strip()
            return await _hr_reply(desk, place, str(data.get("escalation", "")), reply, message)
        case office.BUTTON | office.FORM:
            return Outcome(await office.press(desk, place, data, event) or wording.PASSAGES_GONE)
        case _:
            return Outcome(await retrain.press(desk, place, data) or wording.PASSAGES_GONE)


async def _escalate(desk: Desk, place: Place, question: str) -> Outcome:
    chat = place if place.private else place.beside()
    text = await desk.conversation.escalate(
        question=question, user=place.user, address=chat.dump(), hr_address=await desk.hr_place(place)
    )
    if not place.private and text == wording.SENT_TO_HR:
        desk.later(_whisper(desk, place, text))  # where HR's reply will appear
    end = await desk.conversation.ended(question)
    if not isinstance(end, FinalEvent) or text in {wording.NOT_YOURS, wording.UNKNOWN_QUESTION}:
        return Outcome(text)
    return Outcome(text, cards.answer_card(question, end, note=text))


async def _hr_reply(desk: Desk, place: Place, escalation: str, reply: str, message: str) -> Outcome:
    if not reply:
        return Outcome(wording.EMPTY_REPLY)
    text = await desk.conversation.hr_reply(
        platform="teams", user=place.user, escalation=escalation, text=reply, in_hr_channel=desk.is_hr(place)
    )
    if text != wording.REPLY_SENT:
        return Outcome(text)
    known = await asyncio.to_thread(desk.conversation.store.escalation, escalation)
    if known is None:
        return Outcome(text)
    card = cards.replied_card(question=known.text, asker=str(known.address.get("name", "")), text=reply, by=place.name)
    if message:
        # The answer to an invoke refreshes the card for the one who pressed; the others in HR see the update.
        desk.later(_update(desk, place, message, card))
    return Outcome(text, card)


async def _update(desk: Desk, place: Place, message: str, card: cards.Card) -> None:
    with contextlib.suppress(GoneError, RefusedError, UnavailableError):
        await desk.connector.update(place, message, activities.message(place, "", cards=[card]))


async def _whisper(desk: Desk, place: Place, text: str) -> None:
    """Say something to the user of `place` alone."""
    with contextlib.suppress(GoneError, RefusedError, UnavailableError):
        chat = place if place.private else await desk.personal(place)
        await desk.connector.send(chat, activities.message(chat, text))


async def feedback(desk: Desk, place: Place, message: str, value: object) -> None:
    """Somebody rated the answer that `message` shows. Teams thanks by itself."""
    given = value.get("actionValue") if isinstance(value, Mapping) else None
    rating = RATINGS.get(str(given.get("reaction"))) if isinstance(given, Mapping) else None
    question = await desk.shown_in(place, message)
    if rating is None or question is None or not isinstance(given, Mapping):
        log.info("a rating could not be attached to an answer")
        return
    reasons, comment = _reasons(given.get("feedback"))
    text = await desk.conversation.feedback(question, place.user, rating, reasons, comment, private=place.private)
    if (rating < 0 or text == wording.ONLY_THE_ASKER_RATES) and place.private:
        desk.later(_whisper(desk, place, text))


def _reasons(told: object) -> tuple[list[str], str | None]:
    """Teams sends an object, the same as a JSON string, or the bare text."""
    given: Any = told
    if isinstance(told, str):
        try:
            given = json.loads(told)
        except ValueError:
            given = told
    if isinstance(given, str):
        return [], given.strip()[:COMMENT] or None
    if not isinstance(given, Mapping):
        return [], None
    chosen = given.get("reasons") or []
    named = chosen.split(",") if isinstance(chosen, str) else chosen if isinstance(chosen, list) else []
    text = str(given.get("feedbackText") or "").strip()
    return [str(reason).strip()[:80] for reason in named][:10], text[:COMMENT] or None
