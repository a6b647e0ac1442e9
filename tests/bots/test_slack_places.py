"""Where the assistant speaks in Slack, to whom, and where it keeps silent."""

import asyncio
import json

import pytest

from bots import wording
from bots.slack.limits import PIECE
from quantahr.settings import Settings
from quantahr.store import Store
from tests.bots.conftest import Start
from tests.fakes.fake_slack import BOT, FakeSlack
from tests.fakes.people import answer, answers, until
from tests.fakes.scripted_worker import LEAVE, SENSITIVE, ScriptedWorker
from tests.fakes.slack_world import CHANNEL, SlackWorld


async def test_a_channel_that_is_off_gets_no_word_but_the_asker_is_told(
    slack: FakeSlack, start_slack: Start, worker: ScriptedWorker
) -> None:
    async with start_slack(channels={CHANNEL: "off"}):
        world = SlackWorld(slack)
        ana, ben = world.person("ana"), world.person("ben")
        await ana.write("How much leave do I get?", "channel")
        shown = await answer(ana, wording.OFF_HERE, "channel")
        assert shown.only_me
        assert answers(ben) == []
        assert worker.answered == []


@pytest.mark.parametrize("channels", [{CHANNEL: "ephemeral"}, {"default": "ephemeral"}])
async def test_in_an_ephemeral_channel_only_the_asker_sees_the_answer(
    slack: FakeSlack, start_slack: Start, worker: ScriptedWorker, channels: dict[str, str]
) -> None:
    async with start_slack(channels=channels):
        world = SlackWorld(slack)
        ana, ben = world.person("ana"), world.person("ben")
        await ana.write("How much leave do I get?", "channel")
        shown = await answer(ana, LEAVE.strip(), "channel")
        assert shown.only_me
        assert "Leave.docx" in shown.sources
        assert answers(ben) == []


async def test_in_a_channel_shared_with_another_company_answers_stay_inside(
    slack: FakeSlack, start_slack: Start, worker: ScriptedWorker
) -> None:
    async with start_slack():
        world = SlackWorld(slack)
        ana, stranger = world.person("ana"), world.person("stranger")
        slack.shared_channels.add(CHANNEL)
        await slack.say(stranger.id, CHANNEL, f"<@{BOT}> how much leave?", user_team="T0OTHER")
        await answer(stranger, wording.OUR_PEOPLE_ONLY, "channel")
        await ana.write("How much leave do I get?", "channel")
        assert (await answer(ana, LEAVE.strip(), "channel")).only_me
        assert len(answers(stranger)) == 1
        assert worker.answered == ["How much leave do I get?"]


async def test_without_a_mention_the_assistant_keeps_out_of_other_peoples_talk(
    slack: FakeSlack, start_slack: Start, worker: ScriptedWorker
) -> None:
    async with start_slack():
        world = SlackWorld(slack)
        ana, ben = world.person("ana"), world.person("ben")
        thread = await slack.say(ana.id, CHANNEL, "how much leave do we get?")
        await slack.say(ben.id, CHANNEL, "thirty days", thread)
        asked = await ana.write("How much leave do I get?", "channel")
        await answer(ana, LEAVE.strip(), "channel")
        await slack.say(ben.id, CHANNEL, f"<@{ana.id}> see?", asked)
        await ben.write("and for part-timers?", "channel", asked)
        await answer(ben, "half of it", "channel")
        assert worker.answered == ["How much leave do I get?", "and for part-timers?"]


async def test_slash_hr_answers_the_asker_only(slack: FakeSlack, start_slack: Start, worker: ScriptedWorker) -> None:
    async with start_slack():
        world = SlackWorld(slack)
        ana, ben = world.person("ana"), world.person("ben")
        assert await slack.slash(ana.id, CHANNEL, "How much leave do I get?") == wording.LOOKING
        shown = await answer(ana, LEAVE.strip(), "channel")
        assert shown.only_me
        assert "human" in shown.buttons
        assert await slack.slash(ana.id, CHANNEL, "help") == wording.HELP
        assert answers(ben) == []


async def test_a_sensitive_answer_to_slash_hr_stays_with_the_asker(
    slack: FakeSlack, start_slack: Start, worker: ScriptedWorker, store: Store
) -> None:
    async with start_slack():
        world = SlackWorld(slack)
        ana, ben = world.person("ana"), world.person("ben")
        await slack.slash(ana.id, CHANNEL, "my boss harasses me")
        assert (await answer(ana, SENSITIVE)).only_me
        assert answers(ben) == []


