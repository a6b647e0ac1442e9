"""An administrator who retrains the model, in Slack and in Teams: what is typed and pressed, and what can be read."""

import base64
import json
from collections.abc import Iterable
from typing import Any, Protocol

from tests.fakes.fake_connector import FakeTeams
from tests.fakes.fake_slack import FakeSlack
from tests.fakes.slack_world import CHANNEL, SlackWorld
from tests.fakes.teams_world import TeamsWorld


class Chat(Protocol):
    """One platform, as these scripts need it."""

    async def type(self, user: str, text: str) -> None: ...
    def board(self) -> list[dict[str, Any]]:
        """The messages about jobs: {text, buttons: {label: press-argument}, raw}."""

    async def press(self, user: str, label: str) -> None: ...
    def told(self, user: str) -> str:
        """Everything that this user alone was told."""

    def pictures(self) -> list[bytes]: ...
    def user(self, name: str) -> str: ...
    def role_id(self, name: str) -> str:
        """As it stands in `roles` of the settings."""

    def reads(self) -> str:
        """The newest message about a job as a person reads it, buttons last; empty if there is none."""


class SlackChat:
    def __init__(self, slack: FakeSlack) -> None:
        self.slack = slack
        world = SlackWorld(slack)
        self.people = {name: world.person(name).id for name in ("ana", "ben", "carla")}

    def user(self, name: str) -> str:
        return self.people[name]

    def role_id(self, name: str) -> str:
        return f"slack:{self.people[name]}"

    def reads(self) -> str:
        shown = self.board()
        if not shown:
            return ""
        lines = [block["text"]["text"] for block in shown[-1]["raw"].blocks if "text" in block]
        return _read(lines, shown[-1]["buttons"])

    async def type(self, user: str, text: str) -> None:
        await self.slack.slash(self.people[user], CHANNEL, text, command="/hr-retrain")

    def board(self) -> list[dict[str, Any]]:
        found = []
        for message in self.slack.messages:
            blocks = message.blocks
            if blocks and blocks[0]["type"] == "header":
                actions = [one for block in blocks if block["type"] == "actions" for one in block["elements"]]
                buttons = {action["text"]["text"]: action for action in actions}
                found.append({"text": json.dumps(blocks, ensure_ascii=False), "buttons": buttons, "raw": message})
        return found

    async def press(self, user: str, label: str) -> None:
        shown = self.board()[-1]
        button = shown["buttons"][label]
        pressed = {"type": "button", "action_id": button["action_id"], "value": button["value"]}
        await self.slack.click(self.people[user], shown["raw"], pressed)

    def told(self, user: str) -> str:
        return "\n".join(m.text for m in self.slack.messages if m.ephemeral_to == self.people[user])

    def pictures(self) -> list[bytes]:
        return [file["content"] for file in self.slack.files]


class TeamsChat:
    def __init__(self, teams: FakeTeams) -> None:
        self.teams = teams
        world = TeamsWorld(teams)
        self.people = {name: world.person(name).id for name in ("ana", "ben", "carla")}
        self._told: dict[str, list[str]] = {}

    def user(self, name: str) -> str:
        return self.people[name]

    def role_id(self, name: str) -> str:
        activity = self.teams.activity(self.people[name], self.teams.personal(self.people[name]).id)
        return f"teams:{activity['from']['aadObjectId']}"

    def reads(self) -> str:
        shown = self.board()
        if not shown:
            return ""
        lines = []
        for part in shown[-1]["raw"].card()["body"]:
            if part["type"] == "TextBlock":
                lines.append(part["text"])
            elif part["type"] == "RichTextBlock":
                lines.append("".join(run["text"] for run in part["inlines"]))
            elif part["type"] == "Table":
                rows = [[_cell(cell) for cell in row["cells"]] for row in part["rows"]]
                lines += [" | ".join(row) for row in rows]
        return _read(lines, shown[-1]["buttons"])

    async def type(self, user: str, text: str) -> None:
        chat = self.teams.personal(self.people[user]).id
        await self.teams.say(self.people[user], chat, f"hr-retrain {text}")

    def board(self) -> list[dict[str, Any]]:
        found = []
        for message in self.teams.messages:
            card = message.card() or {}
            if not _about_a_job(card):
                continue
            actions = [a for one in card["body"] if one["type"] == "ActionSet" for a in one["actions"]]
            text = json.dumps(card, ensure_ascii=False)
            found.append({"text": text, "buttons": {a["title"]: a for a in actions}, "raw": message})
        return found

    async def press(self, user: str, label: str) -> None:
        shown = self.board()[-1]
        answer = await self.teams.press(self.people[user], shown["raw"], shown["buttons"][label])
        self._told.setdefault(user, []).append(json.dumps(answer))

    def told(self, user: str) -> str:
        chat = self.teams.personal(self.people[user]).id
        lines = [message.text for message in self.teams.messages if message.conversation == chat]
        return "\n".join([*lines, *self._told.get(user, [])])

    def pictures(self) -> list[bytes]:
        cards = [message.card() or {} for message in self.teams.messages]
        images = [one["url"] for card in cards for one in card.get("body", []) if one["type"] == "Image"]
        return [base64.b64decode(url.partition(",")[2]) for url in images]


def _about_a_job(card: dict[str, Any]) -> bool:
    """Its first line is its title, and what is shown where cards are not."""
    first = (card.get("body") or [{}])[0]
    titled = first.get("size") == "Medium" and first.get("text") == card.get("fallbackText")
    return titled and not card["fallbackText"].startswith("Hello")


def _cell(cell: dict[str, Any]) -> str:
    return "".join(run["text"] for item in cell["items"] for run in item["inlines"])


def _read(lines: list[str], buttons: Iterable[str]) -> str:
    return "\n".join([*lines, " ".join(f"[{label}]" for label in buttons)]).strip()
