"""Microsoft's CloudAdapter, with the five defects of its last release mended; only this module knows its insides.

Who calls is settled before anything is parsed for meaning: any token that is not Microsoft's, for this bot, for this
channel and this serviceUrl is a 401, and the bot never runs. Nothing blocks the event loop: signing keys and the bot's
own token are fetched with aiohttp (a managed identity's in a thread), kept, and renewed before they expire. And an
invoke that returns a body gets exactly that body.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import jwt
from aiohttp import web
from botbuilder.core import TurnContext
from botbuilder.core.serializer_helper import serializer_helper
from botbuilder.integration.aiohttp import CloudAdapter, ConfigurationBotFrameworkAuthentication
from botbuilder.schema import Activity
from botframework.connector.aio import ConnectorClient
from botframework.connector.auth import (
    AuthenticateRequestResult,
    AuthenticationConfiguration,
    AuthenticationConstants,
    ClaimsIdentity,
    JwtTokenExtractor,
)
from botframework.connector.auth.government_constants import GovernmentConstants
from botframework.connector.bot_framework_sdk_client_async import BotFrameworkConnectorConfiguration
from jwt.algorithms import RSAAlgorithm
from msrest.authentication import Authentication
from msrest.exceptions import DeserializationError, SerializationError
from msrest.pipeline import AsyncPipeline, Response
from msrest.pipeline.async_abc import AsyncHTTPSender
from msrest.pipeline.universal import RawDeserializer
from msrest.universal_http import HTTPClientResponse

from bots.teams.groups import GRAPH
from quantahr.errors import QuantaHRError
from quantahr.settings import Teams

log = logging.getLogger(__name__)

IDENTITY_SECONDS: Final = 10.0
"""How long a key or token server may take."""
SEND_SECONDS: Final = 20.0
KEYS_SECONDS: Final = 86_400.0
UNKNOWN_KEY_SECONDS: Final = 3600.0
"""Signing keys are fetched again for a key id nobody has heard of, but not more often than this."""
RETRY_KEYS_SECONDS: Final = 5.0
EARLY_SECONDS: Final = 600.0
"""A token is renewed in the background from this long before it expires."""
LATE_SECONDS: Final = 60.0
TURN_SECONDS: Final = 1.5
"""Teams gets its answer after this long; what the turn still has to do goes on."""
INVOKE_SECONDS: Final = 2.5
"""A card's button is answered within three seconds."""
CHANNELS: Final = frozenset({"msteams"})

Turn = Callable[[TurnContext], Awaitable[Any]]


class IdentityError(QuantaHRError):
    """Microsoft did not give this bot a token."""


