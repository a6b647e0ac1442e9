"""What a training machine leaves behind: heartbeat, status, results; read by whoever follows it.

A mark counts only if it names the machine that the job started: a late word of an earlier attempt, or of a machine that
should not exist, is nobody's word.
"""

import json
from pathlib import Path
from typing import Any

from quantahr.gguf import file_sha256
from quantahr.retrain import Progress
from quantahr.retrain.machine import Status
from training.launch.contract import RefusedError

SUMS = "SHA256SUMS"
_OUTCOMES = ("succeeded", "failed", "interrupted", "timeout")


def progress_in(data: bytes | None, instance: str) -> Progress | None:
    """The heartbeat of this machine; None if there is none, or it is damaged or another's."""
    facts = _load(data, instance)
    if facts is None:
        return None
    try:
        return Progress.model_validate({name: facts[name] for name in Progress.model_fields if name in facts})
    except ValueError:
        return None


def status_in(data: bytes | None, instance: str) -> Status | None:
    """The last word of this machine; None if there is none, or it is damaged or another's."""
    facts = _load(data, instance)
    if facts is None or facts.get("outcome") not in _OUTCOMES:
        return None
    return Status(instance, facts["outcome"], str(facts.get("detail", ""))[:500])


def names_in(sums: str) -> list[str]:
    """The files that SHA256SUMS lists. Raises RefusedError for a name that leads elsewhere."""
    names = [line.split("  ", 1)[1] for line in sums.splitlines() if "  " in line]
    for name in names:
        if name.startswith("/") or ".." in Path(name).parts:
            raise RefusedError("results", "The results name a file outside of their folder.", "Train again.")
    return names


def check_sums(folder: Path) -> None:
    """Raises RefusedError unless every file is there and as SHA256SUMS says."""
    try:
        lines = (folder / SUMS).read_text(encoding="ascii").splitlines()
        wrong = [name for line in lines for sum_, name in [line.split("  ", 1)] if file_sha256(folder / name) != sum_]
    except (OSError, ValueError):
        wrong = [SUMS]
    if wrong or not lines:
        raise RefusedError(
            "results", "The results of the training are incomplete or were changed on their way.", "Train again."
        )


def _load(data: bytes | None, instance: str) -> dict[str, Any] | None:
    try:
        facts = json.loads(data) if data else None
    except ValueError:
        return None
    return facts if isinstance(facts, dict) and facts.get("instance_id") == instance else None
