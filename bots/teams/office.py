"""Onboarding and HR's desk in Teams: words, cards, forms, members who are added.

Teams has no slash commands for bots and shows a card's answer to the one who pressed; so commands are messages that
begin with `hr-…`, and everything private goes to the personal chat.
"""

import asyncio
import logging
import re
from collections.abc import Mapping
from typing import Any, Final

from botbuilder.schema import Activity, ChannelAccount

from bots.forms import Actor, Form, Reply
from bots.teams import activities
from bots.teams.desk import Desk
from bots.teams.files import start
from bots.teams.people_cards import form_card, message_card
from bots.teams.place import Place
from quantahr.people.words import plain
from quantahr.store.tables import ReferenceRow

log = logging.getLogger(__name__)

BUTTON, FORM = "office", "office_form"
IN_PRIVATE: Final = "I have answered you in our private chat."
BELOW: Final = "It stands below."
WRITING: Final = "I am writing it; it will appear in our private chat."


def actor_of(place: Place) -> Actor:
    """Who speaks at a place."""
    return Actor("teams", place.tenant, place.user, place.name)


async def message(desk: Desk, place: Place, activity: Activity, text: str) -> bool:
    """A command; False if it is a question."""
    event = f"{place.conversation}\0{activity.id}"
    if not desk.office.concerns(text):
        return False
    if not await desk.first(event):
        return True
    told = await asyncio.to_thread(_with_people, desk, place, activity, text)
    reply = await desk.office.message(actor_of(place), told)
    if reply is None:
        return False
    chat = place if place.private else await desk.personal(place)
    await say(desk, chat, reply, event)
    if not place.private:
        await desk.connector.send(place, activities.message(place, IN_PRIVATE))
    return True


async def press(desk: Desk, place: Place, data: Mapping[str, Any], event: str) -> str | None:
    """A button or a form of ours, pressed in the activity `event`: what to say; None for others'.

    A card is often a list, so nothing takes its place: forms and what has buttons of its own come in the personal chat.
    """
    verb = str(data.get("verb", ""))
    if verb == BUTTON:
        reply = await desk.office.press(actor_of(place), str(data.get("value", "")))
    elif verb == FORM:
        kept = {name.removeprefix("data."): str(value) for name, value in data.items() if name.startswith("data.")}
        values = {n.removeprefix("field."): str(v or "").strip() for n, v in data.items() if n.startswith("field.")}
        reply = await desk.office.submit(actor_of(place), str(data.get("form", "")), kept, values)
    else:
        return None
    told = dict(reply.message or {})
    if reply.form is None and reply.work is None and not any(row.get("buttons") for row in told.get("rows", ())):
        return plain(told)
    chat = place if place.private else await desk.personal(place)
    await say(desk, chat, reply, f"{place.conversation}\0{event}")
    if reply.work is not None:
        return WRITING
    return BELOW if place.private else IN_PRIVATE


async def say(desk: Desk, chat: Place, reply: Reply, event: str) -> None:
    """Show a reply in a personal chat."""
    if reply.work is not None:
        await start(desk, chat, reply.work, event)
    else:
        card = form_card(reply.form) if isinstance(reply.form, Form) else message_card(dict(reply.message or {}))
        await desk.connector.send(chat, activities.message(chat, "", cards=[card]))


async def members_added(desk: Desk, place: Place, members: list[ChannelAccount]) -> None:
    """People were added where the bot is. They may have worked here for years, so HR is asked."""
    for member in members:
        user = str(member.aad_object_id or member.id or "")
        if user:
            actor = Actor("teams", place.tenant, user, str(member.name or ""))
            await desk.office.people.arrived(actor, certain=False)


def _with_people(desk: Desk, place: Place, activity: Activity, text: str) -> str:
    """What was typed, with mentions of colleagues as "@<their Entra id>"."""
    bot = activity.recipient.id if activity.recipient else None
    raw = activity.text or text
    for entity in activity.entities or []:
        told = entity.additional_properties or {}
        mentioned = told.get("mentioned") or {}
        if entity.type == "mention" and told.get("text"):
            own = mentioned.get("id") == bot
            raw = raw.replace(told["text"], "" if own else f"@{_entra(desk, place, str(mentioned.get('id', '')))}")
    return " ".join(re.sub(r"</?at[^>]*>", " ", raw).split())


def _entra(desk: Desk, place: Place, member: str) -> str:
    """The Entra id of a Teams account that the bot has met; else the account's own id."""
    from sqlalchemy import select

    query = select(ReferenceRow).where(ReferenceRow.platform == "teams", ReferenceRow.tenant == place.tenant)
    with desk.conversation.store.session() as session:
        for row in session.scalars(query):
            if row.reference.get("member") == member and row.user:
                return str(row.user)
    return member
