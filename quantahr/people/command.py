"""What HR types behind a command: "@person start=2027-01-11 role="Data engineer" manager=@boss". Pure."""

import datetime
import re
from collections.abc import Collection

from quantahr.people.errors import PeopleError

_QUOTES = str.maketrans({"“": '"', "”": '"', "„": '"', "‟": '"', "’": "'", "‘": "'"})
_TOKEN = re.compile(r"""(?:(\w+)\s*=\s*)?(?:"([^"]*)"|'([^']*)'|(\S+))""")


def arguments(text: str, names: Collection[str]) -> tuple[list[str], dict[str, str]]:
    """The words, and the name=value pairs, of a command. Raises PeopleError for a name that is not in `names`."""
    words: list[str] = []
    pairs: dict[str, str] = {}
    for match in _TOKEN.finditer(text.translate(_QUOTES)):
        name = match[1].lower() if match[1] else None
        value = next(part for part in match.groups()[1:] if part is not None)
        if name is None:
            words.append(value)
        elif name in names:
            pairs[name] = value.strip()
        else:
            raise PeopleError(f"`{name}` is not known here. Use: {', '.join(sorted(names))}.")
    return words, pairs


def person(text: str) -> str:
    """The id in "@U1"; empty if it is not a mention."""
    return text[1:] if text.startswith("@") and len(text) > 1 else ""


def day(text: str) -> datetime.date:
    """A date as people write it: 2027-01-11, 11.01.2027 or 11/01/2027. Raises PeopleError."""
    for pattern, order in (
        (r"(\d{4})-(\d{1,2})-(\d{1,2})", (0, 1, 2)),
        (r"(\d{1,2})[./](\d{1,2})[./](\d{4})", (2, 1, 0)),
    ):
        if found := re.fullmatch(pattern, text.strip()):
            year, month, number = (int(found.groups()[at]) for at in order)
            try:
                return datetime.date(year, month, number)
            except ValueError:
                break
    raise PeopleError(f"“{text}” is not a date. Write it as 2027-01-11.")
