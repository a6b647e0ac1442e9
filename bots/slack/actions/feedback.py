"""👍 and 👎: in a channel from anybody of the company, elsewhere from the one who asked."""

from bots import wording
from bots.slack.desk import Desk, Json


async def feedback(desk: Desk, user: Json, action: Json, container: Json) -> str:
    """Keep a rating. Returns what to tell the user."""
    if str(user.get("team_id") or desk.team) != desk.team:
        return wording.OUR_PEOPLE_ONLY
    rating, _, question = str(action.get("value", "")).partition(":")
    private = str(container.get("channel_id") or "").startswith("D") or bool(container.get("is_ephemeral"))
    return await desk.conversation.feedback(question, str(user["id"]), 1 if rating == "1" else -1, private=private)
