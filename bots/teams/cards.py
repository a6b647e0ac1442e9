"""Adaptive Cards (schema 1.5), built by pure functions.

What people wrote (questions, replies, document text) goes into text runs, where nothing is read as a link or as
formatting. A button is an Action.Execute, which refreshes the card in place, with an Action.Submit for clients that do
not know it; both carry the same data. Passages and the consent unfold in the client, without asking the bot.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from bots import wording
from bots.teams.activities import shorten
from quantahr.messages import Contact, Failed, Source
from quantahr.messages import Final as FinalEvent

Card = dict[str, Any]

CARD_BYTES: Final = 8_500
PASSAGE: Final = 900
ESCALATE: Final = "escalate"
HR_REPLY: Final = "hr_reply"
NOT_KEPT: Final = frozenset({"sensitive", "smalltalk", "invalid", "refused"})
"""Verdicts of which there is nothing to pass on to HR."""


def answer_card(question: str, end: FinalEvent | Failed, *, note: str | None = None) -> Card | None:
    """What stands under an answer: sources that unfold, whom to ask, "Ask a human". None if there is nothing.

    `note` takes the place of the button once it was pressed.
    """
    if isinstance(end, Failed):
        return None
    for passage in (PASSAGE, PASSAGE // 3, 0):
        body = _sources(wording.SOURCES, "source", end.sources, passage)
        body += _sources(wording.CLOSEST, "closest", _others(end), passage)
        if len(json.dumps(body)) <= CARD_BYTES:
            break
    while len(json.dumps(body)) > CARD_BYTES:
        body.pop()
    if end.contact:
        body.append(_contact(end.contact))
    if note:
        body.append(_text(note, weight="Bolder", id="note"))
    elif end.verdict not in NOT_KEPT:
        body += _ask_a_human(question)
    return _card(body, wording.SOURCES) if body else None


def hr_card(escalation: str, *, question: str, asker: str, note: str | None = None) -> Card:
    """A question for HR, with room for a reply."""
    body = [_text("A question for HR", weight="Bolder", size="Medium")]
    if asker:
        body.append(_plain(f"From {asker}", subtle=True))
    body += _lines(question)
    if note:
        body.append(_text(note, weight="Bolder"))
        return _card(body, "A question for HR")
    reply = {
        "type": "Input.Text",
        "id": "reply",
        "label": "Your reply",
        "placeholder": "Only the employee will see it",
        "isMultiline": True,
        "isRequired": True,
        "errorMessage": "Please write a reply first.",
        "maxLength": 4000,
    }
    body += [reply, _actions(_execute(wording.REPLY, HR_REPLY, {"escalation": escalation}))]
    return _card(body, "A question for HR")


def replied_card(*, question: str, asker: str, text: str, by: str) -> Card:
    """The HR card once somebody has replied."""
    card = hr_card("", question=question, asker=asker, note=f"Answered by {by}" if by else "Answered")
    card["body"] += _lines(text)
    return card


def reply_card(*, question: str, text: str) -> Card:
    """HR's reply, as the employee sees it."""
    body = [_text(wording.HR_ANSWERED, weight="Bolder", size="Medium"), *_lines(question, subtle=True), *_lines(text)]
    return _card(body, wording.HR_ANSWERED)


def welcome_card() -> Card:
    """What the bot can do, that it is an AI, what it never does, and questions to begin with."""
    ask = [
        {"type": "Action.Submit", "title": prompt, "data": {"msteams": {"type": "imBack", "value": prompt}}}
        for prompt in wording.PROMPTS
    ]
    return _card([_text(wording.WELCOME), _text(wording.NOTICE, isSubtle=True, size="Small")], wording.WELCOME, ask)


def _others(end: FinalEvent) -> list[Source]:
    shown = {source.section for source in end.sources}
    return [source for source in end.closest if source.section not in shown]


def _sources(title: str, name: str, sources: Sequence[Source], passage: int) -> list[Card]:
    found: list[Card] = [_text(title, weight="Bolder", spacing="Medium")] if sources else []
    for place, source in enumerate(sources, 1):
        number = f"[{source.number}] " if name == "source" else ""
        line = _plain(f"▸ {number}{source.document}: {_path(source)}{_edition(source)}")
        block: Card = {"type": "Container", "spacing": "Small", "items": [line]}
        if passage and source.passage.strip():
            target = f"{name}-{place}"
            block["selectAction"] = {
                "type": "Action.ToggleVisibility",
                "title": "Show the passage",
                "targetElements": [target],
            }
            text = source.passage if len(source.passage) <= passage else shorten(source.passage, passage)
            folded = {"type": "Container", "id": target, "isVisible": False, "style": "emphasis", "items": _lines(text)}
            found += [block, folded]
        else:
            found.append(block)
    return found


def _path(source: Source) -> str:
    return source.heading.replace(" > ", " › ")


def _edition(source: Source) -> str:
    effective = f", effective {source.effective}" if source.effective else ""
    return f" (version {source.version}{effective})"


def _contact(contact: Contact) -> Card:
    return _plain(f"{contact.name}: {contact.detail}" if contact.detail else contact.name, id="contact")


def _ask_a_human(question: str) -> list[Card]:
    unfold = {
        "type": "Action.ToggleVisibility",
        "title": wording.ASK_HUMAN,
        "targetElements": ["consent"],
    }
    send = _execute(wording.SEND_TO_HR, ESCALATE, {"question": question})
    consent = {
        "type": "Container",
        "id": "consent",
        "isVisible": False,
        "items": [_text(wording.CONSENT), _actions(send)],
    }
    return [_actions(unfold), consent]


def _execute(title: str, verb: str, data: Mapping[str, Any]) -> Card:
    sent = {"verb": verb, **data}
    submit = {"type": "Action.Submit", "title": title, "data": sent}
    return {"type": "Action.Execute", "title": title, "verb": verb, "data": sent, "fallback": submit}


def _actions(*actions: Card) -> Card:
    return {"type": "ActionSet", "actions": list(actions)}


def _text(text: str, **style: Any) -> Card:
    return {"type": "TextBlock", "text": text, "wrap": True, **style}


def _plain(text: str, *, subtle: bool = False, **more: Any) -> Card:
    return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text, "isSubtle": subtle}], **more}


def _lines(text: str, *, subtle: bool = False) -> list[Card]:
    return [_plain(line, subtle=subtle) for line in text.splitlines() if line.strip()]


def _card(body: Sequence[Card], fallback: str, actions: Sequence[Card] = ()) -> Card:
    card: Card = {
        "type": "AdaptiveCard",
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "version": "1.5",
        "fallbackText": fallback,
        "body": list(body),
    }
    return {**card, "actions": list(actions)} if actions else card
