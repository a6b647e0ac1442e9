"""The first script of a rented machine: an alarm that ends it, then the pinned bootstrap.

It depends on the job and the attempt only, not on the time, so that a repeated request with the same client token is
the same request. It holds no secret: the machine's role reads the bucket.
"""

import math
import shlex
from typing import Final

from quantahr.retrain import Attempt, Job
from quantahr.retrain.machine import left
from training.launch.bundle import bootstrap_file
from training.launch.contract import RefusedError

LIMIT: Final = 16_384
"""EC2 takes no more bytes."""


def minutes_for(job: Job, attempt: Attempt) -> int:
    """How many minutes this attempt's machine may exist: what earlier attempts left of the cap."""
    earlier = job.model_copy(update={"attempts": job.attempts[: attempt.number - 1]})
    return max(1, math.floor(left(earlier, attempt.started_at) / 60))


def training_seconds(minutes: int) -> int:
    """How long training may take of that, so that the last words can still be sent."""
    return max(30, int(minutes * 60 - min(300, minutes * 12)))


def environment(job: Job, attempt: Attempt, *, place: str, home: str, end: str) -> dict[str, str]:
    """What bootstrap.sh is told."""
    return {
        "QHR_JOB": job.id,
        "QHR_ATTEMPT": str(attempt.number),
        "QHR_PLACE": place,
        "QHR_HOME": home,
        "QHR_MANIFEST": job.prepared or "",
        "QHR_SECONDS": str(training_seconds(minutes_for(job, attempt))),
        "QHR_END": end,
    }


def render(job: Job, attempt: Attempt, *, bucket: str, region: str) -> str:
    """The user data. Raises RefusedError if it is longer than EC2 takes."""
    minutes = minutes_for(job, attempt)
    bootstrap = bootstrap_file()
    values = environment(job, attempt, place=f"s3://{bucket}", home="/opt/quantahr", end="shutdown")
    values["AWS_DEFAULT_REGION"] = region
    exports = "\n".join(
        f"export {name}=" + ('"${QHR_HOME:-/opt/quantahr}"' if name == "QHR_HOME" else shlex.quote(value))
        for name, value in sorted(values.items())
    )
    text = f"""#!/bin/bash
shutdown -h +{minutes}
set -euo pipefail
trap 'shutdown -h now' EXIT
{exports}
mkdir -p "$QHR_HOME" && cd "$QHR_HOME"
for try in 1 2 3 4 5 6 7 8 9; do
  aws s3 cp --only-show-errors {shlex.quote(f"s3://{bucket}/{bootstrap.key}")} bootstrap.sh && break
  sleep "$((try * ${{QHR_PATIENCE:-5}}))"
done
echo "{bootstrap.sha256}  bootstrap.sh" | sha256sum --check --quiet -
bash bootstrap.sh
"""
    if len(text.encode()) > LIMIT:
        raise RefusedError("user_data", "The machine's first script is too long.", "Shorten the bucket's name.")
    return text
