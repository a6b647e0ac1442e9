"""What a job does next. Pure: records and a clock reading in, a step out.

The driver performs one step, writes down what came of it, and asks again. Every step may be performed twice. Money is
safe because no way leads to a final state but through `Settle`, which ends whatever runs and looks that it has ended.
"""

from dataclasses import dataclass
from typing import Literal

from quantahr.retrain.job import Attempt, Closing, Failure, Job, Outcome, Progress, State, Wishes

MachineState = Literal["absent", "pending", "running", "ending", "ended"]

UNCONFIRMED_SECONDS = 3600.0
"""A request that nobody confirms makes room for the next one."""
APPEAR_SECONDS = 120.0
"""A machine that was just started may not be listed yet."""
BOOT_SECONDS = 900.0
"""Until the first heartbeat: starting, and installing the wheels."""
SILENT_SECONDS = 180.0
"""Between heartbeats."""
STUCK_SECONDS = 1200.0
"""Between training steps while heartbeats go on: loading a large base takes minutes."""
RUNS = 4
"""Machines of one job at most: a spot machine may be taken back this often, less one."""
ROUNDS = 2
"""How often all zones are asked for a machine."""
UNSEEN_SECONDS = 900.0
"""A job whose machines cannot be looked up is closed this long after the machines have ended themselves."""


@dataclass(frozen=True, slots=True)
class Status:
    """The machine's last word about one attempt."""

    instance: str
    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of an attempt's machine. A heartbeat or status of another machine is none."""

    machine: MachineState
    instance: str | None = None
    interrupted: bool = False
    """The cloud took a spot machine back."""
    progress: Progress | None = None
    status: Status | None = None


Step = Literal["again", "plan", "prepare", "launch", "look", "settle", "judge", "activate", "announce", "wait", "done"]


@dataclass(frozen=True, slots=True)
class Next:
    """The step to perform; before it, the job is saved as `job`. `again`: only save it, and ask once more."""

    step: Step
    job: Job


def following(job: Job, wishes: Wishes, now: float) -> Next:
    """The next step of a job."""
    if job.final:
        return Next("announce" if job.state == "promoted" else "done", job)
    if job.closing is None and wishes.cancelled_by and wishes.decision is None:
        # Measuring may be under way even where no machine runs: it is settled once more.
        return Next("again", close(job.model_copy(update={"settled": False}), "cancelled"))
    if job.closing is not None:
        return Next("again", moved(job, job.closing.state, now)) if job.settled else Next("settle", job)
    match job.state:
        case "requested":
            if job.plan is None:
                return Next("plan", job)
            if job.options.dry_run or now - job.changed_at > UNCONFIRMED_SECONDS:
                return Next("again", close(job, "cancelled"))
            return Next("again", moved(job, "confirmed", now)) if wishes.confirmed_by else Next("wait", job)
        case "confirmed":
            return Next("again", moved(job, "preparing", now))
        case "preparing":
            if job.prepared is None:
                return Next("prepare", job)
            return Next("again", begin(moved(job, "running", now), now))
        case "running":
            return _running(job, now)
        case "evaluating":
            if not job.settled:
                return Next("settle", job)
            return Next("judge", job) if job.gate is None else Next("again", moved(job, "awaiting_approval", now))
        case "awaiting_approval":
            if wishes.decision == "approve":
                return Next("activate", job)
            return Next("again", close(job, "rejected")) if wishes.decision == "reject" else Next("wait", job)
        case _:
            raise AssertionError(job.state)


def _running(job: Job, now: float) -> Next:
    attempt = job.attempts[-1]
    if attempt.outcome is None:
        return Next("look" if attempt.instance else "launch", job)
    if attempt.outcome == "succeeded":
        return Next("again", moved(job, "evaluating", now))
    if attempt.outcome == "interrupted" and ran(job) < RUNS and left(job, now) > 0:
        # The interrupted machine is going away by itself; the next attempt has its own name and token.
        return Next("again", begin(job, now))
    if attempt.outcome == "no_capacity":
        return Next("again", begin(job, now))
    return Next("again", close(job, "failed", failure_of(job, attempt)))


def begin(job: Job, now: float) -> Job:
    """The job with its next attempt written down, before anything is asked of the cloud."""
    number = len(job.attempts) + 1
    attempt = Attempt(number=number, spot=job.options.spot, started_at=now)
    return job.model_copy(update={"attempts": (*job.attempts, attempt), "progress": None, "settled": False})


def started(job: Job, instance: str, now: float) -> Job:
    """The current attempt has a machine. Its paid time counts from when it was first known of."""
    attempt = job.attempts[-1]
    if attempt.instance == instance:
        return job
    return _with_attempt(job, attempt.model_copy(update={"instance": instance, "started_at": now}))


