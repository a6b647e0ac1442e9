"""Settings: one YAML file that an administrator edits, overridden by the environment; secrets only from there.

`config/quantahr.yaml` holds everything that may be read by others. `QUANTAHR_MODEL__SLOTS=4` overrides `model.slots`.
Secrets (tokens, passwords) have names of their own and may also come as files (`SLACK_BOT_TOKEN_FILE=/run/secrets/…`),
as container secrets do. An unknown name is an error that says which name was probably meant.
"""

import difflib
import os
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from quantahr.errors import SettingsError
from quantahr.messages import Contact, Role

PREFIX = "QUANTAHR_"
DEFAULT_FILE = Path("config/quantahr.yaml")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]


class Company(_Section):
    name: str = "your company"
    language: str = "en"


class Contacts(_Section):
    """Whom the assistant names. `hr` answers what it cannot; `topics` are the people for sensitive subjects."""

    hr: Contact = Contact(name="the HR team")
    emergency: Contact = Contact(name="your local emergency number", detail="112 in Europe, 911 in North America")
    topics: Mapping[str, Contact] = {}


class Model(_Section):
    engine: Literal["llamacpp", "transformers", "tgi"] = "llamacpp"
    path: str | None = None
    """A GGUF file, or for transformers a folder or Hugging Face name. Empty: the small model that is packaged."""
    adapter: str | None = None
    """A GGUF LoRA (llamacpp) or PEFT folder; `none` for the base alone. Empty: what the registry says is active."""
    url: str | None = None
    """The address of a Text Generation Inference server, or one with the same API."""
    slots: int = Field(default=4, ge=1, le=64)
    context_tokens: int = Field(default=1024, ge=256)
    """Per slot."""
    max_tokens: int = Field(default=120, ge=8, le=2048)
    threads: int | None = Field(default=None, ge=1)
    load_in_4bit: bool = True
    """For the transformers engine on a GPU."""
    embedding: str | None = None
    """A folder with model.onnx and tokenizer.json, or a Hugging Face name. Empty: the packaged MiniLM."""


class Answering(_Section):
    phrase: bool = False
    """Whether the model phrases the evidence; otherwise the documents are quoted. Measured: a small model that phrases
    is right less often than the quotation (benchmarks/RESULTS.md). For a large one turn it on; quantahr eval tells."""
    min_support: float = Field(default=0.4, ge=0, le=1)
    """Abstain below this probability that the evidence answers the question; higher is more cautious."""
    earlier_questions: int = Field(default=2, ge=0, le=10)
    timeout_seconds: int = Field(default=60, ge=5, le=600)


class Queue(_Section):
    visibility_seconds: int = Field(default=20, ge=5)
    lease_seconds: int = Field(default=6, ge=2)
    silent_seconds: int = Field(default=8, ge=2)
    """How long a bot waits for a sign of life before it enqueues the same question again."""
    give_up_seconds: int = Field(default=180, ge=10)
    """After this a question ends in an apology."""
    keep_answers_seconds: int = Field(default=3600, ge=60)


def _off(value: object) -> object:
    return "off" if value is False else value  # what YAML makes of a plain off


ChannelMode = Annotated[Literal["off", "mention", "ephemeral"], BeforeValidator(_off)]


class Slack(_Section):
    mode: Literal["socket", "http"] = "socket"
    host: str = "127.0.0.1"
    port: int = Field(default=3000, ge=0, le=65535)
    api_url: str = "https://slack.com/api/"
    hr_channel: str | None = None
    """The channel id to which "Ask a human" posts."""
    channels: Mapping[str, ChannelMode] = {}
    """Channel id → mode; `default` is for all others."""


class Teams(_Section):
    app_id: str = ""
    app_type: Literal["SingleTenant", "UserAssignedMSI", "MultiTenant"] = "SingleTenant"
    tenant_id: str = ""
    host: str = "127.0.0.1"
    port: int = Field(default=3978, ge=0, le=65535)
    hr_conversation: str | None = None
    """The conversation id of the HR team's channel."""
    service_urls: Names = ()
    """Further hosts to which answers may be sent, beside Microsoft's."""
    openid_url: str | None = None
    """Another OpenID metadata address (sovereign clouds)."""
    login_url: str | None = None
    development: bool = False
    """Accept anonymous messages; only on loopback."""


class Console(_Section):
    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = Field(default=8090, ge=0, le=65535)


class Retention(_Section):
    questions_days: int = Field(default=90, ge=1)
    audit_days: int = Field(default=730, ge=1)


class People(_Section):
    """The files that HR edits."""

    onboarding: Path = Path("config/onboarding.yaml")
    drafts: Path = Path("config/templates/drafts")