class TeamsAdapter(CloudAdapter):
    """Authenticates and parses what Teams posts, and carries what the bot says. `close` it."""

    def __init__(self, settings: Teams, password: str | None) -> None:
        self._http = _Http()
        self.tokens = Tokens(settings, password, self._http)
        self.graph = Tokens(settings, password, self._http, GRAPH)
        self._clients: dict[str, ConnectorClient] = {}
        self._turns: set[asyncio.Task[Any]] = set()
        self._allowed = ServiceUrls(settings)
        super().__init__(_Authentication(settings, self.client))

    async def process(self, request: web.Request, bot: Turn, ws_response: object = None) -> web.Response:
        """One POST to /api/messages. Raises aiohttp's HTTP errors: 400, 401, 403, 415."""
        del ws_response
        activity = await self._read(request)
        try:
            header = request.headers.get("Authorization", "")
            who = await self.bot_framework_authentication.authenticate_request(activity, header)
        except PermissionError as error:
            log.warning("a message was refused: %s", error)
            raise web.HTTPUnauthorized(text="This bot does not know who sent that.") from None
        if not self._allowed(activity.service_url):
            log.warning("a message was refused: its serviceUrl is neither Microsoft's nor in teams.service_urls")
            raise web.HTTPForbidden(text="That serviceUrl is not one this bot may answer to.")
        turn = asyncio.create_task(_logged(self.process_activity(who, activity, bot)))
        self._turns.add(turn)
        turn.add_done_callback(self._turns.discard)
        invoke = activity.type == "invoke"
        await asyncio.wait([turn], timeout=INVOKE_SECONDS if invoke else TURN_SECONDS)
        if not invoke:
            return web.Response(status=202)
        return _invoke_response(turn.result()) if turn.done() else _busy_response(activity.name)

    def client(self, service_url: str) -> ConnectorClient:
        """Microsoft's connector client for one service, made once. Raises PermissionError for anyone else's."""
        if not self._allowed(service_url):
            raise PermissionError("that serviceUrl is neither Microsoft's nor in teams.service_urls")
        found = self._clients.get(service_url)
        if found is None:
            configuration = BotFrameworkConnectorConfiguration(Authentication(), service_url)
            configuration.custom_pipeline = AsyncPipeline(
                # The library's own pipeline also has a policy that logs bodies; this one has not.
                [configuration.user_agent_policy, RawDeserializer()],
                _Sender(self._http, self.tokens),
            )
            found = self._clients[service_url] = ConnectorClient(None, custom_configuration=configuration)
        return found

    async def warm(self) -> None:
        """Fetch the token now, so that a wrong password is in the log at the start. Raises nothing."""
        with contextlib.suppress(IdentityError):
            await self.tokens.get()

    async def close(self, seconds: float = 3.0) -> None:
        """Give turns under way `seconds`, then close the connections."""
        if self._turns:
            _, left = await asyncio.wait(self._turns, timeout=seconds)
            for turn in left:
                turn.cancel()
        self.tokens.close()
        await self._http.close()

    async def _read(self, request: web.Request) -> Activity:
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="Send application/json.")
        try:
            body = await request.json()
        except (ValueError, UnicodeDecodeError):
            raise web.HTTPBadRequest(text="That is not JSON.") from None
        conversation = body.get("conversation") if isinstance(body, dict) else None
        needed = (
            [body.get(name) for name in ("type", "serviceUrl", "channelId")] if conversation is not None else [None]
        )
        needed.append(conversation.get("id") if isinstance(conversation, dict) else None)
        if not all(isinstance(value, str) and value for value in needed):
            raise web.HTTPBadRequest(text="An activity has a type, serviceUrl, channelId and conversation.")
        try:
            return Activity().deserialize(body)
        except (DeserializationError, SerializationError, TypeError, ValueError, AttributeError):
            raise web.HTTPBadRequest(text="That is not an activity.") from None


class ServiceUrls:
    """Where answers may go: Microsoft's hosts over TLS, those in teams.service_urls, and loopback in development."""

    OURS = ("smba.trafficmanager.net",)
    BELOW = (".botframework.com", ".teams.microsoft.com", ".botframework.azure.us", ".teams.microsoft.us")

    def __init__(self, settings: Teams) -> None:
        self._configured = {entry.lower() for entry in settings.service_urls}
        self._development = settings.development and not settings.app_id

    def __call__(self, url: str) -> bool:
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").lower(), parts.port
        except ValueError:
            return False
        loopback = host in {"127.0.0.1", "localhost", "::1"}
        if parts.username or parts.password or parts.scheme not in {"https", "http"}:
            return False
        if parts.scheme == "http" and not loopback:
            return False
        configured = not self._configured.isdisjoint({host, f"{host}:{port}"})
        microsoft = host in self.OURS or host.endswith(self.BELOW)
        return configured or (microsoft and port in {None, 443}) or (loopback and self._development)


