"""A place in Teams where something can be said, and who said something there: what an activity tells about both.

It is kept as JSON in the database (to reach people unasked) and in Redis (to go on after a restart). A conversation id
in a channel names its thread (`19:…@thread.tacv2;messageid=…`), so the id itself keeps threads apart.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Self

from botbuilder.schema import Activity

Kind = Literal["personal", "groupChat", "channel"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where, and who is spoken to. Strings as Teams gives them."""

    service_url: str
    conversation: str
    """Empty: the personal chat with `member`, which has to be opened first."""
    tenant: str
    kind: Kind
    bot: str
    """The bot's account in the channel: "28:<app id>"."""
    member: str = ""
    """The user's account in the channel: "29:…"."""
    user: str = ""
    """The user's Entra object id, or `member` where Teams does not tell."""
    name: str = ""

    @classmethod
    def of(cls, activity: Activity) -> Self:
        """The place an activity comes from."""
        conversation = activity.conversation
        data = activity.channel_data if isinstance(activity.channel_data, dict) else {}
        tenant = conversation.tenant_id or (data.get("tenant") or {}).get("id") or ""
        told = conversation.conversation_type or ("channel" if ";messageid=" in conversation.id else "personal")
        # Whatever Teams may add one day is treated as read by others.
        kind: Kind = "personal" if told == "personal" else "groupChat" if told == "groupChat" else "channel"
        sender = activity.from_property
        return cls(
            service_url=activity.service_url,
            conversation=conversation.id,
            tenant=tenant,
            kind=kind,
            bot=activity.recipient.id if activity.recipient else "",
            member=(sender.id or "") if sender else "",
            user=(sender.aad_object_id or sender.id or "") if sender else "",
            name=(sender.name or "") if sender else "",
        )

    @classmethod
    def load(cls, kept: Mapping[str, Any]) -> Self:
        """The place in `kept`, which may hold more. Raises TypeError if a field is missing."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in kept.items() if name in names})

    def dump(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def private(self) -> bool:
        """Whether only `user` can read what is said here."""
        return self.kind == "personal"

    @property
    def channel(self) -> str:
        """The conversation without its thread."""
        return self.conversation.partition(";")[0]

    def beside(self) -> "Place":
        """The personal chat with the same user, not opened yet."""
        return replace(self, conversation="", kind="personal")
