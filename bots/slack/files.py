"""Files in Slack: a document that HR drops into its direct conversation, and a draft that comes back as a Word file."""

import asyncio
import logging
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from slack_sdk.errors import SlackClientError

from bots import wording
from bots.forms import Actor, Work
from bots.slack.desk import Desk, Json
from bots.uploads import ONE_AT_A_TIME, UPLOAD_SECONDS, UploadError, fetch
from quantahr.messages import Final as FinalEvent
from quantahr.messages import question_id

log = logging.getLogger(__name__)

NOT_SENT: Final = "I could not put the Word file here; the text above is the whole draft. IT can see why in my log."


async def start(desk: Desk, work: Work, channel: str, user: str, thread: str, event: str) -> None:
    """Let the worker write, under a message of a direct conversation."""
    address = {"kind": "dm", "team": desk.team, "channel": channel, "user": user, "thread": thread}
    await desk.ask(text=work.text, thread=event, event=event, address=address, kind=work.kind)
    if work.word:
        desk.later(_send_word(desk, question_id("slack", desk.team, event), channel, thread))


async def taken(desk: Desk, event: Json, team: str, text: str) -> bool:
    """A message with files in a direct conversation. Returns False if what was typed has still to be answered."""
    actor = Actor("slack", team, event["user"])
    channel, thread = event["channel"], event.get("thread_ts") or event["ts"]
    question = bool(text) and not desk.office.hr.takes_files(actor)
    if await desk.first(f"file:{channel}:{event['ts']}"):
        try:
            await _read(desk, actor, event, text)
        except UploadError as error:
            said = wording.NO_FILES_BUT if question else str(error)
            await desk.client.chat_postMessage(channel=channel, thread_ts=thread, text=said)
    return not question


async def _read(desk: Desk, actor: Actor, event: Json, text: str) -> None:
    channel, thread = event["channel"], event.get("thread_ts") or event["ts"]
    await desk.office.hr.admit_files(actor)
    file = await _described(desk, event["files"][0])
    name, size = str(file.get("name") or ""), int(file.get("size") or 0)
    await desk.office.hr.check_upload(actor, name, size)
    if len(event["files"]) > 1:
        raise UploadError(ONE_AT_A_TIME)
    data = await _download(desk, str(file.get("url_private_download") or file.get("url_private") or ""))
    key = f"{channel}:{event['ts']}"
    try:
        await desk.conversation.bus.put_upload(question_id("slack", actor.tenant, key), data, UPLOAD_SECONDS)
    except Exception as error:
        log.warning("a document could not be passed on (%s)", type(error).__name__)
        raise UploadError(wording.UNREACHABLE) from None
    await start(desk, Work("summary", f"{name}\n{text}"), channel, actor.user, thread, key)


async def _described(desk: Desk, file: Json) -> Json:
    """What Slack knows about a file; an event that only names it (Slack Connect) is completed."""
    if file.get("file_access") != "check_file_info" and file.get("name"):
        return file
    try:
        found: dict[str, Any] = (await desk.client.files_info(file=file["id"]))["file"]
    except (SlackClientError, aiohttp.ClientError, TimeoutError) as error:
        log.info("a file could not be looked up (%s)", type(error).__name__)
        raise UploadError("I could not get this document from Slack. Please drop it here again.") from None
    return found


async def _download(desk: Desk, url: str) -> bytes:
    """The bytes of a file. The token goes to Slack's own hosts only. Raises UploadError."""
    parts, own = urlsplit(url), urlsplit(desk.settings.slack.api_url)
    slacks = parts.scheme == "https" and (parts.hostname or "").endswith(".slack.com")
    if not slacks and (parts.scheme, parts.netloc) != (own.scheme, own.netloc):
        raise UploadError("I read only files that lie in Slack. Download this one, and drop it here.")
    return await fetch(url, "Slack", {"Authorization": f"Bearer {desk.client.token}"})


async def _send_word(desk: Desk, question: str, channel: str, thread: str) -> None:
    """The finished draft once more, as a Word file."""
    from quantahr.people.word import write_word

    async for _, end in desk.conversation.bus.follow(question):
        if not isinstance(end, FinalEvent) or end.verdict != "quoted":
            continue
        data = await asyncio.to_thread(write_word, end.text)
        try:
            await desk.client.files_upload_v2(channel=channel, thread_ts=thread, filename="draft.docx", content=data)
        except (SlackClientError, aiohttp.ClientError, TimeoutError) as error:
            log.warning(
                "a draft could not be sent as a file (%s); is the scope files:write there?", type(error).__name__
            )
            await desk.client.chat_postMessage(channel=channel, thread_ts=thread, text=NOT_SENT)