class _Authentication(ConfigurationBotFrameworkAuthentication):
    """Accepts channel tokens only, maps every failure to PermissionError, and hands out cached connectors."""

    def __init__(self, settings: Teams, client: Callable[[str], ConnectorClient]) -> None:
        government = (settings.openid_url or "").endswith(".azure.us") or ".azure.us/" in (settings.openid_url or "")
        cloud = GovernmentConstants if government else AuthenticationConstants
        keys = settings.openid_url or cloud.TO_BOT_FROM_CHANNEL_OPENID_METADATA_URL
        self._issuer = cloud.TO_BOT_FROM_CHANNEL_TOKEN_ISSUER
        self._audience = cloud.TO_CHANNEL_FROM_BOT_OAUTH_SCOPE
        self._anonymous = settings.development and not settings.app_id
        self._connectors = SimpleNamespace(create=self._connector)
        self._client = client
        JwtTokenExtractor.metadataCache[keys] = SigningKeys(keys)
        super().__init__(
            SimpleNamespace(
                # The credentials are only asked whose bot this is; tokens come from `Tokens`.
                APP_TYPE="MultiTenant",
                APP_ID=settings.app_id,
                APP_PASSWORD="",
                TO_CHANNEL_FROM_BOT_LOGIN_URL=cloud.TO_CHANNEL_FROM_BOT_LOGIN_URL_PREFIX,
                TO_CHANNEL_FROM_BOT_OAUTH_SCOPE=self._audience,
                TO_BOT_FROM_CHANNEL_TOKEN_ISSUER=self._issuer,
                TO_BOT_FROM_CHANNEL_OPENID_METADATA_URL=keys,
                TO_BOT_FROM_EMULATOR_OPENID_METADATA_URL=keys,
                OAUTH_URL=AuthenticationConstants.OAUTH_URL,
                CALLER_ID="",
            ),
            auth_configuration=AuthenticationConfiguration(required_endorsements=sorted(CHANNELS)),
        )

    async def authenticate_request(self, activity: Activity, auth_header: str) -> AuthenticateRequestResult:
        if self._anonymous:
            identity = ClaimsIdentity({}, True, AuthenticationConstants.ANONYMOUS_AUTH_TYPE)
        else:
            identity = await self._identify(activity, auth_header)
        result = AuthenticateRequestResult()
        result.claims_identity, result.audience, result.caller_id = identity, self._audience, None
        result.connector_factory = self._connectors
        return result

    async def _identify(self, activity: Activity, auth_header: str) -> ClaimsIdentity:
        scheme, _, token = auth_header.partition(" ")
        if scheme != "Bearer" or not token:
            raise PermissionError("there is no bearer token")
        if activity.channel_id not in CHANNELS:
            raise PermissionError("the channel is not Teams")
        try:
            # Skills and the emulator have issuers of their own, which the library would accept from anywhere.
            claimed = jwt.decode(token, options={"verify_signature": False}).get("iss")
            if claimed != self._issuer:
                raise PermissionError("the issuer is not the Bot Framework")  # noqa: TRY301
            found = await super().authenticate_request(activity, auth_header)
        except PermissionError:
            raise
        except (aiohttp.ClientError, TimeoutError) as error:
            raise PermissionError(f"Microsoft's signing keys could not be fetched ({type(error).__name__})") from None
        except Exception as error:
            # The library raises whatever it meets, bare Exception included. The type only: a text may quote the token.
            raise PermissionError(f"the token is not valid ({type(error).__name__})") from None
        if "exp" not in found.claims_identity.claims:
            raise PermissionError("the token never expires")
        return found.claims_identity

    async def _connector(self, service_url: str, audience: str) -> ConnectorClient:
        del audience
        return self._client(service_url)

    async def create_user_token_client(self, claims_identity: ClaimsIdentity) -> None:
        """Nobody signs in through this bot; the stock one costs a token request per turn."""


