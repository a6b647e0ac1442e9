"""Who may see and do what: roles from the settings, and from groups that a platform looks after.

`roles` of the settings names people ("slack:U1", "teams:<Entra id>") and groups ("slack-group:S1" for a Slack user
group, "teams-group:<id>" for an Entra group). Members of groups are read beside the conversation, every few minutes,
and only if a group is named. A group that cannot be read keeps its last known members for an hour and then has none:
whoever left may not see a manager's document for ever.
"""

import asyncio
import logging
import time
import typing
from collections.abc import Awaitable, Callable, Collection

from quantahr.messages import Role
from quantahr.settings import Settings

log = logging.getLogger(__name__)

LOOK_SECONDS = 300.0
KEEP_SECONDS = 3600.0

Members = Callable[[str], Awaitable[Collection[str]]]
"""The user ids in a group. May raise anything."""


class Roles:
    """The roles in force. `clock` gives seconds."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._members: dict[str, tuple[float, frozenset[str]]] = {}

    def of(self, platform: str, user: str) -> tuple[Role, ...]:
        """The roles of a user, in the order of `Role`; everyone is an employee."""
        held = set(self._settings.roles_of(platform, user))
        for role, names in self._settings.roles.items():
            prefix = f"{platform}-group:"
            if any(user in self._in(name) for name in names if name.startswith(prefix)):
                held.add(role)
        return tuple(role for role in typing.get_args(Role) if role in held)

    def holds(self, platform: str, user: str, *roles: Role) -> bool:
        """Whether a user has one of the roles."""
        return bool(set(roles) & set(self.of(platform, user)))

    async def refresh(self, platform: str, members: Members) -> None:
        """Read the groups of a platform once."""
        prefix = f"{platform}-group:"
        for name in {name for names in self._settings.roles.values() for name in names if name.startswith(prefix)}:
            try:
                found = frozenset(await members(name.removeprefix(prefix)))
            except Exception as error:
                log.warning("the members of %s cannot be read (%s)", name, type(error).__name__)
            else:
                self._members[name] = (self._clock(), found)

    async def follow(self, platform: str, members: Members, seconds: float = LOOK_SECONDS) -> None:
        """Read the groups again and again, until cancelled."""
        while True:
            await self.refresh(platform, members)
            await asyncio.sleep(seconds)

    def _in(self, name: str) -> frozenset[str]:
        read, members = self._members.get(name, (0.0, frozenset()))
        return members if self._clock() - read < KEEP_SECONDS else frozenset()
