"""config/onboarding.yaml: HR's journeys, read strictly, with messages that name the line.

Two ideas. What YAML says where is kept beside the values, so that a slip is shown by file and line in words, and all
slips at once. And a text with an unknown {field} is a slip as well: HR meets it here and not the joiner.
"""

import datetime
import difflib
import hashlib
import string
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args
from zoneinfo import ZoneInfo, available_timezones

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from quantahr.people.countries import Places
from quantahr.people.errors import PeopleError
from quantahr.people.worktime import WorkPlace

DEFAULT_FILE: Final = Path("config/onboarding.yaml")
FIELDS: Final = ("first_name", "name", "role", "location", "country", "start", "manager", "buddy", "company")
Recipient = Literal["joiner", "manager", "buddy", "hr"]
_WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Location(_Part):
    """Where people work: whose rules, which clock, which free days."""

    country: str
    time_zone: str
    hours: Annotated[str, Field(pattern=r"^\d{1,2}:\d{2}\s*-\s*\d{1,2}:\d{2}$")] = "09:00-17:00"
    weekend: tuple[Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"], ...] = (
        "saturday",
        "sunday",
    )
    holidays: tuple[datetime.date, ...] = ()

    @field_validator("time_zone")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in available_timezones():
            near = difflib.get_close_matches(value, available_timezones(), n=1)
            raise ValueError(f"there is no time zone {value}" + (f"; did you mean {near[0]}?" if near else ""))
        return value

    @field_validator("hours")
    @classmethod
    def _in_order(cls, value: str) -> str:
        opens, closes = _hours(value)
        if opens >= closes:
            raise ValueError("the day must begin before it ends, as in 09:00-17:00")
        return value

    def place(self, name: str) -> WorkPlace:
        opens, closes = _hours(self.hours)
        weekend = frozenset(_WEEKDAYS.index(day) for day in self.weekend)
        return WorkPlace(name, self.country, ZoneInfo(self.time_zone), opens, closes, weekend, frozenset(self.holidays))


class Audience(_Part):
    """Whom a journey or step is for. A role matches if it contains one of the words; empty means everyone."""

    role: tuple[str, ...] = ()
    location: tuple[str, ...] = ()
    contract: tuple[str, ...] = ()

    def fits(self, *, role: str, location: str, contract: str) -> bool:
        """Whether somebody with these belongs to it."""
        return (
            (not self.role or any(word.casefold() in role.casefold() for word in self.role))
            and (not self.location or location.casefold() in {name.casefold() for name in self.location})
            and (not self.contract or any(word.casefold() in contract.casefold() for word in self.contract))
        )