class SigningKeys:
    """Microsoft's public keys: fetched without blocking, by one caller at a time, and kept for a day."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: dict[str, SimpleNamespace] = {}
        self._fetched = self._tried = -KEYS_SECONDS * 2
        self._fetching: asyncio.Task[None] | None = None

    async def get(self, key_id: str | None) -> SimpleNamespace:
        """The key {public_key, endorsements}. Raises PermissionError, aiohttp.ClientError or TimeoutError."""
        age = time.monotonic() - self._fetched
        if age > KEYS_SECONDS or (key_id not in self._keys and age > UNKNOWN_KEY_SECONDS):
            await self._refresh()
        key = self._keys.get(key_id or "")
        if key is None:
            raise PermissionError("the token is signed with an unknown key")
        return key

    async def _refresh(self) -> None:
        loop = asyncio.get_running_loop()
        if self._fetching is None or self._fetching.done() or self._fetching.get_loop() is not loop:
            if self._keys and time.monotonic() - self._tried < RETRY_KEYS_SECONDS:
                return
            self._tried = time.monotonic()
            self._fetching = loop.create_task(self._fetch())
        try:
            # Shielded: one caller that hangs up must not take the keys from the others.
            await asyncio.shield(self._fetching)
        except (aiohttp.ClientError, TimeoutError, KeyError, TypeError, ValueError):
            if not self._keys:
                raise
            log.warning("Microsoft's signing keys could not be renewed; the old ones are kept")

    async def _fetch(self) -> None:
        async with asyncio.timeout(IDENTITY_SECONDS), aiohttp.ClientSession(raise_for_status=True) as session:
            async with session.get(self._url) as answer:
                where = (await answer.json(content_type=None))["jwks_uri"]
            async with session.get(where) as answer:
                found = (await answer.json(content_type=None))["keys"]
        # A key that vouches for no channel vouches for nothing.
        self._keys = {
            key["kid"]: SimpleNamespace(
                public_key=RSAAlgorithm.from_jwk(json.dumps(key)), endorsements=key["endorsements"]
            )
            for key in found
            if key.get("kty") == "RSA" and key.get("kid") and key.get("endorsements")
        }
        self._fetched = time.monotonic()


class Tokens:
    """The bot's own token: one request per hour, whatever the traffic."""

    def __init__(self, settings: Teams, password: str | None, http: "_Http", resource: str | None = None) -> None:
        self._settings = settings
        self._password = password
        self._http = http
        self._token = ""
        self._expires = 0.0
        self._renewing: asyncio.Task[None] | None = None
        government = ".azure.us" in (settings.openid_url or "")
        cloud = GovernmentConstants if government else AuthenticationConstants
        self._resource = resource or cloud.TO_CHANNEL_FROM_BOT_OAUTH_SCOPE
        login = (settings.login_url or cloud.TO_CHANNEL_FROM_BOT_LOGIN_URL_PREFIX).rstrip("/")
        tenant = settings.tenant_id if settings.app_type == "SingleTenant" else cloud.DEFAULT_CHANNEL_AUTH_TENANT
        self._url = f"{login}/{tenant}/oauth2/v2.0/token"

    async def get(self) -> str:
        """A valid token; empty in development, where there is no identity. Raises IdentityError."""
        if not self._settings.app_id:
            return ""
        left = self._expires - time.monotonic()
        if left < EARLY_SECONDS and (self._renewing is None or self._renewing.done()):
            self._renewing = asyncio.create_task(self._renew())
            self._renewing.add_done_callback(_heard)
        if left < LATE_SECONDS and self._renewing:
            await asyncio.shield(self._renewing)
        return self._token

    def forget(self) -> None:
        """The service refused the token: the next call asks for a new one."""
        self._expires = 0.0

    def close(self) -> None:
        if self._renewing:
            self._renewing.cancel()

    async def _renew(self) -> None:
        try:
            async with asyncio.timeout(IDENTITY_SECONDS):
                if self._settings.app_type == "UserAssignedMSI":
                    answer = await asyncio.to_thread(self._managed_identity)
                else:
                    answer = await self._client_credentials()
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as error:
            raise IdentityError(f"The login service cannot be reached ({type(error).__name__}).") from None
        if "access_token" not in answer:
            # "invalid_client (7000215)": Microsoft's numbers say what to mend; its sentences quote identifiers.
            codes = ", ".join(str(code) for code in answer.get("error_codes") or [])
            raise IdentityError(
                f"Microsoft refused this bot's credentials: {answer.get('error', 'no reason given')}"
                f"{f' (AADSTS {codes})' if codes else ''}. Check teams.app_id, teams.tenant_id, teams.app_type and "
                "TEAMS_APP_PASSWORD; client secrets expire."
            )
        self._token = str(answer["access_token"])
        self._expires = time.monotonic() + float(answer.get("expires_in", 3600))

    async def _client_credentials(self) -> Mapping[str, Any]:
        form = {
            "grant_type": "client_credentials",
            "client_id": self._settings.app_id,
            "client_secret": self._password or "",
            "scope": f"{self._resource}/.default",
        }
        async with self._http.session.post(self._url, data=form) as answer:
            found = await answer.json(content_type=None)
            return found if isinstance(found, dict) else {}

    def _managed_identity(self) -> Mapping[str, Any]:
        import msal
        import requests

        identity = msal.UserAssignedManagedIdentity(client_id=self._settings.app_id)
        with requests.Session() as session:
            client = msal.ManagedIdentityClient(identity, http_client=session)
            found: Mapping[str, Any] = client.acquire_token_for_client(resource=self._resource)
            return found


