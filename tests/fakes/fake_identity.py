"""Microsoft's identity services for tests: signing keys as the Bot Framework publishes them, and the login service.

The keys are the test's own, so a test can sign whatever it likes, and forge it too. Both services count what they are
asked, and can be stalled.
"""

import asyncio
import base64
import time
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa

APP_ID = "11111111-2222-4333-8444-555555555555"
TENANT = "99999999-8888-4777-8666-555555555555"
PASSWORD = "a client secret"
ISSUER = "https://api.botframework.com"
AUDIENCE = "https://api.botframework.com"


class SigningKey:
    """An RSA key with an id; `endorsements` are the channels it may speak for."""

    def __init__(self, kid: str, endorsements: tuple[str, ...] = ("msteams",)) -> None:
        self.kid = kid
        self.endorsements = endorsements
        self.private = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @property
    def jwk(self) -> dict[str, Any]:
        numbers = self.private.public_key().public_numbers()
        return {
            "kty": "RSA",
            "use": "sig",
            "kid": self.kid,
            "n": _number(numbers.n),
            "e": _number(numbers.e),
            "endorsements": list(self.endorsements),
        }

    def sign(self, service_url: str, *, kid: str | None = None, **changed: Any) -> str:
        """An Authorization header for an activity; None removes a claim."""
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": APP_ID, "serviceurl": service_url, "nbf": now - 60, "exp": now + 3600}
        claims = {name: value for name, value in (claims | changed).items() if value is not None}
        return f"Bearer {jwt.encode(claims, self.private, algorithm='RS256', headers={'kid': kid or self.kid})}"


class FakeIdentity:
    """Routes under /openid, /keys and /login. `stalled` holds every answer back until it is cleared."""

    def __init__(self) -> None:
        self.key = SigningKey("key-1")
        self.published = [self.key]
        self.key_requests = 0
        self.token_requests = 0
        self.expires_in = 3600
        self.refuse = False
        self.stalled = False
        self._tokens: dict[str, float] = {}

    def routes(self, application: web.Application) -> None:
        application.router.add_get("/openid", self._openid)
        application.router.add_get("/keys", self._keys)
        application.router.add_post("/login/{tenant}/oauth2/v2.0/token", self._token)
        application.router.add_get("/msi/token", self._managed)

    def knows(self, header: str) -> bool:
        """Whether an Authorization header holds a token that was issued here and is valid."""
        scheme, _, token = header.partition(" ")
        return scheme == "Bearer" and self._tokens.get(token, 0.0) > time.monotonic()

    def revoke(self) -> None:
        self._tokens.clear()

    async def _openid(self, request: web.Request) -> web.Response:
        self.key_requests += 1
        await self._hold()
        return web.json_response({"issuer": ISSUER, "jwks_uri": str(request.url.with_path("/keys"))})

    async def _keys(self, request: web.Request) -> web.Response:
        await self._hold()
        return web.json_response({"keys": [key.jwk for key in self.published]})

    async def _token(self, request: web.Request) -> web.Response:
        self.token_requests += 1
        await self._hold()
        form = await request.post()
        wanted = {
            "grant_type": "client_credentials",
            "client_id": APP_ID,
            "client_secret": PASSWORD,
            "scope": f"{AUDIENCE}/.default",
        }
        known = request.match_info["tenant"] in {TENANT, "botframework.com"}
        if self.refuse or dict(form) != wanted or not known:
            error = {"error": "invalid_client", "error_codes": [7000215], "error_description": "a secret sentence"}
            return web.json_response(error, status=401)
        return web.json_response({"access_token": self._issue(), "expires_in": self.expires_in, "token_type": "Bearer"})

    async def _managed(self, request: web.Request) -> web.Response:
        self.token_requests += 1
        assert request.query["client_id"] == APP_ID
        assert request.query["resource"] == AUDIENCE
        return web.json_response(
            {
                "access_token": self._issue(),
                "expires_on": str(int(time.time()) + self.expires_in),
                "resource": AUDIENCE,
                "token_type": "Bearer",
            }
        )

    def _issue(self) -> str:
        token = f"token-{self.token_requests}"
        self._tokens[token] = time.monotonic() + self.expires_in
        return token

    async def _hold(self) -> None:
        while self.stalled:
            await asyncio.sleep(0.02)


def _number(value: int) -> str:
    raw = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
