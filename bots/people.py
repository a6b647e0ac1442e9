"""Onboarding as people meet it in a chat, the same on every platform.

HR begins, pauses and ends journeys; a joiner presses "Done" and opens the checklist; a manager sees who is where. The
database does the rest: nothing here sends anything by itself.
"""

import asyncio
import datetime
from collections.abc import Mapping, Sequence

from bots.forms import Actor, Field, Form, Reply
from bots.roles import Roles
from quantahr.people.command import arguments, day, person
from quantahr.people.errors import PeopleError
from quantahr.people.joiner import Joiner, Kept, in_order
from quantahr.people.journeys import Journeys, load_journeys
from quantahr.people.onboarding import Onboarding
from quantahr.people.words import Button, card
from quantahr.settings import Settings
from quantahr.store import Store

ONBOARD = "onboard"
NAMES = ("start", "role", "location", "contract", "manager", "buddy", "name", "email")
ACTIONS = {"pause": "paused", "resume": "active", "stop": "stopped"}
HR_ONLY = "Only HR can do this. If you need it for your work, please ask the HR team."
NO_JOURNEY = "You are on no onboarding journey at the moment. If you have just started, HR can begin one for you."
NOT_YOURS = "Only the person this is for, or HR, can do that."
SIGNS = {"done": "✅", "sent": "⬜", "waiting": "🔜", "skipped": "➖", "late": "⬜"}
SHOWN = 20
"""Journeys in HR's overview; Slack takes 50 blocks in a message."""


