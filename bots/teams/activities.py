"""What the bot sends, built by pure functions: botbuilder activities in the shape that Teams documents.

The library drops fields of an entity that it does not know, so the entities for streaming, the AI label and citations
are classes of their own; the stream's fields are mirrored in channelData, where older services look for them.
"""

import copy
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal

from botbuilder.schema import Activity, Attachment, ChannelAccount, ConversationAccount, Entity

from bots.teams.place import Place
from quantahr.messages import Source

TEXT_BYTES: Final = 14_000
"""Of JSON, per message: with a card of at most CARD_BYTES and the entities a message stays under 25 KB."""
CITATIONS: Final = 20
NAME: Final = 80
ABSTRACT: Final = 160
INFORMATIVE: Final = 1000
CARD: Final = "application/vnd.microsoft.card.adaptive"

StreamType = Literal["informative", "streaming", "final"]


class StreamInfo(Entity):
    """Which part of a streamed message an activity is."""

    _attribute_map: ClassVar[dict[str, dict[str, str]]] = {
        "type": {"key": "type", "type": "str"},
        "stream_id": {"key": "streamId", "type": "str"},
        "stream_type": {"key": "streamType", "type": "str"},
        "stream_sequence": {"key": "streamSequence", "type": "int"},
    }

    def __init__(self, *, stream_id: str | None, stream_type: StreamType, stream_sequence: int | None) -> None:
        super().__init__(type="streaminfo")
        self.stream_id = stream_id
        self.stream_type = stream_type
        self.stream_sequence = stream_sequence


class AiMessage(Entity):
    """Says that an AI wrote the message, and on what it rests."""

    _attribute_map: ClassVar[dict[str, dict[str, str]]] = {
        "type": {"key": "type", "type": "str"},
        "at_type": {"key": "@type", "type": "str"},
        "at_context": {"key": "@context", "type": "str"},
        "at_id": {"key": "@id", "type": "str"},
        "additional_type": {"key": "additionalType", "type": "[str]"},
        "citation": {"key": "citation", "type": "[object]"},
    }

    def __init__(self, citation: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(type="https://schema.org/Message")
        self.at_type = "Message"
        self.at_context = "https://schema.org"
        self.at_id = ""
        self.additional_type = ["AIGeneratedContent"]
        self.citation = [dict(one) for one in citation] or None


def typing(place: Place) -> Activity:
    """The three dots."""
    return _activity(place, "typing")


def stream(place: Place, text: str, *, kind: StreamType, sequence: int | None, stream_id: str | None) -> Activity:
    """One step of a stream: a passing remark, or the whole text so far."""
    activity = _activity(place, "typing", text=text[:INFORMATIVE] if kind == "informative" else text)
    _mark(activity, StreamInfo(stream_id=stream_id, stream_type=kind, stream_sequence=sequence))
    return activity


def message(
    place: Place,
    text: str,
    *,
    cards: Sequence[Mapping[str, Any]] = (),
    sources: Sequence[Source] = (),
    generated: bool = False,
    feedback: bool = False,
) -> Activity:
    """A message. `generated` puts the AI label on it, `feedback` the thumbs."""
    activity = _activity(place, "message", text=text)
    activity.attachments = [Attachment(content_type=CARD, content=dict(card)) for card in cards] or None
    if generated:
        activity.entities = [
            *(activity.entities or []),
            AiMessage([_citation(source) for source in sources[:CITATIONS]]),
        ]
    if feedback:
        activity.channel_data = {"feedbackLoop": {"type": "default"}}
    return activity


def ending(activity: Activity, stream_id: str) -> Activity:
    """The same message as the end of a stream."""
    last = copy.copy(activity)
    _mark(last, StreamInfo(stream_id=stream_id, stream_type="final", stream_sequence=None))
    return last


def escape(text: str) -> str:
    """Text that Teams does not take for HTML, its lines kept apart: Markdown joins those with one break between them.

    (Nobody is pinged by a text in Teams: that takes an entity.)
    """
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"\n+", "\n\n", plain)


def split(text: str, limit: int = TEXT_BYTES) -> list[str]:
    """The text in pieces of at most `limit` bytes of JSON, cut between paragraphs, else sentences, else words."""
    pieces: list[str] = []
    rest = text
    while _size(rest) > limit:
        cut = _fitting(rest, limit)
        head = rest[:cut]
        for pattern in (r"\n\s*\n", r"\n", r"(?<=[.!?…])\s", r"\s"):
            ends = [found.end() for found in re.finditer(pattern, head)]
            if ends and ends[-1] > cut // 3:
                cut = ends[-1]
                break
        pieces.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return [*pieces, rest] if rest or not pieces else pieces


def _fitting(text: str, limit: int) -> int:
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if _size(text[:middle]) <= limit:
            low = middle
        else:
            high = middle - 1
    return low


def _size(text: str) -> int:
    return len(json.dumps(text))


def _citation(source: Source) -> dict[str, Any]:
    appearance = {
        "@type": "DigitalDocument",
        "name": shorten(f"{source.document}: {source.heading}", NAME),
        "abstract": shorten(source.passage, ABSTRACT) or source.document[:ABSTRACT],
    }
    return {"@type": "Claim", "position": source.number, "appearance": appearance}


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters on one line, cut between words."""
    line = " ".join(text.split())
    if len(line) <= limit:
        return line
    return line[: limit - 1].rsplit(" ", 1)[0].rstrip(" ,;:") + "…"


def _mark(activity: Activity, info: StreamInfo) -> None:
    activity.entities = [info, *(activity.entities or [])]
    mirrored = {"streamId": info.stream_id, "streamType": info.stream_type, "streamSequence": info.stream_sequence}
    given = {name: value for name, value in mirrored.items() if value is not None}
    activity.channel_data = {**given, **(activity.channel_data or {})}


def _activity(place: Place, kind: str, *, text: str | None = None) -> Activity:
    return Activity(
        type=kind,
        channel_id="msteams",
        service_url=place.service_url,
        from_property=ChannelAccount(id=place.bot),
        recipient=ChannelAccount(id=place.member) if place.private and place.member else None,
        conversation=ConversationAccount(
            id=place.conversation,
            is_group=None if place.private else True,
            conversation_type=place.kind,
            tenant_id=place.tenant or None,
        ),
        text=text,
        text_format="markdown" if text is not None else None,
    )
