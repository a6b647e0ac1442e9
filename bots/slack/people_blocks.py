"""Messages with rows and buttons, and forms, as Slack shows them. Pure."""

import json
import re
from collections.abc import Mapping
from typing import Any

from bots.forms import Field, Form
from bots.slack.limits import SECTION
from bots.slack.text import escape, split

Block = dict[str, Any]

ACTION = "office"
BLOCKS = 50
"""In one message."""
CHARACTERS = 12_500
"""Of all blocks together; Slack refuses about 13,000."""
INPUT = 3000
_ID = re.compile(r"(?<![\w/])@([UW][A-Z0-9]{2,})\b")


def message_blocks(message: Mapping[str, Any]) -> list[Block]:
    """A message as quantahr.people.words.card makes it; what does not fit is said to be left out."""
    blocks: list[Block] = []
    if message.get("text"):
        blocks += _sections(str(message["text"]))
    for number, row in enumerate(message.get("rows", ())):
        if row.get("text"):
            blocks += _sections(str(row["text"]))
        buttons = [
            {
                "type": "button",
                "action_id": f"{ACTION}:{number}:{place}",
                "text": {"type": "plain_text", "text": str(button["label"])[:75]},
                "value": str(button["value"])[:2000],
            }
            for place, button in enumerate(row.get("buttons", ()))
        ]
        if buttons:
            blocks.append({"type": "actions", "elements": buttons[:25]})
    fits = len(blocks) <= BLOCKS and _length(blocks) <= CHARACTERS
    while not fits and (len(blocks) >= BLOCKS or _length(blocks) > CHARACTERS):
        blocks.pop()
    return blocks if fits else [*blocks, _section("… there is more than fits here.")]


def form_view(form: Form) -> Block:
    """A form as a modal."""
    return {
        "type": "modal",
        "callback_id": f"{ACTION}:{form.name}",
        "title": {"type": "plain_text", "text": form.title[:24]},
        "submit": {"type": "plain_text", "text": form.submit[:24]},
        "close": {"type": "plain_text", "text": "Cancel"},
        "private_metadata": json.dumps(dict(form.data)),
        "blocks": [_input(field) for field in form.fields],
    }


def filled(view: Mapping[str, Any]) -> dict[str, str]:
    """What was filled in, by the names of the fields."""
    values = {}
    for name, block in view["state"]["values"].items():
        told = next(iter(block.values()))
        chosen = told.get("selected_option") or {}
        value = told.get("value") or told.get("selected_user") or told.get("selected_date") or chosen.get("value")
        values[str(name)] = str(value or "").strip()
    return values


def mentions(text: str) -> str:
    """Slack's "<@U1|ana>" as "@U1", and "<mailto:a@b.c|a@b.c>" as the address."""
    text = re.sub(r"<@([UW][A-Z0-9]+)(?:\|[^>]*)?>", r"@\1", text)
    text = re.sub(r"<(?:mailto:)?([^>|]+)(?:\|[^>]*)?>", r"\1", text)
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&").strip()


def _input(field: Field) -> Block:
    element: Block = {"action_id": "value"}
    match field.kind:
        case "text" | "long":
            element |= {"type": "plain_text_input", "multiline": field.kind == "long", "max_length": INPUT}
            element |= {"initial_value": field.initial[:INPUT]} if field.initial else {}
        case "date":
            element |= {"type": "datepicker"} | ({"initial_date": field.initial} if field.initial else {})
        case "person":
            element |= {"type": "users_select"} | ({"initial_user": field.initial} if field.initial else {})
        case "choice":
            options = [_option(value, label) for value, label in field.choices]
            element |= {"type": "static_select", "options": options}
            initial = [option for option in options if option["value"] == field.initial]
            element |= {"initial_option": initial[0]} if initial else {}
    block = {
        "type": "input",
        "block_id": field.name,
        "optional": not field.required,
        "label": {"type": "plain_text", "text": field.label[:2000]},
        "element": element,
    }
    return {**block, "hint": {"type": "plain_text", "text": field.hint}} if field.hint else block


def _length(blocks: list[Block]) -> int:
    return len(json.dumps(blocks, ensure_ascii=False))


def _option(value: str, label: str) -> Block:
    return {"text": {"type": "plain_text", "text": label[:75]}, "value": value[:75]}


def _sections(text: str) -> list[Block]:
    return [_section(piece) for piece in split(_ID.sub(r"<@\1>", escape(text)), SECTION)]


def _section(text: str) -> Block:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}}
