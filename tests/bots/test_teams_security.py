"""Who may talk to the bot: real tokens against an OpenID server of our own, on the same event loop and on another.

Whatever is wrong with a token, the answer is 401 and the bot never runs.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web

from bots.teams.adapter import ServiceUrls, TeamsAdapter
from quantahr.settings import Teams
from tests.fakes.fake_identity import APP_ID, ISSUER, FakeIdentity, SigningKey

Header = Callable[[FakeIdentity, str], str]

FORGER = SigningKey("key-1")
WEBCHAT = SigningKey("key-web", ("webchat",))
BARE = SigningKey("key-bare", ())


def _claims(url: str, **changed: Any) -> dict[str, Any]:
    now = int(time.time())
    return {"iss": ISSUER, "aud": APP_ID, "serviceurl": url, "nbf": now - 60, "exp": now + 3600, **changed}


def _public_key_as_secret(identity: FakeIdentity, url: str) -> str:
    token = jwt.encode(_claims(url), identity.key.jwk["n"], algorithm="HS256", headers={"kid": "key-1"})
    return f"Bearer {token}"


WRONG: dict[str, Header] = {
    "a forged key": lambda _, url: FORGER.sign(url),
    "an unknown kid": lambda identity, url: identity.key.sign(url, kid="nobody's"),
    "no kid": lambda identity, url: f"Bearer {jwt.encode(_claims(url), identity.key.private, algorithm='RS256')}",
    "HS256": _public_key_as_secret,
    "alg none": lambda _, url: f"Bearer {jwt.encode(_claims(url), '', algorithm='none', headers={'kid': 'key-1'})}",
    "expired": lambda identity, url: identity.key.sign(url, exp=int(time.time()) - 3600),
    "never expiring": lambda identity, url: identity.key.sign(url, exp=None),
    "not yet valid": lambda identity, url: identity.key.sign(url, nbf=int(time.time()) + 3600),
    "another audience": lambda identity, url: identity.key.sign(url, aud="0" * 8 + APP_ID[8:]),
    "no audience": lambda identity, url: identity.key.sign(url, aud=None),
    "another issuer": lambda identity, url: identity.key.sign(url, iss="https://evil.example"),
    "the emulator's issuer": lambda identity, url: identity.key.sign(
        url, iss="https://sts.windows.net/d6d49420-f39b-4df7-a1dc-d59a935871db/", ver="1.0", appid=APP_ID
    ),
    "a skill's claims": lambda identity, url: identity.key.sign(url, ver="1.0", appid="another-app"),
    "another serviceUrl": lambda identity, url: identity.key.sign(url + "elsewhere/"),
    "no serviceUrl": lambda identity, url: identity.key.sign(url, serviceurl=None),
    "a key for another channel": lambda _, url: WEBCHAT.sign(url),
    "a key for no channel": lambda _, url: BARE.sign(url),
    "nothing": lambda *_: "",
    "another scheme": lambda identity, url: identity.key.sign(url).replace("Bearer", "Basic"),
    "only the scheme": lambda *_: "Bearer ",
    "garbage": lambda *_: "Bearer not.a.token",
    "three words": lambda identity, url: identity.key.sign(url) + " more",
}


class Bot:
    """Counts how often it ran."""

    def __init__(self) -> None:
        self.turns = 0

    async def on_turn(self, context: Any) -> None:
        self.turns += 1


@pytest.fixture(params=["the same loop", "another loop"])
async def identity(request: pytest.FixtureRequest) -> AsyncIterator[tuple[FakeIdentity, str]]:
    """An identity service, and its address."""
    fake = FakeIdentity()
    fake.published += [WEBCHAT, BARE]
    if request.param == "the same loop":
        runner, url = await _serve(fake)
        yield fake, url
        await runner.cleanup()
        return
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runner, url = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_serve(fake), loop))
    yield fake, url
    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(runner.cleanup(), loop))
    loop.call_soon_threadsafe(loop.stop)
    await asyncio.to_thread(thread.join)
    loop.close()


async def _serve(fake: FakeIdentity) -> tuple[web.AppRunner, str]:
    application = web.Application()
    fake.routes(application)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


class Endpoint:
    """/api/messages alone, without what stands behind it."""

    def __init__(self, settings: Teams, password: str | None = "secret") -> None:
        self.bot = Bot()
        self.adapter = TeamsAdapter(settings, password)
        application = web.Application()
        application.router.add_post("/api/messages", lambda request: self.adapter.process(request, self.bot.on_turn))
        self._runner = web.AppRunner(application)
        self.url = ""

    async def __aenter__(self) -> "Endpoint":
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/api/messages"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await self.adapter.close()

    async def post(self, body: Any, header: str = "", **more: Any) -> int:
        headers = {"Authorization": header} if header else {}
        payload = {"json": body} if not isinstance(body, bytes) else {"data": body}
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.url, headers=headers | more, **payload) as answer,
        ):
            return answer.status


@pytest.fixture
async def endpoint(identity: tuple[FakeIdentity, str]) -> AsyncIterator[Endpoint]:
    _, url = identity
    host = url.removeprefix("http://")
    settings = Teams(
        app_id=APP_ID,
        app_type="MultiTenant",
        openid_url=f"{url}/openid",
        login_url=f"{url}/login",
        service_urls=(host,),
    )
    async with Endpoint(settings) as running:
        yield running


def _activity(url: str, **changed: Any) -> dict[str, Any]:
    return {
        "type": "message",
        "id": "1",
        "channelId": "msteams",
        "serviceUrl": url,
        "conversation": {"id": "a:1"},
        "from": {"id": "29:ana"},
        "recipient": {"id": "28:bot"},
        "text": "How much leave do I get?",
        **changed,
    }


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_message_with_a_wrong_token_is_refused_and_the_bot_never_runs(
    identity: tuple[FakeIdentity, str], endpoint: Endpoint, wrong: str
) -> None:
    fake, url = identity
    assert await endpoint.post(_activity(url), WRONG[wrong](fake, url)) == 401
    assert endpoint.bot.turns == 0


async def test_a_message_with_teams_own_token_is_taken_and_the_keys_are_fetched_once(
    identity: tuple[FakeIdentity, str], endpoint: Endpoint
) -> None:
    fake, url = identity
    statuses = await asyncio.gather(*(endpoint.post(_activity(url), fake.key.sign(url)) for _ in range(8)))
    assert statuses == [202] * 8
    assert endpoint.bot.turns == 8
    assert fake.key_requests == 1
    assert fake.token_requests == 0


async def test_an_activity_of_another_channel_is_refused(
    identity: tuple[FakeIdentity, str], endpoint: Endpoint
) -> None:
    fake, url = identity
    assert await endpoint.post(_activity(url, channelId="webchat"), WEBCHAT.sign(url)) == 401
    assert await endpoint.post(_activity(url, channelId="webchat"), fake.key.sign(url)) == 401
    assert endpoint.bot.turns == 0


async def test_unknown_key_ids_do_not_make_the_bot_hammer_microsoft(
    identity: tuple[FakeIdentity, str], endpoint: Endpoint
) -> None:
    fake, url = identity
    for number in range(20):
        assert await endpoint.post(_activity(url), fake.key.sign(url, kid=f"guess-{number}")) == 401
    assert fake.key_requests == 1


@pytest.mark.parametrize(
    "body",
    [b"{not json", b"\xff\xfe", b"[]", b"null", b'"text"', b"{}"],
    ids=["broken", "not UTF-8", "a list", "null", "a string", "empty"],
)
async def test_what_is_not_an_activity_is_a_bad_request(endpoint: Endpoint, body: bytes) -> None:
    assert await endpoint.post(body, **{"Content-Type": "application/json"}) == 400
    assert endpoint.bot.turns == 0


@pytest.mark.parametrize("missing", ["type", "serviceUrl", "channelId", "conversation"])
async def test_an_activity_without_what_it_needs_is_a_bad_request(
    identity: tuple[FakeIdentity, str], endpoint: Endpoint, missing: str
) -> None:
    fake, url = identity
    activity = _activity(url)
    del activity[missing]
    assert await endpoint.post(activity, fake.key.sign(url)) == 400
    assert await endpoint.post(_activity(url, **{missing: 7}), fake.key.sign(url)) == 400
    assert await endpoint.post(_activity(url, conversation={"id": ""}), fake.key.sign(url)) == 400
    assert endpoint.bot.turns == 0


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
async def test_another_content_type_is_refused(endpoint: Endpoint, kind: str) -> None:
    assert await endpoint.post(b"{}", **{"Content-Type": kind}) == 415


async def test_a_service_url_that_is_not_microsofts_is_never_answered(
    identity: tuple[FakeIdentity, str], endpoint: Endpoint
) -> None:
    fake, _ = identity
    elsewhere = "https://smba.trafficmanager.net.evil.example/emea/"
    assert await endpoint.post(_activity(elsewhere), fake.key.sign(elsewhere)) == 403
    assert endpoint.bot.turns == 0
    with pytest.raises(PermissionError):
        endpoint.adapter.client(elsewhere)


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://smba.trafficmanager.net/emea/", True),
        ("https://SMBA.trafficmanager.net/emea/", True),
        ("https://europe.botframework.com", True),
        ("https://smba.infra.gcc.teams.microsoft.com/gcc", True),
        ("https://smba.infra.gov.teams.microsoft.us/gov", True),
        ("https://proxy.example:8443/teams", True),
        ("http://smba.trafficmanager.net/emea/", False),
        ("https://smba.trafficmanager.net:8443/", False),
        ("https://user@smba.trafficmanager.net/", False),
        ("https://smba.trafficmanager.net@evil.example/", False),
        ("https://evilbotframework.com/", False),
        ("https://proxy.example/teams", False),
        ("http://proxy.example:8443/teams", False),
        ("http://127.0.0.1:4000/", False),
        ("https://[::1/", False),
        ("ftp://smba.trafficmanager.net/", False),
        ("", False),
    ],
)
def test_answers_go_to_microsoft_and_to_what_was_configured(url: str, allowed: bool) -> None:
    urls = ServiceUrls(Teams(app_id=APP_ID, service_urls=("proxy.example:8443",)))
    assert urls(url) is allowed


def test_loopback_is_answered_in_development_only() -> None:
    assert ServiceUrls(Teams(development=True))("http://127.0.0.1:56150/_connector")
    assert not ServiceUrls(Teams(development=True, app_id=APP_ID))("http://127.0.0.1:56150/_connector")


async def test_in_development_the_bot_talks_to_anybody_on_this_machine() -> None:
    async with Endpoint(Teams(development=True), None) as endpoint:
        assert await endpoint.post(_activity("http://localhost:56150/_connector")) == 202
        assert await endpoint.post(_activity("https://evil.example/")) == 403
    assert endpoint.bot.turns == 1


async def test_a_refusal_logs_neither_the_token_nor_the_text(
    identity: tuple[FakeIdentity, str], endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    fake, url = identity
    header = FORGER.sign(url)
    caplog.set_level("DEBUG")
    await endpoint.post(_activity(url), header)
    await endpoint.post(_activity(url), fake.key.sign(url, aud="someone-else"))
    assert "was refused" in caplog.text
    assert header.split(".")[1] not in caplog.text
    assert "How much leave" not in caplog.text
