"""What the parts of the fake Slack share: a message, and the error of a call that is turned down."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Message:
    channel: str
    ts: str
    user: str
    text: str = ""
    blocks: list[dict[str, Any]] = field(default_factory=list)
    thread_ts: str | None = None
    metadata: dict[str, Any] | None = None
    streaming: bool = False
    began: float = 0.0
    ephemeral_to: str | None = None
    deleted: bool = False


class RefusalError(Exception):
    """An error code of the Web API."""

    def __init__(self, code: str, **more: Any) -> None:
        super().__init__(code)
        self.code = code
        self.more = more