class Step(_Part):
    """One message on one day."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,60}$")]
    day: Annotated[int, Field(ge=-365, le=730)]
    at: Annotated[str, Field(pattern=r"^\d{1,2}:\d{2}$")] | None = None
    to: Recipient = "joiner"
    title: Annotated[str, Field(min_length=1, max_length=120)]
    text: str = ""
    policy: str | None = None
    """A question to the documents, whose answer for this person is added."""
    document: str | None = None
    """Only from this document."""
    ask: bool = False
    useful_days: Annotated[int, Field(ge=0, le=365)] = 5
    audience: Audience = Field(default=Audience(), alias="for")

    @field_validator("title", "text", "policy")
    @classmethod
    def _fields_known(cls, value: str | None) -> str | None:
        for name in _fields_in(value or ""):
            if name not in FIELDS:
                near = difflib.get_close_matches(name, FIELDS, n=1)
                hint = f"did you mean {{{near[0]}}}?" if near else f"known are {', '.join(FIELDS)}"
                raise ValueError(f"{{{name}}} is not a field; {hint}")
        return value

    @property
    def time(self) -> datetime.time | None:
        return _clock(self.at) if self.at else None


class Journey(_Part):
    """A named list of steps for an audience."""

    name: Annotated[str, Field(min_length=1)]
    audience: Audience = Field(default=Audience(), alias="for")
    steps: tuple[Step, ...]


class Reminders(_Part):
    """After how many working days without "Done", and how often at most."""

    after_days: Annotated[int, Field(ge=1, le=60)] = 3
    times: Annotated[int, Field(ge=0, le=5)] = 2


class Journeys(_Part):
    """The whole file. `version` is a hash of its text."""

    arrival: Literal["start", "ask"] = "ask"
    default_location: str
    locations: Mapping[str, Location]
    journeys: tuple[Journey, ...]
    reminders: Reminders = Reminders()
    version: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> "Journeys":
        if self.default_location not in self.locations:
            raise ValueError(f"default_location {self.default_location} does not stand under locations")
        seen: set[str] = set()
        for journey in self.journeys:
            for step in journey.steps:
                if step.id in seen:
                    raise ValueError(f"two steps have the id {step.id}; each needs its own")
                seen.add(step.id)
                if wrong := [name for name in step.audience.location if name not in self.locations]:
                    raise ValueError(f"step {step.id} is for {wrong[0]}, which does not stand under locations")
            if wrong := [name for name in journey.audience.location if name not in self.locations]:
                raise ValueError(f"journey {journey.name} is for {wrong[0]}, which does not stand under locations")
        return self

    def find_location(self, name: str) -> str | None:
        """The location that `name` means, whatever its capitals; the default for an empty one; None if unknown."""
        if not name.strip():
            return self.default_location
        return next((known for known in self.locations if known.casefold() == name.strip().casefold()), None)

    def place(self, location: str) -> WorkPlace:
        """The working hours of a location; of the default one if it is no longer in the file."""
        name = location if location in self.locations else self.default_location
        return self.locations[name].place(name)

    def places(self, location: str) -> Places:
        """Whose rules hold at a location, and whose do not."""
        place = self.place(location)
        return Places(place.country, place.name, self.locations)

    def step(self, identifier: str) -> Step | None:
        return next((step for journey in self.journeys for step in journey.steps if step.id == identifier), None)

    def position(self, identifier: str) -> int:
        """Where a step stands in the file; behind all others if it no longer does."""
        known = [step.id for journey in self.journeys for step in journey.steps]
        return known.index(identifier) if identifier in known else len(known)

    def steps_for(self, *, role: str, location: str, contract: str) -> Iterator[Step]:
        """The steps of somebody with this role, location and contract."""
        for journey in self.journeys:
            if journey.audience.fits(role=role, location=location, contract=contract):
                for step in journey.steps:
                    if step.audience.fits(role=role, location=location, contract=contract):
                        yield step


def load_journeys(file: Path = DEFAULT_FILE) -> Journeys:
    """The journeys in a file. Raises PeopleError that names the file and the line of everything that is wrong."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PeopleError(
            f"{file} cannot be read ({type(error).__name__}). It holds the onboarding journeys as UTF-8 text; "
            "the project's config/onboarding.yaml is an example."
        ) from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise PeopleError(
            f"{file}{where}: this is not valid YAML ({getattr(error, 'problem', 'unreadable')})."
        ) from None
    if not isinstance(values, dict):
        raise PeopleError(
            f"{file} is empty or not a list of settings. Begin with the project's config/onboarding.yaml."
        )
    try:
        return Journeys.model_validate({**values, "version": hashlib.sha256(text.encode()).hexdigest()[:16]})
    except ValidationError as error:
        raise PeopleError(_explain(error, file, node)) from None


def fill(text: str, values: Mapping[str, str]) -> str:
    """`text` with its {fields}. Braces in the values mean nothing."""
    parts = []
    for literal, name, _, _ in string.Formatter().parse(text):
        parts.append(literal)
        if name is not None:
            parts.append(values.get(name, ""))
    return "".join(parts).strip()


def _fields_in(text: str) -> list[str]:
    try:
        return [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
    except ValueError:
        raise ValueError("a { or } stands alone; write {{ and }} for the sign itself") from None


def _explain(error: ValidationError, file: Path, node: Any) -> str:
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        loc = problem["loc"]
        line = _line(node, loc)
        where = ".".join(f"{part + 1}" if isinstance(part, int) else str(part) for part in loc)
        if problem["type"] == "extra_forbidden":
            known = _names_beside(loc)
            near = difflib.get_close_matches(str(loc[-1]), known, n=1)
            said = f"`{loc[-1]}` is not known here" + (f"; did you mean `{near[0]}`?" if near else "")
        elif problem["type"] == "missing":
            said = f"`{loc[-1]}` is missing"
        else:
            said = problem["msg"].removeprefix("Value error, ")
        lines.append(f"- {file}, line {line}{f' ({where})' if where else ''}: {said}")
    return "The onboarding journeys have a problem:\n" + "\n".join(lines)


def _names_beside(loc: tuple[int | str, ...]) -> list[str]:
    words = [part for part in loc[:-1] if isinstance(part, str)]
    kinds: dict[str, type[BaseModel]] = {"steps": Step, "journeys": Journey, "locations": Location, "for": Audience}
    kinds["reminders"] = Reminders
    kind: type[BaseModel] = next((kinds[word] for word in reversed(words) if word in kinds), Journeys)
    return [field.alias or name for name, field in kind.model_fields.items() if name != "version"]


def _line(node: Any, loc: tuple[int | str, ...]) -> int:
    """The line of the deepest part of `loc` that the file has."""
    line = 1
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _hours(text: str) -> tuple[datetime.time, datetime.time]:
    opens, _, closes = text.partition("-")
    return _clock(opens), _clock(closes)


def _clock(text: str) -> datetime.time:
    hour, _, minute = text.strip().partition(":")
    return datetime.time(int(hour), int(minute))


RECIPIENTS: Final[tuple[Recipient, ...]] = get_args(Recipient)
