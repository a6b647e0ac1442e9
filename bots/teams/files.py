"""Files in Teams: a document that HR drops into the personal chat, and a draft that comes back as a Word file.

A dropped file lies in its sender's OneDrive, behind an address that needs no token for some minutes. A file that the
bot gives is offered by a card; who accepts it names, with that, a place in their own OneDrive to upload it to.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from botbuilder.schema import Activity, Attachment

from bots import wording
from bots.conversation import Incoming
from bots.forms import Actor, Work
from bots.teams import activities
from bots.teams.connector import GoneError, RefusedError, UnavailableError
from bots.teams.desk import Desk
from bots.teams.place import Place
from bots.teams.surface import TeamsSurface
from bots.uploads import FETCH_SECONDS, ONE_AT_A_TIME, UPLOAD_SECONDS, UploadError, fetch
from quantahr.messages import Final as FinalEvent
from quantahr.messages import question_id

log = logging.getLogger(__name__)

FILE: Final = "application/vnd.microsoft.teams.file.download.info"
CONSENT: Final = "application/vnd.microsoft.teams.card.file.consent"
INFO: Final = "application/vnd.microsoft.teams.card.file.info"
NAME: Final = "draft.docx"
DRAFT_GONE: Final = "I no longer have this draft: drafts are not kept. Make it again with hr-draft."
NOT_SENT: Final = "I could not put the Word file into your OneDrive; the text above is the whole draft. Press it again."
NO_FILE: Final = "All right, no file. The text above is the whole draft."
HERE: Final = "The draft is in your OneDrive, in the folder of files from Teams:"
_HOSTS: Final = (".sharepoint.com", ".sharepoint.us", ".sharepoint.cn", ".svc.ms")


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


async def taken(desk: Desk, place: Place, activity: Activity, text: str) -> bool:
    """A message with files in a personal chat. False: there are none, or what was typed has still to be answered."""
    files = _files(activity)
    if not files or not place.private:
        return False
    actor = Actor("teams", place.tenant, place.user, place.name)
    question = bool(text) and not desk.office.hr.takes_files(actor)
    event = f"{place.conversation}\0{activity.id}"
    if await desk.first(f"file:{event}"):
        try:
            await _read(desk, place, actor, files, text, event)
        except UploadError as error:
            said = wording.NO_FILES_BUT if question else str(error)
            await desk.connector.send(place, activities.message(place, said))
    return not question


async def consent(desk: Desk, place: Place, card: str, value: Mapping[str, Any]) -> None:
    """The user answered the offer of a file, in the message `card`: it goes where Teams says."""
    question = str((value.get("context") or {}).get("question", ""))
    upload = value.get("uploadInfo") or {}
    if value.get("action") != "accept":
        await _replace(desk, place, card, NO_FILE)
        return
    end = await desk.conversation.ended(question)
    if not isinstance(end, FinalEvent) or not place.private:
        await _replace(desk, place, card, DRAFT_GONE)
    elif not await _put(desk, str(upload.get("uploadUrl", "")), end.text):
        # The card stays: an upload that failed may be tried again.
        await desk.connector.send(place, activities.message(place, NOT_SENT))
    else:
        await _replace(desk, place, card, HERE)
        content = {"uniqueId": upload.get("uniqueId"), "fileType": upload.get("fileType")}
        name, url = str(upload.get("name") or NAME), str(upload.get("contentUrl", ""))
        told = activities.message(place, "")
        told.attachments = [Attachment(content_type=INFO, name=name, content_url=url, content=content)]
        await desk.connector.send(place, told)


async def _replace(desk: Desk, place: Place, card: str, text: str) -> None:
    """Take an offer away, so that nobody accepts it twice."""
    told = activities.message(place, text)
    try:
        await desk.connector.update(place, card, told)
    except (GoneError, RefusedError, UnavailableError):
        await desk.connector.send(place, told)


async def _read(desk: Desk, place: Place, actor: Actor, files: list[Mapping[str, Any]], text: str, event: str) -> None:
    await desk.office.hr.admit_files(actor)
    name, url = str(files[0]["name"]), str(files[0]["url"])
    await desk.office.hr.check_upload(actor, name, 0)
    if len(files) > 1:
        raise UploadError(ONE_AT_A_TIME)
    if not _trusted(desk, url):
        raise UploadError("I read only files that lie in your OneDrive. Drop the document here with the paper clip.")
    data = await fetch(url, "Teams")
    question = question_id("teams", place.tenant, event)
    try:
        await desk.conversation.bus.put_upload(question, data, UPLOAD_SECONDS)
    except Exception as error:
        log.warning("a document could not be passed on (%s)", type(error).__name__)
        raise UploadError(wording.UNREACHABLE) from None
    await start(desk, place, Work("summary", f"{name}\n{text}"), event)


async def _offer_word(desk: Desk, chat: Place, question: str) -> None:
    from quantahr.people.word import write_word

    async for _, end in desk.conversation.bus.follow(question):
        if isinstance(end, FinalEvent) and end.verdict == "quoted":
            size = len(await asyncio.to_thread(write_word, end.text))
            content = {"description": "Your draft as a Word file", "sizeInBytes": size}
            content |= {"acceptContext": {"question": question}, "declineContext": {"question": question}}
            offered = activities.message(chat, "")
            offered.attachments = [Attachment(content_type=CONSENT, name=NAME, content=content)]
            await desk.connector.send(chat, offered)


async def _put(desk: Desk, url: str, text: str) -> bool:
    """Upload a draft as a Word file; the address is its own permission, so no token goes there."""
    from quantahr.people.word import write_word

    if not _trusted(desk, url):
        log.warning("a file was not uploaded: the address is not Microsoft's")
        return False
    data = await asyncio.to_thread(write_word, text)
    headers = {"Content-Range": f"bytes 0-{len(data) - 1}/{len(data)}", "Content-Type": "application/octet-stream"}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=FETCH_SECONDS)) as session,
            session.put(url, data=data, headers=headers, allow_redirects=False) as answer,
        ):
            if answer.status in {200, 201}:
                return True
            log.warning("a file could not be uploaded (%d)", answer.status)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        log.warning("a file could not be uploaded (%s)", type(error).__name__)
    return False


def _files(activity: Activity) -> list[Mapping[str, Any]]:
    """The files of a message, as {name, url}. What a client adds for itself (the text as HTML, a card) is none."""
    found: list[Mapping[str, Any]] = []
    for one in activity.attachments or []:
        content = one.content if isinstance(one.content, Mapping) else {}
        kind = str(one.content_type or "")
        if kind == FILE:
            found.append({"name": one.name or "", "url": content.get("downloadUrl") or ""})
        elif kind and not kind.startswith(("text/", "application/vnd.microsoft.card.")):
            found.append({"name": one.name or "", "url": ""})
    return found


def _trusted(desk: Desk, url: str) -> bool:
    """Whether a file address is Microsoft's, or on a host that the administrator named; plain HTTP only on this one."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    named = {urlsplit(f"//{one}").hostname for one in desk.settings.teams.service_urls}
    secure = parts.scheme == "https" or (parts.scheme == "http" and host in {"127.0.0.1", "localhost", "::1"})
    return secure and (host in named or host.endswith(_HOSTS))
