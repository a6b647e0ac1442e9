"""Entra groups, read page by page from a Graph of our own."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bots.teams.groups import GroupError, Groups


@pytest.fixture
async def graph() -> AsyncIterator[TestServer]:
    async def members(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != "Bearer secret":
            return web.json_response({}, status=401)
        if request.match_info["group"] == "elsewhere":
            return web.json_response({"value": [], "@odata.nextLink": "https://evil.example/steal"})
        page = int(request.query.get("page", "1"))
        body = {"value": [{"id": f"aad-{page}a"}, {"id": f"aad-{page}b"}]}
        if page < 3:
            body["@odata.nextLink"] = str(request.url.update_query(page=page + 1))  # type: ignore[assignment]
        return web.json_response(body)

    application = web.Application()
    application.router.add_get("/v1.0/groups/{group}/transitiveMembers/microsoft.graph.user", members)
    server = TestServer(application)
    await server.start_server()
    yield server
    await server.close()


def groups(server: TestServer, secret: str = "secret") -> Groups:
    async def token() -> str:
        return secret

    return Groups(token, str(server.make_url("")).rstrip("/"))


async def test_everyone_on_every_page_is_found(graph: TestServer) -> None:
    assert await groups(graph).members("g1") == ["aad-1a", "aad-1b", "aad-2a", "aad-2b", "aad-3a", "aad-3b"]


async def test_a_refusal_says_what_to_mend(graph: TestServer) -> None:
    with pytest.raises(GroupError, match=r"answers 401.*GroupMember\.Read\.All"):
        await groups(graph, "wrong").members("g1")


async def test_the_token_goes_to_no_other_host(graph: TestServer) -> None:
    with pytest.raises(GroupError, match="another host"):
        await groups(graph).members("elsewhere")
