"""The app package that an administrator uploads to Teams: the manifest with the operator's ids, and two icons."""

import json
import re
import struct
import zipfile
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from bots.teams.app import GUID
from quantahr.errors import SettingsError
from quantahr.settings import Settings

FOLDER: Final = Path("config/teams")
ICONS: Final = {"color.png": 192, "outline.png": 32}
LIMITS: Final = {
    ("name", "short"): 30,
    ("name", "full"): 100,
    ("description", "short"): 80,
    ("description", "full"): 4000,
    ("developer", "name"): 32,
}
VERSION: Final = re.compile(r"\d{1,5}\.\d{1,5}\.\d{1,5}")


def build_package(
    settings: Settings,
    target: Path,
    *,
    website: str,
    privacy: str | None = None,
    terms: str | None = None,
    version: str = "1.0.0",
    folder: Path = FOLDER,
) -> Path:
    """Write the zip and return its path; the same input gives the same bytes. Raises SettingsError."""
    if not GUID.fullmatch(settings.teams.app_id):
        raise SettingsError("teams.app_id is not set. Copy the Microsoft App ID of your Azure Bot into the settings.")
    if not VERSION.fullmatch(version):
        raise SettingsError(f"The version {version} is not like 1.0.3; Teams takes nothing else.")
    links = {"website": website, "privacy": privacy or website, "terms": terms or website}
    for name, url in links.items():
        if urlsplit(url).scheme != "https" or not urlsplit(url).hostname:
            raise SettingsError(f"--{name} must be an address that starts with https://, not {url}.")
    values = {
        "app_id": settings.teams.app_id.lower(),
        "version": version,
        "company": settings.company.name[: LIMITS["developer", "name"]],
        **links,
    }
    manifest = _filled(_read(folder / "manifest.json"), values)
    _check(manifest, folder / "manifest.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as package:
        _add(package, "manifest.json", json.dumps(manifest, indent=2, ensure_ascii=False).encode())
        for name, size in ICONS.items():
            _add(package, name, _icon(folder / name, size))
    return target


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError:
        raise SettingsError(f"{file} cannot be read. Run this in QuantaHR's folder, where config/teams is.") from None
    except ValueError as error:
        raise SettingsError(f"{file} is not valid JSON: {error}.") from None


def _filled(part: Any, values: dict[str, str]) -> Any:
    """The template with every {name} replaced, in strings only, so that no value can break the JSON."""
    if isinstance(part, dict):
        return {name: _filled(value, values) for name, value in part.items()}
    if isinstance(part, list):
        return [_filled(value, values) for value in part]
    if isinstance(part, str):
        return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), part)
    return part


def _check(manifest: Any, file: Path) -> None:
    for (part, name), limit in LIMITS.items():
        length = len(str((manifest.get(part) or {}).get(name) or ""))
        if not 0 < length <= limit:
            raise SettingsError(f"{file}: {part}.{name} has {length} characters; Teams takes 1 to {limit}.")
    if left := re.search(r"\{\w+\}", json.dumps(manifest)):
        raise SettingsError(f"{file}: {left[0]} is not a name that is filled in.")


def _icon(file: Path, size: int) -> bytes:
    try:
        data = file.read_bytes()
    except OSError:
        raise SettingsError(f"{file} cannot be read. config/teams/draw_icons.py draws it.") from None
    if data[:8] != b"\x89PNG\r\n\x1a\n" or struct.unpack(">II", data[16:24]) != (size, size):
        raise SettingsError(f"{file} must be a PNG of {size} × {size} pixels.")
    return data


def _add(package: zipfile.ZipFile, name: str, data: bytes) -> None:
    # A fixed date: the same input gives the same package.
    package.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