def no_capacity(job: Job, zones: int, now: float) -> Job:
    """No machine in this attempt's zone: the next attempt asks the next zone, until all were asked twice."""
    tried = sum(attempt.outcome == "no_capacity" for attempt in job.attempts) + 1
    job = _with_attempt(job, ended(job.attempts[-1], "no_capacity", "", now))
    if tried < zones * ROUNDS:
        return job
    kind = "spot machine" if job.options.spot else "machine"
    advice = "Try again later, or without `spot`." if job.options.spot else "Try again later, or another machine type."
    text = f"AWS has no free {kind} of this type in any of the {zones} zones."
    return close(job, "failed", Failure(code="no_capacity", text=text, advice=advice))


def observed(job: Job, seen: Seen, now: float) -> Job:
    """The job after a look at the current attempt's machine."""
    attempt = job.attempts[-1]
    if seen.progress is not None:
        job = job.model_copy(update={"progress": seen.progress})
    found = _outcome(job, attempt, seen, now)
    if found is None:
        return job
    outcome, detail = found
    return _with_attempt(job, ended(attempt, outcome, detail, now))


def _outcome(job: Job, attempt: Attempt, seen: Seen, now: float) -> tuple[Outcome, str] | None:
    if seen.status and seen.status.instance == attempt.instance:
        return seen.status.outcome, seen.status.detail
    if seen.interrupted:
        return "interrupted", ""
    age = now - attempt.started_at
    if seen.machine in {"ending", "ended"}:
        return "vanished", ""
    if seen.machine == "absent":
        return ("vanished", "") if age > APPEAR_SECONDS else None
    if left(job, now) <= 0:
        return "timeout", ""
    heard = seen.progress
    if heard is None:
        return ("hung", "no heartbeat since it started") if age > BOOT_SECONDS else None
    if now - heard.at > SILENT_SECONDS:
        return "hung", "no heartbeat any more"
    if heard.stepped_at and heard.stage == "training" and now - heard.stepped_at > STUCK_SECONDS:
        return "hung", "heartbeats, but no training step any more"
    return None


def left(job: Job, now: float) -> float:
    """Seconds of machine time that the cap still allows."""
    return (job.plan.cap_minutes if job.plan else 0) * 60 - job.seconds(now)


def ran(job: Job) -> int:
    """How many machines the job has had."""
    return sum(attempt.instance is not None for attempt in job.attempts)


def settled(job: Job, now: float) -> Job:
    """Nothing of the job runs any more: no machine costs anything from now on."""
    attempts = tuple(
        attempt.model_copy(update={"ended_at": now}) if attempt.ended_at is None else attempt
        for attempt in job.attempts
    )
    return job.model_copy(update={"attempts": attempts, "settled": True})


def close(job: Job, state: State, failure: Failure | None = None) -> Job:
    """The job on its way to a final state; it arrives once it is settled."""
    return job.model_copy(update={"closing": Closing(state=state, failure=failure), "trouble": ""})


def gone_by(job: Job) -> float:
    """When every machine of this job has ended itself, whatever happened to us."""
    cap = (job.plan.cap_minutes if job.plan else 0) * 60
    return max((attempt.started_at + cap for attempt in job.attempts), default=job.created_at)


def moved(job: Job, state: State, now: float) -> Job:
    """The job in another state. A final one carries the failure that led there."""
    values: dict[str, object] = {"state": state, "changed_at": now, "trouble": ""}
    if job.closing and state == job.closing.state:
        values |= {"failure": job.closing.failure}
    return job.model_copy(update=values)


def ended(attempt: Attempt, outcome: Outcome, detail: str, now: float) -> Attempt:
    return attempt.model_copy(update={"outcome": outcome, "detail": detail, "ended_at": now})


def failure_of(job: Job, attempt: Attempt) -> Failure:
    """What to say of an attempt that did not succeed."""
    keep = "Its checkpoints are kept: the same job started again goes on from the last one."
    match attempt.outcome:
        case "failed":
            text = f"The training stopped with an error: {attempt.detail or 'no reason was given'}"
            return Failure(code="failed", text=text, advice=f"Mend the cause and start again. {keep}")
        case "timeout":
            minutes = job.plan.cap_minutes if job.plan else 0
            text = f"The training was not finished within its cap of {minutes} minutes and was ended."
            return Failure(code="timeout", text=text, advice=f"Start again with a higher cap. {keep}")
        case "hung":
            text = f"The training machine hung ({attempt.detail}) and was ended."
            return Failure(code="hung", text=text, advice=f"Start again. {keep}")
        case "interrupted":
            text = f"The spot machine was taken back {ran(job)} times."
            return Failure(code="interrupted", text=text, advice=f"Start again without `spot`. {keep}")
        case _:
            text = "The training machine ended without a word: somebody or something outside ended it."
            if job.progress is None:
                text = (
                    "The training machine ended before its first heartbeat: it could not start, or somebody ended it."
                )
            return Failure(code="vanished", text=text, advice=f"If that was not meant, start again. {keep}")


def _with_attempt(job: Job, attempt: Attempt) -> Job:
    return job.model_copy(update={"attempts": (*job.attempts[:-1], attempt)})
