"""👍 and 👎."""

from bots.slack.desk import Desk, Json


async def feedback(desk: Desk, user: str, action: Json) -> str:
    """Keep a rating. Returns what to tell the user."""
    rating, _, question = str(action.get("value", "")).partition(":")
    return await desk.conversation.feedback(question, user, 1 if rating == "1" else -1)
