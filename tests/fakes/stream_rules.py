"""What Teams refuses: requests above its rates, and steps of a stream that break its rules."""

import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

SIZE = 25 * 1024
RATES = ((7, 1.0), (60, 30.0), (1800, 3600.0))


class RefusedByTeamsError(Exception):
    """The answer to a request that breaks a rule."""

    def __init__(self, status: int, code: str, message: str = "", retry_after: float | None = None) -> None:
        super().__init__(f"{status} {code} {message}")
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after


class Throttle:
    """Requests per conversation."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[float]] = defaultdict(deque)

    def count(self, conversation: str) -> None:
        now, seen = time.monotonic(), self._seen[conversation]
        for most, span in RATES:
            recent = [moment for moment in seen if moment > now - span]
            if len(recent) >= most:
                raise RefusedByTeamsError(429, "TooManyRequests", retry_after=span - (now - recent[-most]) + 0.01)
        seen.append(now)


@dataclass
class Stream:
    """One streamed message under way."""

    id: str
    begun: float
    sequence: int = 0
    text: str = ""
    last: float = 0.0
    canceled: bool = False
    ended: bool = False
    steps: list[tuple[str, str]] = field(default_factory=list)


class StreamRules:
    """The streams of all chats. `pace` and `longest` are Teams' second and two minutes; tests shorten them."""

    def __init__(self, pace: float = 1.0, longest: float = 120.0) -> None:
        self.pace = pace
        self.longest = longest
        self.streams: dict[str, Stream] = {}
        self._of_chat: dict[str, str] = {}

    def active(self, chat: str) -> Stream | None:
        stream = self.streams.get(self._of_chat.get(chat, ""))
        return stream if stream and not stream.ended and not self._expired(stream) else None

    def step(self, chat: str, kind: str, activity: dict[str, Any], new_id: str) -> Stream:
        """Take one step. Raises RefusedByTeamsError."""
        info = stream_info(activity) or {}
        if kind != "personal":
            raise RefusedByTeamsError(405, "MethodNotAllowed", "Streaming is for one-to-one chats.")
        mirrored = {name: value for name, value in info.items() if name != "type"}
        if {name: (activity.get("channelData") or {}).get(name) for name in mirrored} != mirrored:
            raise RefusedByTeamsError(400, "BadArgument", "channelData does not mirror the stream's fields.")
        if info["streamType"] == "final" and not activity.get("text") and not activity.get("attachments"):
            raise RefusedByTeamsError(400, "BadArgument", "A final message says something.")
        if info["streamType"] != "final" and not activity.get("text"):
            raise RefusedByTeamsError(400, "BadArgument", "Start streaming activities should include text.")
        stream = self._find(chat, info, new_id)
        now = time.monotonic()
        if now - stream.last < self.pace:
            raise RefusedByTeamsError(429, "TooManyRequests", "One request a second.", retry_after=self.pace)
        if info["streamType"] == "final":
            if activity["type"] != "message" or "streamSequence" in info:
                raise RefusedByTeamsError(400, "BadArgument", "The final activity is a message without a sequence.")
            stream.ended = True
        else:
            self._grow(stream, info, activity)
        stream.last = now
        stream.steps.append((info["streamType"], activity.get("text") or ""))
        return stream

    def _find(self, chat: str, info: dict[str, Any], new_id: str) -> Stream:
        identifier = info.get("streamId")
        if not identifier:
            if self.active(chat):
                raise RefusedByTeamsError(403, "ContentStreamNotAllowed", "There is a stream in this chat.")
            if info["streamType"] == "final":
                raise RefusedByTeamsError(400, "BadArgument", "There is no stream to end.")
            self.streams[new_id] = Stream(new_id, time.monotonic())
            self._of_chat[chat] = new_id
            return self.streams[new_id]
        stream = self.streams.get(identifier)
        if stream is None or self._of_chat.get(chat) != identifier:
            raise RefusedByTeamsError(404, "ActivityNotFound")
        if stream.canceled:
            raise RefusedByTeamsError(403, "ContentStreamNotAllowed", "Content stream was canceled by user.")
        if stream.ended:
            raise RefusedByTeamsError(
                403, "ContentStreamNotAllowed", "Not allowed on an already completed streamed message."
            )
        if self._expired(stream):
            raise RefusedByTeamsError(
                403, "ContentStreamNotAllowed", "Content stream finished due to exceeded streaming time."
            )
        return stream

    def _grow(self, stream: Stream, info: dict[str, Any], activity: dict[str, Any]) -> None:
        text = activity["text"]
        if activity["type"] != "typing" or info.get("streamSequence") != stream.sequence + 1:
            raise RefusedByTeamsError(412, "ContentStreamSequenceOrderPreConditionFailed")
        if info["streamType"] == "informative" and (len(text) > 1000 or stream.text):
            raise RefusedByTeamsError(400, "BadArgument", "Informative text is short, and comes before the answer.")
        if info["streamType"] == "streaming":
            if not text.startswith(stream.text):
                raise RefusedByTeamsError(403, "ContentStreamNotAllowed", "Each step holds all the text so far.")
            stream.text = text
        stream.sequence += 1

    def _expired(self, stream: Stream) -> bool:
        return time.monotonic() - stream.begun > self.longest


def stream_info(activity: dict[str, Any]) -> dict[str, Any] | None:
    """The streaminfo entity of an activity."""
    return next((one for one in activity.get("entities") or [] if one.get("type") == "streaminfo"), None)