class Settings(_Section):
    """Everything that an administrator decides, but the secrets."""

    company: Company = Company()
    contacts: Contacts = Contacts()
    policies_dir: Path = Path("data/hr_policies")
    state_dir: Path = Path(".quantahr")
    database_url: str | None = None
    """SQLAlchemy URL. Empty: SQLite in the state folder."""
    registry: str | None = None
    """Where model versions are kept: a folder, or s3://bucket/prefix. Empty: `registry` in the state folder."""
    redis_url: str = "redis://127.0.0.1:6379/0"
    model: Model = Model()
    answering: Answering = Answering()
    queue: Queue = Queue()
    slack: Slack = Slack()
    teams: Teams = Teams()
    console: Console = Console()
    retention: Retention = Retention()
    people: People = People()
    roles: Mapping[Role, Names] = {}
    """Role → user ids, each "slack:U…" or "teams:<Entra object id>"."""

    @property
    def database(self) -> str:
        """The SQLAlchemy URL in force."""
        return self.database_url or f"sqlite:///{self.state_dir / 'quantahr.db'}"

    def roles_of(self, platform: str, user: str) -> tuple[Role, ...]:
        """The roles of a user, in the order of `Role`; everyone is an employee."""
        held = {role for role, names in self.roles.items() if f"{platform}:{user}" in names}
        return tuple(role for role in typing.get_args(Role) if role == "employee" or role in held)


class Secrets(_Section):
    """What must not be written down. Read from the environment, or from the file that NAME_FILE names."""

    slack_bot_token: SecretStr | None = None
    slack_app_token: SecretStr | None = None
    slack_signing_secret: SecretStr | None = None
    teams_app_password: SecretStr | None = None
    quantahr_console_token: SecretStr | None = None
    tgi_token: SecretStr | None = None
    database_password: SecretStr | None = None


def load_settings(file: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings in force: defaults, then the file, then the environment.

    `file` defaults to $QUANTAHR_CONFIG, then config/quantahr.yaml if it exists. Raises SettingsError.
    """
    environ = os.environ if environ is None else environ
    named = file or (Path(environ[f"{PREFIX}CONFIG"]) if f"{PREFIX}CONFIG" in environ else None)
    path = named or DEFAULT_FILE
    values: dict[str, Any] = {}
    if path.exists():
        values = _read(path)
    elif named:
        raise SettingsError(
            f"There is no settings file {path}. Create it, or unset {PREFIX}CONFIG to use the defaults."
        )
    for name, value in _overrides(environ):
        target = values
        for part in name[:-1]:
            if target.get(part) is None:
                target[part] = {}
            target = target[part]
            if not isinstance(target, dict):
                raise SettingsError(f"`{part}` in {path} must hold `name: value` lines of its own.")
        target[name[-1]] = value
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_explain(error, path)) from None


def load_secrets(environ: Mapping[str, str] | None = None) -> Secrets:
    """The secrets in the environment. Raises SettingsError when a NAME_FILE cannot be read; never shows a value."""
    environ = os.environ if environ is None else environ
    found: dict[str, str] = {}
    for name in Secrets.model_fields:
        variable = name.upper()
        if value := environ.get(variable, "").strip():
            found[name] = value
        elif file := environ.get(f"{variable}_FILE"):
            try:
                found[name] = Path(file).read_text(encoding="utf-8").strip()
            except OSError as error:
                reason = error.strerror or "it cannot be read"
                raise SettingsError(
                    f"{variable}_FILE names {file}, but: {reason}. Mend the path or the rights."
                ) from None
    return Secrets.model_validate(found)


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise SettingsError(f"{path}{where} is not valid YAML: {getattr(error, 'problem', 'unreadable')}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{path} cannot be read: {type(error).__name__}. Check that it is a UTF-8 text file."
        ) from None
    if not isinstance(values, dict):
        raise SettingsError(f"{path} must hold `name: value` lines, as config/quantahr.yaml of the project does.")
    return values


def _overrides(environ: Mapping[str, str]) -> Iterator[tuple[list[str], str]]:
    secrets = {name.upper() for name in Secrets.model_fields}
    for variable, value in sorted(environ.items()):
        base = variable.removesuffix("_FILE")
        if not variable.startswith(PREFIX) or variable == f"{PREFIX}CONFIG" or base in secrets:
            continue
        yield variable.removeprefix(PREFIX).lower().split("__"), value


def _explain(error: ValidationError, path: Path) -> str:
    lines = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = _fields_at(problem["loc"][:-1])
            near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
            meant = f" Did you mean `{near[0]}`?" if near else f" Known here: {', '.join(sorted(known))}."
            lines.append(f"- `{where}` is not a setting.{meant}")
        else:
            lines.append(f"- `{where}`: {problem['msg']}.")
    variable = "QUANTAHR_" + "__".join(str(part).upper() for part in error.errors()[0]["loc"])
    return f"The settings ({path} and {PREFIX}… variables such as {variable}) have a problem:\n" + "\n".join(lines)


def _fields_at(loc: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] | None = Settings
    for part in loc:
        annotation = model.model_fields[str(part)].annotation if model and str(part) in model.model_fields else None
        choices = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
        model = next((kind for kind in choices if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
    return list(model.model_fields) if model else []
