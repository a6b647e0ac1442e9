"""How Slack's deliveries are received: proof of origin, acknowledgement in time, and no answer twice."""

import asyncio
import json
import time
from typing import Any

import aiohttp
import pytest

from quantahr.settings import Settings
from tests.bots.conftest import Start
from tests.fakes.fake_slack import TEAM, FakeSlack
from tests.fakes.people import answer, answers, until
from tests.fakes.scripted_worker import LEAVE, ScriptedWorker
from tests.fakes.slack_wire import encoded, signed
from tests.fakes.slack_world import SlackWorld


def _question(slack: FakeSlack) -> dict[str, Any]:
    event = {"type": "message", "channel": slack.dm_of("UANA"), "channel_type": "im", "user": "UANA", "ts": "1.1"}
    return {"type": "event_callback", "team_id": TEAM, "event_id": "Ev1", "event": {**event, "text": "leave?"}}


@pytest.mark.parametrize("forgery", ["wrong secret", "tampered body", "old", "from the future", "unsigned"])
async def test_a_request_that_slack_did_not_sign_is_refused_and_the_bot_never_runs(
    slack: FakeSlack, start_slack: Start, worker: ScriptedWorker, forgery: str
) -> None:
    async with start_slack(mode="http"), aiohttp.ClientSession() as session:
        body, kind = encoded("events_api", _question(slack))
        headers = {
            "wrong secret": signed(body, secret="0" * 32),
            "tampered body": signed(body + b" "),
            "old": signed(body, at=time.time() - 600),
            "from the future": signed(body, at=time.time() + 600),
            "unsigned": {},
        }[forgery]
        headers = {**headers, "Content-Type": kind}
        before = len(slack.calls)
        async with session.post(str(slack.bot_url), data=body, headers=headers) as refused:
            assert refused.status == 401
        async with session.post(str(slack.bot_url), data=body, headers={**signed(body), "Content-Type": kind}) as good:
            assert good.status == 200
        await until(lambda: worker.answered)
        assert worker.answered == ["leave?"]
        assert len(slack.calls) > before


async def test_what_is_not_a_slack_request_does_no_harm(slack: FakeSlack, start_slack: Start) -> None:
    async with start_slack(mode="http"), aiohttp.ClientSession() as session:
        for body in (b"", b"{", b"[1]", b"payload=%7B"):
            async with session.post(str(slack.bot_url), data=body, headers=signed(body)) as answered:
                assert answered.status in {200, 400, 404, 500}
        async with session.post(str(slack.bot_url), data=b"x" * 2_000_000) as answered:
            assert answered.status == 413
        challenge = json.dumps({"type": "url_verification", "challenge": "abc"}).encode()
        headers = {**signed(challenge), "Content-Type": "application/json"}
        async with session.post(str(slack.bot_url), data=challenge, headers=headers) as answered:
            assert "abc" in await answered.text()


async def test_an_event_is_acknowledged_while_redis_hangs(
    slack: FakeSlack, start_slack: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start_slack() as conversation:

        async def hang(*_: object) -> bool:
            await asyncio.sleep(60)
            return True

        monkeypatch.setattr(conversation.bus, "ask", hang)
        await SlackWorld(slack).person("ana").write("leave?")
        assert slack.unacked == 0
        assert len(slack.acks) == 1


async def test_a_refreshed_connection_loses_no_question(
    slack: FakeSlack, start_slack: Start, worker: ScriptedWorker
) -> None:
    async with start_slack():
        ana = SlackWorld(slack).person("ana")
        await ana.write("How much leave do I get?")
        await slack.refresh()
        await ana.write("May I bring my parrot?")
        await answer(ana, LEAVE.strip())
        await answer(ana, "I find nothing about that")
        assert len(answers(ana)) == 2


async def test_edits_deletions_joins_and_bots_are_no_questions(
    slack: FakeSlack, start_slack: Start, worker: ScriptedWorker
) -> None:
    async with start_slack():
        ana = SlackWorld(slack).person("ana")
        dm = slack.dm_of(ana.id)
        for more in (
            {"subtype": "message_changed", "message": {"text": "leave?", "user": ana.id}},
            {"subtype": "message_deleted", "previous_message": {"text": "leave?"}},
            {"subtype": "channel_join"},
            {"bot_id": "B0OTHER"},
        ):
            await slack.say(ana.id, dm, "leave?", **more)
        await slack.event({"type": "reaction_added", "user": ana.id})
        await ana.write("How much leave do I get?")
        await answer(ana, LEAVE.strip())
        assert worker.answered == ["How much leave do I get?"]


async def test_without_redis_every_question_gets_an_apology_at_once(
    slack: FakeSlack, start_slack: Start, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    async with start_slack() as conversation:
        conversation.bus._redis.connection_pool.connection_kwargs["path"] = "/nowhere"
        conversation.bus._redis.connection_pool.reset()
        ana = SlackWorld(slack).person("ana")
        await ana.write("a secret question")
        await answer(ana, "I cannot take questions at the moment")
    assert "secret" not in caplog.text
