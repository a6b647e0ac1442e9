"""The same conversations on every platform: what holds on one has to hold on all."""

import pytest

from bots import wording
from quantahr.store import Store
from tests.fakes.people import Where, World, answer, answers, until
from tests.fakes.scripted_worker import CLOSEST, LEAVE, LONG, SENSITIVE, SOURCE, ScriptedWorker

WHERES: list[Where] = ["private", "channel"]


@pytest.mark.parametrize("where", WHERES)
async def test_a_question_is_answered_with_its_source(world: World, worker: ScriptedWorker, where: Where) -> None:
    ana = world.person("ana")
    thread = await ana.write("How much leave do I get?", where)
    shown = await answer(ana, LEAVE.strip(), where)
    assert shown.thread == thread
    assert "Leave.docx" in shown.sources
    assert "Annual leave › Entitlement" in shown.sources
    assert "abc123def456" in shown.sources
    assert "<b>nobody</b>" in shown.text
    assert "<!channel>" in shown.text
    # In Teams a mention takes an entity (test_teams_talk.py); in Slack the words do it.
    assert world.platform == "teams" or "@here" not in shown.text, "a document cannot ping a channel"


async def test_the_passage_unfolds(world: World, worker: ScriptedWorker) -> None:
    ana = world.person("ana")
    await ana.write("How much leave do I get?")
    await ana.press("sources", await answer(ana, LEAVE.strip()))
    assert "may carry over five" in await ana.unfolded()


@pytest.mark.parametrize("where", WHERES)
async def test_a_follow_up_needs_no_mention_and_knows_what_it_follows(
    world: World, worker: ScriptedWorker, where: Where
) -> None:
    ana = world.person("ana")
    thread = await ana.write("How much leave do I get?", where)
    await answer(ana, LEAVE.strip(), where)
    await ana.write("and for part-timers?", where, thread)
    shown = await answer(ana, "half of it", where)
    assert "How much leave do I get?" in shown.text


async def test_what_no_document_says_is_not_made_up_and_the_closest_passage_is_there(
    world: World, worker: ScriptedWorker
) -> None:
    ana = world.person("ana")
    await ana.write("May I bring my parrot?")
    shown = await answer(ana, "I find nothing about that")
    assert shown.sources == ""
    assert "human" in shown.buttons
    await ana.press("closest", shown)
    assert CLOSEST.passage in await ana.unfolded()


async def test_a_sensitive_answer_in_a_channel_is_for_the_asker_only(world: World, worker: ScriptedWorker) -> None:
    ana, ben = world.person("ana"), world.person("ben")
    await ana.write("my boss harasses me", "channel")
    private = await answer(ana, SENSITIVE, "private")
    assert "human" not in private.buttons
    await answer(ben, wording.ELSEWHERE, "channel")
    assert not any(SENSITIVE in shown.text for shown in ben.sees())


async def test_feedback_is_kept(world: World, worker: ScriptedWorker, store: Store) -> None:
    ana = world.person("ana")
    await ana.write("How much leave do I get?")
    await ana.press("down", await answer(ana, LEAVE.strip()))
    await until(lambda: [shown for shown in answers(ana) if wording.THANKS_DOWN in shown.text])
    assert _ratings(store) == [-1]


async def test_a_human_answers_when_the_asker_agrees(world: World, worker: ScriptedWorker) -> None:
    ana, ben, hr = world.person("ana"), world.person("ben"), world.person("hr_hanna")
    await ana.write("May I bring my parrot?", "channel")
    await ana.press("human", await answer(ana, "I find nothing about that", "channel"))
    await answer(ana, wording.SENT_TO_HR, "private")
    await until(lambda: any("May I bring my parrot?" in shown.text for shown in hr.sees() if shown.by_bot))
    await hr.answer_as_hr("Yes, on Fridays & <only> then.")
    reply = await answer(ana, "Yes, on Fridays & <only> then.", "private")
    assert wording.HR_ANSWERED in reply.text
    assert not any("Fridays & <only>" in shown.text for shown in ben.sees())


async def test_stop_ends_the_answer_in_the_worker(world: World, worker: ScriptedWorker) -> None:
    ana = world.person("ana")
    await ana.write("slow please")
    await until(lambda: any("Sentence 1." in shown.text for shown in ana.sees() if shown.by_bot))
    await ana.write("stop")
    shown = await answer(ana, "Sentence 0.")
    assert wording.STOPPED in shown.text
    assert "Sentence 199" not in shown.text
    assert worker.answered == ["slow please"]


@pytest.mark.parametrize("patience", [2])
async def test_without_a_worker_there_is_an_apology(world: World) -> None:
    ana = world.person("ana")
    await ana.write("How much leave do I get?")
    await answer(ana, "I could not get to your question in time")


async def test_a_long_answer_arrives_whole_and_in_order(world: World, worker: ScriptedWorker) -> None:
    ana = world.person("ana")
    await ana.write("a long one")
    await until(lambda: any("Rule 100:" in shown.text for shown in answers(ana)))
    words = " ".join(shown.text for shown in answers(ana)).split()
    assert words == LONG.split()
    assert "Leave.docx" in answers(ana)[-1].sources


async def test_an_event_that_comes_twice_is_answered_once(world: World, worker: ScriptedWorker) -> None:
    ana = world.person("ana")
    await ana.write("How much leave do I get?")
    await world.deliver_again()
    await answer(ana, LEAVE.strip())
    await world.deliver_again()
    await ana.write("May I bring my parrot?")
    await answer(ana, "I find nothing about that")
    assert len([shown for shown in answers(ana) if LEAVE.strip() in shown.text]) == 1
    assert worker.answered.count("How much leave do I get?") == 1


async def test_two_people_never_see_each_others_private_answers(world: World, worker: ScriptedWorker) -> None:
    ana, ben = world.person("ana"), world.person("ben")
    await ana.write("How much leave do I get?")
    await ben.write("May I bring my parrot?")
    await answer(ana, LEAVE.strip())
    await answer(ben, "I find nothing about that")
    assert not any(SOURCE.document in shown.sources for shown in ben.sees())
    assert len(answers(ana)) == len(answers(ben)) == 1


def _ratings(store: Store) -> list[int]:
    from sqlalchemy import select

    from quantahr.store.tables import FeedbackRow

    with store.session() as session:
        return list(session.scalars(select(FeedbackRow.rating)))
