"""Starting the Slack bot: what is missing or wrong is named, with the fix; what is away is waited for."""

import asyncio
import socket
from pathlib import Path

import pytest
import yaml
from pydantic import SecretStr

from bots.conversation import Conversation
from bots.slack.app import run_slack
from quantahr.bus import Asking
from quantahr.errors import SettingsError
from quantahr.settings import Secrets, Settings, Slack
from quantahr.store import Store
from tests.bots.conftest import SECRETS, Start
from tests.conftest import RedisServer
from tests.fakes.fake_slack import FakeSlack
from tests.fakes.people import answer, until
from tests.fakes.scripted_worker import LEAVE, ScriptedWorker
from tests.fakes.slack_world import SlackWorld


async def _run(settings: Settings, store: Store, slack: FakeSlack, secrets: Secrets, **changes: object) -> None:
    values = {"api_url": slack.api_url, "port": 0, **changes}
    configured = settings.model_copy(update={"slack": Slack.model_validate(values)})
    bus = Asking(configured)
    try:
        await asyncio.wait_for(run_slack(configured, secrets, Conversation(configured, bus, store)), 60)
    finally:
        await bus.close()


@pytest.mark.parametrize(
    ("change", "mode", "named"),
    [
        ({"slack_bot_token": None}, "socket", "SLACK_BOT_TOKEN is missing"),
        ({"slack_bot_token": SecretStr("xapp-1-real")}, "socket", "SLACK_BOT_TOKEN is not a bot token"),
        ({"slack_app_token": None}, "socket", "SLACK_APP_TOKEN is missing"),
        ({"slack_app_token": SecretStr("xoxb-1-real")}, "socket", "SLACK_APP_TOKEN is not an app-level token"),
        ({"slack_signing_secret": None}, "http", "SLACK_SIGNING_SECRET is missing"),
        ({"slack_bot_token": SecretStr("xoxb-wrong")}, "http", "Slack does not know this token.*SLACK_BOT_TOKEN"),
        ({"slack_app_token": SecretStr("xapp-wrong")}, "socket", "Slack does not know this token.*SLACK_APP_TOKEN"),
    ],
)
async def test_a_wrong_or_missing_token_is_named_with_the_fix(
    settings: Settings, store: Store, slack: FakeSlack, change: dict[str, SecretStr | None], mode: str, named: str
) -> None:
    secrets = SECRETS.model_copy(update=change)
    with pytest.raises(SettingsError, match=named) as refused:
        await _run(settings, store, slack, secrets, mode=mode)
    assert "docs/slack.md" in str(refused.value)
    assert "wrong" not in str(refused.value), "a secret is never repeated"


async def test_a_missing_scope_is_named(settings: Settings, store: Store, slack: FakeSlack) -> None:
    slack.scopes_missing = {"apps.connections.open"}
    with pytest.raises(SettingsError, match="lacks the scope chat:write"):
        await _run(settings, store, slack, SECRETS)


async def test_a_port_that_is_taken_is_named(settings: Settings, store: Store, slack: FakeSlack) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"Port {port}.*QUANTAHR_SLACK__PORT={port + 1}"):
            await _run(settings, store, slack, SECRETS, mode="http", port=port)


async def test_a_slack_that_is_away_is_waited_for(slack: FakeSlack, start_slack: Start, worker: ScriptedWorker) -> None:
    slack.failing = {"auth.test": [500, 500, 500, 500]}
    async with start_slack():
        ana = SlackWorld(slack).person("ana")
        await ana.write("How much leave do I get?")
        await answer(ana, LEAVE.strip())


async def test_redis_down_at_the_start_is_said_and_then_everything_works(
    settings: Settings,
    store: Store,
    slack: FakeSlack,
    start_slack: Start,
    own_redis: RedisServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    own_redis.stop()
    async with start_slack(redis_url=own_redis.url):
        ana = SlackWorld(slack).person("ana")
        await ana.write("first question")
        await answer(ana, "I cannot take questions at the moment")
        assert "Redis cannot be reached. Start it, or correct redis_url." in caplog.text
        own_redis.start()
        worker = ScriptedWorker(settings.model_copy(update={"redis_url": own_redis.url}), store)
        worker.start()
        await ana.write("How much leave do I get?")
        await answer(ana, LEAVE.strip())
        worker.stop()


def test_the_manifest_asks_for_what_the_bot_listens_to_and_no_more() -> None:
    manifest = yaml.safe_load(Path("config/slack_manifest.yaml").read_text(encoding="utf-8"))
    events = set(manifest["settings"]["event_subscriptions"]["bot_events"])
    scopes = set(manifest["oauth_config"]["scopes"]["bot"])
    assert events == {
        "app_mention",
        "app_home_opened",
        "assistant_thread_started",
        "assistant_thread_context_changed",
        "message.im",
        "message.channels",
        "message.groups",
        "message.mpim",
        "team_join",
        "user_change",
    }
    assert {"chat:write", "assistant:write", "commands", "im:write", "app_mentions:read"} <= scopes
    assert not any(scope.endswith("manage") or scope.startswith("admin") for scope in scopes)
    commands = [command["command"] for command in manifest["features"]["slash_commands"]]
    assert commands == ["/hr", "/hr-onboard", "/hr-draft", "/hr-gaps", "/hr-retrain"]
    assert manifest["settings"]["socket_mode_enabled"] is True


async def test_sigterm_hands_running_answers_over(slack: FakeSlack, start_slack: Start, worker: ScriptedWorker) -> None:
    ana = SlackWorld(slack).person("ana")
    async with start_slack():
        await ana.write("slow please")
        await until(lambda: any("Sentence 1." in shown.text for shown in ana.sees() if shown.by_bot))
    async with start_slack():
        await ana.write("stop")
        shown = await answer(ana, "Sentence 0.")
        assert len([one for one in ana.sees() if one.by_bot]) == 1, shown