async def test_slash_hr_answers_in_a_dm_when_the_response_url_is_used_up(
    slack: FakeSlack, start_slack: Start, worker: ScriptedWorker
) -> None:
    async with start_slack():
        ana = SlackWorld(slack).person("ana")
        await slack.slash(ana.id, CHANNEL, "slow please")
        slack._responses = {name: (channel, user, 0) for name, (channel, user, _) in slack._responses.items()}
        await slack.slash(ana.id, CHANNEL, "stop")
        await answer(ana, wording.STOPPED, "private")


async def test_stop_with_nothing_to_stop_says_so(slack: FakeSlack, start_slack: Start) -> None:
    async with start_slack():
        ana = SlackWorld(slack).person("ana")
        await slack.slash(ana.id, CHANNEL, "stop")
        await answer(ana, wording.NOTHING_TO_STOP)


async def test_a_file_gets_a_kind_word(slack: FakeSlack, start_slack: Start, worker: ScriptedWorker) -> None:
    async with start_slack():
        ana = SlackWorld(slack).person("ana")
        await slack.say(ana.id, slack.dm_of(ana.id), "", subtype="file_share", files=[{"id": "F1"}])
        await answer(ana, wording.NO_FILES)
        await slack.say(ana.id, slack.dm_of(ana.id), "leave?", subtype="file_share", files=[{"id": "F2"}])
        await answer(ana, LEAVE.strip())


async def test_the_messages_tab_offers_questions(slack: FakeSlack, start_slack: Start) -> None:
    async with start_slack():
        ana = SlackWorld(slack).person("ana")
        await slack.event({"type": "app_home_opened", "tab": "messages", "user": ana.id, "channel": f"D{ana.id}"})
        await until(lambda: slack.prompts)
        assert slack.prompts == [(f"D{ana.id}", None)]
        assert answers(ana) == []


async def test_the_assistant_pane_greets_offers_questions_and_gets_a_title(
    slack: FakeSlack, start_slack: Start, worker: ScriptedWorker
) -> None:
    async with start_slack():
        ana = SlackWorld(slack).person("ana")
        dm = slack.dm_of(ana.id)
        thread = {"user_id": ana.id, "channel_id": dm, "thread_ts": "1.000001", "context": {}}
        await slack.event({"type": "assistant_thread_started", "assistant_thread": thread})
        await slack.deliver_again()
        await until(lambda: slack.prompts)
        assert slack.prompts == [(dm, "1.000001")]
        await answer(ana, wording.WELCOME)
        await slack.event({"type": "assistant_thread_context_changed", "assistant_thread": thread})
        await slack.say(ana.id, dm, "How much leave do I get?", "1.000001")
        assert (await answer(ana, LEAVE.strip())).thread == "1.000001"
        await until(lambda: slack.titles)
        assert slack.titles == {"1.000001": "How much leave do I get?"}


async def test_while_somebody_waits_there_is_a_status_and_afterwards_none(
    slack: FakeSlack, start_slack: Start, worker: ScriptedWorker
) -> None:
    async with start_slack():
        ana = SlackWorld(slack).person("ana")
        await ana.write("How much leave do I get?")
        await answer(ana, LEAVE.strip())
        await until(lambda: slack.status_history[-1:] == [""])
        assert slack.status_history[0] == wording.LOOKING
        assert slack.statuses == {}


async def test_in_a_channel_a_stream_names_its_recipient_and_is_in_a_thread(
    slack: FakeSlack, start_slack: Start, worker: ScriptedWorker
) -> None:
    async with start_slack():
        ana = SlackWorld(slack).person("ana")
        await ana.write("How much leave do I get?", "channel")
        await answer(ana, LEAVE.strip(), "channel")
        started = [arguments for method, arguments in slack.calls if method == "chat.startStream"]
        assert [one["recipient_user_id"] for one in started] == [ana.id]
        assert slack.refused == []


async def test_a_slow_answer_grows_about_once_a_second(
    slack: FakeSlack, start_slack: Start, worker: ScriptedWorker
) -> None:
    async with start_slack():
        ana = SlackWorld(slack).person("ana")
        await ana.write("slow please")
        await until(lambda: sum(method == "chat.appendStream" for method, _ in slack.calls) >= 2, 40)
        await ana.write("stop")
        shown = await answer(ana, "Sentence 0.")
        calls = sum(method == "chat.appendStream" for method, _ in slack.calls)
        assert shown.text.count("Sentence") > 4 * calls


