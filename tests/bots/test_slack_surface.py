"""One answer on Slack whatever happens to the bot, the stream or the message."""

from typing import Any

import pytest
from slack_sdk.web.async_client import AsyncWebClient

from bots.conversation import Answer, SurfaceGoneError
from bots.slack import limits, surface
from bots.slack.limits import Workspace
from bots.slack.surface import SlackSurface
from quantahr.messages import Final
from tests.fakes.fake_slack import BOT_TOKEN, TEAM, FakeSlack
from tests.fakes.scripted_worker import SOURCE
from tests.fakes.slack_shapes import Message

TEXT = "You get 30 days of leave. Five of them may be carried over. [1]"
END = Answer("q1", Final(verdict="answered", text=TEXT, sources=(SOURCE,)))


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surface, "PACE_SECONDS", 0.0)
    monkeypatch.setattr(limits, "PACE_SECONDS", 0.0)


async def _place(slack: FakeSlack) -> dict[str, Any]:
    dm = slack.dm_of("UANA")
    asked = Message(dm, "1.000001", "UANA", "leave?")
    slack.messages.append(asked)
    return {"question": "q1", "kind": "dm", "team": TEAM, "channel": dm, "user": "UANA", "thread": asked.ts}


def _surface(slack: FakeSlack, address: Any, *, resumed: bool = False) -> SlackSurface:
    client = AsyncWebClient(token=BOT_TOKEN, base_url=slack.api_url)
    return SlackSurface(address, client=client, painter=client, workspace=Workspace(), resumed=resumed)


def _by_bot(slack: FakeSlack) -> list[Message]:
    return [message for message in slack.messages if message.user != "UANA"]


def _words(message: Message) -> str:
    markdown = [block["text"] for block in message.blocks if block["type"] == "markdown"]
    return markdown[0] if markdown else message.text


@pytest.mark.parametrize("shown", ["", "You get 30 days", TEXT])
async def test_a_restarted_bot_goes_on_with_the_same_message(slack: FakeSlack, shown: str) -> None:
    first = _surface(slack, await _place(slack))
    await first.status("Looking…")
    if shown:
        await first.show(shown)
    second = _surface(slack, dict(first.address), resumed=True)
    await second.show("You get 30")
    await second.show(TEXT)
    await second.finish(END)
    assert [_words(message) for message in _by_bot(slack)] == [TEXT]
    assert not any(message.streaming for message in slack.messages)


@pytest.mark.parametrize("shown", ["", "You get 30 days"])
async def test_finishing_twice_gives_one_answer(slack: FakeSlack, shown: str) -> None:
    first = _surface(slack, await _place(slack))
    if shown:
        await first.show(shown)
    await first.finish(END)
    await _surface(slack, dict(first.address), resumed=True).finish(END)
    assert [_words(message) for message in _by_bot(slack)] == [TEXT]


async def test_a_long_answer_finished_twice_is_still_there_once(slack: FakeSlack) -> None:
    long = Answer("q1", Final(verdict="quoted", text="A sentence of the handbook. " * 800))
    place = await _place(slack)
    await _surface(slack, place).finish(long)
    pieces = [_words(message) for message in _by_bot(slack)]
    await _surface(slack, place, resumed=True).finish(long)
    assert [_words(message) for message in _by_bot(slack)] == pieces
    assert len(pieces) == 3


async def test_a_stream_that_slack_has_ended_is_finished_by_an_update(slack: FakeSlack) -> None:
    slack.stream_seconds = 0.0
    shown = _surface(slack, await _place(slack))
    await shown.show("You get 30 days")
    await shown.show("You get 30 days of leave.")
    await shown.finish(END)
    assert [_words(message) for message in _by_bot(slack)] == [TEXT]
    assert ("chat.appendStream", "message_not_in_streaming_state") in slack.refused


async def test_what_arrives_during_a_call_is_not_lost(slack: FakeSlack, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = _surface(slack, await _place(slack))
    await shown.show("You get")
    append = AsyncWebClient.chat_appendStream

    async def meanwhile(self: AsyncWebClient, **arguments: Any) -> Any:
        shown._text = "You get 30 days of leave."
        return await append(self, **arguments)

    monkeypatch.setattr(AsyncWebClient, "chat_appendStream", meanwhile)
    await shown.show("You get 30")
    await shown.finish(END)
    assert [_words(message) for message in _by_bot(slack)] == [TEXT]


async def test_a_second_attempt_with_other_words_replaces_the_first(slack: FakeSlack) -> None:
    shown = _surface(slack, await _place(slack))
    await shown.show("You get 30 days")
    await shown.show("Thirty days of leave are yours, it says.")
    await shown.finish(END)
    assert [_words(message) for message in _by_bot(slack)] == [TEXT]


async def test_a_message_that_somebody_deleted_is_posted_anew(slack: FakeSlack) -> None:
    shown = _surface(slack, await _place(slack))
    await shown.show("You get 30 days")
    _by_bot(slack)[0].deleted = True
    await shown.finish(END)
    assert [_words(message) for message in _by_bot(slack) if not message.deleted] == [TEXT]


async def test_more_than_a_call_takes_is_not_streamed_but_arrives(slack: FakeSlack) -> None:
    text = "A sentence of the handbook. " * 600
    shown = _surface(slack, await _place(slack))
    await shown.show(text[:8000])
    await shown.show(text)
    await shown.finish(Answer("q1", Final(verdict="quoted", text=text)))
    assert " ".join(_words(message) for message in _by_bot(slack)).split() == text.split()
    assert slack.refused == []


@pytest.mark.parametrize("error", ["channel_not_found", "not_in_channel"])
async def test_where_nobody_can_be_reached_the_delivery_ends(slack: FakeSlack, error: str) -> None:
    place = await _place(slack)
    place["channel"] = "CNOWHERE" if error == "channel_not_found" else slack.channel("CCLOSED", with_bot=False)
    shown = _surface(slack, place)
    await shown.status("Looking…")
    await shown.show(TEXT)
    with pytest.raises(SurfaceGoneError):
        await shown.finish(END)


async def test_a_status_is_cleared_even_if_the_answer_fails(slack: FakeSlack) -> None:
    shown = _surface(slack, await _place(slack))
    await shown.status("Looking…")
    slack.unknown = {"chat.postMessage"}
    with pytest.raises(Exception, match="unknown_method"):
        await shown.finish(END)
    assert slack.statuses == {}


async def test_an_old_workspace_gets_a_stop_button_and_then_the_answer(slack: FakeSlack) -> None:
    slack.old()
    shown = _surface(slack, await _place(slack))
    await shown.status("Looking…")
    assert "stop" in str(_by_bot(slack)[0].blocks)
    await shown.show("You get 30 days")
    await shown.finish(END)
    assert len(_by_bot(slack)) == 1
    assert "'stop'" not in str(_by_bot(slack)[0].blocks)
    assert TEXT in str(_by_bot(slack)[0].blocks)
