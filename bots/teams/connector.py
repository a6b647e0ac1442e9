"""Sending: one activity to one place, within Teams' rates, with its passing failures waited out.

What the service answers is turned into three errors: the place is gone (stop sending), it was refused (with Teams'
code, so that a stream can tell a Stop from a mistake), or it did not work for now (with how long to wait).
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiohttp
from botbuilder.schema import Activity, ChannelAccount, ConversationParameters, ErrorResponseException
from msrest.exceptions import ClientException

from bots.conversation import SurfaceGoneError
from bots.teams.adapter import IdentityError, TeamsAdapter
from bots.teams.place import Place
from bots.teams.rates import Rates
from quantahr.errors import QuantaHRError

PASSING: Final = frozenset({401, 408, 412, 429, 500, 502, 503, 504})
"""401: the token was revoked; the next try asks for a new one."""
GONE: Final = frozenset(
    {
        "BotNotInConversationRoster",
        "BotDisabledByAdmin",
        "MessageWritesBlocked",
        "ConversationBlockedByUser",
        "ConversationNotFound",
        "NotEnoughPermissions",
    }
)
TRIES: Final = 5
LONGEST: Final = 30.0


class GoneError(SurfaceGoneError):
    """The bot was removed there, or is not allowed to write."""

    def __init__(self, code: str) -> None:
        super().__init__(f"Teams says {code}: the bot cannot write there. Install it again to reach this conversation.")
        self.code = code


class RefusedError(QuantaHRError):
    """Teams did not accept this activity, and would not accept it a second time."""

    def __init__(self, status: int, code: str, *, canceled: bool) -> None:
        super().__init__(f"Teams refused a message ({status} {code}). The documentation of that code says why.")
        self.status = status
        self.code = code
        self.canceled = canceled
        """The user pressed Stop."""


class UnavailableError(QuantaHRError):
    """Not now. `after` is what Teams asked for, in seconds, if it did."""

    def __init__(self, reason: str, after: float | None) -> None:
        super().__init__(f"Teams cannot take a message at the moment ({reason}). It is tried again.")
        self.reason = reason
        self.after = after


class Connector:
    """`gone` hears of every place where the bot cannot write any more. `sleep` is for tests."""

    def __init__(
        self,
        adapter: TeamsAdapter,
        gone: Callable[[Place], Awaitable[None]],
        *,
        rates: Rates | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._adapter = adapter
        self._gone = gone
        self._rates = rates or Rates()
        self._sleep = sleep

    async def send(self, place: Place, activity: Activity, *, tries: int = TRIES) -> str:
        """Say something; returns the new activity's id. Raises GoneError, RefusedError, UnavailableError."""
        conversations = self._conversations(place)
        sent = await self._persist(
            place, lambda: conversations.send_to_conversation(place.conversation, activity), tries
        )
        return str(sent.id or "") if sent else ""

    async def update(self, place: Place, identifier: str, activity: Activity, *, tries: int = TRIES) -> None:
        """Replace what was said. Raises like `send`."""
        conversations = self._conversations(place)
        activity.id = identifier
        await self._persist(
            place, lambda: conversations.update_activity(place.conversation, identifier, activity), tries
        )

    async def open(self, place: Place) -> str:
        """Open the personal chat with `place.member`; returns its conversation id. Raises like `send`."""
        conversations = self._conversations(place)
        wanted = ConversationParameters(
            is_group=False,
            bot=ChannelAccount(id=place.bot),
            members=[ChannelAccount(id=place.member or place.user)],
            tenant_id=place.tenant or None,
            channel_data={"tenant": {"id": place.tenant}} if place.tenant else None,
        )
        opened = await self._persist(place, lambda: conversations.create_conversation(wanted), TRIES)
        return str(opened.id)

    def _conversations(self, place: Place) -> Any:
        try:
            return self._adapter.client(place.service_url).conversations
        except PermissionError as error:
            raise RefusedError(403, "serviceUrl", canceled=False) from error

    async def _persist(self, place: Place, call: Callable[[], Awaitable[Any]], tries: int) -> Any:
        for attempt in range(1, tries + 1):
            await self._rates.wait(place.conversation or place.member)
            try:
                return await self._once(place, call)
            except UnavailableError as error:
                wait = min(2.0**attempt, 16.0) * random.uniform(0.5, 1.0)  # noqa: S311
                if error.after is not None:
                    wait = error.after + random.uniform(0.0, 0.5)  # noqa: S311
                if attempt == tries or wait > LONGEST:
                    raise
                await self._sleep(wait)
        raise AssertionError("unreachable")

    async def _once(self, place: Place, call: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await call()
        except ErrorResponseException as error:
            raise await self._meaning(place, error) from None
        except (aiohttp.ClientError, TimeoutError, OSError, ClientException) as error:
            raise UnavailableError(type(error).__name__, None) from None
        except IdentityError as error:
            raise UnavailableError("no token", None) from error

    async def _meaning(self, place: Place, error: ErrorResponseException) -> QuantaHRError:
        response = error.response
        status = int(response.status_code)
        described = getattr(getattr(error, "error", None), "error", None)
        code = str(getattr(described, "code", None) or status)
        if status in {403, 404} and code in GONE:
            await self._gone(place)
            return GoneError(code)
        if status in PASSING:
            return UnavailableError(str(status), _seconds(response.headers.get("Retry-After")))
        canceled = status == 403 and "cancel" in str(getattr(described, "message", "") or "").lower()
        return RefusedError(status, code, canceled=canceled)


def _seconds(header: str | None) -> float | None:
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:
        return None  # an HTTP date; our own back-off does
