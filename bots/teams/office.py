"""Onboarding and HR's desk in Teams: words, cards, forms, members who are added, documents that are dropped.

Teams has no slash commands for bots and shows a card's answer to the one who pressed; so commands are messages that
begin with `hr-…`, and everything private goes to the personal chat.
"""

import asyncio
import logging
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from botbuilder.schema import Activity, Attachment, ChannelAccount

from bots.conversation import Incoming
from bots.forms import Actor, Form, Reply, Work
from bots.hr import UPLOAD_BYTES, UPLOAD_SECONDS
from bots.teams import activities
from bots.teams.cards import Card
from bots.teams.desk import Desk
from bots.teams.people_cards import form_card, message_card
from bots.teams.place import Place
from bots.teams.surface import TeamsSurface
from quantahr.messages import Final as FinalEvent
from quantahr.messages import question_id
from quantahr.people.words import plain
from quantahr.store.tables import ReferenceRow

log = logging.getLogger(__name__)

BUTTON, FORM = "office", "office_form"
FILE: Final = "application/vnd.microsoft.teams.file.download.info"
CONSENT: Final = "application/vnd.microsoft.teams.card.file.consent"
IN_PRIVATE: Final = "I have answered you in our private chat."
WRITING: Final = "I am writing it; it will appear in our private chat."
_HOSTS: Final = (".sharepoint.com", ".sharepoint.us", ".sharepoint.cn", ".svc.ms")


def actor_of(place: Place) -> Actor:
    """Who speaks at a place."""
    return Actor("teams", place.tenant, place.user, place.name)


async def message(desk: Desk, place: Place, activity: Activity, text: str) -> bool:
    """A command, or a document; False if it is a question."""
    event = f"{place.conversation}\0{activity.id}"
    found = _document(activity) if place.private else None
    if (found or desk.office.concerns(text)) and not await _first(desk, event):
        return True
    if found:
        await _dropped(desk, place, found, text, event)
        return True
    if not desk.office.concerns(text):
        return False
    told = await asyncio.to_thread(_with_people, desk, place, activity, text)
    reply = await desk.office.message(actor_of(place), told)
    if reply is None:
        return False
    chat = place if place.private else await desk.personal(place)
    await say(desk, chat, reply, event)
    if not place.private:
        await desk.connector.send(place, activities.message(place, IN_PRIVATE))
    return True


async def press(desk: Desk, place: Place, data: Mapping[str, Any]) -> tuple[str, Card | None] | None:
    """A button or a form of ours: what to say, and a card that takes the place of the old one; None for others'."""
    verb = str(data.get("verb", ""))
    if verb == BUTTON:
        reply = await desk.office.press(actor_of(place), str(data.get("value", "")))
    elif verb == FORM:
        kept = {name.removeprefix("data."): str(value) for name, value in data.items() if name.startswith("data.")}
        values = {n.removeprefix("field."): str(v or "").strip() for n, v in data.items() if n.startswith("field.")}
        reply = await desk.office.submit(actor_of(place), str(data.get("form", "")), kept, values)
    else:
        return None
    if reply.work is not None:
        chat = place if place.private else await desk.personal(place)
        await start(desk, chat, reply.work, f"work:{place.conversation}:{data.get('value') or data.get('form')}")
        return WRITING, None
    if reply.form is not None:
        return reply.form.title, form_card(reply.form)
    return plain(dict(reply.message or {})), None


async def say(desk: Desk, chat: Place, reply: Reply, event: str) -> None:
    """Show a reply in a personal chat."""
    if reply.work is not None:
        await start(desk, chat, reply.work, event)
    else:
        card = form_card(reply.form) if isinstance(reply.form, Form) else message_card(dict(reply.message or {}))
        await desk.connector.send(chat, activities.message(chat, "", cards=[card]))


async def start(desk: Desk, chat: Place, work: Work, event: str) -> None:
    """Let the worker write, in a personal chat."""
    incoming = Incoming(
        platform="teams",
        tenant=chat.tenant,
        conversation=chat.channel,
        thread=event,
        user=chat.user,
        event=event,
        text=work.text,
        private=True,
        kind=work.kind,
    )
    question = question_id("teams", chat.tenant, event)
    await desk.conversation.ask(incoming, TeamsSurface(desk, chat, question))
    if work.word:
        desk.later(_offer_word(desk, chat, question))


