"""A Bot Connector that is as strict as Teams: tokens, rates, sizes, streaming rules; and the Teams that people see."""

import itertools
import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from tests.fakes.fake_identity import APP_ID, PASSWORD, TENANT, FakeIdentity
from tests.fakes.stream_rules import SIZE, RefusedByTeamsError, StreamRules, Throttle, stream_info
from tests.fakes.teams_files import CONSENT, TeamsFiles

BOT = f"28:{APP_ID}"


@dataclass
class Message:
    """One message in Teams. `cards` of one viewer replace the others' once a button refreshed them."""

    id: str
    conversation: str
    sender: str
    text: str
    activity: dict[str, Any]
    growing: bool = False
    refreshed: dict[str, dict[str, Any]] = field(default_factory=dict)
    updates: int = 0

    def card(self, viewer: str = "") -> dict[str, Any] | None:
        if viewer in self.refreshed:
            return self.refreshed[viewer]
        attached = self.activity.get("attachments") or []
        cards = [one["content"] for one in attached if one["contentType"].endswith("card.adaptive")]
        return cards[0] if cards else None


@dataclass
class Chat:
    """A conversation: personal, groupChat or channel."""

    id: str
    kind: str
    tenant: str
    members: set[str] = field(default_factory=set)
    removed: str = ""
    """The code with which the bot is turned away."""


