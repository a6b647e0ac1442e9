"""“Show sources” and “Closest passages”: the passages, unfolded."""

import asyncio

from bots import wording
from bots.slack.blocks import Which, note_view, passages_view
from bots.slack.desk import Desk, Json
from quantahr.messages import Final


async def passages(desk: Desk, user: str, action: Json, trigger: str) -> None:
    """Open them in a modal. They come from the answer itself, for as long as that is kept."""
    kind, _, question = str(action.get("value", "")).partition(":")
    which: Which = "closest" if kind == "closest" else "sources"
    end = await desk.conversation.ended(question)
    view = passages_view(end, which)
    if isinstance(end, Final) and end.asker_only:
        asked = await asyncio.to_thread(desk.conversation.store.question, question)
        if asked is None or asked.user != user:
            view = note_view(wording.ONLY_THE_ASKER)
    await desk.client.views_open(trigger_id=trigger, view=view)
