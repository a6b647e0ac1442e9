"""The addresses behind the page: who may ask, what is refused, and that nothing is asked twice."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
from pydantic import SecretStr

from bots.console.web import needs_token, serve
from bots.conversation import Conversation
from quantahr.bus import Asking
from quantahr.errors import SettingsError
from quantahr.settings import Console, Secrets, Settings
from quantahr.store import Store
from tests.fakes.scripted_worker import ScriptedWorker

TOKEN = Secrets(quantahr_console_token=SecretStr("a-long-random-word"))


@pytest.fixture
async def conversation(settings: Settings, store: Store, worker: ScriptedWorker) -> AsyncIterator[Conversation]:
    assert worker
    bus = Asking(settings)
    talk = Conversation(settings.model_copy(update={"console": Console(port=0)}), bus, store)
    yield talk
    await talk.close(0.5)
    await bus.close()


@pytest.fixture
async def address(conversation: Conversation) -> AsyncIterator[str]:
    async with serve(conversation.settings, Secrets(), conversation) as where:
        yield where.rstrip("/")


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield session


async def ask(client: aiohttp.ClientSession, address: str, text: str, event: str = "1") -> str:
    body = {"text": text, "thread": "t", "event": event}
    async with client.post(f"{address}/api/questions", json=body) as response:
        assert response.status == 200
        return str((await response.json())["id"])


async def events(
    client: aiohttp.ClientSession, address: str, identifier: str, after: str = ""
) -> list[tuple[str, str]]:
    """The (id, type) of every event of an answer."""
    headers = {"Last-Event-ID": after} if after else {}
    async with client.get(f"{address}/api/answers/{identifier}", headers=headers) as response:
        assert response.content_type == "text/event-stream"
        found, last = [], ""
        async for line in response.content:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "id":
                last = value
            elif name == "data":
                found.append((last, str(json.loads(value)["type"])))
        return found


async def test_an_answer_is_a_stream_of_events_that_ends_with_the_whole(
    client: aiohttp.ClientSession, address: str
) -> None:
    kinds = [kind for _, kind in await events(client, address, await ask(client, address, "leave?"))]
    assert kinds[0] == "accepted"
    assert kinds.count("final") == 1
    assert kinds[-1] == "final"


async def test_a_reader_that_lost_the_connection_goes_on_after_the_last_event_it_had(
    client: aiohttp.ClientSession, address: str
) -> None:
    identifier = await ask(client, address, "leave?")
    whole = await events(client, address, identifier)
    assert await events(client, address, identifier, whole[2][0]) == whole[3:]
    assert await events(client, address, identifier, "nonsense") == whole


async def test_a_question_sent_twice_is_asked_once(
    client: aiohttp.ClientSession, address: str, worker: ScriptedWorker
) -> None:
    first = await ask(client, address, "leave?", "same")
    await events(client, address, first)
    assert await ask(client, address, "leave?", "same") == first
    await events(client, address, await ask(client, address, "another?", "other"))
    assert worker.answered == ["leave?", "another?"]


async def test_only_the_asker_can_stop_an_answer(
    client: aiohttp.ClientSession, address: str, conversation: Conversation
) -> None:
    identifier = await ask(client, address, "slow")
    stop = f"{address}/api/answers/{identifier}/stop"
    async with aiohttp.ClientSession() as stranger, stranger.post(stop, json={}) as response:
        assert response.status == 200
    await asyncio.sleep(0.5)
    assert await conversation.ended(identifier) is None
    async with client.post(stop, json={}) as response:
        assert response.status == 200
    assert (await events(client, address, identifier))[-1][1] == "final"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "attacker.example"}, 403),
        ({"Host": "127.0.0.1.attacker.example"}, 403),
        ({"Origin": "https://attacker.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "localhost"}, 200),
        ({}, 200),
    ],
)
async def test_other_sites_cannot_use_the_page_through_the_browser(
    client: aiohttp.ClientSession, address: str, headers: dict[str, str], status: int
) -> None:
    async with client.get(f"{address}/api/start", headers=headers) as response:
        assert response.status == status


async def test_the_page_may_load_nothing_from_elsewhere_and_be_framed_by_nobody(
    client: aiohttp.ClientSession, address: str
) -> None:
    for path in ("/", "/chat.js", "/chat.css", "/api/start"):
        async with client.get(address + path) as response:
            policy = response.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b'{"text": "hi", "thread": "t", "event": "e"}', "text/plain", 415),
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'{"text": 5, "thread": "t", "event": "e"}', "application/json", 400),
        (b'{"text": "hi", "thread": "", "event": "e"}', "application/json", 400),
        (b'{"text": "' + b"x" * 300_000 + b'"}', "application/json", 413),
    ],
)
async def test_what_the_page_never_sends_is_refused(
    client: aiohttp.ClientSession, address: str, body: bytes, kind: str, status: int
) -> None:
    async with client.post(f"{address}/api/questions", data=body, headers={"Content-Type": kind}) as response:
        assert response.status == status


async def test_without_the_token_nothing_is_served(client: aiohttp.ClientSession, conversation: Conversation) -> None:
    async with serve(conversation.settings, TOKEN, conversation) as where:
        for path in ("", "chat.js", "api/start", "api/start?token=wrong", "?token="):
            async with client.get(where + path) as response:
                assert response.status == 401, path
        async with client.get(f"{where}?token=a-long-random-word") as response:
            assert response.status == 200
            cookie = response.headers["Set-Cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=Strict" in cookie
        async with client.get(f"{where}api/start") as response:
            assert response.status == 200


@pytest.mark.parametrize(
    ("host", "open_to_others"),
    [("127.0.0.1", False), ("127.0.0.2", False), ("::1", False), ("localhost", False), ("0.0.0.0", True), ("hr", True)],
)
def test_only_loopback_goes_without_a_token(host: str, *, open_to_others: bool) -> None:
    assert needs_token(host) is open_to_others


async def test_the_network_is_not_served_without_a_token(conversation: Conversation) -> None:
    everywhere = conversation.settings.model_copy(update={"console": Console(host="0.0.0.0", port=0)})
    with pytest.raises(SettingsError, match="QUANTAHR_CONSOLE_TOKEN"):
        async with serve(everywhere, Secrets(), conversation):
            pass


async def test_a_port_in_use_is_named_with_another_one_to_try(conversation: Conversation) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        busy = conversation.settings.model_copy(update={"console": Console(port=port)})
        with pytest.raises(SettingsError, match=f"Port {port} .*QUANTAHR_CONSOLE__PORT={port + 1}"):
            async with serve(busy, Secrets(), conversation):
                pass