async def test_a_used_up_tier_degrades_to_one_post_and_loses_nothing(
    slack: FakeSlack, start_slack: Start, worker: ScriptedWorker
) -> None:
    async with start_slack():
        world = SlackWorld(slack)
        people = [world.person(f"p{number}") for number in range(30)]
        await asyncio.gather(*(person.write("How much leave do I get?") for person in people))
        await until(lambda: all(len(answers(person)) == 1 for person in people), 40)
        for person in people:
            assert LEAVE.strip() in answers(person)[0].text
            assert "Leave.docx" in answers(person)[0].sources
        streams = sum(method == "chat.startStream" for method, _ in slack.calls)
        assert 0 < streams < 30
        assert slack.refused == []


async def test_slack_having_a_bad_minute_delays_the_answer_only(
    slack: FakeSlack, start_slack: Start, worker: ScriptedWorker
) -> None:
    async with start_slack():
        ana = SlackWorld(slack).person("ana")
        slack.failing = {"chat.startStream": [500], "chat.postMessage": [503, 429]}
        await ana.write("May I bring my parrot?")
        await answer(ana, "I find nothing about that")
        assert len(answers(ana)) == 1


async def test_somebody_else_cannot_pass_on_stop_or_unfold_what_is_not_theirs(
    slack: FakeSlack, start_slack: Start, worker: ScriptedWorker
) -> None:
    async with start_slack():
        world = SlackWorld(slack)
        ana, ben = world.person("ana"), world.person("ben")
        await ana.write("May I bring my parrot?", "channel")
        shown = await answer(ben, "I find nothing about that", "channel")
        await ben.press("human", shown)
        assert wording.NOT_YOURS in await ben.unfolded()
        await ana.write("slow please", "channel")
        await until(lambda: any("Sentence 1." in one.text for one in ben.sees("channel")))
        await slack.say(ben.id, CHANNEL, f"<@{BOT}> stop")
        await asyncio.sleep(0.3)
        assert any(one.growing for one in ben.sees("channel"))
        await slack.say(ana.id, CHANNEL, f"<@{BOT}> stop")
        await answer(ana, "Sentence 0.", "channel")


async def test_hr_replies_are_for_hr_only_and_answered_once(
    slack: FakeSlack, start_slack: Start, worker: ScriptedWorker, store: Store
) -> None:
    async with start_slack(hr_channel="C0HR"):
        world = SlackWorld(slack)
        ana, hr, second = world.person("ana"), world.person("hr_hanna"), world.person("hr_otto")
        await ana.write("May I bring my parrot?")
        await ana.press("human", await answer(ana, "I find nothing about that"))
        await answer(ana, wording.SENT_TO_HR)
        await hr.answer_as_hr("Yes.")
        await until(lambda: any(f"Answered by <@{hr.id}>" in json.dumps(m.blocks) for m in slack.messages))
        view = slack.views[-1]
        await slack.submit(second.id, {**view, "id": "V-again"}, {"reply": {"text": {"value": "No."}}})
        await answer(second, wording.REPLY_TOO_LATE)

        assert len([shown for shown in answers(ana) if wording.HR_ANSWERED in shown.text]) == 1


async def test_a_question_without_an_hr_channel_names_the_contact(
    slack: FakeSlack, start_slack: Start, worker: ScriptedWorker, settings: Settings
) -> None:
    async with start_slack(hr_channel=None):
        ana = SlackWorld(slack).person("ana")
        await ana.write("May I bring my parrot?")
        await ana.press("human", await answer(ana, "I find nothing about that"))
        await answer(ana, "hr@example.com")


async def test_an_answer_of_many_messages_keeps_each_below_slacks_limit(
    slack: FakeSlack, start_slack: Start, worker: ScriptedWorker
) -> None:
    async with start_slack():
        ana = SlackWorld(slack).person("ana")
        await ana.write("a long one")
        await until(lambda: any("Rule 100:" in shown.text for shown in answers(ana)))
        assert len(answers(ana)) > 1
        assert all(len(shown.raw.text) <= PIECE for shown in answers(ana))
        assert slack.refused == []
