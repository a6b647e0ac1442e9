"""Whether Slack lets us in, and if not, what to do about it."""

import asyncio
import logging
from typing import Final

import aiohttp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bots.slack.desk import Desk
from quantahr.errors import SettingsError
from quantahr.settings import Secrets, Settings

log = logging.getLogger(__name__)

WHERE: Final = "See docs/slack.md."
_BOT_FIX: Final = "Copy the Bot User OAuth Token (xoxb-…) from “OAuth & Permissions” of your app into SLACK_BOT_TOKEN."
_APP_FIX: Final = (
    "Make an app-level token (xapp-…) with the scope connections:write under “Basic Information” of your app, and put "
    "it into SLACK_APP_TOKEN."
)
_SIGNING_FIX: Final = "Copy the Signing Secret from “Basic Information” of your app into SLACK_SIGNING_SECRET."
_EXPLAINED: Final = {
    "invalid_auth": "Slack does not know this token. ",
    "not_authed": "Slack got no token. ",
    "token_revoked": "This token has been revoked. Install the app again. ",
    "token_expired": "This token has expired. ",
    "account_inactive": "The app was removed from the workspace. Install it again. ",
    "not_allowed_token_type": "This is a token of another kind. ",
}
_LONGEST_WAIT: Final = 60.0


def check_secrets(settings: Settings, secrets: Secrets) -> None:
    """Raises SettingsError if a token is missing, or is obviously another one."""
    bot, app = secrets.slack_bot_token, secrets.slack_app_token
    if bot is None:
        raise SettingsError(f"SLACK_BOT_TOKEN is missing. {_BOT_FIX} {WHERE}")
    if not bot.get_secret_value().startswith(("xoxb-", "xoxe.xoxb-")):
        raise SettingsError(f"SLACK_BOT_TOKEN is not a bot token. {_BOT_FIX} {WHERE}")
    if settings.slack.mode == "socket":
        if app is None:
            raise SettingsError(f"SLACK_APP_TOKEN is missing. {_APP_FIX} {WHERE}")
        if not app.get_secret_value().startswith("xapp-"):
            raise SettingsError(f"SLACK_APP_TOKEN is not an app-level token. {_APP_FIX} {WHERE}")
    elif secrets.slack_signing_secret is None:
        raise SettingsError(
            f"SLACK_SIGNING_SECRET is missing: without it anybody could pretend to be Slack. {_SIGNING_FIX} {WHERE}"
        )


async def introduce(desk: Desk) -> None:
    """Learn who we are in this workspace. Waits until Slack answers; raises SettingsError if it refuses."""
    told = await _call(desk.client, "auth.test", "SLACK_BOT_TOKEN", _BOT_FIX)
    desk.team, desk.bot = str(told["team_id"]), str(told["user_id"])


async def check_app_token(client: AsyncWebClient, token: str) -> None:
    """Raises SettingsError if Slack does not open a connection for this token."""
    await _call(client, "apps.connections.open", "SLACK_APP_TOKEN", _APP_FIX, token=token)


async def _call(
    client: AsyncWebClient, method: str, variable: str, fix: str, *, token: str | None = None
) -> dict[str, object]:
    wait = 1.0
    headers = {"Authorization": f"Bearer {token}"} if token else None
    while True:
        try:
            answer = await client.api_call(method, headers=headers or {})
        except SlackApiError as error:
            code = str(error.response.get("error", ""))
            if code == "missing_scope":
                needed = error.response.get("needed", "")
                raise SettingsError(
                    f"The token in {variable} lacks the scope {needed or 'it needs'}. Add it to your app (all of them "
                    f"stand in config/slack_manifest.yaml) and install the app again. {WHERE}"
                ) from None
            if code in _EXPLAINED:
                raise SettingsError(f"{_EXPLAINED[code]}{fix} {WHERE}") from None
            log.warning("Slack answers %s with %s; trying again in %.0f s", method, code or "an error", wait)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.warning("Slack cannot be reached (%s); trying again in %.0f s", type(error).__name__, wait)
        else:
            return dict(answer.data) if isinstance(answer.data, dict) else {}
        await asyncio.sleep(wait)
        wait = min(wait * 2, _LONGEST_WAIT)
