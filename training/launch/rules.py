"""Which machines may live. Pure: machines as EC2 describes them, the job they belong to, and a clock."""

from typing import Any, Final

from quantahr.retrain import Job, Progress
from quantahr.retrain.machine import BOOT_SECONDS, SILENT_SECONDS

UNKNOWN_SECONDS: Final = 600.0
"""A machine of a job that the database does not know: it may have been restored from a backup a moment ago."""
SPARE_SECONDS: Final = 600.0
OPERATOR_MINUTES: Final = 24 * 60
"""For a machine that a person started through Terraform, without a job."""


def tag(machine: Any, name: str) -> str | None:
    """The value of a tag."""
    return next((str(entry["Value"]) for entry in machine.get("Tags", ()) if entry["Key"] == name), None)


def taken_back(machine: Any) -> bool:
    """Whether the cloud ended a spot machine."""
    code = str((machine.get("StateReason") or {}).get("Code", ""))
    return code in {"Server.SpotInstanceTermination", "Server.SpotInstanceShutdown"}


def orphaned(machine: Any, job: Job | None, heartbeat: Progress | None, now: float) -> bool:
    """Whether this machine must end: too old, silent, or of a job that is unknown or has ended."""
    age: float = now - machine["LaunchTime"].timestamp()
    allowed = int(tag(machine, "MaxMinutes") or OPERATOR_MINUTES) * 60
    if age > allowed + SPARE_SECONDS:
        return True
    if tag(machine, "JobId") is None:
        return False
    if job is None:
        return age > UNKNOWN_SECONDS
    if job.final or job.settled:
        return True
    current = job.attempt
    if current is None or tag(machine, "Attempt") != str(current.number):
        return True
    if current.instance not in {None, machine["InstanceId"]}:
        return True
    silence: float = now - heartbeat.at if heartbeat else age
    return silence > (SILENT_SECONDS if heartbeat else BOOT_SECONDS) * 2
