"""What the fake Slack refuses, as the real one does: calls above a method's tier, and blocks that are malformed."""

import json
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any

TIERS = {1: 1, 2: 20, 3: 50, 4: 100, 5: 600}
METHODS = {
    "chat.startStream": 2,
    "chat.stopStream": 2,
    "chat.appendStream": 4,
    "chat.update": 3,
    "chat.postEphemeral": 4,
    "conversations.open": 3,
    "conversations.replies": 3,
    "conversations.history": 3,
    "views.open": 4,
    "assistant.threads.setStatus": 5,
    "assistant.threads.setTitle": 3,
    "assistant.threads.setSuggestedPrompts": 3,
}
TEXT, UPDATE_TEXT, SECTION, MARKDOWN, BLOCKS, BLOCK_TOTAL = 40_000, 4_000, 3_000, 12_000, 50, 13_000
MODERN = {"markdown", "context_actions"}
KNOWN = {"section", "context", "actions", "divider", "input", "header"} | MODERN


class Tiers:
    """Calls per method in the last `minute` seconds; one post a second per channel, with bursts."""

    def __init__(self) -> None:
        self.minute = 60.0
        self.burst = 8
        self._calls: dict[str, deque[float]] = defaultdict(deque)

    def retry_after(self, method: str, channel: str) -> int | None:
        """Seconds to wait, or None if the call is allowed."""
        if method == "chat.postMessage":
            return self._count(f"{method}:{channel}", self.burst, float(self.burst))
        tier = METHODS.get(method)
        return self._count(method, TIERS[tier], self.minute) if tier else None

    def _count(self, name: str, most: int, span: float) -> int | None:
        now, calls = time.monotonic(), self._calls[name]
        while calls and calls[0] <= now - span:
            calls.popleft()
        if len(calls) >= most:
            return max(1, int(span - (now - calls[0]) + 0.999))
        calls.append(now)
        return None


def refuse_blocks(blocks: Sequence[dict[str, Any]], *, modern: bool, most: int = BLOCKS) -> str | None:
    """The error code for these blocks, or None."""
    if len(blocks) > most:
        return "invalid_blocks"
    if most == BLOCKS and len(json.dumps(blocks, ensure_ascii=False)) > BLOCK_TOTAL:
        return "msg_blocks_too_long"
    for block in blocks:
        kind = block.get("type")
        if kind not in KNOWN or (kind in MODERN and not modern):
            return "invalid_blocks"
        if kind == "section" and not 0 < len(block["text"]["text"]) <= SECTION:
            return "invalid_blocks"
        if kind == "markdown" and not 0 < len(block["text"]) <= MARKDOWN:
            return "invalid_blocks"
        elements = block.get("elements", [])
        if kind in {"actions", "context", "context_actions"} and not 0 < len(elements) <= 25:
            return "invalid_blocks"
        actions = [element["action_id"] for element in elements if "action_id" in element]
        if len(actions) != len(set(actions)):
            return "invalid_blocks"
        for element in elements:
            if element["type"] == "button" and (len(element["text"]["text"]) > 75 or len(element["value"]) > 2000):
                return "invalid_blocks"
    return None


def refuse_view(view: dict[str, Any]) -> str | None:
    """The error code for a modal, or None."""
    if view.get("type") != "modal" or len(view["title"]["text"]) > 24 or len(view.get("private_metadata", "")) > 3000:
        return "invalid_arguments"
    inputs = [block for block in view["blocks"] if block["type"] == "input"]
    if inputs and "submit" not in view:
        return "invalid_arguments"
    for field in (block["element"] for block in inputs):
        if len(field.get("initial_value", "")) > field.get("max_length", 3000):
            return "invalid_arguments"
    return refuse_blocks(view["blocks"], modern=True, most=100)
