"""The members of Entra groups, asked from Microsoft Graph; only if the settings name a group.

The app needs the application permission GroupMember.Read.All, given by an administrator of the tenant.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import aiohttp

from quantahr.errors import QuantaHRError

GRAPH: Final = "https://graph.microsoft.com"
PAGES: Final = 100
"""Of 999 people."""
SECONDS: Final = 20.0


class GroupError(QuantaHRError):
    """A group cannot be read."""


class Groups:
    """Reads groups. `token` gives a token for `url`."""

    def __init__(self, token: Callable[[], Awaitable[str]], url: str = GRAPH) -> None:
        self._token = token
        self._url = url

    async def members(self, group: str) -> list[str]:
        """The Entra ids of everyone in a group, and in groups inside it. Raises GroupError."""
        found: list[str] = []
        address: str | None = (
            f"{self._url}/v1.0/groups/{group}/transitiveMembers/microsoft.graph.user?$select=id&$top=999"
        )
        headers = {"Authorization": f"Bearer {await self._token()}"}
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS)) as session:
            for _ in range(PAGES):
                if address is None:
                    break
                if not address.startswith(f"{self._url}/"):
                    raise GroupError("Microsoft Graph pointed to another host; the token stays here.")
                async with session.get(address, headers=headers) as answer:
                    if answer.status != 200:
                        raise GroupError(
                            f"Microsoft Graph answers {answer.status} for a group. Check its id under roles, and that "
                            "the app has the permission GroupMember.Read.All with an administrator's consent."
                        )
                    page = await answer.json()
                found += [str(one["id"]) for one in page.get("value", [])]
                address = page.get("@odata.nextLink")
        return found