class FakeTeams:
    """Start it, point settings at it (`settings`), set `bot_url`. `refused` lists every refusal."""

    def __init__(self, pace: float = 1.0, longest: float = 120.0) -> None:
        self.identity = FakeIdentity()
        self.rules = StreamRules(pace, longest)
        self.throttle = Throttle()
        self.drive = TeamsFiles()
        self.chats: dict[str, Chat] = {}
        self.messages: list[Message] = []
        self.requests: list[tuple[str, str, dict[str, Any]]] = []
        self.refused: list[tuple[int, str]] = []
        self.failures: list[tuple[int, dict[str, str]]] = []
        """Answers for the next requests, in place of the real ones: (status, headers)."""
        self.typing: dict[str, int] = defaultdict(int)
        self.no_new_chats = False
        self.anonymous = False
        """Like Microsoft's playground: nobody shows a token."""
        self.bot_url = ""
        self.url = ""
        self._numbers = itertools.count(1_700_000_000_000)
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self._last: dict[str, Any] | None = None

    async def start(self) -> None:
        application = web.Application()
        self.identity.routes(application)
        self.drive.routes(application)
        path = "/teams/v3/conversations"
        application.router.add_post(path, self._create)
        application.router.add_post(path + "/{chat}/activities", self._post)
        application.router.add_post(path + "/{chat}/activities/{id}", self._post)
        application.router.add_put(path + "/{chat}/activities/{id}", self._put)
        application.router.add_delete(path + "/{chat}/activities/{id}", self._delete)
        application.router.add_get(path + "/{chat}/members", self._members)
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = self.drive.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self._session = aiohttp.ClientSession()

    async def stop(self) -> None:
        if self._session and self._runner:
            await self._session.close()
            await self._runner.cleanup()

    @property
    def service_url(self) -> str:
        return f"{self.url}/teams/"

    @property
    def settings(self) -> dict[str, Any]:
        """The `teams` section for a bot of this fake."""
        return {
            "app_id": APP_ID,
            "tenant_id": TENANT,
            "port": 0,
            "service_urls": [self.url.removeprefix("http://")],
            "openid_url": f"{self.url}/openid",
            "login_url": f"{self.url}/login",
        }

    password = PASSWORD

    # What the bot calls

    async def _post(self, request: web.Request) -> web.Response:
        return await self._guarded(request, self._say)

    async def _put(self, request: web.Request) -> web.Response:
        return await self._guarded(request, self._replace)

    async def _delete(self, request: web.Request) -> web.Response:
        return await self._guarded(request, self._remove)

    async def _create(self, request: web.Request) -> web.Response:
        return await self._guarded(request, self._open)

    async def _members(self, request: web.Request) -> web.Response:
        chat = self._chat(request.match_info["chat"])
        return web.json_response([{"id": member} for member in sorted(chat.members)])

    async def _guarded(self, request: web.Request, act: Any) -> web.Response:
        raw = await request.read()
        body = json.loads(raw) if raw else {}
        self.requests.append((request.method, request.match_info.get("chat", ""), body))
        try:
            if self.failures:
                status, headers = self.failures.pop(0)
                return web.json_response({"error": {"code": str(status)}}, status=status, headers=headers)
            self._admit(request, len(raw))
            return web.json_response(act(request, body), status=201)
        except RefusedByTeamsError as refusal:
            self.refused.append((refusal.status, refusal.code))
            headers = {} if refusal.retry_after is None else {"Retry-After": f"{refusal.retry_after:.2f}"}
            error = {"error": {"code": refusal.code, "message": refusal.message}}
            return web.json_response(error, status=refusal.status, headers=headers)

    def _admit(self, request: web.Request, size: int) -> None:
        if self.anonymous:
            assert "Authorization" not in request.headers
        elif not self.identity.knows(request.headers.get("Authorization", "")):
            raise RefusedByTeamsError(401, "Unauthorized")
        if size > SIZE:
            raise RefusedByTeamsError(413, "MessageSizeTooBig")

    def _say(self, request: web.Request, activity: dict[str, Any]) -> dict[str, Any]:
        where = request.match_info["chat"]
        chat = self._chat(where)
        self.throttle.count(where)
        if chat.removed:
            raise RefusedByTeamsError(403, chat.removed)
        self.drive.check(chat.kind, activity.get("attachments") or [])
        identifier = self._number()
        if stream_info(activity):
            stream = self.rules.step(where, chat.kind, activity, identifier)
            self._grow(where, stream.id, activity, ended=stream.ended)
            return {"id": stream.id}
        if activity["type"] == "typing":
            self.typing[where] += 1
            return {}
        if where == chat.id and chat.kind == "channel":
            where = f"{where};messageid={identifier}"
        self.messages.append(Message(identifier, where, BOT, activity.get("text") or "", activity))
        return {"id": identifier}

    def _grow(self, where: str, stream: str, activity: dict[str, Any], *, ended: bool) -> None:
        found = self.message(stream)
        if found is None:
            found = Message(stream, where, BOT, "", activity)
            self.messages.append(found)
        found.text, found.activity, found.growing = activity.get("text") or "", activity, not ended

    def _replace(self, request: web.Request, activity: dict[str, Any]) -> dict[str, Any]:
        self.throttle.count(request.match_info["chat"])
        self.drive.check(self._chat(request.match_info["chat"]).kind, activity.get("attachments") or [])
        found = self.message(request.match_info["id"])
        if found is None or found.sender != BOT:
            raise RefusedByTeamsError(404, "ActivityNotFoundInConversation")
        found.text, found.activity, found.growing = activity.get("text") or "", activity, False
        found.updates += 1
        return {"id": found.id}

    def _remove(self, request: web.Request, activity: dict[str, Any]) -> dict[str, Any]:
        del activity
        self.messages = [message for message in self.messages if message.id != request.match_info["id"]]
        return {}

    def _open(self, request: web.Request, wanted: dict[str, Any]) -> dict[str, Any]:
        del request
        member = wanted["members"][0]["id"]
        if self.no_new_chats:
            raise RefusedByTeamsError(403, "ForbiddenOperationException", "The app is not installed for this user.")
        tenant = ((wanted.get("channelData") or {}).get("tenant") or {}).get("id", "")
        return {"id": self.personal(member, tenant).id}

    def _chat(self, where: str) -> Chat:
        chat = self.chats.get(where.partition(";")[0])
        if chat is None:
            raise RefusedByTeamsError(404, "ConversationNotFound")
        return chat

    # What people do

    def personal(self, user: str, tenant: str = TENANT) -> Chat:
        """The chat of a user ("29:…") with the bot."""
        identifier = f"a:{tenant[:4]}-{user}"
        return self.chats.setdefault(identifier, Chat(identifier, "personal", tenant, {user}))

    def channel(self, identifier: str, *members: str, kind: str = "channel", tenant: str = TENANT) -> Chat:
        chat = self.chats.setdefault(identifier, Chat(identifier, kind, tenant))
        chat.members.update(members)
        return chat

    def message(self, identifier: str) -> Message | None:
        return next((message for message in self.messages if message.id == identifier), None)

    def activity(self, user: str, where: str, **fields: Any) -> dict[str, Any]:
        """An activity of a user as Teams sends it."""
        chat = self._chat(where)
        return {
            "id": self._number(),
            "channelId": "msteams",
            "serviceUrl": self.service_url,
            "timestamp": "2026-11-23T04:00:00.000Z",
            "from": {"id": user, "name": user.removeprefix("29:").title(), "aadObjectId": f"aad-{user}"},
            "recipient": {"id": BOT, "name": "QuantaHR"},
            "conversation": {"id": where, "conversationType": chat.kind, "tenantId": chat.tenant},
            "channelData": {"tenant": {"id": chat.tenant}},
            **fields,
        }

    async def say(self, user: str, where: str, text: str, *, mention: bool = False, **fields: Any) -> str:
        """A user writes; returns the full conversation id in which an answer is expected."""
        chat = self._chat(where)
        activity = self.activity(user, where, type="message", text=text, textFormat="plain", **fields)
        if where == chat.id and chat.kind == "channel":
            where = f"{where};messageid={activity['id']}"
            activity["conversation"]["id"] = where
        if mention:
            activity["text"] = f"<at>QuantaHR</at> {text}"
            mentioned = {"type": "mention", "mentioned": {"id": BOT, "name": "QuantaHR"}, "text": "<at>QuantaHR</at>"}
            activity["entities"] = [mentioned]
        self.messages.append(Message(activity["id"], where, user, text, activity))
        status, _ = await self.deliver(activity)
        assert status == 202, f"the bot answered {status}"
        return where

    async def press(self, user: str, message: Message, action: dict[str, Any], **inputs: str) -> dict[str, Any]:
        """A user presses an Action.Execute; what comes back is shown to that user."""
        data = {**action.get("data", {}), **inputs}
        value = {"action": {"type": "Action.Execute", "verb": action["verb"], "data": data}, "trigger": "manual"}
        fields = {"type": "invoke", "name": "adaptiveCard/action", "replyToId": message.id, "value": value}
        status, body = await self.deliver(self.activity(user, message.conversation, **fields))
        assert status == 200, f"the bot answered {status}"
        answered: dict[str, Any] = body
        if body["type"] == "application/vnd.microsoft.card.adaptive":
            message.refreshed[user] = body["value"]
        return answered

    async def drop(self, user: str, *files: tuple[str, bytes], text: str = "") -> None:
        """A user drops files (name, bytes) into the chat with the bot."""
        attachments = [self.drive.drop(name, data) for name, data in files]
        # Teams sends what was typed once more, as HTML.
        attachments.append({"contentType": "text/html", "content": f"<p>{text}</p>"})
        await self.say(user, self.personal(user).id, text, attachments=attachments)

    async def consent(self, user: str, message: Message, *, accept: bool = True) -> int:
        """A user answers the offer of a file."""
        [card] = [one for one in message.activity["attachments"] if one["contentType"] == CONSENT]
        value = self.drive.answer(card, accept=accept)
        fields = {"type": "invoke", "name": "fileConsent/invoke", "replyToId": message.id, "value": value}
        status, _ = await self.deliver(self.activity(user, message.conversation, **fields))
        return status

    async def rate(self, user: str, message: Message, reaction: str, feedback: object = "") -> int:
        value = {"actionName": "feedback", "actionValue": {"reaction": reaction, "feedback": feedback}}
        fields = {"type": "invoke", "name": "message/submitAction", "replyToId": message.id, "value": value}
        status, _ = await self.deliver(self.activity(user, message.conversation, **fields))
        return status

    async def deliver(self, activity: dict[str, Any], header: str | None = None) -> tuple[int, Any]:
        """Post an activity to the bot, signed; returns the status and the JSON body."""
        if activity["type"] == "message":
            self._last = activity
        if header is None and not self.anonymous:
            header = self.identity.key.sign(activity["serviceUrl"])
        headers = {"Authorization": header} if header else {}
        assert self._session
        async with self._session.post(f"{self.bot_url}/api/messages", json=activity, headers=headers) as answer:
            body = await answer.text()
            return answer.status, json.loads(body) if body and answer.content_type == "application/json" else body

    async def deliver_again(self) -> None:
        assert self._last
        await self.deliver(self._last)

    def _number(self) -> str:
        return str(next(self._numbers))
