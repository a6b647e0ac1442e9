"""The OneDrive behind the fake Teams: files that people drop, and places to upload to, each behind an address that is
its own permission. A token shown there is a leak, an address that has expired is worth nothing, and a card about a file
is refused unless the file is there.
"""

import itertools
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.fakes.stream_rules import RefusedByTeamsError

DROPPED = "application/vnd.microsoft.teams.file.download.info"
CONSENT = "application/vnd.microsoft.teams.card.file.consent"
INFO = "application/vnd.microsoft.teams.card.file.info"


@dataclass
class Place:
    """Where an accepted file may be put."""

    name: str
    size: int
    unique: str
    content: bytes | None = None


class TeamsFiles:
    """`leaks` counts requests that showed a token; `failing` are statuses for the next requests."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.places: dict[str, Place] = {}
        self.downloads = 0
        self.leaks = 0
        self.failing: list[int] = []
        self.url = ""
        self._numbers = itertools.count(1)

    def routes(self, application: web.Application) -> None:
        application.router.add_get("/onedrive/download/{key}", self._download)
        application.router.add_put("/onedrive/upload/{key}", self._upload)

    def drop(self, name: str, data: bytes) -> dict[str, Any]:
        """The attachment of a message with a file, as Teams sends it: without its size."""
        key = secrets.token_urlsafe(12)
        self.files[key] = data
        content = {"uniqueId": key, "fileType": name.rpartition(".")[2]}
        content["downloadUrl"] = f"{self.url}/onedrive/download/{key}"
        return {"contentType": DROPPED, "contentUrl": f"{self.url}/personal/{name}", "name": name, "content": content}

    def expire(self) -> None:
        """Addresses to download from are good for minutes."""
        self.files.clear()

    def check(self, kind: str, attachments: list[Mapping[str, Any]]) -> None:
        """Raises RefusedByTeamsError for a card about a file that Teams would not show."""
        for one in attachments:
            content = one.get("content") or {}
            if one["contentType"] == CONSENT:
                whole = one.get("name") and content.get("description") and int(content.get("sizeInBytes") or 0) > 0
                if kind != "personal" or not whole or "acceptContext" not in content:
                    raise RefusedByTeamsError(
                        400, "BadArgument", "A consent card needs a personal chat, name and size."
                    )
            if one["contentType"] == INFO:
                there = {place.unique for place in self.places.values() if place.content is not None}
                if content.get("uniqueId") not in there or not one.get("contentUrl") or not content.get("fileType"):
                    raise RefusedByTeamsError(400, "BadArgument", "There is no such file.")

    def answer(self, card: Mapping[str, Any], *, accept: bool) -> dict[str, Any]:
        """The value of the invoke that a press on a consent card sends."""
        content = card["content"]
        if not accept:
            return {"type": "fileUpload", "action": "decline", "context": content.get("declineContext")}
        key, name = secrets.token_urlsafe(12), f"{next(self._numbers)}-{card['name']}"
        self.places[key] = Place(name, int(content["sizeInBytes"]), f"unique-{key}")
        upload = {"contentUrl": f"{self.url}/personal/{name}", "name": name, "uniqueId": f"unique-{key}"}
        upload |= {"fileType": "docx", "uploadUrl": f"{self.url}/onedrive/upload/{key}"}
        context = content["acceptContext"]
        return {"type": "fileUpload", "action": "accept", "context": context, "uploadInfo": upload}

    async def _download(self, request: web.Request) -> web.StreamResponse:
        if (refused := self._refused(request)) is not None:
            return refused
        data = self.files.get(request.match_info["key"])
        if data is None:
            return web.Response(status=401, text="The access token has expired.")
        self.downloads += 1
        return web.Response(body=data, content_type="application/octet-stream")

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        if (refused := self._refused(request)) is not None:
            return refused
        place, data = self.places.get(request.match_info["key"]), await request.read()
        if place is None or place.content is not None:
            return web.Response(status=404, text="The upload session was not found.")
        if request.headers.get("Content-Range") != f"bytes 0-{len(data) - 1}/{len(data)}" or len(data) != place.size:
            return web.Response(status=416, text="The range is not what was announced.")
        place.content = data
        return web.json_response({"id": place.unique, "name": place.name, "size": len(data)}, status=201)

    def _refused(self, request: web.Request) -> web.Response | None:
        if "Authorization" in request.headers:
            self.leaks += 1
            return web.Response(status=401)
        return web.Response(status=self.failing.pop(0)) if self.failing else None
