"""Retraining in Teams: `hr-retrain …` as a message to the bot, the buttons of the card, and the card, edited in place.

Teams has no slash commands for bots; the same words are a message that begins with `hr-retrain`, with or without the
slash. The loss curve is an image inside the card where it fits into Teams' 28 KB, and a line of blocks in any case.
"""

import asyncio
import base64
import re
from collections.abc import Mapping
from typing import Any, Final

from bots.retrain import ACTIONS, Board, Retraining, Shown, UnreachablePlaceError
from bots.retrain_view import View
from bots.teams import activities
from bots.teams.cards import Card
from bots.teams.connector import GoneError, RefusedError
from bots.teams.desk import Desk
from bots.teams.place import Place
from quantahr.retrain import Notice

COMMAND: Final = re.compile(r"/?hr-retrain\b(.*)", re.IGNORECASE | re.DOTALL)
PREFIX: Final = "retrain_"
PICTURE_BYTES: Final = 15_000
_PERSON: Final = re.compile(r"\b(slack|teams|console):[A-Za-z0-9:-]+")


async def command(desk: Desk, place: Place, text: str) -> str | None:
    """What to answer to `hr-retrain …`; None if the text is something else."""
    found = COMMAND.fullmatch(text)
    if found is None:
        return None
    retraining = Retraining(desk.conversation, "teams")
    said = await retraining.command(found[1], user=place.user, place=place.conversation, address=place.dump())
    return people(said)


async def press(desk: Desk, place: Place, data: Mapping[str, Any]) -> str | None:
    """One of the card's buttons. What to tell the user, or None if this is another card's button."""
    verb = str(data.get("verb", ""))
    word = verb.removeprefix(PREFIX)
    if not verb.startswith(PREFIX) or word not in ACTIONS:
        return None
    said = await Retraining(desk.conversation, "teams").press(word, str(data.get("job", "")), user=place.user)
    return said or "Noted; the card follows in a moment."


def board(desk: Desk) -> Board:
    """What keeps Teams' cards about jobs up to date."""
    jobs = Retraining(desk.conversation, "teams").jobs

    async def show(notice: Notice, view: View, picture: bytes | None) -> Shown:
        place = Place.load(notice.address)
        # A card that is edited is sent whole, so the picture has to be in every edition from then on.
        if picture is None and notice.pictured:
            picture = await asyncio.to_thread(jobs.curve, notice.job)
        activity = activities.message(place, "", cards=[card_of(view, picture)])
        try:
            if notice.remote is not None:
                try:
                    await desk.connector.update(place, notice.remote, activity)
                except RefusedError:
                    activity.id = None  # the message is gone; a new one takes its place
                else:
                    return Shown(notice.remote, notice.pictured or picture is not None)
            return Shown(await desk.connector.send(place, activity), notice.pictured or picture is not None)
        except GoneError:
            raise UnreachablePlaceError(f"The place of job {notice.job} is gone.") from None

    return Board(jobs, "teams", show)


def people(text: str) -> str:
    """Text in which people appear by the platform they wrote from."""

    def someone(found: re.Match[str]) -> str:
        article = "An" if found.start() == 0 else "an"
        return f"{article} administrator in {found[1].title()}"

    return _PERSON.sub(someone, text)


def card_of(view: View, picture: bytes | None) -> Card:
    """The card about a job; the picture is left out where it would not fit."""
    body: list[Card] = [{"type": "TextBlock", "text": view.title, "weight": "Bolder", "size": "Medium", "wrap": True}]
    # A card shows its text as it stands, and what is typed in Teams is a message, not a slash command.
    body += [_line(people(line.replace("`", "").replace("/hr-retrain", "hr-retrain"))) for line in view.lines if line]
    if view.rows:
        head = ("", "live", "candidate")
        body.append(
            {
                "type": "Table",
                "columns": [{"width": 2}, {"width": 1}, {"width": 1}],
                "firstRowAsHeader": True,
                "rows": [
                    {
                        "type": "TableRow",
                        "cells": [{"type": "TableCell", "items": [_line(cell or " ")]} for cell in row],
                    }
                    for row in (head, *view.rows)
                ],
            }
        )
    if picture is not None and len(picture) <= PICTURE_BYTES:
        encoded = base64.b64encode(picture).decode("ascii")
        body.append(
            {
                "type": "Image",
                "url": f"data:image/png;base64,{encoded}",
                "altText": "Loss while training",
                "size": "Stretch",
            }
        )
    if view.buttons:
        body.append({"type": "ActionSet", "actions": [_action(view, b.label, b.action, b.style) for b in view.buttons]})
    return {
        "type": "AdaptiveCard",
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "version": "1.5",
        "fallbackText": view.title,
        "body": body,
    }


def _line(text: str) -> Card:
    return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text}]}


def _action(view: View, label: str, action: str, style: str) -> Card:
    data = {"verb": f"{PREFIX}{action}", "job": view.job}
    styled = {"primary": "positive", "danger": "destructive"}.get(style)
    submit: Card = {"type": "Action.Submit", "title": label, "data": data}
    found: Card = {"type": "Action.Execute", "title": label, "verb": data["verb"], "data": data, "fallback": submit}
    return {**found, "style": styled} if styled else found
