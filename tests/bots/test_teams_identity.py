"""The bot's own token and Microsoft's keys: fetched rarely, renewed early, and never in anybody's way."""

import asyncio
from typing import Any

import aiohttp
import pytest

from bots.teams import adapter as adapter_module
from bots.teams.adapter import EARLY_SECONDS, IdentityError, SigningKeys, TeamsAdapter, Tokens, _Http
from quantahr.settings import Settings, Teams
from quantahr.store import Store
from tests.fakes.fake_connector import FakeTeams
from tests.fakes.people import answer, until
from tests.fakes.scripted_worker import LEAVE, ScriptedWorker
from tests.fakes.teams_bot import teams_bot
from tests.fakes.teams_world import TeamsWorld


@pytest.fixture
def tokens(teams: FakeTeams) -> Tokens:
    return Tokens(Teams.model_validate(teams.settings), teams.password, _Http())


async def test_a_hundred_answers_cost_one_token_request(tokens: Tokens, teams: FakeTeams) -> None:
    found = await asyncio.gather(*(tokens.get() for _ in range(100)))
    assert len(set(found)) == 1
    assert teams.identity.token_requests == 1


async def test_a_token_is_renewed_in_the_background_before_it_expires(tokens: Tokens, teams: FakeTeams) -> None:
    teams.identity.expires_in = int(EARLY_SECONDS) - 100
    first = await tokens.get()
    teams.identity.stalled = True
    assert await tokens.get() == first, "nobody waits while the old one is good"
    teams.identity.stalled = False
    await until(lambda: tokens._renewing is None or tokens._renewing.done())
    assert await tokens.get() != first


async def test_a_token_that_is_about_to_expire_is_waited_for(tokens: Tokens, teams: FakeTeams) -> None:
    teams.identity.expires_in = 5
    first = await tokens.get()
    teams.identity.expires_in = 3600
    assert await tokens.get() != first
    assert teams.identity.token_requests == 2


async def test_a_wrong_password_is_named_with_what_to_check_and_without_microsofts_sentence(teams: FakeTeams) -> None:
    wrong = Tokens(Teams.model_validate(teams.settings), "guess", _Http())
    with pytest.raises(IdentityError, match=r"invalid_client \(AADSTS 7000215\).*TEAMS_APP_PASSWORD") as caught:
        await wrong.get()
    assert "secret sentence" not in str(caught.value)


async def test_a_multi_tenant_bot_asks_the_bot_frameworks_own_tenant(teams: FakeTeams) -> None:
    settings = Teams.model_validate({**teams.settings, "app_type": "MultiTenant", "tenant_id": ""})
    assert (await Tokens(settings, teams.password, _Http()).get()).startswith("token-")


async def test_a_managed_identity_needs_no_password(teams: FakeTeams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{teams.url}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "app-service")
    settings = Teams.model_validate({**teams.settings, "app_type": "UserAssignedMSI"})
    tokens = Tokens(settings, None, _Http())
    assert await tokens.get() == await tokens.get()
    assert teams.identity.token_requests == 1


async def test_a_login_service_that_hangs_is_given_up(
    tokens: Tokens, teams: FakeTeams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter_module, "IDENTITY_SECONDS", 0.1)
    teams.identity.stalled = True
    with pytest.raises(IdentityError, match="cannot be reached"):
        await tokens.get()
    teams.identity.stalled = False


async def test_old_keys_are_kept_when_new_ones_cannot_be_fetched(teams: FakeTeams) -> None:
    keys = SigningKeys(f"{teams.url}/openid")
    await keys.get("key-1")
    await teams.stop()
    keys._fetched -= 2 * adapter_module.KEYS_SECONDS
    keys._tried -= 60
    assert (await keys.get("key-1")).endorsements == ["msteams"]


async def test_a_new_key_is_learned_when_the_old_list_is_an_hour_old(teams: FakeTeams) -> None:
    from tests.fakes.fake_identity import SigningKey

    keys = SigningKeys(f"{teams.url}/openid")
    await keys.get("key-1")
    teams.identity.published.append(SigningKey("key-2"))
    with pytest.raises(PermissionError):
        await keys.get("key-2")
    keys._fetched -= adapter_module.UNKNOWN_KEY_SECONDS + 1
    keys._tried -= 60
    assert (await keys.get("key-2")).endorsements == ["msteams"]


async def test_a_stalled_identity_service_holds_up_nobody_else(
    settings: Settings, store: Store, worker: ScriptedWorker, teams: FakeTeams
) -> None:
    teams.identity.stalled = True
    async with teams_bot(settings, store, teams):
        ana = TeamsWorld(teams).person("ana")
        asking = asyncio.create_task(ana.write("How much leave do I get?"))
        await until(lambda: teams.identity.key_requests == 1)
        async with aiohttp.ClientSession() as session:
            for _ in range(20):
                async with session.get(f"{teams.bot_url}/healthz") as healthy:
                    assert await healthy.text() == "ok"
        assert not asking.done(), "who it is cannot be told without the keys"
        teams.identity.stalled = False
        await asking
        await answer(ana, LEAVE.strip())


async def test_a_turn_is_accepted_while_the_login_service_stalls_and_answered_afterwards(
    settings: Settings, store: Store, worker: ScriptedWorker, teams: FakeTeams
) -> None:
    async with teams_bot(settings, store, teams):
        ana = TeamsWorld(teams).person("ana")
        await ana.write("May I bring my parrot?")
        await answer(ana, "I find nothing about that")
        teams.identity.revoke()
        teams.identity.stalled = True
        await ana.write("How much leave do I get?")
        await until(lambda: teams.identity.token_requests == 2)
        teams.identity.stalled = False
        await answer(ana, LEAVE.strip())


async def test_a_turn_that_takes_long_is_acknowledged_before_teams_loses_patience(
    teams: FakeTeams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter_module, "TURN_SECONDS", 0.05)
    monkeypatch.setattr(adapter_module, "INVOKE_SECONDS", 0.05)
    done = asyncio.Event()

    async def slow(context: Any) -> None:
        await done.wait()

    adapter = TeamsAdapter(Teams(development=True, service_urls=("127.0.0.1",)), None)
    chat = teams.personal("29:ana").id
    message = await adapter.process(_Request(teams.activity("29:ana", chat, type="message", text="hi")), slow)  # type: ignore[arg-type]
    assert message.status == 202
    button = teams.activity("29:ana", chat, type="invoke", name="adaptiveCard/action", value={})
    pressed = await adapter.process(_Request(button), slow)  # type: ignore[arg-type]
    assert pressed.status == 200
    assert b"look again in a moment" in (pressed.body or b"")  # type: ignore[operator]
    done.set()
    await adapter.close()


class _Request:
    """What the adapter reads of an aiohttp request."""

    content_type = "application/json"
    headers: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, body: dict[str, Any]) -> None:
        self._body = body

    async def json(self) -> dict[str, Any]:
        return self._body