class People:
    """Commands and buttons of onboarding."""

    def __init__(self, settings: Settings, store: Store, roles: Roles) -> None:
        self._settings = settings
        self._store = store
        self._roles = roles
        self._onboarding = Onboarding(store)

    async def onboard(self, actor: Actor, text: str) -> Reply:
        """`/hr-onboard …`: begin a journey, or change one."""
        if not self._is_hr(actor):
            await self._refused(actor)
            return _say(HR_ONLY)
        try:
            return await asyncio.to_thread(self._onboard, actor, text)
        except PeopleError as error:
            return _say(str(error))

    async def submit(self, actor: Actor, data: Mapping[str, str], values: Mapping[str, str]) -> Reply:
        """The form was sent."""
        if not self._is_hr(actor):
            await self._refused(actor)
            return _say(HR_ONLY)
        try:
            return await asyncio.to_thread(self._enrol, actor, {**data, **{k: v for k, v in values.items() if v}})
        except PeopleError as error:
            return _say(str(error))

    async def checklist(self, actor: Actor) -> Reply:
        """`/hr onboarding`: one's own checklist, whom one leads, and for HR everybody."""
        return await asyncio.to_thread(self._checklist, actor)

    async def press(self, actor: Actor, value: str) -> Reply:
        """A button: done, skip, or one of HR's."""
        verb, _, rest = value.partition(":")
        if verb in {"done", "skip"}:
            return await asyncio.to_thread(self._mark, actor, verb, rest)
        if not self._is_hr(actor):
            await self._refused(actor)
            return _say(HR_ONLY)
        if verb == "begin":
            return await asyncio.to_thread(self._form, {"user": rest})
        if verb == "details":
            joiner = await asyncio.to_thread(self._onboarding.get, rest)
            return self._form(_told(joiner)) if joiner else _say("This journey is no longer there.")
        return await asyncio.to_thread(self._steer, actor, verb, rest)

    async def arrived(self, actor: Actor, email: str = "", *, certain: bool = True) -> bool:
        """Somebody has just got an account. Returns whether that was news.

        Unless that is `certain` HR is asked, whatever the journeys say about arrivals.
        """
        return await asyncio.to_thread(self._arrived, actor, email, certain)

    def left(self, actor: Actor) -> None:
        """Somebody's account is gone: their journey ends."""
        joiner = self._onboarding.find(actor.platform, actor.tenant, actor.user)
        if joiner is not None:
            self._onboarding.set_status(joiner.id, "stopped", actor.id)

    def _onboard(self, actor: Actor, text: str) -> Reply:
        words, pairs = arguments(text, NAMES)
        if words and words[0] in {"list", "overview"}:
            return self._overview(actor)
        if words and words[0] in {*ACTIONS, "restart"} and len(words) > 1:
            joiner = self._onboarding.find(actor.platform, actor.tenant, person(words[1]))
            if joiner is None:
                return _say("This person is on no journey. `/hr-onboard list` shows who is.")
            return self._steer(actor, words[0], f"{joiner.id}:{pairs.get('start', '')}")
        told = dict(pairs)
        if words and (user := person(words[0])):
            told["user"] = user
        elif words and "@" in words[0]:
            told["email"] = words[0]
        elif words:
            raise PeopleError("Name the person with @, or by an e-mail address: `/hr-onboard @ana start=2027-01-11`.")
        for name in ("manager", "buddy"):
            if name in told:
                told[name] = person(told[name]) or told[name]
        if not {"start", "role", "location"} <= told.keys() or not told.keys() & {"user", "email"}:
            return self._form(told)
        return self._enrol(actor, told)

    def _enrol(self, actor: Actor, told: Mapping[str, str]) -> Reply:
        journeys = self._journeys()
        location = journeys.find_location(told.get("location", ""))
        if location is None:
            raise PeopleError(
                f"There is no location “{told.get('location')}”. Known are {', '.join(journeys.locations)}; HR adds "
                "others in config/onboarding.yaml."
            )
        start = day(told.get("start", ""))
        joiner, new = self._onboarding.enrol(
            platform=actor.platform,
            tenant=actor.tenant,
            by=actor.id,
            start=start,
            location=location,
            **{name: told.get(name, "") for name in ("user", "email", "name", "role", "contract", "manager", "buddy")},
        )
        place = journeys.place(location)
        first = "Onboarding begins" if new else "The journey is changed"
        who = _who(joiner)
        text = f"{first}: {who}, {start.day} {start:%B %Y}, {location} ({place.country})."
        if not joiner.user:
            text += " Messages to the joiner wait until there is an account with this e-mail address."
        return Reply(card(text, [("", _buttons(joiner))]))

    def _form(self, told: Mapping[str, str]) -> Reply:
        journeys = self._journeys()
        fields = [
            Field("user", "Who starts?", "person", required=False, initial=told.get("user", "")),
            Field("email", "E-mail, if there is no account yet", required=False, initial=told.get("email", "")),
            Field("name", "Name", required=False, initial=told.get("name", "")),
            Field("start", "First day", "date", initial=told.get("start", "")),
            Field("role", "Role", initial=told.get("role", ""), hint="For example: Data engineer"),
            Field(
                "location",
                "Location",
                "choice",
                initial=journeys.find_location(told.get("location", "")) or "",
                choices=[(name, name) for name in journeys.locations],
            ),
            Field("contract", "Contract", required=False, initial=told.get("contract", "")),
            Field("manager", "Manager", "person", required=False, initial=told.get("manager", "")),
            Field("buddy", "Buddy", "person", required=False, initial=told.get("buddy", "")),
        ]
        return Reply(form=Form(ONBOARD, "Start onboarding", "Start", fields))

    def _checklist(self, actor: Actor) -> Reply:
        rows: list[tuple[str, Sequence[Button]]] = []
        joiner = self._onboarding.find(actor.platform, actor.tenant, actor.user)
        if joiner is not None:
            steps = [row for row in self._steps(joiner) if row.recipient == "joiner"]
            rows.append((f"*Your onboarding* · {_progress(steps)}", ()))
            rows += [(self._line(joiner, row), _step_buttons(joiner, row)) for row in steps]
        for led in self._onboarding.led_by(actor.platform, actor.tenant, actor.user):
            role = "manager" if led.manager == actor.user else "buddy"
            steps = self._onboarding.steps(led)
            own = [row for row in steps if row.recipient == role and row.state in {"sent", "late"} and row.asks]
            rows.append((f"*{_who(led)}*, since {led.start.isoformat()} · {_progress(steps)}", ()))
            rows += [(self._line(led, row), _step_buttons(led, row)) for row in own]
        if self._is_hr(actor):
            rows += self._everyone(actor)
        return Reply(card("", rows)) if rows else _say(NO_JOURNEY)

    def _overview(self, actor: Actor) -> Reply:
        return Reply(card("", self._everyone(actor)))

    def _everyone(self, actor: Actor) -> list[tuple[str, Sequence[Button]]]:
        found = self._onboarding.everyone(actor.platform, actor.tenant)
        rows: list[tuple[str, Sequence[Button]]] = [(f"*Everyone on a journey* · {len(found)}", ())]
        for joiner in found[-SHOWN:]:
            steps = self._onboarding.steps(joiner)
            paused = " · paused" if joiner.status == "paused" else ""
            late = sum(row.state == "sent" and row.asks for row in steps)
            still = f" · {late} open" if late else ""
            line = (
                f"{_who(joiner)}, {joiner.role or 'role unknown'}, {joiner.location}, since {joiner.start.isoformat()}"
            )
            rows.append((f"{line} · {_progress(steps)}{still}{paused}", _buttons(joiner)))
        return rows

    def _steps(self, joiner: Joiner) -> list[Kept]:
        return in_order(self._onboarding.steps(joiner), self._journeys())

    def _line(self, joiner: Joiner, row: Kept) -> str:
        when = self._journeys().place(joiner.location).date(row.due)
        due = f" ({when.day} {when:%b})" if row.state == "waiting" else ""
        return f"{SIGNS[row.state]} {row.title}{due}"

    def _mark(self, actor: Actor, verb: str, rest: str) -> Reply:
        identifier, run, step = [*rest.split(":", 2), "", ""][:3]
        joiner = self._onboarding.get(identifier)
        if joiner is None or not run.isdigit():
            return _say("This journey is no longer there.")
        row = next((row for row in self._onboarding.steps(joiner) if row.step == step), None)
        if row is None or int(run) != joiner.run:
            return _say("This step belongs to an earlier journey; `/hr onboarding` shows the current one.")
        own = joiner.recipient(row.recipient) == actor.user
        if not self._is_hr(actor) and (not own or verb == "skip"):
            return _say(NOT_YOURS)
        state = "done" if verb == "done" else "skipped"
        if not self._onboarding.mark(identifier, joiner.run, step, state, actor.user):
            return _say(f"“{row.title}” was done already.")
        left = [
            r for r in self._onboarding.steps(joiner) if r.recipient == row.recipient and r.state == "sent" and r.asks
        ]
        more = f" Still open: {', '.join(r.title for r in left)}." if left else " Nothing else is open."
        return _say(f"{SIGNS[state]} {row.title}.{more}")

    def _steer(self, actor: Actor, verb: str, rest: str) -> Reply:
        identifier, _, start = rest.partition(":")
        joiner = self._onboarding.get(identifier)
        if joiner is None:
            return _say("This journey is no longer there.")
        try:
            if verb == "restart":
                begun = day(start) if start else None
                self._onboarding.restart(identifier, actor.id, begun)
                return _say(f"The journey of {_who(joiner)} begins anew.")
            if verb in ACTIONS:
                self._onboarding.set_status(identifier, ACTIONS[verb], actor.id)
                said = {"pause": "is paused", "resume": "goes on", "stop": "has ended"}[verb]
                return _say(f"The journey of {_who(joiner)} {said}.")
        except PeopleError as error:
            return _say(str(error))
        if verb == "steps":
            rows = [(self._line(joiner, row), _hr_step_buttons(joiner, row)) for row in self._steps(joiner)]
            return Reply(card(f"*{_who(joiner)}*", rows[:40]))
        return _say("I do not know this button; it belongs to another version of me.")

    def _arrived(self, actor: Actor, email: str, certain: bool) -> bool:
        if not self._settings.people.onboarding.exists():
            return False
        known = self._onboarding.find(actor.platform, actor.tenant, actor.user)
        if known is not None:
            return False
        if self._onboarding.arrived(
            platform=actor.platform, tenant=actor.tenant, user=actor.user, email=email, name=actor.name
        ):
            return True
        journeys = self._journeys()
        if certain and journeys.arrival == "start":
            today = datetime.datetime.now(datetime.UTC).date()
            joiner, _ = self._onboarding.enrol(
                platform=actor.platform,
                tenant=actor.tenant,
                by=actor.id,
                start=today,
                user=actor.user,
                email=email,
                name=actor.name,
                location=journeys.default_location,
            )
            text = (
                f"{_who(joiner)} has joined, and I have begun the general onboarding ({joiner.location}). Add role, "
                "location and manager to make it personal."
            )
            self._tell_hr(actor, text, [("Details", f"details:{joiner.id}"), ("Stop", f"stop:{joiner.id}")])
        else:
            text = f"{_mention(actor.user, actor.name)} is new here. Shall an onboarding journey begin?"
            self._tell_hr(actor, text, [("Begin…", f"begin:{actor.user}")])
        return True

    def _tell_hr(self, actor: Actor, text: str, buttons: Sequence[Button]) -> None:
        settings = self._settings
        where = settings.slack.hr_channel if actor.platform == "slack" else settings.teams.hr_conversation
        if not where:
            return
        address = {"channel": where} if actor.platform == "slack" else {"tenant": actor.tenant, "conversation": where}
        identifier = f"joined-{actor.platform}-{actor.user}"[:64]
        self._store.queue_message(identifier, actor.platform, address, "people", card("", [(text, buttons)]))

    def _is_hr(self, actor: Actor) -> bool:
        return self._roles.holds(actor.platform, actor.user, "hr", "admin")

    async def _refused(self, actor: Actor) -> None:
        await asyncio.to_thread(self._store.audit, actor.id, "onboarding.refused")

    def _journeys(self) -> Journeys:
        return load_journeys(self._settings.people.onboarding)


