"""HR's templates: Markdown files with a form on top, filled with what HR wrote and what the policies say, nothing else.

A `{field}` is what HR filled in, `{policy:name}` what the documents answer to the question of that name, and
`{each:field}` … `{end}` repeats its line for every line of a field (`{item}`). What is missing stays visible as
[fill in: …]; nothing is invented.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from quantahr.people.errors import PeopleError

MARK: Final = "Draft, check before use."
_HOLE: Final = re.compile(r"\{([a-z_]+)(?::([a-z_]+))?\}")
_EACH: Final = re.compile(r"\{each:([a-z_]+)\}\n?(.*?)\{end\}\n?", re.DOTALL)
_BULLET: Final = re.compile(r"^\s*(?:[-*•·–]|\d{1,2}[.)])\s+")


class TemplateField(BaseModel):
    """One thing HR fills in."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(pattern=r"^[a-z_]+$")
    label: str
    kind: Literal["text", "long", "date", "choice"] = "text"
    required: bool = True
    hint: str = ""
    choices: tuple[str, ...] = ()


class _Head(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    title: str
    fields: tuple[TemplateField, ...]
    policies: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Template:
    """`policies` maps a name to the question that is put to the documents."""

    name: str
    title: str
    fields: tuple[TemplateField, ...]
    policies: Mapping[str, str]
    body: str

    def missing(self, values: Mapping[str, str]) -> list[str]:
        """Labels of required fields without a value."""
        return [field.label for field in self.fields if field.required and not values.get(field.name, "").strip()]

    def render(self, values: Mapping[str, str], policy: Callable[[str], str]) -> str:
        """The draft, marked as one. `policy` gives what the documents say to a question, empty for nothing."""
        labels = {field.name: field.label for field in self.fields}

        def hole(match: re.Match[str]) -> str:
            name, of = match[1], match[2]
            if name == "policy":
                return policy(_filled(self.policies[of], values)) or "[nothing about this in the documents]"
            return values.get(name, "").strip() or f"[fill in: {labels[name].lower()}]"

        def each(match: re.Match[str]) -> str:
            lines = [_BULLET.sub("", line).strip().rstrip(".;,") for line in values.get(match[1], "").splitlines()]
            return "".join(match[2].replace("{item}", line) for line in lines if len(line.split()) > 1)

        return f"{MARK}\n\n{_HOLE.sub(hole, _EACH.sub(each, self.body)).strip()}"


def load_templates(folder: Path) -> dict[str, Template]:
    """The templates of a folder by name. Raises PeopleError that names the file and what to mend."""
    if not folder.is_dir():
        raise PeopleError(f"There is no folder {folder} with templates for drafts. people.drafts names another one.")
    found = {}
    for file in sorted(folder.glob("*.md")):
        template = _load(file)
        found[template.name] = template
    if not found:
        raise PeopleError(f"{folder} holds no template (*.md). The project's config/templates/drafts has examples.")
    return found


def find_template(templates: Mapping[str, Template], words: str) -> Template | None:
    """The template that `words` mean: its name or title, or close to one."""
    wanted = re.sub(r"[^a-z]+", "-", words.casefold()).strip("-")
    names = {name: name for name in templates} | {
        re.sub(r"[^a-z]+", "-", one.title.casefold()).strip("-"): name for name, one in templates.items()
    }
    if wanted and (begun := [name for name in names if name.startswith(wanted)]):
        return templates[names[begun[0]]]
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.6)
    return templates[names[near[0]]] if near else None


def _load(file: Path) -> Template:
    text = file.read_text(encoding="utf-8")
    parts = re.match(r"^---\n(.*?)\n---\n(.*)$", text, re.DOTALL)
    if not parts:
        raise PeopleError(f"{file} must begin with --- title and fields ---, as the project's templates do.")
    try:
        values: Any = yaml.safe_load(parts[1])
        head = _Head.model_validate(values)
    except (yaml.YAMLError, ValidationError) as error:
        where = error.errors()[0]["loc"] if isinstance(error, ValidationError) else ""
        raise PeopleError(
            f"The head of {file} has a problem at {where or 'its YAML'}. Compare it with another one."
        ) from None
    names = {field.name for field in head.fields}
    body = _EACH.sub(lambda match: match[2].replace("{item}", ""), parts[2])
    for name, of in _HOLE.findall(body):
        if (name == "policy" and of not in head.policies) or (name != "policy" and name not in names):
            raise PeopleError(f"{file}: {{{name}{':' + of if of else ''}}} stands for nothing; add it to its head.")
    return Template(file.stem, head.title, head.fields, head.policies, parts[2])


def _filled(question: str, values: Mapping[str, str]) -> str:
    return _HOLE.sub(lambda match: values.get(match[1], ""), question)
