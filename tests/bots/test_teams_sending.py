"""Sending to Teams: rates kept, passing failures waited out, lasting ones told apart; and what is said unasked."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from bots import wording
from bots.outbox import Retry, Sent, Undeliverable
from bots.teams import activities
from bots.teams.adapter import TeamsAdapter
from bots.teams.connector import Connector, GoneError, RefusedError, UnavailableError
from bots.teams.place import Place
from bots.teams.rates import LIMITS, Rates
from quantahr.settings import Settings, Teams
from quantahr.store import Delivery, Store
from tests.fakes.fake_connector import BOT, FakeTeams
from tests.fakes.fake_identity import TENANT
from tests.fakes.people import answer, answers, until
from tests.fakes.scripted_worker import LEAVE, ScriptedWorker
from tests.fakes.teams_bot import teams_bot
from tests.fakes.teams_world import HR_CHANNEL, TeamsWorld


class Sending:
    """A connector to the fake; `slept` are its pauses, `gone` the places it gave up."""

    def __init__(self, teams: FakeTeams) -> None:
        self.slept: list[float] = []
        self.gone: list[Place] = []
        self.adapter = TeamsAdapter(Teams.model_validate(teams.settings), teams.password)
        self.connector = Connector(self.adapter, self._lost, sleep=self._sleep)

    async def _lost(self, place: Place) -> None:
        self.gone.append(place)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture
async def sending(teams: FakeTeams) -> AsyncIterator[Sending]:
    made = Sending(teams)
    yield made
    await made.adapter.close()


def _place(teams: FakeTeams, **changed: Any) -> Place:
    chat = teams.personal("29:ana")
    fields = {
        "service_url": teams.service_url,
        "conversation": chat.id,
        "tenant": TENANT,
        "kind": "personal",
        "bot": BOT,
        "member": "29:ana",
        "user": "aad-29:ana",
    }
    return Place.load(fields | changed)


@pytest.mark.parametrize("status", [412, 429, 500, 502, 503, 504])
async def test_a_passing_failure_is_tried_again(teams: FakeTeams, sending: Sending, status: int) -> None:
    teams.failures = [(status, {}), (status, {})]
    place = _place(teams)
    assert await sending.connector.send(place, activities.message(place, "hello"))
    assert [one.text for one in teams.messages] == ["hello"]
    assert len(sending.slept) == 2
    assert sending.slept[1] > 1.9, "the pauses grow"


async def test_teams_own_pause_is_kept(teams: FakeTeams, sending: Sending) -> None:
    teams.failures = [(429, {"Retry-After": "7"})]
    place = _place(teams)
    await sending.connector.send(place, activities.message(place, "hello"))
    (pause,) = sending.slept
    assert 7.0 <= pause <= 7.5


async def test_a_failure_that_does_not_pass_is_named(teams: FakeTeams, sending: Sending) -> None:
    teams.failures = [(502, {})] * 5
    place = _place(teams)
    with pytest.raises(UnavailableError, match="502"):
        await sending.connector.send(place, activities.message(place, "hello"))
    assert teams.messages == []


async def test_a_revoked_token_is_replaced(teams: FakeTeams, sending: Sending) -> None:
    place = _place(teams)
    await sending.connector.send(place, activities.message(place, "one"))
    teams.identity.revoke()
    await sending.connector.send(place, activities.message(place, "two"))
    assert [one.text for one in teams.messages] == ["one", "two"]
    assert teams.identity.token_requests == 2


@pytest.mark.parametrize("code", ["BotNotInConversationRoster", "BotDisabledByAdmin"])
async def test_a_bot_that_was_removed_stops_at_once(teams: FakeTeams, sending: Sending, code: str) -> None:
    place = _place(teams)
    teams.personal("29:ana").removed = code
    with pytest.raises(GoneError, match=code):
        await sending.connector.send(place, activities.message(place, "hello"))
    assert sending.gone == [place]
    assert sending.slept == []


async def test_a_message_that_is_too_big_is_refused_and_not_repeated(teams: FakeTeams, sending: Sending) -> None:
    place = _place(teams)
    with pytest.raises(RefusedError) as caught:
        await sending.connector.send(place, activities.message(place, "x" * 30_000))
    assert (caught.value.status, caught.value.canceled) == (413, False)
    assert len(teams.requests) == 1


async def test_nothing_is_sent_to_a_service_that_is_not_teams(teams: FakeTeams, sending: Sending) -> None:
    place = _place(teams, service_url="https://evil.example/")
    with pytest.raises(RefusedError, match="serviceUrl"):
        await sending.connector.send(place, activities.message(place, "hello"))
    assert teams.identity.token_requests == 0


async def test_a_burst_is_spread_over_the_seconds_that_teams_allows() -> None:
    now = 1000.0
    sent: list[float] = []

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    rates = Rates(clock=lambda: now, sleep=sleep)
    for _ in range(200):
        await rates.wait("a:1")
        sent.append(now)
    for most, seconds in LIMITS:
        for first, beyond in zip(sent, sent[most:], strict=False):
            assert beyond - first >= seconds


async def test_one_busy_conversation_holds_up_no_other() -> None:
    paused: list[float] = []

    async def sleep(seconds: float) -> None:
        paused.append(seconds)

    rates = Rates(clock=lambda: 0.0, sleep=sleep)
    for number in range(50):
        await rates.wait(f"a:{number}")
    assert paused == []


@pytest.mark.parametrize("size", [200, 20_000, 60_000])
async def test_a_text_of_any_size_arrives_whole_in_messages_that_teams_takes(
    teams: FakeTeams, sending: Sending, size: int
) -> None:
    words = [f"Wörter-{number}-漢字" for number in range(size // 15)]
    place = _place(teams)
    for piece in activities.split(" ".join(words)):
        await sending.connector.send(place, activities.message(place, piece))
    assert " ".join(one.text for one in teams.messages).split() == words
    assert teams.refused == []


async def test_messages_of_the_outbox_arrive_in_order_and_once(
    settings: Settings, store: Store, teams: FakeTeams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bots.outbox.LOOK_SECONDS", 0.1)
    async with teams_bot(settings, store, teams) as conversation:
        place = _place(teams)
        for number in range(5):
            store.queue_message(f"m-{number}", "teams", place.dump(), "text", {"text": f"line {number}"})
        teams.failures = [(429, {"Retry-After": "0.2"}), (502, {})]
        await conversation.bus.announce("qhr:outbox")
        await until(lambda: len(teams.messages) == 5)
        assert [one.text for one in teams.messages] == [f"line {number}" for number in range(5)]


async def test_what_was_sent_before_a_crash_is_not_sent_again(
    settings: Settings, store: Store, teams: FakeTeams
) -> None:
    from bots.teams.desk import Desk
    from bots.teams.proactive import Deliveries

    async with teams_bot(settings, store, teams) as conversation:
        sending = Sending(teams)
        deliveries = Deliveries(Desk(settings, conversation, sending.connector))
        delivery = Delivery("x-1", "teams", _place(teams).dump(), "text", {"text": "once"}, 1)
        first = await deliveries.send(delivery)
        assert await deliveries.send(delivery) == first
        assert isinstance(first, Sent)
        assert [one.text for one in teams.messages] == ["once"]

        teams.failures = [(504, {"Retry-After": "9"})]
        waiting = Delivery("x-2", "teams", _place(teams).dump(), "text", {"text": "later"}, 1)
        assert await deliveries.send(waiting) == Retry("504", 9.0)

        teams.personal("29:ana").removed = "BotNotInConversationRoster"
        assert await deliveries.send(waiting) == Undeliverable("BotNotInConversationRoster")
        unknown = Delivery("x-3", "teams", {"user": "nobody"}, "text", {"text": "hi"}, 1)
        assert isinstance(await deliveries.send(unknown), Undeliverable)
        await sending.adapter.close()


async def test_a_removed_bot_is_recorded_and_sends_no_more_until_it_is_back(
    settings: Settings, store: Store, teams: FakeTeams, worker: ScriptedWorker
) -> None:
    async with teams_bot(settings, store, teams) as conversation:
        ana = TeamsWorld(teams).person("ana")
        await ana.write("How much leave do I get?")
        await answer(ana, LEAVE.strip())
        chat = teams.personal(ana.id)
        chat.removed = "BotNotInConversationRoster"
        address = {"tenant": TENANT, "user": f"aad-{ana.id}"}
        store.queue_message("n-1", "teams", address, "text", {"text": "Good news"})
        await conversation.bus.announce("qhr:outbox")
        await until(lambda: not _reachable(store, chat.id))
        chat.removed = ""
        await ana.write("May I bring my parrot?")
        await answer(ana, "I find nothing about that")
        assert _reachable(store, chat.id)
        store.queue_message("n-2", "teams", address, "text", {"text": "Good news"})
        await conversation.bus.announce("qhr:outbox")
        await answer(ana, "Good news")


async def test_hr_sees_who_asks_and_only_hr_may_reply(
    settings: Settings, store: Store, teams: FakeTeams, worker: ScriptedWorker
) -> None:
    async with teams_bot(settings, store, teams):
        world = TeamsWorld(teams)
        ana, hr = world.person("ana"), world.person("hr_hanna")
        await ana.write("May I bring my parrot?")
        await ana.press("human", await answer(ana, "I find nothing about that"))
        card = await until(lambda: [one for one in teams.messages if one.conversation.startswith(HR_CHANNEL)])
        (shown,) = [one for one in hr.sees() if one.raw is card[0]]
        assert "From Ana" in shown.text
        assert "May I bring my parrot?" in shown.text

        from tests.fakes.teams_world import _action

        action = _action(card[0].card(), "hr_reply")
        chat = teams.personal(ana.id)
        stolen = teams.activity(
            ana.id,
            chat.id,
            type="invoke",
            name="adaptiveCard/action",
            value={"action": {"type": "Action.Execute", "verb": "hr_reply", "data": {**action["data"], "reply": "me"}}},
        )
        _, refused = await teams.deliver(stolen)
        assert refused["value"] == wording.HR_ONLY

        empty = await teams.press(hr.id, card[0], action, reply="  ")
        assert empty["value"] == wording.EMPTY_REPLY
        await hr.answer_as_hr("Yes, on Fridays.")
        await answer(ana, "Yes, on Fridays.")
        await until(lambda: card[0].updates == 1)
        again = await teams.press(hr.id, card[0], action, reply="No!")
        assert again["value"] == wording.REPLY_TOO_LATE
        assert not [one for one in answers(ana) if "No!" in one.text]


async def test_the_hr_card_and_the_answers_card_refresh_in_place(
    settings: Settings, store: Store, teams: FakeTeams, worker: ScriptedWorker
) -> None:
    async with teams_bot(settings, store, teams):
        ana = TeamsWorld(teams).person("ana")
        await ana.write("May I bring my parrot?")
        shown = await answer(ana, "I find nothing about that")
        await ana.press("human", shown)
        refreshed = str(shown.raw.card(ana.id))
        assert wording.SENT_TO_HR in refreshed
        assert "escalate" not in refreshed
        assert "closest-1" in refreshed, "the passages stay"


def _reachable(store: Store, chat: str) -> bool:
    reference = store.reference("teams", TENANT, chat)
    return reference is not None and reference.reachable
