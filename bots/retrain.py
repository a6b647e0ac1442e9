"""`/hr-retrain`, the same on every platform: who may, what was meant, and what the one message about a job shows.

A platform brings only how a `View` looks and how a message is edited. The words an administrator says (confirm, cancel,
approve, reject) go into the database; whoever drives the jobs acts on them, and the `Board` keeps every message about a
job at the newest state, edited in place, whichever bot process is alive.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from bots.conversation import Conversation
from bots.retrain_view import View, ended_line, view
from quantahr.bus.scripts import MODELS, OUTBOX
from quantahr.errors import QuantaHRError
from quantahr.messages import Platform
from quantahr.retrain import Job, Jobs, Notice, default_options

log = logging.getLogger(__name__)

PAUSE_SECONDS: Final = 3.0
"""Between two edits of one message."""
LOOK_SECONDS: Final = 1.0

ADMINS_ONLY: Final = (
    "Only administrators can retrain the model. If that should be you, ask IT to add you to `roles.admin` in the "
    "settings."
)
HELP: Final = (
    "`/hr-retrain` shows what would be trained, where and at what price, and asks before it starts anything. "
    "Add `local` to train on this machine, `spot` for a cheaper machine that may be taken back, `max-minutes 90`, "
    "`max-cost 5`, `instance-type g5.xlarge`; `dry-run` only shows the plan.\n"
    "`/hr-retrain status`, `cancel`, `approve`, `reject`, `rollback` and `history` do what they say."
)
NOTHING_ACTIVE: Final = "Nothing is being trained at the moment. Type `/hr-retrain` to see what would be."
TOO_LATE: Final = "This has been decided already; the message shows the newest state."
ON_ITS_WAY: Final = "I am looking at the documents; the plan appears here in a few seconds."
SHOWN_HERE: Final = "One job at a time: this one is under way, and I show it here, too."

Action = Literal["confirm", "cancel", "approve", "reject"]
ACTIONS: Final[tuple[Action, ...]] = ("confirm", "cancel", "approve", "reject")
_FLAGS: Final = {"spot": ("spot", True), "dry-run": ("dry_run", True), "local": ("platform", "local")}
_FLAGS_TOO: Final = {"aws": ("platform", "aws"), "on-demand": ("spot", False)}
_VALUES: Final = {"max-minutes": "max_minutes", "max-cost": "max_cost", "instance-type": "instance_type"}


@dataclass(frozen=True, slots=True)
class Shown:
    """What a platform did: the message's id there, and whether the loss curve is posted."""

    remote: str | None
    pictured: bool


class UnreachablePlaceError(QuantaHRError):
    """The message's place exists no more."""


Shower = Callable[[Notice, View, bytes | None], Awaitable[Shown]]
"""Posts a notice's message or edits it. Raises UnreachablePlaceError if there is no such place any more."""


def choices(words: str) -> dict[str, Any] | None:
    """The options in what was typed, as `max-minutes 90 spot` or `--spot --max-minutes=90`; None if unclear."""
    found: dict[str, Any] = {}
    parts = iter(words.replace("=", " ").casefold().split())
    for part in parts:
        word = part.lstrip("-").replace("_", "-")
        if flag := {**_FLAGS, **_FLAGS_TOO}.get(word):
            found[flag[0]] = flag[1]
        elif word in _VALUES and (value := next(parts, None)) is not None:
            found[_VALUES[word]] = _number(value.lstrip("$")) if word != "instance-type" else value
        else:
            return None
    return found


def _number(text: str) -> int | float | str:
    with contextlib.suppress(ValueError):
        return int(text)
    with contextlib.suppress(ValueError):
        return float(text)
    return text


