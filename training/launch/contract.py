"""What the driver asks of a place to train, and how such a place says no. Every method may be called again."""

from pathlib import Path
from typing import Protocol

from quantahr.errors import QuantaHRError
from quantahr.retrain import Attempt, Job
from quantahr.retrain.machine import Seen
from training.config import QloraConfig


class LaunchError(QuantaHRError):
    """The place to train says no. `code` names the kind, `text` says what happened, `advice` what to do."""

    def __init__(self, code: str, text: str, advice: str) -> None:
        super().__init__(f"{text} {advice}")
        self.code, self.text, self.advice = code, text, advice


class RefusedError(LaunchError):
    """It will say no again until somebody changes something. Nothing was started by this call."""


class UnreachableError(LaunchError):
    """It cannot be reached at the moment; whether something happened is not known."""


class NoCapacityError(LaunchError):
    """This zone has no machine to give. Nothing was started by this call."""


class Launcher(Protocol):
    """A place to train. Methods raise RefusedError and UnreachableError."""

    zones: int
    """Between how many zones the attempts take turns."""

    def prepare(self, job: Job) -> tuple[str, str | None]:
        """Bring everything that the run needs. Returns the hash that pins it, and the machine image."""

    def find(self, job: Job, attempt: Attempt) -> str | None:
        """The machine that was started for this attempt, in whatever state."""

    def start(self, job: Job, attempt: Attempt) -> str:
        """Start the machine of this attempt, or find it. Also raises NoCapacityError."""

    def guard(self, job: Job, attempt: Attempt) -> None:
        """See to it that somebody else ends the machine, should we be gone."""

    def look(self, job: Job, attempt: Attempt) -> Seen:
        """What can be seen of the attempt. Raises UnreachableError."""

    def settle(self, job: Job) -> bool:
        """End whatever runs of this job. True once nothing runs any more."""

    def release(self, job: Job) -> None:
        """The job has ended: let the next one come, and remove what was brought for this one."""

    def fetch(self, job: Job, folder: Path) -> None:
        """Bring the results into `folder`, each file checked against SHA256SUMS."""

    def reap(self, jobs: "Known", now: float) -> list[str]:
        """End every machine that no living job accounts for. Returns their ids."""


class Configured(Protocol):
    """What a job trains: the configuration with the administrator's choices, read when it is needed."""

    def __call__(self, job: Job) -> QloraConfig: ...


class Known(Protocol):
    """The jobs by id."""

    def __call__(self, identifier: str) -> Job | None: ...
