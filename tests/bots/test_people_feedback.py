"""Whose thumbs count: in a channel everybody's, once a person; where only the asker can read, the asker's."""

from typing import Any

from bots import wording
from quantahr.store import Store
from quantahr.store.tables import FeedbackRow
from tests.bots.conftest import Start
from tests.fakes.fake_slack import FakeSlack
from tests.fakes.people import World, answer, answers, until
from tests.fakes.scripted_worker import LEAVE, ScriptedWorker
from tests.fakes.slack_shapes import Message
from tests.fakes.slack_world import CHANNEL, SlackWorld


def ratings(store: Store) -> list[tuple[str, int]]:
    with store.session() as session:
        rows = session.query(FeedbackRow).order_by(FeedbackRow.id)
        return [(row.user.rpartition(":")[2].lower().removeprefix("u"), row.rating) for row in rows]


async def test_in_a_channel_everybody_rates_and_is_counted_once(
    world: World, worker: ScriptedWorker, store: Store
) -> None:
    ana, ben = world.person("ana"), world.person("ben")
    await ana.write("How much leave do I get?", "channel")
    shown = await answer(ben, LEAVE.strip(), "channel")
    await ben.press("up", shown)
    await until(lambda: ratings(store) == [("ben", 1)])
    await ben.press("down", shown)
    await until(lambda: ratings(store) == [("ben", -1)])
    await ana.press("up", shown)
    await until(lambda: ratings(store) == [("ben", -1), ("ana", 1)])


async def test_a_private_answer_is_rated_by_its_asker_only(world: World, worker: ScriptedWorker, store: Store) -> None:
    ana, eve = world.person("ana"), world.person("eve")
    await ana.write("How much leave do I get?")
    shown = await answer(ana, LEAVE.strip(), "private")
    await eve.press("down", shown)
    await ana.press("up", shown)
    await until(lambda: ratings(store) == [("ana", 1)])


async def test_only_the_asker_rates_what_only_the_asker_sees_in_a_channel(
    slack: FakeSlack, start_slack: Start, worker: ScriptedWorker, store: Store
) -> None:
    async with start_slack():
        world = SlackWorld(slack)
        ana, eve = world.person("ana"), world.person("eve")
        await slack.slash(ana.id, CHANNEL, "How much leave do I get?")
        shown = await answer(ana, LEAVE.strip())
        assert shown.raw.ephemeral_to == ana.id
        await eve.press("down", shown)
        await until(lambda: [one for one in answers(eve) if wording.ONLY_THE_ASKER_RATES in one.text])
        await ana.press("up", shown)
        await until(lambda: ratings(store) == [("ana", 1)])


async def test_another_company_in_a_shared_channel_does_not_rate(
    slack: FakeSlack, start_slack: Start, worker: ScriptedWorker, store: Store
) -> None:
    async with start_slack():
        ana = SlackWorld(slack).person("ana")
        slack.channel(CHANNEL, "UOTHER")
        await ana.write("How much leave do I get?", "channel")
        shown = await answer(ana, LEAVE.strip(), "channel")
        await slack.click("UOTHER", shown.raw, thumb(shown.raw), team="T0OTHER")
        await until(lambda: [m for m in slack.messages if m.text == wording.OUR_PEOPLE_ONLY])
    assert ratings(store) == []


def thumb(message: Message) -> dict[str, Any]:
    buttons = next(
        element
        for block in message.blocks
        for element in block.get("elements", [])
        if element.get("type") == "feedback_buttons"
    )
    value = buttons["negative_button"]["value"]
    return {"type": buttons["type"], "action_id": buttons["action_id"], "value": value}
