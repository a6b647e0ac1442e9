"""Two facts a document states about itself: from when it holds, and for whom it is written.

Dates are only taken next to words such as "effective from". "03/04/2026" is read month first in documents whose
language is American English, day first elsewhere. Roles from a property and from the folder must both allow a reader.
"""

import datetime
import re

from quantahr.policies.model import EVERYONE

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = r"(?P<{}>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DATE = (
    r"(?:(?P<iso>\d{4}-\d{2}-\d{2})|(?P<dotted>\d{1,2}\.\s?\d{1,2}\.\s?\d{4})|(?P<slashed>\d{1,2}[/-]\d{1,2}[/-]\d{4})"
    r"|(?P<day1>\d{1,2})(?:st|nd|rd|th)?\s+(?:of\s+)?" + _MONTH.format("month1") + r",?\s+(?P<year1>\d{4})"
    r"|" + _MONTH.format("month2") + r"\s+(?P<day2>\d{1,2})(?:st|nd|rd|th)?,?\s+(?P<year2>\d{4})"
    r"|" + _MONTH.format("month3") + r"\s+(?P<year3>\d{4}))(?!\d)"
)
_STATED = re.compile(
    r"\b(?:effective|valid|in force|in effect|into force|into effect|applies|applicable|with effect|"
    r"takes? effect|comes? into (?:force|effect))\b"
    r"(?:\s+(?:date|starting))?\s*:?\s*(?:(?:as )?(?:from|of|since|on|at)\b)?\s*:?\s*(?:the\s+)?" + _DATE,
    re.IGNORECASE,
)
_AUDIENCE = re.compile(r"\b(?:audience|zielgruppe)\s*[:=]\s*([^;\n]+)", re.IGNORECASE)
_FOLDERS = {"manager": "manager", "hr": "hr", "admin": "admin", "administrator": "admin", "human-resources": "hr"}
_EVERYBODY = {"employee", "everyone", "everybody", "all", "all employee", "all staff", "staff"}


def effective_date(text: str, *, month_first: bool = False) -> datetime.date | None:
    """The first date that `text` says it is effective from; None when it says none or the date does not exist."""
    match = _STATED.search(text)
    return _date(match, month_first) if match else None


def plain_date(text: str, *, month_first: bool = False) -> datetime.date | None:
    """The date that `text` is, as in a property or front matter; None when it is none."""
    match = re.match(_DATE, text.strip(), re.IGNORECASE)
    return _date(match, month_first) if match else None


def _date(match: re.Match[str], month_first: bool) -> datetime.date | None:
    try:
        if match["iso"]:
            return datetime.date.fromisoformat(match["iso"])
        if numbers := match["dotted"] or match["slashed"]:
            first, second, year = (int(part) for part in re.split(r"[./-]\s?", numbers))
            swap = bool(match["slashed"]) and second <= 12 and (first <= 12) and month_first
            day, month = (second, first) if swap or second > 12 else (first, second)
            return datetime.date(year, month, day)
        for suffix in ("1", "2"):
            if match[f"day{suffix}"]:
                month = _MONTHS.index(match[f"month{suffix}"].lower()) + 1
                return datetime.date(int(match[f"year{suffix}"]), month, int(match[f"day{suffix}"]))
        return datetime.date(int(match["year3"]), _MONTHS.index(match["month3"].lower()) + 1, 1)
    except ValueError:
        return None


def roles(text: str) -> tuple[str, ...]:
    """The roles in "Managers, HR", sorted and in the singular; anything that means everybody is `employee`."""
    found = set()
    for word in re.split(r"[,/&+]|\band\b", text.lower()):
        role = word.strip(" .\t")
        role = role[:-1] if role.endswith("s") and len(role) > 3 else role
        if role:
            found.add(EVERYONE[0] if role in _EVERYBODY else _FOLDERS.get(role, role))
    return tuple(sorted(found))


def audience_in(keywords: str) -> tuple[str, ...]:
    """The roles of "audience: manager, hr" among keywords or a category; () when there are none."""
    match = _AUDIENCE.search(keywords)
    return roles(match[1]) if match else ()


def audience_line(line: str) -> tuple[str, ...]:
    """The roles that a line such as "Audience: People managers only" restricts a document to; () when it does not."""
    match = re.match(r"(?:audience|intended for|confidential to)\s*:\s*(.+)", line, re.IGNORECASE)
    if not match or re.search(r"\b(?:employees|everyone|everybody|all|staff|crew)\b", match[1], re.IGNORECASE):
        return ()
    named = {word.lower() for word in re.findall(r"\b(managers?|hr|human resources|admin)", match[1], re.IGNORECASE)}
    return tuple(sorted({"hr" if word == "human resources" else word.removesuffix("s") for word in named}))


def folder_audience(name: str) -> tuple[str, ...]:
    """The roles that a subfolder named managers, hr or admins stands for; () for a file elsewhere."""
    for part in name.split("/")[:-1]:
        role = re.sub(r"s$", "", part.lower()) if part.lower() != "hr" else "hr"
        if role in _FOLDERS:
            return (_FOLDERS[role],)
    return ()


def combined_audience(stated: tuple[str, ...], folder: tuple[str, ...]) -> tuple[tuple[str, ...], bool]:
    """Who may see a document, and whether property and folder disagree; then the folder, which HR sees, counts."""
    if not stated or not folder:
        return stated or folder or EVERYONE, False
    both = tuple(role for role in stated if role in folder)
    return both or folder, not both