async def members_added(desk: Desk, place: Place, members: list[ChannelAccount]) -> None:
    """People were added where the bot is. They may have worked here for years, so HR is asked."""
    for member in members:
        user = str(member.aad_object_id or member.id or "")
        if user:
            actor = Actor("teams", place.tenant, user, str(member.name or ""))
            await desk.office.people.arrived(actor, certain=False)


async def consent(desk: Desk, value: Mapping[str, Any]) -> None:
    """The user agreed to get a file: it goes where Teams says."""
    from quantahr.people.word import write_word

    question = str((value.get("context") or {}).get("question", ""))
    url = str((value.get("uploadInfo") or {}).get("uploadUrl", ""))
    end = await desk.conversation.ended(question)
    if value.get("action") != "accept" or not isinstance(end, FinalEvent) or not _trusted(desk, url):
        return
    data = await asyncio.to_thread(write_word, end.text)
    headers = {"Content-Range": f"bytes 0-{len(data) - 1}/{len(data)}"}
    async with aiohttp.ClientSession() as session, session.put(url, data=data, headers=headers) as answer:
        if answer.status >= 300:
            log.warning("a file could not be uploaded (%d)", answer.status)


async def _first(desk: Desk, event: str) -> bool:
    """Whether this activity is new. Without Redis everything is: twice is better than never."""
    try:
        return await desk.conversation.bus.once(f"teams:{event}", 900)
    except Exception as error:
        log.warning("repeated activities cannot be recognised at the moment (%s)", type(error).__name__)
        return True


async def _offer_word(desk: Desk, chat: Place, question: str) -> None:
    from quantahr.people.word import write_word

    async for _, end in desk.conversation.bus.follow(question):
        if isinstance(end, FinalEvent) and end.verdict == "quoted":
            size = len(await asyncio.to_thread(write_word, end.text))
            content = {"description": "Your draft as a Word file", "sizeInBytes": size}
            content |= {"acceptContext": {"question": question}, "declineContext": {"question": question}}
            offered = activities.message(chat, "")
            offered.attachments = [Attachment(content_type=CONSENT, name="draft.docx", content=content)]
            await desk.connector.send(chat, offered)


async def _dropped(desk: Desk, place: Place, file: Mapping[str, Any], caption: str, event: str) -> None:
    name = str(file["name"])
    why = await desk.office.hr.may_upload(actor_of(place), name, int(file.get("size") or 0))
    if why is None:
        data = await _download(desk, str(file["url"]))
        if data is None:
            why = "I could not get this document from Teams, or it is too large. Please drop it here again."
        else:
            question = question_id("teams", place.tenant, event)
            await desk.conversation.bus.put_upload(question, data, UPLOAD_SECONDS)
            await start(desk, place, Work("summary", f"{name}\n{caption}"), event)
    if why is not None:
        await desk.connector.send(place, activities.message(place, why))


def _document(activity: Activity) -> dict[str, Any] | None:
    for one in activity.attachments or []:
        if one.content_type == FILE and isinstance(one.content, Mapping) and one.content.get("downloadUrl"):
            return {"name": one.name or "", "url": one.content["downloadUrl"], "size": one.content.get("fileSize")}
    return None


async def _download(desk: Desk, url: str) -> bytes | None:
    if not _trusted(desk, url):
        return None
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            data = b""
            while len(data) <= UPLOAD_BYTES and (more := await answer.content.read(UPLOAD_BYTES + 1 - len(data))):
                data += more
            return data if answer.status == 200 and len(data) <= UPLOAD_BYTES else None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        log.info("a file could not be fetched (%s)", type(error).__name__)
        return None


def _trusted(desk: Desk, url: str) -> bool:
    """Whether a file address is Microsoft's, or one that the administrator named."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    named = {urlsplit(one).hostname or one for one in desk.settings.teams.service_urls}
    return host in named or (parts.scheme == "https" and host.endswith(_HOSTS))


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
