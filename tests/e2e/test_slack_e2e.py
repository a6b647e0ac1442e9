"""A question in Slack, through the real bot, the real queue, a real worker and the real model, and back."""

import asyncio
from pathlib import Path

import pytest

from tests.e2e.conftest import QUANTAHR, Launch
from tests.fakes.fake_slack import FakeSlack
from tests.fakes.people import answers, until
from tests.fakes.slack_world import SlackWorld

pytestmark = [pytest.mark.e2e, pytest.mark.model, pytest.mark.timeout(170)]

POLICIES = Path(__file__).resolve().parents[2] / "data" / "hr_policies"


async def test_a_dm_is_answered_from_the_documents_with_its_sources_and_a_follow_up_is_understood(
    slack: FakeSlack, launch: Launch, environment: dict[str, str]
) -> None:
    environment["QUANTAHR_POLICIES_DIR"] = str(POLICIES)
    launch(*QUANTAHR, "worker")
    launch(*QUANTAHR, "bots", "--only", "slack")
    await asyncio.wait_for(slack.connected(), 60)
    ana, ben = SlackWorld(slack).person("ana"), SlackWorld(slack).person("ben")

    thread = await ana.write("how many days of annual leave do i get??")
    await until(lambda: answers(ana), 120)
    first = answers(ana)[0]
    assert "[1]" in first.text
    assert ".docx" in first.sources
    assert {"sources", "human", "up", "down"} <= set(first.buttons)
    assert any(method == "chat.startStream" for method, _ in slack.calls), "it grew before her eyes"

    await ana.press("sources", first)
    assert ".docx" in await ana.unfolded()

    await ana.write("and for part-timers?", thread=thread)
    await until(lambda: len(answers(ana)) == 2, 60)
    assert ".docx" in answers(ana)[1].sources or "closest" in answers(ana)[1].buttons

    await ana.write("my manager touches me and I am afraid", "channel")
    await until(lambda: len(answers(ana, "private")) == 3, 60)
    assert answers(ana, "private")[2].text != answers(ana, "channel")[-1].text
    assert [shown.where for shown in answers(ben)] == ["channel"]

    assert slack.refused == []
    assert slack.unacked == 0
