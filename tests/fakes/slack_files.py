"""The files of the fake Slack, as strict as the real one's: who shows no token gets a login page, and a file of an app
exists only once it was announced with its length, uploaded in one piece, and completed.
"""

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.fakes.slack_shapes import RefusalError

LARGEST = 1 << 30


@dataclass
class Hosted:
    """A file that somebody has dropped. `told` is its size as Slack's events tell it."""

    id: str
    name: str
    data: bytes
    told: int
    url: str = ""

    def described(self) -> dict[str, Any]:
        kind = self.name.rpartition(".")[2]
        address = {"url_private": self.url.replace("/download/", "/"), "url_private_download": self.url}
        facts = {"id": self.id, "name": self.name, "title": self.name, "filetype": kind, "size": self.told}
        return {**facts, "mode": "hosted", "is_external": False, **address}


@dataclass
class Announced:
    """An upload of the app: its length was told, then it arrives, then it is shared."""

    name: str
    length: int
    content: bytes | None = None


class SlackFiles:
    """Knows whether a request `shows` the bot's token, and whether the bot can `reach` a channel."""

    def __init__(self, shows: Callable[[web.Request], bool], reach: Callable[[str], None]) -> None:
        self.hosted: dict[str, Hosted] = {}
        self.announced: dict[str, Announced] = {}
        self.shared: list[dict[str, Any]] = []
        """{channel, thread_ts, title, name, content} of every file that the app shared."""
        self.downloads: list[str] = []
        self.strangers = 0
        """Downloads without the bot's token: they get the login page."""
        self.url = ""
        self._shows, self._reach = shows, reach
        self._numbers = itertools.count(1)

    def routes(self, application: web.Application) -> None:
        application.router.add_get("/files-pri/{id}/download/{name}", self._download)
        application.router.add_get("/login", self._login)
        application.router.add_post("/upload/{id}", self._upload)

    def add(self, name: str, data: bytes, *, told: int | None = None) -> Hosted:
        """Somebody drops a file."""
        identifier = f"F{next(self._numbers):08d}"
        file = Hosted(identifier, name, data, len(data) if told is None else told)
        file.url = f"{self.url}/files-pri/{identifier}/download/{name}"
        self.hosted[identifier] = file
        return file

    async def _download(self, request: web.Request) -> web.StreamResponse:
        if not self._shows(request):
            self.strangers += 1
            return web.HTTPFound("/login")
        file = self.hosted.get(request.match_info["id"])
        if file is None:
            return web.HTTPNotFound()
        self.downloads.append(file.id)
        return web.Response(body=file.data, content_type="application/octet-stream")

    async def _login(self, _: web.Request) -> web.Response:
        return web.Response(text="<html>Sign in to Company</html>", content_type="text/html")

    async def _upload(self, request: web.Request) -> web.Response:
        waiting = self.announced.get(request.match_info["id"])
        data = await request.read()
        if waiting is None or waiting.content is not None:
            return web.Response(status=404, text="upload url is unknown or used")
        if len(data) != waiting.length:
            return web.Response(status=400, text="length differs from what was announced")
        waiting.content = data
        return web.Response(text=f"OK - {len(data)}")

    # Web API

    def files_info(self, a: dict[str, Any]) -> dict[str, Any]:
        file = self.hosted.get(str(a.get("file")))
        if file is None:
            raise RefusalError("file_not_found")
        return {"file": file.described()}

    def files_getUploadURLExternal(self, a: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        length = int(a.get("length") or 0)
        if not a.get("filename") or not 0 < length <= LARGEST:
            raise RefusalError("invalid_arguments")
        identifier = f"F{next(self._numbers):08d}"
        self.announced[identifier] = Announced(a["filename"], length)
        return {"upload_url": f"{self.url}/upload/{identifier}", "file_id": identifier}

    def files_completeUploadExternal(self, a: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        listed = json.loads(a["files"]) if isinstance(a["files"], str) else a["files"]
        self._reach(a["channel_id"])
        for file in listed:
            done = self.announced.get(file["id"])
            if done is None or done.content is None:
                raise RefusalError("file_not_found")
            shared = {"channel": a["channel_id"], "thread_ts": a.get("thread_ts"), "title": file.get("title")}
            self.shared.append({**shared, "name": done.name, "content": done.content})
            del self.announced[file["id"]]
        return {"files": listed}
