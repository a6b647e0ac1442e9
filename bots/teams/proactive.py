"""What the bot says unasked: the welcome, questions for HR, HR's replies, and whatever else the outbox holds.

Every such message has an id of its own. What was sent is noted under that id before the database is told, so that a
crash in between, or a second bot process, does not say it again.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Mapping
from typing import Any, Final

from botbuilder.schema import Activity

from bots.outbox import Retry, Sent, Undeliverable
from bots.teams import activities, cards
from bots.teams.connector import GoneError, RefusedError, UnavailableError
from bots.teams.desk import Desk
from bots.teams.people_cards import message_card
from bots.teams.place import Place
from quantahr.bus.scripts import OUTBOX
from quantahr.store import Delivery

SENT_SECONDS: Final = 7 * 86_400


async def welcome(desk: Desk, place: Place) -> None:
    """The bot was installed: remember the conversation, and introduce itself in a personal chat."""
    store = desk.conversation.store
    known = await asyncio.to_thread(store.reference, "teams", place.tenant, place.channel)
    await desk.seen(place)
    if not place.private:
        return
    # Teams tells of one installation twice, so the message's id is the chat's; a removal in between makes it a new one.
    removed = str(known.updated_at) if known is not None and not known.reachable else ""
    digest = hashlib.sha256(f"{place.tenant}\0{place.channel}\0{removed}".encode()).hexdigest()[:24]
    await asyncio.to_thread(store.queue_message, f"welcome-{digest}", "teams", place.dump(), "welcome", {})
    with contextlib.suppress(Exception):  # only a wake-up: the outbox is looked at every few seconds
        await desk.conversation.bus.announce(OUTBOX)


class Deliveries:
    """Sends one message of the outbox; see bots.outbox.Sender."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def send(self, delivery: Delivery) -> Sent | Retry | Undeliverable:
        """Send `delivery` once. Its address is a Place, or {tenant, user} of somebody the bot knows."""
        noted = f"teams:outbox:{delivery.id}"
        with contextlib.suppress(Exception):  # without Redis a repetition is possible, which is better than silence
            if (remote := await self._desk.conversation.bus.recall(noted)) is not None:
                return Sent(remote)
        try:
            place = await self._place(delivery.address)
            if place is None:
                return Undeliverable("this user has no chat with the bot")
            remote = await self._desk.connector.send(place, _activity(place, delivery), tries=1)
        except GoneError as error:
            return Undeliverable(error.code)
        except RefusedError as error:
            return Undeliverable(f"{error.status} {error.code}")
        except UnavailableError as error:
            return Retry(error.reason, error.after)
        with contextlib.suppress(Exception):
            await self._desk.conversation.bus.remember(noted, remote, SENT_SECONDS)
        return Sent(remote)

    async def _place(self, address: Mapping[str, Any]) -> Place | None:
        store = self._desk.conversation.store
        if not address.get("service_url"):
            tenant = str(address.get("tenant") or self._desk.settings.teams.tenant_id)
            if conversation := address.get("conversation"):
                known = await asyncio.to_thread(store.reference, "teams", tenant, str(conversation))
            else:
                known = await asyncio.to_thread(store.reference_of_user, "teams", tenant, str(address.get("user", "")))
            return Place.load(known.reference) if known else None
        place = Place.load(address)
        if not place.conversation:
            return await self._desk.personal(place)
        known = await asyncio.to_thread(store.reference, "teams", place.tenant, place.channel)
        if known is not None and not known.reachable:
            raise GoneError("BotNotInConversationRoster")
        return place


def _activity(place: Place, delivery: Delivery) -> Activity:
    if delivery.kind == "people":
        return activities.message(place, "", cards=[message_card(delivery.payload)])
    told = {name: str(value or "") for name, value in delivery.payload.items()}
    match delivery.kind:
        case "welcome":
            return activities.message(place, "", cards=[cards.welcome_card()])
        case "escalation":
            card = cards.hr_card(
                told["escalation"], question=told["text"], asker=str(delivery.address.get("asker") or "")
            )
            return activities.message(place, "", cards=[card])
        case "hr_reply":
            return activities.message(place, "", cards=[cards.reply_card(question=told["question"], text=told["text"])])
        case _:
            return activities.message(place, told["text"])
