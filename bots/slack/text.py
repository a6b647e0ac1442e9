"""Text on its way into and out of Slack. Pure.

Slack's own notation travels inside texts (`<@U1>`, `<!here>`, `&amp;`), so what comes in is made plain before it is a
question, and what goes out is escaped, so that no document and no employee can make the assistant ping a channel.
"""

import re

_MENTION = re.compile(r"<@([UW][A-Z0-9]+)(?:\|[^>]*)?>")
_CHANNEL = re.compile(r"<#[A-Z0-9]+(?:\|([^>]*))?>")
_SPECIAL = re.compile(r"<!([^>|]+)(?:\|([^>]*))?>")
_LINK = re.compile(r"<((?:https?|mailto|tel):[^>|]+)(?:\|([^>]*))?>")
_LOUD = re.compile(r"@(?=(?:here|channel|everyone|group)\b)", re.IGNORECASE)
_BOUNDARIES = ("\n\n", "\n", ". ", " ")


def plain(text: str, bot: str = "") -> str:
    """What somebody typed, without Slack's notation; mentions of `bot` are dropped, others become "@colleague"."""
    text = _MENTION.sub(lambda found: "" if found[1] == bot else "@colleague", text)
    text = _CHANNEL.sub(lambda found: f"#{found[1] or 'channel'}", text)
    text = _SPECIAL.sub(lambda found: found[2] or "", text)
    text = _LINK.sub(lambda found: found[2] or found[1].removeprefix("mailto:").removeprefix("tel:"), text)
    text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return text.strip()


def addressed_to(text: str) -> set[str]:
    """The ids of the users whom a message mentions."""
    return set(_MENTION.findall(text))


def escape(text: str) -> str:
    """Text that Slack shows as it is: no links, no mentions, nobody pinged."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _LOUD.sub("@\u2060", text)


def split(text: str, limit: int, first: int | None = None) -> list[str]:
    """`text` in pieces of at most `limit` characters (the first at most `first`), cut where a reader would pause.

    The pieces join to the text again, but for the white space at the cuts.
    """
    pieces: list[str] = []
    room = limit if first is None else first
    while len(text) > room:
        cut = max(text.rfind(mark, room // 2, room - len(mark) + 1) + len(mark.rstrip()) for mark in _BOUNDARIES[:3])
        if cut <= room // 2:
            space = text.rfind(" ", 1, room)
            cut = space if space > 0 else room
        pieces.append(text[:cut].rstrip())
        text = text[cut:].lstrip()
        room = limit
    return [*pieces, text] if text or not pieces else pieces


def preview(text: str, limit: int = 3900) -> str:
    """The beginning of a text, for notifications of a message whose blocks hold it whole."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
