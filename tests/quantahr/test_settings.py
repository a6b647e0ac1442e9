"""Settings: defaults, then the file, then the environment; and errors that say what was meant."""

import logging
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from quantahr.errors import SettingsError
from quantahr.settings import Secrets, Settings, load_secrets, load_settings

SHIPPED = Path(__file__).parents[2] / "config" / "quantahr.yaml"


def write(folder: Path, text: str) -> Path:
    file = folder / "quantahr.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def paths(model: type[BaseModel], prefix: str = "") -> list[str]:
    """The dotted names of every setting; mappings and contacts count as one."""
    found = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel) and kind.__name__ != "Contact":
            found += paths(kind, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


def at(values: Any, path: str) -> Any:
    for part in path.split("."):
        assert part in values, f"{path} is missing"
        values = values[part]
    return values


@pytest.mark.parametrize("path", paths(Settings))
def test_the_shipped_file_shows_every_setting(path: str) -> None:
    at(yaml.safe_load(SHIPPED.read_text(encoding="utf-8")), path)


def test_the_shipped_file_names_the_defaults_but_for_the_sample_company() -> None:
    shipped, default = load_settings(SHIPPED, {}).model_dump(), Settings().model_dump()
    for name in ("company", "contacts"):
        del shipped[name], default[name]
    assert shipped.pop("slack") == {**default.pop("slack"), "channels": {"default": "mention"}}
    assert shipped == default


def test_the_sample_company_names_a_human_for_every_sensitive_subject_that_its_handbook_has_one_for() -> None:
    contacts = load_settings(SHIPPED, {}).contacts
    assert contacts.hr.detail.startswith("people@tessaline.example")
    assert set(contacts.topics) >= {"self_harm", "harassment", "whistleblowing"}


def test_every_setting_of_the_shipped_file_is_explained() -> None:
    lines = SHIPPED.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if line.startswith("  ") and not line.startswith("   ") and ":" in line and "#" not in line:
            around = lines[max(0, number - 5) : number]
            assert any(part.strip().startswith("#") for part in around), line


def test_without_a_file_the_defaults_are_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(None, {}) == Settings()


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, "model: {slots: 2, max_tokens: 50}\ncompany: {name: Acme}\n")
    settings = load_settings(file, {"QUANTAHR_MODEL__SLOTS": "8", "QUANTAHR_STATE_DIR": "/var/lib/q"})
    assert (settings.model.slots, settings.model.max_tokens, settings.company.name) == (8, 50, "Acme")
    assert settings.state_dir == Path("/var/lib/q")


def test_the_variable_names_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, "company: {name: Acme}")
    assert load_settings(None, {"QUANTAHR_CONFIG": str(file)}).company.name == "Acme"


def test_a_list_may_be_written_with_commas(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, "roles: {hr: 'slack:U1, teams:abc'}"), {})
    assert settings.roles_of("slack", "U1") == ("employee", "hr")
    assert settings.roles_of("teams", "abc") == ("employee", "hr")
    assert settings.roles_of("slack", "U2") == ("employee",)


@pytest.mark.parametrize(
    ("text", "environ", "says"),
    [
        ("modle: {}", {}, "`modle` is not a setting. Did you mean `model`?"),
        ("model: {slot: 3}", {}, "`model.slot` is not a setting. Did you mean `slots`?"),
        ("console: {colour: red}", {}, "Known here: enabled, host, port"),
        ("", {"QUANTAHR_MODEL__SLOTS": "many"}, "`model.slots`: Input should be a valid integer"),
        ("model: {slots: 0}", {}, "`model.slots`: Input should be greater than or equal to 1"),
        ("model: {engine: gpt}", {}, "'llamacpp', 'transformers' or 'tgi'"),
        ("model: [", {}, "line 1 is not valid YAML"),
        ("just words", {}, "must hold `name: value` lines"),
        ("", {"QUANTAHR_POLICY_DIR": "x"}, "Did you mean `policies_dir`?"),
    ],
)
def test_a_mistake_is_named_with_what_was_probably_meant(
    tmp_path: Path, text: str, environ: dict[str, str], says: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(write(tmp_path, text), environ)
    assert says in str(caught.value)


def test_a_section_that_is_not_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="model"):
        load_settings(write(tmp_path, "model: fast"), {"QUANTAHR_MODEL__SLOTS": "2"})


def test_a_file_that_was_named_must_exist(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="There is no settings file"):
        load_settings(tmp_path / "nowhere.yaml", {})


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    file = tmp_path / "quantahr.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="UTF-8"):
        load_settings(file, {})


def test_secrets_come_from_the_environment_or_from_a_file_and_are_never_shown(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("xoxb-from-a-file\n", encoding="utf-8")
    found = load_secrets({"SLACK_BOT_TOKEN_FILE": str(secret), "SLACK_APP_TOKEN": " xapp-1 ", "TGI_TOKEN": ""})
    assert found.slack_bot_token is not None
    assert found.slack_bot_token.get_secret_value() == "xoxb-from-a-file"
    assert found.slack_app_token is not None
    assert found.slack_app_token.get_secret_value() == "xapp-1"
    assert found.tgi_token is None
    assert "xoxb" not in repr(found)
    assert "xapp" not in str(found)


def test_a_secret_file_that_cannot_be_read_is_named_without_its_content(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="SLACK_BOT_TOKEN_FILE names"):
        load_secrets({"SLACK_BOT_TOKEN_FILE": str(tmp_path / "missing")})


def test_a_secret_is_no_setting(tmp_path: Path) -> None:
    environ = {"QUANTAHR_CONSOLE_TOKEN": "long", "QUANTAHR_CONSOLE_TOKEN_FILE": str(tmp_path)}
    assert load_settings(write(tmp_path, ""), environ) == Settings()
    assert "quantahr_console_token" in Secrets.model_fields


def test_loading_says_nothing_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        load_settings(write(tmp_path, "company: {name: Acme}"), {"QUANTAHR_MODEL__SLOTS": "8"})
    assert caplog.records == []
