"""“Ask a human”: nothing reaches HR before the asker has seen what will, and agreed."""

import asyncio

from bots import wording
from bots.slack.blocks import consent_view, note_view
from bots.slack.desk import Desk, Json


async def ask_human(desk: Desk, user: str, action: Json, body: Json) -> None:
    """Show the question and what HR will see."""
    question = str(action.get("value", ""))
    asked = await asyncio.to_thread(desk.conversation.store.question, question)
    if asked is None or asked.text is None:
        view = note_view(wording.UNKNOWN_QUESTION)
    elif asked.user != user:
        view = note_view(wording.NOT_YOURS)
    else:
        view = consent_view(question, asked.text, _origin(body))
    await desk.client.views_open(trigger_id=body["trigger_id"], view=view)


def _origin(body: Json) -> dict[str, str | None]:
    """Where HR's reply goes: into the DM in which the button was pressed. None means: into a DM to be opened."""
    container, message = body.get("container") or {}, body.get("message") or {}
    channel = str(container.get("channel_id") or "")
    if not channel.startswith("D"):
        return {"channel": None, "thread": None}
    return {"channel": channel, "thread": message.get("thread_ts") or container.get("thread_ts")}