class Retraining:
    """What administrators say about retraining, on one platform."""

    def __init__(self, conversation: Conversation, platform: Platform) -> None:
        self._conversation, self._platform = conversation, platform
        self._settings, self._store = conversation.settings, conversation.store
        self.jobs = Jobs(conversation.store)

    async def command(self, text: str, *, user: str, place: str, address: Mapping[str, Any]) -> str:
        """`/hr-retrain TEXT`. `address` is where a message about the job goes. Returns what to tell the user alone."""
        if refused := await self._refused(user, "command"):
            return refused
        word, _, rest = " ".join(text.casefold().split()).partition(" ")
        try:
            match word.lstrip("-"):
                case "help" | "?":
                    return HELP
                case "status":
                    return await self._status(place, address)
                case "cancel" | "approve" | "reject" | "confirm" if not rest:
                    return await self._say(word, user)  # type: ignore[arg-type]
                case "rollback":
                    return await self._rollback(user)
                case "history":
                    return await self._history()
                case _:
                    return await self._request(text, user, place, address)
        except QuantaHRError as error:
            return str(error)

    async def press(self, action: str, job: str, *, user: str) -> str | None:
        """A button under a job's message. Returns what to tell the user alone, None if the message says it all."""
        if refused := await self._refused(user, action):
            return refused
        return await self._wish(action, job, user)

    async def _request(self, text: str, user: str, place: str, address: Mapping[str, Any]) -> str:
        chosen = choices(text)
        if chosen is None:
            return HELP
        options = await asyncio.to_thread(lambda: default_options(**chosen))
        job, new = await asyncio.to_thread(self.jobs.request, options, f"{self._platform}:{user}")
        await asyncio.to_thread(self.jobs.watch, job.id, self._platform, place, address)
        await self._wake()
        return ON_ITS_WAY if new else SHOWN_HERE

    async def _status(self, place: str, address: Mapping[str, Any]) -> str:
        active = await asyncio.to_thread(self.jobs.active)
        if active is None:
            return NOTHING_ACTIVE
        await asyncio.to_thread(self.jobs.watch, active[0].id, self._platform, place, address)
        await self._wake()
        shown = view(active[0], active[1], time.time())
        return "\n".join((shown.title, *shown.lines))

    async def _say(self, action: Action, user: str) -> str:
        active = await asyncio.to_thread(self.jobs.active)
        if active is None:
            return NOTHING_ACTIVE
        return await self._wish(action, active[0].id, user) or "Noted."

    async def _wish(self, action: str, job: str, user: str) -> str | None:
        by = f"{self._platform}:{user}"
        jobs = self.jobs

        def say() -> bool:
            match action:
                case "confirm":
                    return jobs.confirm(job, by)
                case "cancel":
                    return jobs.cancel(job, by)
                case "approve" | "reject":
                    return jobs.decide(job, action, by)
                case _:
                    return False

        done = await asyncio.to_thread(say)
        await self._wake()
        return None if done else TOO_LATE

    async def _rollback(self, user: str) -> str:
        from quantahr.registry import Registry, served_base

        def roll_back() -> str:
            registry = Registry.open(self._settings)
            moved = registry.rollback(
                actor=f"{self._platform}:{user}", reason="/hr-retrain rollback", base=served_base(self._settings)
            )
            self._store.audit(f"{self._platform}:{user}", "retrain.rollback", moved.active or "shipped")
            return moved.active or "the shipped model"

        active = await asyncio.to_thread(roll_back)
        with contextlib.suppress(Exception):  # the workers look by themselves every few seconds
            await self._conversation.bus.announce(MODELS)
        return f"Rolled back: {active} is active again. The workers swap within seconds, one after the other."

    async def _history(self) -> str:
        jobs = await asyncio.to_thread(self.jobs.history)
        return "\n".join(ended_line(job) for job in jobs) or "No model has been trained from the chat yet."

    async def _refused(self, user: str, what: str) -> str | None:
        if "admin" in self._settings.roles_of(self._platform, user):
            return None
        await asyncio.to_thread(self._store.audit, f"{self._platform}:{user}", "retrain.refused", what)
        return ADMINS_ONLY

    async def _wake(self) -> None:
        with contextlib.suppress(Exception):  # only a wake-up
            await self._conversation.bus.announce(OUTBOX)


class Board:
    """Keeps the messages about jobs at the newest state, until cancelled. `show` posts or edits one."""

    def __init__(self, jobs: Jobs, platform: Platform, show: Shower, *, pause: float = PAUSE_SECONDS) -> None:
        self._jobs, self._platform, self._show, self._pause = jobs, platform, show, pause

    async def run(self) -> None:
        while True:
            try:
                await self.bring_up_to_date()
            except Exception as error:
                log.warning("the messages about jobs cannot be updated (%s); trying again", type(error).__name__)
            await asyncio.sleep(LOOK_SECONDS)

    async def bring_up_to_date(self) -> int:
        """Show what has changed. Returns how many messages were looked at."""
        due = await asyncio.to_thread(self._jobs.due, self._platform)
        await asyncio.gather(*(self._one(notice) for notice in due))
        return len(due)

    async def _one(self, notice: Notice) -> None:
        found = await asyncio.to_thread(self._jobs.get, notice.job)
        if found is None:
            return
        job, wishes = found
        picture = None if notice.pictured else await self._picture(job)
        try:
            shown = await self._show(notice, view(job, wishes, time.time()), picture)
        except UnreachablePlaceError:
            await asyncio.to_thread(self._jobs.forget_place, notice)
        except Exception as error:
            log.warning("the message about job %s could not be shown (%s)", job.id, type(error).__name__)
            await asyncio.to_thread(self._jobs.not_shown, notice, self._pause * 3)
        else:
            await asyncio.to_thread(
                lambda: self._jobs.shown(notice, shown.remote, pictured=shown.pictured, pause=self._pause)
            )

    async def _picture(self, job: Job) -> bytes | None:
        if job.gate is None:
            return None
        return await asyncio.to_thread(self._jobs.curve, job.id)
