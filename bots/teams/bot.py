"""What arrives from Teams, each handled by a small method: messages, installation, buttons and thumbs."""

import html
import logging
import re
import secrets
from collections.abc import Mapping
from typing import Any, Final

from botbuilder.core import ActivityHandler, InvokeResponse, TurnContext
from botbuilder.schema import Activity, ChannelAccount

from bots import wording
from bots.conversation import Incoming
from bots.teams import actions, activities, files, office, proactive, retrain
from bots.teams.desk import Desk
from bots.teams.place import Place
from bots.teams.surface import TeamsSurface
from quantahr.errors import QuantaHRError
from quantahr.messages import question_id

log = logging.getLogger(__name__)

STOP: Final = re.compile(r"(please )?(stop|cancel)( it| that| please)?[.!]?", re.IGNORECASE)
CARD_ANSWER: Final = "application/vnd.microsoft.card.adaptive"
TEXT_ANSWER: Final = "application/vnd.microsoft.activity.message"
ERROR_ANSWER: Final = "application/vnd.microsoft.error"


class TeamsBot(ActivityHandler):
    """`tenant` is the only one whose people are answered; empty: all that the app is installed in."""

    def __init__(self, desk: Desk, tenant: str = "") -> None:
        self._desk = desk
        self._tenant = tenant

    async def on_turn(self, turn_context: TurnContext) -> None:
        activity = turn_context.activity
        if self._tenant and Place.of(activity).tenant != self._tenant:
            log.warning("an activity of another tenant than teams.tenant_id was left alone")
            return
        await super().on_turn(turn_context)

    async def on_message_activity(self, turn_context: TurnContext) -> None:
        """A question, a word to stop, or a button of an older client."""
        activity = turn_context.activity
        place = Place.of(activity)
        self._desk.later(self._desk.seen(place))
        if isinstance(activity.value, Mapping) and "verb" in activity.value:
            outcome = await actions.press(self._desk, place, activity.value, event=str(activity.id))
            self._say(place, outcome.text)
            return
        if not place.private and not _mentioned(activity):
            return
        text = plain_text(activity)
        if await files.taken(self._desk, place, activity, text):
            return
        if await office.message(self._desk, place, activity, text):
            return
        if STOP.fullmatch(text):
            await self._stop(place)
            return
        if (said := await retrain.command(self._desk, place, text)) is not None:
            self._say(place, said)
            return
        await self._ask(place, activity, text)

    async def _ask(self, place: Place, activity: Activity, text: str) -> None:
        # Teams numbers messages within a conversation only.
        event = f"{place.conversation}\0{activity.id or secrets.token_hex(8)}"
        incoming = Incoming(
            platform="teams",
            tenant=place.tenant,
            conversation=place.channel,
            thread=place.conversation,
            user=place.user,
            event=event,
            text=text,
            private=place.private,
        )
        surface = TeamsSurface(self._desk, place, question_id("teams", place.tenant, event))
        await self._desk.conversation.ask(incoming, surface)

    async def _stop(self, place: Place) -> None:
        def here(address: Mapping[str, Any]) -> bool:
            return address.get("conversation") == place.conversation and address.get("tenant") == place.tenant

        try:
            stopped = await self._desk.conversation.stop_in("teams", place.user, here)
        except Exception as error:
            log.warning("an answer could not be stopped (%s)", type(error).__name__)
            stopped = False
        if not stopped:
            self._say(place, wording.NOTHING_TO_STOP)

    async def on_installation_update_add(self, turn_context: TurnContext) -> None:
        await self._welcome(turn_context.activity)

    async def on_members_added_activity(self, members_added: list[ChannelAccount], turn_context: TurnContext) -> None:
        activity = turn_context.activity
        others = [member for member in members_added if member.id != activity.recipient.id]
        if len(others) < len(members_added):
            await self._welcome(activity)
        elif not Place.of(activity).private:
            await office.members_added(self._desk, Place.of(activity), others)

    async def on_installation_update_remove(self, turn_context: TurnContext) -> None:
        await self._desk.lost(Place.of(turn_context.activity))

    async def on_members_removed_activity(
        self, members_removed: list[ChannelAccount], turn_context: TurnContext
    ) -> None:
        activity = turn_context.activity
        if any(member.id == activity.recipient.id for member in members_removed):
            await self._desk.lost(Place.of(activity))

    async def _welcome(self, activity: Activity) -> None:
        """Remember the conversation; in a personal chat also say hello, once per installation."""
        await proactive.welcome(self._desk, Place.of(activity))

    async def on_invoke_activity(self, turn_context: TurnContext) -> InvokeResponse:
        """A card's button or a thumb. Teams wants the answer within seconds."""
        activity = turn_context.activity
        place = Place.of(activity)
        message = str(activity.reply_to_id or "")
        match activity.name:
            case "adaptiveCard/action":
                event = str(activity.id or secrets.token_hex(8))
                return InvokeResponse(status=200, body=await self._pressed(place, activity.value, message, event))
            case "message/submitAction":
                await actions.feedback(self._desk, place, message, activity.value)
                return InvokeResponse(status=200, body={})
            case "fileConsent/invoke":
                if isinstance(activity.value, Mapping):
                    self._desk.later(files.consent(self._desk, place, message, activity.value))
                return InvokeResponse(status=200, body={})
            case _:
                return InvokeResponse(status=501)

    async def _pressed(self, place: Place, value: object, message: str, event: str) -> dict[str, Any]:
        action = value.get("action") if isinstance(value, Mapping) else None
        data = action.get("data") if isinstance(action, Mapping) else None
        if not isinstance(action, Mapping) or not isinstance(data, Mapping):
            error = {"code": "BadRequest", "message": "The action has no data."}
            return {"statusCode": 400, "type": ERROR_ANSWER, "value": error}
        data = {**data, "verb": action.get("verb") or data.get("verb")}
        outcome = await actions.press(self._desk, place, data, event=event, message=message)
        if outcome.card is not None:
            return {"statusCode": 200, "type": CARD_ANSWER, "value": outcome.card}
        return {"statusCode": 200, "type": TEXT_ANSWER, "value": outcome.text}

    def _say(self, place: Place, text: str) -> None:
        async def send() -> None:
            try:
                await self._desk.connector.send(place, activities.message(place, text))
            except QuantaHRError as error:
                log.warning("a line could not be sent (%s)", type(error).__name__)

        self._desk.later(send())


def plain_text(activity: Activity) -> str:
    """What the user typed, without the mention of the bot and without HTML's leftovers."""
    text = activity.text or ""
    bot = activity.recipient.id if activity.recipient else None
    for entity in activity.entities or []:
        told = entity.additional_properties or {}
        mentioned = told.get("mentioned") or {}
        if entity.type == "mention" and mentioned.get("id") == bot and told.get("text"):
            text = text.replace(told["text"], " ")
    text = re.sub(r"</?at[^>]*>", " ", text)
    return re.sub(r"[ \t\xa0]+", " ", html.unescape(text)).strip()


def _mentioned(activity: Activity) -> bool:
    bot = activity.recipient.id if activity.recipient else None
    return any(
        entity.type == "mention" and ((entity.additional_properties or {}).get("mentioned") or {}).get("id") == bot
        for entity in activity.entities or []
    )
