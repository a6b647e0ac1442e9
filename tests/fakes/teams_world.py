"""The fake Teams as a `World` of people."""

import html
from collections.abc import Iterator, Sequence
from typing import Any

from bots.teams import cards
from tests.fakes.fake_connector import BOT, FakeTeams, Message
from tests.fakes.people import Button, Shown, Where, until

CHANNEL, HR_CHANNEL = "19:general@thread.tacv2", "19:hr@thread.tacv2"
_UNFOLDS: dict[str, Button] = {"source": "sources", "closest": "closest", "consent": "human"}


class TeamsPerson:
    """See tests.fakes.people.Person. In a Teams channel the bot has to be mentioned every time."""

    def __init__(self, teams: FakeTeams, name: str) -> None:
        self.id = f"29:{name}"
        self._teams = teams
        self._unfolded = ""
        teams.personal(self.id)
        teams.channel(CHANNEL, self.id)

    async def write(self, text: str, where: Where = "private", thread: str | None = None) -> str:
        if where == "private":
            return await self._teams.say(self.id, self._teams.personal(self.id).id, text)
        return await self._teams.say(self.id, thread or CHANNEL, text, mention=True)

    async def press(self, button: Button, shown: Shown) -> None:
        message: Message = shown.raw
        if button in {"up", "down"}:
            reaction = "like" if button == "up" else "dislike"
            assert await self._teams.rate(self.id, message, reaction, '{"feedbackText":"hm"}') == 200
            return
        card = message.card(self.id) or {}
        for element in _elements(card):
            for target in _targets(element):
                if _UNFOLDS.get(target.partition("-")[0]) == button:
                    opened = next(one for one in _elements(card) if one.get("id") == target)
                    self._unfolded = _words(opened, hidden=True)
                    if button == "human":
                        await self._teams.press(self.id, message, _action(opened, cards.ESCALATE))
                    return
        raise AssertionError(f"there is no button “{button}” under this message")

    async def unfolded(self) -> str:
        return self._unfolded

    async def answer_as_hr(self, text: str) -> None:
        def asked() -> list[tuple[Message, dict[str, Any]]]:
            found = [one for one in self._teams.messages if one.conversation.startswith(HR_CHANNEL)]
            with_reply = [(one, _action(one.card() or {}, cards.HR_REPLY)) for one in found]
            return [(message, action) for message, action in with_reply if action]

        message, action = (await until(asked))[-1]
        await self._teams.press(self.id, message, action, reply=text)

    def sees(self, where: Where | None = None) -> Sequence[Shown]:
        seen = []
        for message in self._teams.messages:
            chat = self._teams.chats[message.conversation.partition(";")[0]]
            if self.id in chat.members:
                shown = _shown(message, self.id, "private" if chat.kind == "personal" else "channel")
                if where in {None, shown.where}:
                    seen.append(shown)
        return seen


class TeamsWorld:
    """See tests.fakes.people.World."""

    platform = "teams"
    streams = True

    def __init__(self, teams: FakeTeams) -> None:
        self.teams = teams
        teams.channel(HR_CHANNEL)

    def person(self, name: str) -> TeamsPerson:
        person = TeamsPerson(self.teams, name)
        if name.startswith("hr"):
            self.teams.channel(HR_CHANNEL, person.id)
        return person

    async def deliver_again(self) -> None:
        await self.teams.deliver_again()


def _shown(message: Message, viewer: str, where: Where) -> Shown:
    card = message.card(viewer) or {}
    words = _words(card)
    buttons = [_UNFOLDS[t.partition("-")[0]] for one in _elements(card) for t in _targets(one)]
    if (message.activity.get("channelData") or {}).get("feedbackLoop"):
        buttons += ["up", "down"]
    told = message.text or words
    return Shown(
        id=message.id,
        where=where,
        thread=message.conversation,
        text=html.unescape(told),
        sources="\n".join(line for line in words.splitlines() if line.startswith("▸ [")),
        buttons=tuple(dict.fromkeys(buttons)),
        by_bot=message.sender == BOT,
        growing=message.growing,
        only_me=False,
        raw=message,
    )


def _elements(card: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for part in [*card.get("body", []), *card.get("items", [])]:
        yield part
        yield from _elements(part)


def _targets(element: dict[str, Any]) -> list[str]:
    toggles = [element.get("selectAction"), *element.get("actions", [])]
    return [
        target
        for toggle in toggles
        if toggle and toggle["type"] == "Action.ToggleVisibility"
        for target in toggle["targetElements"]
    ]


def _action(card: dict[str, Any], verb: str) -> dict[str, Any]:
    actions = [action for one in _elements(card) for action in one.get("actions", [])]
    return next((action for action in actions if action.get("verb") == verb), {})


def _words(card: dict[str, Any], *, hidden: bool = False) -> str:
    """The text of a card that can be seen."""
    found: list[str] = []
    for part in [*card.get("body", []), *card.get("items", [])]:
        if part.get("isVisible") is False and not hidden:
            continue
        if part["type"] == "TextBlock":
            found.append(part["text"])
        elif part["type"] == "RichTextBlock":
            found.append("".join(run["text"] for run in part["inlines"]))
        elif "items" in part:
            found.append(_words(part, hidden=hidden))
    return "\n".join(found)
