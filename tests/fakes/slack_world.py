"""The fake Slack as a `World` of people."""

import re
from collections.abc import Sequence
from typing import Any

from bots.slack import blocks
from tests.fakes.fake_slack import BOT, FakeSlack
from tests.fakes.people import Button, Shown, Where, until
from tests.fakes.slack_shapes import Message

CHANNEL, HR_CHANNEL = "C0GENERAL", "C0HR"
_ACTIONS: dict[str, Button] = {
    f"{blocks.FEEDBACK}_up": "up",
    f"{blocks.FEEDBACK}_down": "down",
    f"{blocks.SHOW_PASSAGES}_sources": "sources",
    f"{blocks.SHOW_PASSAGES}_closest": "closest",
    blocks.ASK_HUMAN: "human",
    blocks.STOP: "stop",
}


class SlackPerson:
    """See tests.fakes.people.Person."""

    def __init__(self, slack: FakeSlack, name: str) -> None:
        self.id = f"U{name.upper()}"
        self._slack = slack
        slack.dm_of(self.id)
        slack.channel(CHANNEL, self.id)

    async def write(self, text: str, where: Where = "private", thread: str | None = None) -> str:
        if where == "private":
            ts = await self._slack.say(self.id, self._slack.dm_of(self.id), text, thread)
            return thread or ts
        if thread:
            await self._slack.say(self.id, CHANNEL, text, thread)
            return thread
        return await self._slack.say(self.id, CHANNEL, f"<@{BOT}> {text}")

    async def press(self, button: Button, shown: Shown) -> None:
        for action in _elements(shown.raw):
            if action["type"] == "feedback_buttons" and button in {"up", "down"}:
                side = action["positive_button" if button == "up" else "negative_button"]
                pressed = {"type": action["type"], "action_id": action["action_id"], "value": side["value"]}
                return await self._slack.click(self.id, shown.raw, pressed)
            if _ACTIONS.get(action.get("action_id", "")) == button:
                pressed = {"type": "button", "action_id": action["action_id"], "value": action["value"]}
                await self._click(shown.raw, pressed, opens=button in {"human", "sources", "closest"})
                if button == "human":
                    await self._agree()
                return None
        raise AssertionError(f"there is no button “{button}” under this message")

    async def _click(self, message: Message, action: dict[str, Any], *, opens: bool) -> None:
        before = len(self._slack.views)
        await self._slack.click(self.id, message, action)
        if opens:
            await until(lambda: len(self._slack.views) > before)

    async def _agree(self) -> None:
        if "submit" in self._slack.views[-1]:
            await self._slack.submit(self.id, self._slack.views[-1])

    async def unfolded(self) -> str:
        view = await until(lambda: self._slack.views and self._slack.views[-1])
        return "\n".join(block["text"]["text"] for block in view["blocks"] if "text" in block)

    async def answer_as_hr(self, text: str) -> None:
        def asked() -> list[tuple[Message, dict[str, Any]]]:
            found = [message for message in self._slack.messages if message.channel == HR_CHANNEL]
            return [(m, e) for m in found for e in _elements(m) if e.get("action_id") == blocks.REPLY]

        message, action = (await until(asked))[-1]
        pressed = {"type": "button", "action_id": blocks.REPLY, "value": action["value"]}
        await self._click(message, pressed, opens=True)
        await self._slack.submit(self.id, self._slack.views[-1], {"reply": {"text": {"value": text}}})

    def sees(self, where: Where | None = None) -> Sequence[Shown]:
        seen = []
        for message in self._slack.messages:
            member = self.id in self._slack.members.get(message.channel, ())
            if not member or message.deleted or message.ephemeral_to not in {None, self.id}:
                continue
            shown = _shown(message)
            if where in {None, shown.where}:
                seen.append(shown)
        return seen


class SlackWorld:
    """See tests.fakes.people.World."""

    platform = "slack"
    streams = True

    def __init__(self, slack: FakeSlack) -> None:
        self.slack = slack
        slack.channel(HR_CHANNEL)

    def person(self, name: str) -> SlackPerson:
        person = SlackPerson(self.slack, name)
        if name.startswith("hr"):
            self.slack.channel(HR_CHANNEL, person.id)
        return person

    async def deliver_again(self) -> None:
        await self.slack.deliver_again()


def _elements(message: Message) -> list[dict[str, Any]]:
    return [element for block in message.blocks for element in block.get("elements", []) if "action_id" in element]


def _shown(message: Message) -> Shown:
    texts = [_text(block) for block in message.blocks if block["type"] in {"section", "markdown"}]
    sources = "\n".join(text for text in texts if text.startswith("*Sources*"))
    body = "\n".join(text for text in texts if not text.startswith("*Sources*"))
    buttons = [_ACTIONS[e["action_id"]] for e in _elements(message) if e["action_id"] in _ACTIONS]
    if any(element["type"] == "feedback_buttons" for element in _elements(message)):
        buttons += ["up", "down"]
    # A stream's words are its text and its blocks come below; elsewhere the text only stands in for the blocks.
    text = body if body and body not in message.text else message.text
    return Shown(
        id=message.ts,
        where="private" if message.channel.startswith("D") else "channel",
        thread=message.thread_ts or message.ts,
        text=re.sub("&(amp|lt|gt);", lambda found: {"amp": "&", "lt": "<", "gt": ">"}[found[1]], text),
        sources=sources,
        buttons=tuple(buttons),
        by_bot=message.user == BOT,
        growing=message.streaming or "stop" in buttons,
        only_me=message.ephemeral_to is not None,
        raw=message,
    )


def _text(block: dict[str, Any]) -> str:
    text = block["text"]
    return str(text["text"] if isinstance(text, dict) else text)
