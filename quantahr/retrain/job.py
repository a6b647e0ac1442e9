"""The job itself: frozen records, kept in the database as JSON. Times are seconds since 1970, money is US dollars."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from quantahr.errors import QuantaHRError

State = Literal[
    "requested",
    "confirmed",
    "preparing",
    "running",
    "evaluating",
    "awaiting_approval",
    "promoted",
    "rejected",
    "failed",
    "cancelled",
]
FINAL: frozenset[State] = frozenset({"promoted", "rejected", "failed", "cancelled"})

Outcome = Literal["succeeded", "failed", "interrupted", "timeout", "vanished", "hung", "no_capacity"]
"""interrupted: the spot machine was taken back; vanished: it ended without a word; hung: it stopped making progress."""


class JobError(QuantaHRError):
    """A retrain job cannot do what was asked of it."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Options(_Record):
    """What the administrator may choose; the rest stands in the training configuration."""

    platform: Literal["aws", "local"] = "aws"
    instance_type: str | None = None
    spot: bool = False
    max_minutes: int = Field(default=240, ge=5, le=1440)
    max_cost: float = Field(default=20.0, gt=0, le=1000)
    dry_run: bool = False


def default_options(file: Path = Path("config/qlora_config.json"), **chosen: Any) -> Options:
    """What the training configuration says under `compute`, with what was chosen instead. Raises JobError."""
    try:
        compute = json.loads(file.read_text(encoding="utf-8")).get("compute", {})
        known = {name: compute[name] for name in Options.model_fields if name in compute}
        return Options.model_validate({"platform": "local", **known, **chosen})
    except (OSError, ValueError, AttributeError) as error:
        where = ""
        if isinstance(error, ValidationError):
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = f" ({'.'.join(map(str, first['loc']))}: {first['msg']})"
        raise JobError(
            f"This cannot be trained so{where}. Correct what you typed, or `compute` in {file.name}."
        ) from None


class Taught(_Record):
    """HR's standard answers that are learned beside the documents. `share`: how many there are for each section."""

    file: str
    """Its name in the folder of such files; what is in a file never changes."""
    answers: tuple[str, ...]
    """Ids."""
    share: float = Field(gt=0, le=1)


class Plan(_Record):
    """What would be trained, where and at what price, as it was shown before anybody confirmed."""

    base: str
    documents: int
    changed: tuple[str, ...] = ()
    """Names of the documents that are new or differ from what the live model was trained on."""
    removed: tuple[str, ...] = ()
    hashes: dict[str, str] = {}
    """Document → first 12 hex digits of its file's sha256."""
    taught: Taught | None = None
    examples: int
    """About: what a search brings up beside a section is known only when it is trained."""
    tokens: int = 0
    """About, of all examples."""
    steps: int
    run: str
    """The training run's id: data, configuration and base. The same run resumes the same checkpoints."""
    where: str
    minutes: float
    """Estimated, with starting the machine."""
    price_per_hour: float = 0.0
    cap_minutes: int
    """The machine is ended after this, over all attempts together."""
    notes: tuple[str, ...] = ()

    @property
    def price(self) -> float:
        return self.minutes / 60 * self.price_per_hour

    @property
    def cap_price(self) -> float:
        return self.cap_minutes / 60 * self.price_per_hour


class Attempt(_Record):
    """One try on one machine. It is written down before the machine is asked for."""

    number: int = Field(ge=1)
    spot: bool = False
    asked: bool = False
    """Written just before the cloud is asked for a machine: without it, there can be none."""
    instance: str | None = None
    guarded: bool = False
    """Somebody else will end the machine, should we be gone."""
    started_at: float
    ended_at: float | None = None
    outcome: Outcome | None = None
    detail: str = ""
    """Why it ended so, without any text of a document."""

    def seconds(self, now: float) -> float:
        """How long a machine was paid for."""
        if self.instance is None:
            return 0.0
        return max(0.0, (self.ended_at or now) - self.started_at)


class Progress(_Record):
    """The newest heartbeat."""

    at: float
    stage: str
    """installing, reading, training, exporting, uploading."""
    step: int = 0
    steps: int = 0
    loss: float | None = None
    tokens_per_second: float | None = None
    step_seconds: float | None = None
    """The mean of the steps so far on this machine."""
    seconds_left: float | None = None
    stepped_at: float = 0.0
    """When the last training step ended."""
    curve: tuple[float, ...] = ()
    """Up to forty losses from first to last step."""


class Gate(_Record):
    """What the candidate was measured at beside the live model."""

    passed: bool
    reasons: tuple[str, ...]
    rows: tuple[tuple[str, str, str], ...]
    """(measure, live, candidate)."""
    metrics: dict[str, float] = {}
    """The candidate's numbers, for the registry."""


class Failure(_Record):
    """Why it ended badly. `text` says what happened, `advice` what to do."""

    code: str
    text: str
    advice: str


class Closing(_Record):
    """Where the job is going once nothing of it runs any more."""

    state: State
    failure: Failure | None = None


class Swapped(_Record):
    """A worker, and the version it serves now."""

    name: str
    serving: str


class Job(_Record):
    """Everything that the driver knows. Only the driver changes it, under a lease."""

    id: str
    state: State = "requested"
    options: Options
    requested_by: str
    """platform:user."""
    created_at: float
    changed_at: float
    """When the state last changed."""
    plan: Plan | None = None
    prepared: str | None = None
    """The hash that pins everything uploaded for this job."""
    image: str | None = None
    attempts: tuple[Attempt, ...] = ()
    progress: Progress | None = None
    settled: bool = False
    """No machine of this job runs any more, looked up and found so."""
    gate: Gate | None = None
    version: str | None = None
    """The candidate in the registry."""
    serial: int | None = None
    """The registry's change that made it active."""
    swapped: tuple[Swapped, ...] = ()
    closing: Closing | None = None
    failure: Failure | None = None
    trouble: str = ""
    """What keeps the driver from looking at the moment."""

    @property
    def final(self) -> bool:
        return self.state in FINAL

    @property
    def attempt(self) -> Attempt | None:
        return self.attempts[-1] if self.attempts else None

    def seconds(self, now: float) -> float:
        """Machine time so far, of all attempts."""
        return sum(attempt.seconds(now) for attempt in self.attempts)

    def cost(self, now: float) -> float:
        """Money so far."""
        return self.seconds(now) / 3600 * (self.plan.price_per_hour if self.plan else 0.0)


class Wishes(_Record):
    """What administrators have said; each is said once, and only they change it."""

    confirmed_by: str | None = None
    cancelled_by: str | None = None
    decision: Literal["approve", "reject"] | None = None
    decided_by: str | None = None
