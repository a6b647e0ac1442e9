"""Messages with rows and buttons, and forms, as Adaptive Cards. Pure.

A person is chosen with Teams' own people picker, which gives Entra ids.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from bots.forms import Field, Form

Card = dict[str, Any]

MOST_ROWS: Final = 40
MOST_BYTES: Final = 20_000
"""Of a card's body; with what is around it a message stays below 25 KB."""


def message_card(message: Mapping[str, Any]) -> Card:
    """A message as quantahr.people.words.card makes it."""
    body: list[Card] = [_plain(line) for line in str(message.get("text", "")).splitlines() if line.strip()]
    rows = list(message.get("rows", ()))
    for number, row in enumerate(rows):
        shown = [_plain(line) for line in str(row.get("text", "")).splitlines() if line.strip()]
        if buttons := row.get("buttons"):
            shown.append({"type": "ActionSet", "actions": [_button(b["label"], b["value"]) for b in buttons[:6]]})
        if number == MOST_ROWS or len(json.dumps([*body, *shown])) > MOST_BYTES:
            body.append(_plain("… there is more than fits here."))
            break
        body += shown
    return _card(body)


def form_card(form: Form) -> Card:
    """A form; its fields come back as `field.<name>`, its data as `data.<name>`."""
    data = {"verb": "office_form", "form": form.name, **{f"data.{name}": value for name, value in form.data.items()}}
    submit = {"type": "Action.Submit", "title": form.submit, "data": data}
    execute = {"type": "Action.Execute", "title": form.submit, "verb": "office_form", "data": data, "fallback": submit}
    title = {"type": "TextBlock", "text": form.title, "weight": "Bolder", "size": "Medium", "wrap": True}
    return _card([title, *[_input(field) for field in form.fields], {"type": "ActionSet", "actions": [execute]}])


def _input(field: Field) -> Card:
    common: Card = {
        "id": f"field.{field.name}",
        "label": field.label,
        "isRequired": field.required,
        "errorMessage": "Please fill this in.",
    }
    if field.initial:
        common["value"] = field.initial
    match field.kind:
        case "date":
            return {"type": "Input.Date", **common}
        case "person":
            query = {"type": "Data.Query", "dataset": "graph.microsoft.com/users"}
            return {"type": "Input.ChoiceSet", "choices": [], "choices.data": query, **common}
        case "choice":
            choices = [{"title": label, "value": value} for value, label in field.choices]
            return {"type": "Input.ChoiceSet", "choices": choices, **common}
        case _:
            long = {"isMultiline": field.kind == "long", "maxLength": 3000, "placeholder": field.hint}
            return {"type": "Input.Text", **long, **common}


def _button(label: str, value: str) -> Card:
    data = {"verb": "office", "value": value}
    submit = {"type": "Action.Submit", "title": label, "data": data}
    return {"type": "Action.Execute", "title": label, "verb": "office", "data": data, "fallback": submit}


def _plain(line: str) -> Card:
    """A line without markup; what stands between stars is bold."""
    parts = line.split("*")
    if len(parts) % 2 == 0:
        parts = [line]
    runs = [
        {"type": "TextRun", "text": part, "weight": "Bolder" if at % 2 else "Default"}
        for at, part in enumerate(parts)
        if part
    ]
    return {"type": "RichTextBlock", "inlines": runs or [{"type": "TextRun", "text": " "}]}


def _card(body: list[Card]) -> Card:
    return {
        "type": "AdaptiveCard",
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "version": "1.5",
        "body": body,
    }
