"""Talking in Teams: what people see, and that Teams' rules are kept while they see it."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from botbuilder.schema import Activity

from bots import wording
from bots.conversation import Answer
from bots.teams.adapter import TeamsAdapter
from bots.teams.bot import plain_text
from bots.teams.connector import Connector
from bots.teams.desk import Desk
from bots.teams.place import Place
from bots.teams.surface import TeamsSurface
from quantahr.messages import Delta, Final, Question
from quantahr.settings import Settings, Teams
from quantahr.store import Store
from tests.fakes.fake_connector import BOT, FakeTeams, Message
from tests.fakes.people import answer, answers, until
from tests.fakes.scripted_worker import LEAVE, SENSITIVE, ScriptedWorker, Step
from tests.fakes.stream_rules import stream_info
from tests.fakes.teams_bot import PACE, teams_bot
from tests.fakes.teams_world import CHANNEL, TeamsWorld


@pytest.fixture
async def world(teams: FakeTeams, settings: Settings, store: Store) -> AsyncIterator[TeamsWorld]:
    async with teams_bot(settings, store, teams):
        yield TeamsWorld(teams)
    assert teams.refused == []


async def test_an_answer_grows_in_a_personal_chat_by_the_rules_of_streaming(
    world: TeamsWorld, worker: ScriptedWorker, teams: FakeTeams
) -> None:
    ana = world.person("ana")
    await ana.write("How much leave do I get?")
    shown = await answer(ana, LEAVE.strip())
    (stream,) = teams.rules.streams.values()
    kinds = [kind for kind, _ in stream.steps]
    assert kinds[0] == "informative"
    assert kinds[-1] == "final"
    assert shown.id == stream.id
    assert shown.raw.activity["channelData"]["feedbackLoop"] == {"type": "default"}


async def test_the_answer_says_that_an_ai_wrote_it_and_cites_its_source(
    world: TeamsWorld, worker: ScriptedWorker
) -> None:
    ana = world.person("ana")
    await ana.write("How much leave do I get?")
    shown = await answer(ana, LEAVE.strip())
    entity = next(one for one in shown.raw.activity["entities"] if one["type"] == "https://schema.org/Message")
    assert entity["additionalType"] == ["AIGeneratedContent"]
    (claim,) = entity["citation"]
    assert claim["position"] == 1
    assert "[1]" in shown.text
    assert claim["appearance"]["name"] == "Leave.docx: Annual leave > Entitlement"
    assert "30 days" in claim["appearance"]["abstract"]


async def test_a_channel_gets_one_message_in_the_thread_and_no_stream(
    world: TeamsWorld, worker: ScriptedWorker, teams: FakeTeams
) -> None:
    ana = world.person("ana")
    thread = await ana.write("How much leave do I get?", "channel")
    shown = await answer(ana, LEAVE.strip(), "channel")
    assert shown.thread == thread
    assert teams.rules.streams == {}
    assert teams.typing[thread] == 1
    assert not any(entity["type"] == "mention" for entity in shown.raw.activity["entities"])


async def test_a_channel_message_that_does_not_mention_the_bot_is_left_alone(
    world: TeamsWorld, worker: ScriptedWorker, teams: FakeTeams
) -> None:
    ana = world.person("ana")
    await teams.say(ana.id, CHANNEL, "How much leave do I get?")
    await ana.write("May I bring my parrot?", "channel")
    await answer(ana, "I find nothing about that")
    assert worker.answered == ["May I bring my parrot?"]


async def test_the_welcome_comes_once_however_often_teams_tells_of_the_installation(
    world: TeamsWorld, teams: FakeTeams
) -> None:
    ana = world.person("ana")
    chat = teams.personal(ana.id).id
    await teams.deliver(teams.activity(ana.id, chat, type="installationUpdate", action="add"))
    await teams.deliver(
        teams.activity(ana.id, chat, type="conversationUpdate", membersAdded=[{"id": BOT}, {"id": ana.id}])
    )
    shown = await answer(ana, wording.WELCOME)
    card = shown.raw.card()
    assert [action["title"] for action in card["actions"]] == list(wording.PROMPTS)
    assert wording.NOTICE in shown.text


async def test_after_a_removal_nothing_is_sent_and_a_new_installation_is_welcomed_again(
    world: TeamsWorld, teams: FakeTeams, store: Store
) -> None:
    ana = world.person("ana")
    chat = teams.personal(ana.id)
    await teams.deliver(teams.activity(ana.id, chat.id, type="installationUpdate", action="add"))
    await answer(ana, wording.WELCOME)
    await teams.deliver(teams.activity(ana.id, chat.id, type="installationUpdate", action="remove"))
    reference = store.reference("teams", chat.tenant, chat.id)
    assert reference is not None
    assert not reference.reachable
    await teams.deliver(teams.activity(ana.id, chat.id, type="installationUpdate", action="add"))
    await until(lambda: len(answers(ana)) == 2)


async def test_a_stop_by_the_user_ends_the_generation_in_the_worker(
    settings: Settings, store: Store, teams: FakeTeams, worker: ScriptedWorker
) -> None:
    async with teams_bot(settings, store, teams):
        ana = TeamsWorld(teams).person("ana")
        await ana.write("slow please")
        await until(lambda: any("Sentence 1." in one.text for one in ana.sees() if one.by_bot))
        (stream,) = teams.rules.streams.values()
        stream.canceled = True
        await until(lambda: worker.answered == ["slow please"])
        await until(lambda: _idle(teams, 0.5))
    assert set(teams.refused) == {(403, "ContentStreamNotAllowed")}
    assert len(teams.refused) == 1, "after a Stop nothing more is sent"


async def test_a_stream_is_closed_in_time_and_its_message_completed_by_an_update(
    settings: Settings, store: Store, teams: FakeTeams
) -> None:
    def slowly(question: Question, store: Store) -> Iterator[Step]:
        for number in range(30):
            yield Delta(text=f"Sentence {number}. ")
            yield 0.1

    worker = ScriptedWorker(settings, store, slowly)
    worker.start()
    async with teams_bot(settings, store, teams, stream_seconds=1.2):
        ana = TeamsWorld(teams).person("ana")
        await ana.write("How much leave do I get?")
        stream = await until(lambda: next(iter(teams.rules.streams.values()), None))
        await until(lambda: stream.ended)
        assert "Sentence 29." not in answers(ana)[0].text
        shown = await answer(ana, "Sentence 29.")
    worker.stop()
    assert shown.id == stream.id
    assert shown.raw.updates == 1
    assert len(answers(ana)) == 1
    assert teams.refused == []


async def test_two_questions_in_one_chat_share_one_stream_at_most(
    world: TeamsWorld, worker: ScriptedWorker, teams: FakeTeams
) -> None:
    ana = world.person("ana")
    await asyncio.gather(ana.write("How much leave do I get?"), ana.write("May I bring my parrot?"))
    await answer(ana, LEAVE.strip())
    await answer(ana, "I find nothing about that")


async def test_a_chat_that_cannot_stream_gets_its_answer_as_one_message(
    settings: Settings, store: Store, teams: FakeTeams, worker: ScriptedWorker
) -> None:
    async with teams_bot(settings, store, teams):
        ana = TeamsWorld(teams).person("ana")
        chat = teams.personal(ana.id)
        teams.rules.step(chat.id, "personal", _foreign_step(), "another")
        await ana.write("How much leave do I get?")
        shown = await answer(ana, LEAVE.strip())
    assert shown.id != "another"
    assert stream_info(shown.raw.activity) is None


async def test_the_private_answer_opens_a_chat_for_somebody_the_bot_has_never_met(
    world: TeamsWorld, worker: ScriptedWorker, teams: FakeTeams
) -> None:
    ana, ben = world.person("ana"), world.person("ben")
    await ana.write("my boss harasses me", "channel")
    await answer(ana, SENSITIVE, "private")
    await answer(ben, wording.ELSEWHERE, "channel")
    assert any(method == "POST" and not chat for method, chat, _ in teams.requests)


async def test_without_a_private_chat_the_channel_learns_nothing_but_where_to_ask(
    settings: Settings, store: Store, teams: FakeTeams, worker: ScriptedWorker
) -> None:
    async with teams_bot(settings, store, teams):
        teams.no_new_chats = True
        ana = TeamsWorld(teams).person("ana")
        await ana.write("my boss harasses me", "channel")
        await answer(ana, wording.WRITE_TO_ME, "channel")
        assert not any(SENSITIVE in str(body) for _, _, body in teams.requests)


async def test_two_tenants_with_the_same_conversation_and_user_ids_are_kept_apart(
    settings: Settings, store: Store, teams: FakeTeams, worker: ScriptedWorker
) -> None:
    async with teams_bot(settings, store, teams, app_type="MultiTenant"):
        first = teams.personal("29:ana")
        other = teams.personal("29:ana", "77777777-8888-4777-8666-555555555555")
        one = teams.activity("29:ana", first.id, type="message", text="How much leave do I get?")
        two = teams.activity("29:ana", other.id, type="message", text="and for part-timers?") | {"id": one["id"]}
        await teams.deliver(one)
        await until(lambda: _said(teams, first.id, LEAVE))
        await teams.deliver(two)
        await until(lambda: _said(teams, other.id, "Following []"))


async def test_an_activity_of_another_tenant_is_left_alone(
    world: TeamsWorld, worker: ScriptedWorker, teams: FakeTeams
) -> None:
    other = teams.personal("29:eve", "77777777-8888-4777-8666-555555555555")
    await teams.deliver(teams.activity("29:eve", other.id, type="message", text="How much leave do I get?"))
    ana = world.person("ana")
    await ana.write("May I bring my parrot?")
    await answer(ana, "I find nothing about that")
    assert worker.answered == ["May I bring my parrot?"]


async def test_a_thumb_with_a_reason_is_kept(
    world: TeamsWorld, worker: ScriptedWorker, store: Store, teams: FakeTeams
) -> None:
    from sqlalchemy import select

    from quantahr.store.tables import FeedbackRow

    ana = world.person("ana")
    await ana.write("How much leave do I get?")
    shown = await answer(ana, LEAVE.strip())
    assert (
        await teams.rate(ana.id, shown.raw, "dislike", '{"feedbackText": "out of date", "reasons": ["wrong"]}') == 200
    )
    with store.session() as session:
        (row,) = session.scalars(select(FeedbackRow))
    assert (row.rating, row.comment, row.reasons) == (-1, "out of date", ["wrong"])


async def test_a_button_of_a_client_without_execute_is_answered_by_a_text(
    world: TeamsWorld, worker: ScriptedWorker, teams: FakeTeams
) -> None:
    ana = world.person("ana")
    await ana.write("May I bring my parrot?")
    shown = await answer(ana, "I find nothing about that")
    question = str(_fallback(shown.raw)["question"])
    chat = teams.personal(ana.id).id
    value = {"verb": "escalate", "question": question}
    await teams.deliver(teams.activity(ana.id, chat, type="message", value=value, replyToId=shown.id))
    await answer(ana, wording.SENT_TO_HR)


async def test_an_unknown_invoke_is_answered_as_not_implemented(world: TeamsWorld, teams: FakeTeams) -> None:
    ana = world.person("ana")
    chat = teams.personal(ana.id).id
    status, _ = await teams.deliver(teams.activity(ana.id, chat, type="invoke", name="task/fetch", value={}))
    assert status == 501


async def test_a_file_without_words_gets_a_fitting_line(world: TeamsWorld, teams: FakeTeams) -> None:
    ana = world.person("ana")
    files = [{"contentType": "application/vnd.microsoft.teams.file.download.info", "name": "payslip.pdf"}]
    await teams.say(ana.id, teams.personal(ana.id).id, "", attachments=files)
    await answer(ana, wording.NO_FILES)


def _fallback(message: Message) -> dict[str, object]:
    from tests.fakes.teams_world import _action, _elements

    card = message.card() or {}
    opened = next(one for one in _elements(card) if one.get("id") == "consent")
    fallback = _action(opened, "escalate")["fallback"]
    assert fallback["type"] == "Action.Submit"
    return dict(fallback["data"])


def _said(teams: FakeTeams, chat: str, text: str) -> bool:
    return any(
        text.strip() in one.text and not one.growing
        for one in teams.messages
        if one.conversation == chat and one.sender == BOT
    )


def _foreign_step() -> dict[str, object]:
    info = {"streamType": "informative", "streamSequence": 1}
    return {"type": "typing", "text": "…", "entities": [{"type": "streaminfo", **info}], "channelData": info}


def _idle(teams: FakeTeams, seconds: float) -> bool:
    count = getattr(teams, "_seen_requests", (-1, 0.0))
    now = asyncio.get_running_loop().time()
    if count[0] != len(teams.requests):
        teams._seen_requests = (len(teams.requests), now)  # type: ignore[attr-defined]
        return False
    return bool(now - count[1] > seconds)


async def test_a_step_that_waits_for_its_turn_never_follows_the_end_of_its_stream(
    teams: FakeTeams, settings: Settings, store: Store
) -> None:
    async with teams_bot(settings, store, teams) as conversation:
        adapter = TeamsAdapter(Teams.model_validate(teams.settings), teams.password)
        desk = Desk(settings, conversation, Connector(adapter, _nobody), pace=PACE + 0.03)
        place = Place.of(Activity().deserialize(teams.activity("29:ana", teams.personal("29:ana").id, type="message")))
        for number in range(8):
            surface = TeamsSurface(desk, place, f"question-{number}")
            await surface.status("Looking…")
            await surface.show("You get ")
            await asyncio.sleep(desk.pace + number * 0.002 - 0.008)  # about when the step is due
            await surface.finish(Answer(f"question-{number}", Final(verdict="answered", text="You get 30 days.")))
            await asyncio.sleep(desk.pace)
        await adapter.close()
    assert teams.refused == []
    assert len(teams.messages) == 8
    assert not teams.typing


async def _nobody(place: Place) -> None:
    raise AssertionError("nobody removed the bot")


async def test_in_development_mode_the_bot_talks_without_anybodys_tokens(
    teams: FakeTeams, settings: Settings, store: Store, worker: ScriptedWorker
) -> None:
    teams.anonymous = True
    async with teams_bot(settings, store, teams, app_id="", tenant_id="", development=True, service_urls=[]):
        ana = TeamsWorld(teams).person("ana")
        await ana.write("How much leave do I get?")
        await answer(ana, LEAVE.strip())
    assert teams.refused == []
    assert teams.identity.token_requests == teams.identity.key_requests == 0


async def test_a_group_chat_is_answered_when_it_mentions_the_bot(
    world: TeamsWorld, teams: FakeTeams, worker: ScriptedWorker
) -> None:
    ana, ben = world.person("ana"), world.person("ben")
    group = teams.channel("19:lunch@thread.v2", ana.id, ben.id, kind="groupChat").id
    await teams.say(ana.id, group, "How much leave do I get?")
    await teams.say(ana.id, group, "May I bring my parrot?", mention=True)
    await answer(ben, "I find nothing about that", "channel")
    await teams.say(ana.id, group, "my boss harasses me", mention=True)
    await answer(ana, SENSITIVE, "private")
    await answer(ben, wording.ELSEWHERE, "channel")
    assert teams.rules.streams == {}
    assert worker.answered == ["May I bring my parrot?", "my boss harasses me"]


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("<at>QuantaHR</at> how many days?", "how many days?"),
        ("<at>QuantaHR</at>&nbsp;pay &amp; bonus", "pay & bonus"),
        ("ask <at>QuantaHR</at> about 5 &lt; 6", "ask about 5 < 6"),
        ("first line\nsecond line", "first line\nsecond line"),
        (None, ""),
    ],
)
def test_a_question_is_read_without_the_mention_and_without_html(sent: str | None, read: str) -> None:
    mention = {"type": "mention", "mentioned": {"id": BOT}, "text": "<at>QuantaHR</at>"}
    told = {"type": "message", "text": sent, "recipient": {"id": BOT}, "entities": [mention]}
    assert plain_text(Activity().deserialize(told)) == read
