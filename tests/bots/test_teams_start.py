"""Starting the Teams bot: what it refuses to start with, and the package an administrator uploads."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest
from pydantic import SecretStr

from bots.teams.app import check, serve
from bots.teams.package import FOLDER, build_package
from quantahr.bus import Asking
from quantahr.errors import SettingsError
from quantahr.settings import Company, Secrets, Settings, Teams
from quantahr.store import Store
from tests.fakes.fake_connector import FakeTeams
from tests.fakes.fake_identity import APP_ID, TENANT
from tests.fakes.teams_bot import teams_bot

PASSWORD = Secrets(teams_app_password=SecretStr("secret"))
SITE = "https://hr.example.com/assistant"


def test_a_bot_without_an_identity_does_not_start() -> None:
    with pytest.raises(SettingsError, match=r"teams\.app_id is empty, so anybody"):
        check(Teams(), PASSWORD)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "bot.example.com"])
def test_development_without_an_identity_stays_on_this_machine(host: str) -> None:
    with pytest.raises(SettingsError, match=r"must be 127\.0\.0\.1"):
        check(Teams(development=True, host=host), Secrets())
    check(Teams(development=True), Secrets())


@pytest.mark.parametrize(
    ("settings", "secrets", "said"),
    [
        ({"app_id": "my bot"}, PASSWORD, "not an id like"),
        ({"app_id": APP_ID}, PASSWORD, r"SingleTenant needs teams\.tenant_id"),
        ({"app_id": APP_ID, "tenant_id": TENANT}, Secrets(), "TEAMS_APP_PASSWORD is not set"),
        ({"app_id": APP_ID, "app_type": "UserAssignedMSI"}, Secrets(), r"UserAssignedMSI needs teams\.tenant_id"),
        ({"app_id": APP_ID, "app_type": "MultiTenant"}, Secrets(), "TEAMS_APP_PASSWORD is not set"),
    ],
)
def test_what_is_missing_is_named(settings: dict[str, str], secrets: Secrets, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        check(Teams.model_validate(settings), secrets)


@pytest.mark.parametrize("kind", ["SingleTenant", "UserAssignedMSI", "MultiTenant"])
def test_each_kind_of_identity_starts_with_what_it_needs(kind: str) -> None:
    secrets = Secrets() if kind == "UserAssignedMSI" else PASSWORD
    check(Teams.model_validate({"app_id": APP_ID, "app_type": kind, "tenant_id": TENANT}), secrets)


async def test_a_port_in_use_is_named(settings: Settings, store: Store, teams: FakeTeams) -> None:
    from bots.conversation import Conversation

    async with teams_bot(settings, store, teams):
        port = int(teams.bot_url.rsplit(":", 1)[1])
        taken = settings.model_copy(update={"teams": Teams.model_validate({**teams.settings, "port": port})})
        bus = Asking(taken)
        with pytest.raises(SettingsError, match=rf"cannot listen on 127\.0\.0\.1:{port}"):
            async with serve(taken, PASSWORD, Conversation(taken, bus, store)):
                pass
        await bus.close()


def _settings() -> Settings:
    return Settings(teams=Teams(app_id=APP_ID), company=Company(name="Kahawai Ferries of the Southern Sounds Ltd"))


def test_the_package_holds_the_operators_ids_and_icons_of_the_right_size(tmp_path: Path) -> None:
    written = build_package(_settings(), tmp_path / "out" / "app.zip", website=SITE, version="1.2.3")
    with zipfile.ZipFile(written) as package:
        assert sorted(package.namelist()) == ["color.png", "manifest.json", "outline.png"]
        manifest = json.loads(package.read("manifest.json"))
        assert package.read("color.png")[16:24] == (192).to_bytes(4, "big") * 2
        assert package.read("outline.png")[16:24] == (32).to_bytes(4, "big") * 2
    assert manifest["id"] == manifest["bots"][0]["botId"] == APP_ID
    assert manifest["bots"][0]["scopes"] == ["personal", "team", "groupChat"]
    assert manifest["developer"]["privacyUrl"] == SITE
    assert len(manifest["developer"]["name"]) <= 32
    assert manifest["$schema"].endswith(f"/v{manifest['manifestVersion']}/MicrosoftTeams.schema.json")
    assert "{" not in manifest["developer"]["websiteUrl"]


def test_the_same_input_gives_the_same_package(tmp_path: Path) -> None:
    one = build_package(_settings(), tmp_path / "1.zip", website=SITE).read_bytes()
    assert one == build_package(_settings(), tmp_path / "2.zip", website=SITE).read_bytes()


@pytest.mark.parametrize(
    ("website", "version", "terms", "said"),
    [
        ("http://hr.example.com", "1.0.0", SITE, "--website"),
        (SITE, "2", SITE, "is not like"),
        (SITE, "1.0.0", "x", "--terms"),
    ],
)
def test_what_teams_would_refuse_is_refused_here(
    tmp_path: Path, website: str, version: str, terms: str, said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        build_package(_settings(), tmp_path / "app.zip", website=website, version=version, terms=terms)


def test_a_package_without_an_app_id_is_not_built(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="app_id is not set"):
        build_package(Settings(), tmp_path / "app.zip", website=SITE)


def test_an_edited_manifest_is_checked(tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "teams")
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"QuantaHR"', f'"{"Q" * 40}"'))
    with pytest.raises(SettingsError, match=r"name\.short has 40 characters"):
        build_package(_settings(), tmp_path / "app.zip", website=SITE, folder=folder)
    (folder / "manifest.json").write_text(text.replace("{company}", "{companie}"))
    with pytest.raises(SettingsError, match=r"\{companie\}"):
        build_package(_settings(), tmp_path / "app.zip", website=SITE, folder=folder)
    (folder / "manifest.json").write_text(text)
    shutil.copy(folder / "color.png", folder / "outline.png")
    with pytest.raises(SettingsError, match="32 × 32"):
        build_package(_settings(), tmp_path / "app.zip", website=SITE, folder=folder)
    (folder / "outline.png").unlink()
    with pytest.raises(SettingsError, match="draw_icons"):
        build_package(_settings(), tmp_path / "app.zip", website=SITE, folder=folder)
