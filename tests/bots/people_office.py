"""HR's office on both platforms for tests: the same sentences, said and pressed as each platform wants it."""

import json
from dataclasses import dataclass
from typing import Any

from tests.bots.test_people_slack import press as press_in_slack
from tests.fakes.fake_connector import BOT, FakeTeams
from tests.fakes.fake_connector import Message as TeamsMessage
from tests.fakes.fake_slack import FakeSlack
from tests.fakes.people import Person as Anyone
from tests.fakes.people import until
from tests.fakes.slack_shapes import Message as SlackMessage
from tests.fakes.slack_world import CHANNEL, SlackPerson
from tests.fakes.teams_world import TeamsPerson

Person = Anyone | SlackPerson | TeamsPerson


@dataclass
class Office:
    """One platform. `press` returns how much there was before, so that `fill` finds the form that opened."""

    slack: FakeSlack | None = None
    teams: FakeTeams | None = None

    async def command(self, person: Person, name: str, text: str = "") -> None:
        """`/hr-gaps`, or `hr-gaps` as a message."""
        if self.slack:
            await self.slack.slash(person.id, CHANNEL, text, f"/{name}")
        else:
            assert self.teams
            await self.teams.say(person.id, self.teams.personal(person.id).id, f"{name} {text}".strip())

    async def sees(self, person: Person, words: str) -> Any:
        """The newest message of ours with these words that this person can see, as the platform has it."""

        def found() -> Any:
            mine = [shown.raw for shown in person.sees() if shown.by_bot and words in everything(shown.raw)]
            return mine[-1] if mine else None

        return await until(found)

    async def press(self, person: Person, message: Any, label: str) -> int:
        if self.slack:
            before = len(self.slack.views)
            await press_in_slack(self.slack, person.id, message, label)
            return before
        assert self.teams
        before = len(self.teams.messages)
        await self.teams.press(person.id, message, action(message.card(person.id) or {}, label))
        return before

    async def fill(self, person: Person, opened: int, **values: str) -> Any:
        """Fill in the form that `press` opened, and send it. What is not named stays as it was offered."""
        if self.slack:
            view = (await until(lambda: self.slack and self.slack.views[opened:]))[-1]
            filled = {}
            for block in view["blocks"]:
                initial = block["element"].get("initial_value", "")
                filled[block["block_id"]] = {"value": {"value": values.get(block["block_id"], initial)}}
            return await self.slack.submit(person.id, view, filled)
        assert self.teams
        chat = self.teams.personal(person.id).id

        def form() -> Any:
            assert self.teams
            cards = [one for one in self.teams.messages[opened:] if one.conversation == chat and one.card()]
            return next((one for one in cards if "Input." in everything(one)), None)

        shown = await until(form)
        body = shown.card()["body"]
        offered = {one["id"]: one.get("value", "") for one in body if one["type"].startswith("Input")}
        filled_in = offered | {f"field.{name}": value for name, value in values.items()}
        submit = next(one for part in body for one in part.get("actions", []))
        return (await self.teams.press(person.id, shown, submit, **filled_in))["value"]


def action(card: dict[str, Any], title: str) -> dict[str, Any]:
    actions = [one for element in card["body"] for one in element.get("actions", [])]
    return next(one for one in actions if one["title"] == title)


def everything(message: SlackMessage | TeamsMessage) -> str:
    """All words of a message, wherever they stand."""
    if isinstance(message, SlackMessage):
        return message.text + json.dumps(message.blocks, ensure_ascii=False)
    assert message.sender == BOT
    return message.text + json.dumps(message.activity, ensure_ascii=False)
