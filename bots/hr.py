"""HR's desk as HR meets it in a chat, the same on every platform: drafts, summaries, what nothing answered.

Everything in here answers privately. Drafts are for HR only and every use is audited, by template and never by name.
"""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence

from bots import wording
from bots.forms import Actor, Field, FieldKind, Form, Reply, Work
from bots.roles import Roles
from bots.uploads import UPLOAD_BYTES, UploadError, too_large
from quantahr.errors import QuantaHRError
from quantahr.people.corrections import Corrections
from quantahr.people.drafts import Template, find_template, load_templates
from quantahr.people.loop import FEWEST, Loop
from quantahr.people.refusal import refusal
from quantahr.people.words import Button, card
from quantahr.settings import Settings
from quantahr.store import Store

DRAFT, STANDARD = "draft", "standard"
DRAFTS_ARE_HRS = "Drafts are for HR only. For a question about a policy, just ask me."
GAPS_ARE_HRS = "Only HR sees what I could not answer."
NO_GAPS = f"Nothing at the moment: no question without an answer was asked by {FEWEST} people or more."
_UNFILLED = re.compile(r"\[[^\]\d][^\]]*\]")
"""A gap in a draft, "[name]"; "[1]" is a reference."""
SETTLED = "This has been settled already."
WHAT_TO_SUMMARISE = "What shall I summarise? For example: `/hr summarise parental leave in 5 sentences`."


class HrDesk:
    """Commands, forms and buttons of HR's desk."""

    def __init__(self, settings: Settings, store: Store, roles: Roles) -> None:
        self._settings = settings
        self._store = store
        self._roles = roles
        self._loop = Loop(store)

    async def draft(self, actor: Actor, text: str) -> Reply:
        """`/hr-draft …`: the form of a template, or the list of templates."""
        if why := refusal(text):
            await self._audit(actor, "desk.refused_by_design")
            return _say(why)
        if not self._is_hr(actor):
            await self._audit(actor, "draft.refused")
            return _say(DRAFTS_ARE_HRS)
        try:
            templates = await asyncio.to_thread(load_templates, self._settings.people.drafts)
        except QuantaHRError as error:
            return _say(str(error))
        template = find_template(templates, text) if text.strip() else None
        if template is None:
            rows: list[tuple[str, Sequence[Button]]] = [
                (one.title, [("Draft", f"draft:{name}")]) for name, one in templates.items()
            ]
            return Reply(card("What shall I draft?", rows))
        return Reply(form=_form(template))

    async def submit_draft(self, actor: Actor, data: Mapping[str, str], values: Mapping[str, str]) -> Reply:
        """The form of a template was sent."""
        if not self._is_hr(actor):
            await self._audit(actor, "draft.refused")
            return _say(DRAFTS_ARE_HRS)
        if why := refusal("\n".join(values.values())):
            await self._audit(actor, "desk.refused_by_design")
            return _say(why)
        name = data.get("template", "")
        await self._audit(actor, "draft.made", name)
        told = {key: value for key, value in values.items() if key != "format"}
        text = json.dumps({"template": name, "values": told}, ensure_ascii=False)
        return Reply(work=Work("draft", text, word=values.get("format") == "word"))

    async def summarise(self, actor: Actor, text: str) -> Reply:
        """`/hr summarise …`: everyone may, of what they may read."""
        if why := refusal(text):
            await self._audit(actor, "desk.refused_by_design")
            return _say(why)
        return Reply(work=Work("summary", f"summarise {text.strip()}")) if text.strip() else _say(WHAT_TO_SUMMARISE)

    def takes_files(self, actor: Actor) -> bool:
        """Whether documents of this person are read at all."""
        return self._is_hr(actor)

    async def admit_files(self, actor: Actor) -> None:
        """Raises UploadError unless this person's documents are read."""
        if not self._is_hr(actor):
            await self._audit(actor, "upload.refused")
            raise UploadError(wording.NO_FILES)

    async def check_upload(self, actor: Actor, name: str, size: int) -> None:
        """Raises UploadError if this document is not taken; a `size` of 0 is not known yet."""
        if not name.lower().endswith(".docx"):
            raise UploadError(
                "I can summarise Word documents (.docx) only. Save it as .docx, without macros, and drop it here again."
            )
        if size > UPLOAD_BYTES:
            raise UploadError(too_large(size))
        await self._audit(actor, "upload.summarised")

    async def gaps(self, actor: Actor) -> Reply:
        """`/hr-gaps`: what many asked and nothing answers, and what has changed since it was answered."""
        if not self._is_hr(actor):
            await self._audit(actor, "gaps.refused")
            return _say(GAPS_ARE_HRS)
        await self._audit(actor, "gaps.seen")
        message = await asyncio.to_thread(self._loop.digest)
        return Reply(message) if message else _say(NO_GAPS)

    async def press(self, actor: Actor, value: str) -> Reply:
        """A button of the desk."""
        verb, _, rest = value.partition(":")
        if verb == "draft":
            return await self.draft(actor, rest)
        if not self._is_hr(actor):
            await self._audit(actor, f"{verb}.refused"[:64])
            return _say(GAPS_ARE_HRS)
        if verb == "approve":
            gap = await asyncio.to_thread(self._loop.gap, rest)
            # Only HR's own words are taught: what people type in a chat is not for training.
            return _standard_form("", gap.draft, {"gap": rest}, asked=gap.question) if gap else _say(SETTLED)
        if verb == "renew":
            old = await asyncio.to_thread(self._loop.standard, rest)
            return _standard_form(old.question, old.text, {"renew": rest}) if old else _say(SETTLED)
        if verb == "retire":
            ended = await asyncio.to_thread(self._loop.retire, rest, actor.id)
            return _say("It stays silent. The documents answer instead." if ended else SETTLED)
        if verb == "dismiss":
            await asyncio.to_thread(self._loop.dismiss, rest, actor.id)
            return _say("Dismissed. It comes back if more people ask.")
        if verb == "correct":
            sent = await asyncio.to_thread(self._correct, actor, rest)
            return _say("The correction is on its way." if sent else "Everybody has had this correction already.")
        return _say("I do not know this button; it belongs to another version of me.")

    async def submit_standard(self, actor: Actor, data: Mapping[str, str], values: Mapping[str, str]) -> Reply:
        """A standard answer was approved."""
        if not self._is_hr(actor):
            return _say(GAPS_ARE_HRS)
        if wrong := standard_faults(values):
            return _say(" ".join(wrong.values()))
        question, answer = values["question"].strip(), values["answer"].strip()
        keep, of = (self._loop.renew, data["renew"]) if "renew" in data else (self._loop.approve, data.get("gap", ""))
        if not await asyncio.to_thread(keep, of, question, answer, actor.id):
            return _say(SETTLED)
        return _say(
            "Approved. From now on this is what I answer, as HR's standard answer; the next training includes it."
        )

    def _correct(self, actor: Actor, section: str) -> int:
        return Corrections(self._store).send(section, actor.id, self._roles.of)

    def _is_hr(self, actor: Actor) -> bool:
        return self._roles.holds(actor.platform, actor.user, "hr", "admin")

    async def _audit(self, actor: Actor, action: str, subject: str = "") -> None:
        await asyncio.to_thread(self._store.audit, actor.id, action, subject)