def _say(text: str) -> Reply:
    return Reply(card(text))


def _who(joiner: Joiner) -> str:
    return _mention(joiner.user, joiner.name or joiner.email)


def _mention(user: str, name: str) -> str:
    """A person in a text: the name, or an id that a platform turns into one."""
    return name or (f"@{user}" if user else "somebody")


def _progress(steps: Sequence[Kept]) -> str:
    asked = [row for row in steps if row.asks and row.state != "skipped"]
    done = sum(row.state == "done" for row in asked)
    gone = sum(row.state in {"sent", "done", "late"} for row in steps)
    return f"{done} of {len(asked)} tasks done, {gone} of {len(steps)} messages sent"


def _step_buttons(joiner: Joiner, row: Kept) -> list[Button]:
    if not row.asks or row.state not in {"sent", "late", "waiting"}:
        return []
    return [("Done", f"done:{joiner.id}:{joiner.run}:{row.step}")]


def _hr_step_buttons(joiner: Joiner, row: Kept) -> list[Button]:
    if row.state in {"done", "skipped"}:
        return []
    return [("Skip", f"skip:{joiner.id}:{joiner.run}:{row.step}")]


def _buttons(joiner: Joiner) -> list[Button]:
    pause = ("Resume", f"resume:{joiner.id}") if joiner.status == "paused" else ("Pause", f"pause:{joiner.id}")
    return [
        ("Steps", f"steps:{joiner.id}"),
        ("Details", f"details:{joiner.id}"),
        pause,
        ("Restart", f"restart:{joiner.id}"),
        ("Stop", f"stop:{joiner.id}"),
    ]


def _told(joiner: Joiner) -> dict[str, str]:
    return {
        "user": joiner.user,
        "email": joiner.email,
        "name": joiner.name,
        "start": joiner.start.isoformat(),
        "role": joiner.role,
        "location": joiner.location,
        "contract": joiner.contract,
        "manager": joiner.manager,
        "buddy": joiner.buddy,
    }
