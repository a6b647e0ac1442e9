"""The door to onboarding and HR's desk: which words, buttons and forms lead where.

A platform hands in what was typed or pressed, and shows the `Reply` privately.
"""

import logging
import re
from collections.abc import Mapping

from bots.conversation import Conversation
from bots.forms import Actor, Reply
from bots.hr import DRAFT, STANDARD, HrDesk, standard_faults, summary_words
from bots.people import ONBOARD, People
from quantahr.people.words import card

log = logging.getLogger(__name__)

COMMANDS = ("hr-onboard", "hr-draft", "hr-gaps")
_COMMAND = re.compile(
    r"^\s*/?(hr-onboard|hr-draft|hr-gaps|(?:/?hr\s+)?onboarding)\b\s*(.*)$", re.IGNORECASE | re.DOTALL
)
_PEOPLE = frozenset({"done", "skip", "pause", "resume", "stop", "restart", "details", "steps", "begin"})


class Office:
    """One per bot process."""

    def __init__(self, conversation: Conversation) -> None:
        settings, store, roles = conversation.settings, conversation.store, conversation.roles
        self.people = People(settings, store, roles)
        self.hr = HrDesk(settings, store, roles)

    async def command(self, actor: Actor, name: str, text: str) -> Reply:
        """One of COMMANDS, with what was typed behind it."""
        match name:
            case "hr-onboard":
                return await self.people.onboard(actor, text)
            case "hr-draft":
                return await self.hr.draft(actor, text)
            case _:
                return await self.hr.gaps(actor)

    @staticmethod
    def concerns(text: str) -> bool:
        """Whether `message` may have a reply to this."""
        return bool(_COMMAND.match(text)) or summary_words(text) is not None

    async def message(self, actor: Actor, text: str) -> Reply | None:
        """What was typed in private, or behind `/hr`; None if it is a question."""
        if found := _COMMAND.match(text):
            name = found[1].lower()
            if name.endswith("onboarding"):
                return None if found[2].strip() else await self.people.checklist(actor)
            return await self.command(actor, name, found[2])
        words = summary_words(re.sub(r"^\s*/hr\s+", "", text))
        return None if words is None else await self.hr.summarise(actor, words)

    async def press(self, actor: Actor, value: str) -> Reply:
        """A button of a message."""
        known = value.partition(":")[0] in _PEOPLE
        return await (self.people.press(actor, value) if known else self.hr.press(actor, value))

    @staticmethod
    def faults(form: str, values: Mapping[str, str]) -> Mapping[str, str]:
        """What is wrong with the fields of a form, to be said while it is still open; empty if it can be sent."""
        return standard_faults(values) if form == STANDARD else {}

    async def submit(self, actor: Actor, form: str, data: Mapping[str, str], values: Mapping[str, str]) -> Reply:
        """A form was sent."""
        match form:
            case "onboard":
                return await self.people.submit(actor, data, values)
            case "draft":
                return await self.hr.submit_draft(actor, data, values)
            case "standard":
                return await self.hr.submit_standard(actor, data, values)
            case _:
                return Reply(card("I do not know this form; it belongs to another version of me."))


FORMS = (ONBOARD, DRAFT, STANDARD)
