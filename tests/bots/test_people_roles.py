"""Who may see what, by name and by group."""

from bots.roles import KEEP_SECONDS, Roles
from quantahr.settings import Settings

SETTINGS = Settings.model_validate(
    {"roles": {"hr": ["slack:UHR", "slack-group:S1"], "manager": ["teams-group:g-1"], "admin": "slack:UROOT"}}
)


async def test_a_role_comes_by_name_or_by_group_and_everyone_is_an_employee() -> None:
    roles = Roles(SETTINGS)

    async def members(group: str) -> list[str]:
        return {"S1": ["UANA"], "g-1": ["aad-1"]}[group]

    assert roles.of("slack", "UANA") == ("employee",)
    await roles.refresh("slack", members)
    await roles.refresh("teams", members)
    assert roles.of("slack", "UANA") == ("employee", "hr")
    assert roles.of("slack", "UHR") == ("employee", "hr")
    assert roles.of("slack", "UROOT") == ("employee", "admin")
    assert roles.of("teams", "aad-1") == ("employee", "manager")
    assert roles.of("slack", "aad-1") == ("employee",), "an id counts on its own platform only"
    assert roles.holds("slack", "UANA", "hr", "admin")
    assert not roles.holds("slack", "UBEN", "hr", "admin")


async def test_who_left_a_group_loses_its_role_and_an_unreadable_group_lends_it_for_an_hour() -> None:
    now = [0.0]
    roles = Roles(SETTINGS, lambda: now[0])
    answers: list[list[str] | Exception] = [["UANA"], RuntimeError("down"), []]

    async def members(_: str) -> list[str]:
        told = answers.pop(0)
        if isinstance(told, Exception):
            raise told
        return told

    await roles.refresh("slack", members)
    await roles.refresh("slack", members)
    assert roles.of("slack", "UANA") == ("employee", "hr")
    now[0] = KEEP_SECONDS + 1
    assert roles.of("slack", "UANA") == ("employee",)
    now[0] = 10.0
    await roles.refresh("slack", members)
    assert roles.of("slack", "UANA") == ("employee",)