class _Http:
    """One aiohttp session, made in the loop that uses it."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SEND_SECONDS))
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


class _Sender(AsyncHTTPSender[Any, Any]):
    """Carries the connector's requests over aiohttp instead of `requests` in a handful of threads."""

    def __init__(self, http: _Http, tokens: Tokens) -> None:
        self._http = http
        self._tokens = tokens

    async def send(self, request: Any, **config: Any) -> Any:
        del config
        wire = request.http_request
        headers = dict(wire.headers)
        if token := await self._tokens.get():
            headers["Authorization"] = f"Bearer {token}"
        # A redirect would carry the token elsewhere.
        sent = self._http.session.request(wire.method, wire.url, data=wire.data, headers=headers, allow_redirects=False)
        async with sent as answer:
            reply = _Reply(wire, answer)
            reply.content = await answer.read()
        if answer.status == 401:
            self._tokens.forget()
        return Response(request, reply)

    async def __aexit__(self, *exc_details: object) -> None:
        """The session belongs to the adapter."""


class _Reply(HTTPClientResponse):
    content = b""

    def __init__(self, request: Any, answer: aiohttp.ClientResponse) -> None:
        # The library's errors show what is inside, and expect `requests`' names there.
        super().__init__(request, self)
        self.status_code, self.headers, self.reason = answer.status, answer.headers.copy(), answer.reason
        if answer.content_type != "application/json":
            # An error page of a proxy is not worth an exception about its type.
            self.headers["content-type"] = "text/json"

    def body(self) -> bytes:
        try:
            json.loads(self.content)
        except ValueError:
            return b""
        return self.content


def _complete(body: object) -> bool:
    if not isinstance(body, dict) or not isinstance(body.get("conversation"), dict):
        return False
    needed = [body.get(name) for name in ("type", "serviceUrl", "channelId")] + [body["conversation"].get("id")]
    return all(isinstance(value, str) and value for value in needed)


def _invoke_response(result: Any) -> web.Response:
    if result is None:
        return web.json_response({}, status=500)
    body = result.body
    if body is not None and not isinstance(body, (Mapping, Sequence, str)):
        body = serializer_helper(body)
    return (
        web.Response(status=int(result.status)) if body is None else web.json_response(body, status=int(result.status))
    )


def _busy_response(name: str | None) -> web.Response:
    if name != "adaptiveCard/action":
        return web.json_response({})
    text = "I am working on it; please look again in a moment."
    return web.json_response({"statusCode": 200, "type": "application/vnd.microsoft.activity.message", "value": text})


def _heard(task: asyncio.Task[None]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        if (error := task.exception()) is not None:
            log.error("no token for Teams: %s", error)


async def _logged(turn: Awaitable[Any]) -> Any:
    try:
        return await turn
    except asyncio.CancelledError:
        raise
    except Exception as error:
        # The type only: a message may quote what was sent.
        log.exception("a turn failed (%s)", type(error).__name__, exc_info=False)
        return None