def summary_words(text: str) -> str | None:
    """What is to be summarised, if a message begins by asking that; None otherwise."""
    found = re.match(r"^\s*(?:please\s+)?(?:summari[sz]e|summary of|sum up)\b[:\s]*(.*)$", text, re.I | re.DOTALL)
    return found[1].strip() if found else None


def standard_faults(values: Mapping[str, str]) -> dict[str, str]:
    """What is wrong with a standard answer that was filled in, by field."""
    wrong = {}
    if not values.get("question", "").strip():
        wrong["question"] = "Please write the question."
    if not values.get("answer", "").strip():
        wrong["answer"] = "Please write the answer first."
    elif gap := _UNFILLED.search(values["answer"]):
        wrong["answer"] = f"{gap[0][:60]} still has to be filled in; without [brackets] it can be approved."
    return wrong


def _say(text: str) -> Reply:
    return Reply(card(text))


def _standard_form(question: str, answer: str, data: Mapping[str, str], *, asked: str = "") -> Reply:
    label = "The question, in your own words" + (f" (people asked: “{asked[:500]}”)" if asked else "")
    fields = [
        Field("question", label, initial=question, hint="The next training learns it."),
        Field("answer", "The answer", "long", initial=answer, hint="Everybody who asks this will read it."),
    ]
    return Reply(form=Form(STANDARD, "Standard answer", "Approve", fields, data))


def _form(template: Template) -> Form:
    fields = []
    for field in template.fields:
        kind: FieldKind = field.kind
        choices = [(choice, choice) for choice in field.choices]
        fields.append(Field(field.name, field.label, kind, required=field.required, hint=field.hint, choices=choices))
    formats = [("message", "Message"), ("word", "Message and Word file")]
    fields.append(Field("format", "As", "choice", initial="message", choices=formats))
    return Form(DRAFT, template.title, "Draft", fields, {"template": template.name})
