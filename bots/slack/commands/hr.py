"""`/hr question`: asked anywhere, answered to the asker only."""

from typing import Any

from slack_bolt.async_app import AsyncApp

from bots import commands, wording
from bots.slack.desk import Desk, Json
from bots.slack.office import actor_of, show
from bots.slack.text import plain


def register(app: AsyncApp, desk: Desk) -> None:
    """Connect the listener."""

    @app.command("/hr")
    async def on_hr(ack: Any, body: Json, respond: Any) -> None:
        match commands.parse(plain(body.get("text") or "", desk.bot)):
            case commands.Help():
                await ack(wording.HELP)
            case commands.Stop():
                await ack()
                if not await desk.stop_here(body["user_id"], body["channel_id"]):
                    await respond(wording.NOTHING_TO_STOP, response_type="ephemeral")
            case commands.Ask(text=text) if desk.office.concerns(text):
                await ack()
                reply = await desk.office.message(actor_of(desk, body), text)
                if reply is not None:
                    await show(desk, body, reply, respond)
            case commands.Ask(text=text):
                await ack(wording.LOOKING)
                await ask(desk, body, text)


async def ask(desk: Desk, body: Json, text: str) -> None:
    """Ask; what one person asks by `/hr` in one channel is one thread."""
    user, channel = body["user_id"], body["channel_id"]
    address = {
        "kind": "slash",
        "team": body.get("team_id") or desk.team,
        "channel": channel,
        "user": user,
        "thread": None,
        "url": body.get("response_url"),
    }
    await desk.ask(text=text, thread=f"slash:{user}", event=f"slash:{body['trigger_id']}", address=address)
