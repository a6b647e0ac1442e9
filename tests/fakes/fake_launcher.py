"""A place to train that a test plays: machines that can be seen, ended and lost, and calls that can fail or die."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from quantahr.retrain import Attempt, Job, Progress
from quantahr.retrain.machine import MachineState, Seen, Status


class KilledError(BaseException):
    """The process was killed here."""


@dataclass
class Machine:
    job: str
    attempt: int
    state: MachineState = "running"
    status: Status | None = None
    progress: Progress | None = None
    interrupted: bool = False


@dataclass
class FakeLauncher:
    """`hook(method, moment)` is called before and after every method: it may raise."""

    zones: int = 3
    machines: dict[str, Machine] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    hook: Callable[[str, str], None] = lambda _method, _moment: None
    holder: str | None = None
    result: Path | None = None
    capacity: bool = True
    full_zones: int = 0

    def prepare(self, job: Job) -> tuple[str, str | None]:
        self._at("prepare", "before")
        assert self.holder in {None, job.id}, "two jobs at once"
        self.holder = job.id
        self._at("prepare", "after")
        return "pin", "ami-1"

    def find(self, job: Job, attempt: Attempt) -> str | None:
        self._at("find", "before")
        mine = [n for n, m in self.machines.items() if (m.job, m.attempt) == (job.id, attempt.number)]
        self._at("find", "after")
        return mine[0] if mine else None

    def start(self, job: Job, attempt: Attempt) -> str:
        from training.launch.contract import NoCapacityError

        self._at("start", "before")
        if attempt.number <= self.full_zones:
            raise NoCapacityError("no_capacity", "Full.", "Next.")
        name = f"i-{job.id}-{attempt.number}"
        self.machines.setdefault(name, Machine(job.id, attempt.number))
        self._at("start", "after")
        return name

    def guard(self, job: Job, attempt: Attempt) -> None:
        self._at("guard", "before")
        self._at("guard", "after")

    def look(self, job: Job, attempt: Attempt) -> Seen:
        self._at("look", "before")
        machine = self.machines[attempt.instance or ""]
        self._at("look", "after")
        return Seen(machine.state, attempt.instance, machine.interrupted, machine.progress, machine.status)

    def settle(self, job: Job) -> bool:
        self._at("settle", "before")
        for machine in self.machines.values():
            if machine.job == job.id:
                machine.state = "ended"
        self._at("settle", "after")
        return True

    def release(self, job: Job) -> None:
        self._at("release", "before")
        self.holder = None if self.holder == job.id else self.holder
        self._at("release", "after")

    def fetch(self, job: Job, folder: Path) -> None:
        import shutil

        self._at("fetch", "before")
        assert self.result is not None
        shutil.copytree(self.result, folder, dirs_exist_ok=True)
        self._at("fetch", "after")

    def reap(self, jobs: object, now: float) -> list[str]:
        return []

    def living(self) -> list[str]:
        return [name for name, machine in self.machines.items() if machine.state != "ended"]

    def say(self, outcome: str, detail: str = "") -> None:
        """The newest machine says how it ended, and ends."""
        name, machine = list(self.machines.items())[-1]
        machine.status = Status(name, outcome, detail)  # type: ignore[arg-type]
        machine.state = "ended"

    def _at(self, method: str, moment: str) -> None:
        if moment == "before":
            self.calls.append(method)
        self.hook(method, moment)
