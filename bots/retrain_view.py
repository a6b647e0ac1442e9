"""What the one message about a retrain job shows on every platform: title, lines, the gate's table, buttons. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from quantahr.retrain import Failure, Job, Plan, Wishes
from quantahr.retrain.machine import gone_by

BAR = 20
SPARKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Button:
    label: str
    action: str
    style: Literal["primary", "danger", ""] = ""


@dataclass(frozen=True, slots=True)
class View:
    """`rows`: (measure, live, candidate). People appear as platform:user; a platform turns its own into names."""

    job: str
    title: str
    lines: tuple[str, ...] = ()
    rows: tuple[tuple[str, str, str], ...] = ()
    buttons: tuple[Button, ...] = ()


def view(job: Job, wishes: Wishes, now: float) -> View:
    """The message about a job."""
    title, lines, buttons = _parts(job, wishes, now)
    if job.trouble:
        lines = [*lines, f"⚠ {job.trouble}", *_safe_by(job)]
    rows = job.gate.rows if job.gate and job.state in {"awaiting_approval", "promoted", "rejected"} else ()
    return View(job.id, title, tuple(lines), rows, tuple(buttons))


def _parts(job: Job, wishes: Wishes, now: float) -> tuple[str, list[str], Sequence[Button]]:
    cancel = Button("Cancel", "cancel", "danger")
    plan = job.plan
    if job.closing and not job.final:
        return "Ending the job…", ["I am making sure that nothing of it runs any more.", _money(job, now)], ()
    if wishes.cancelled_by and not job.final and wishes.decision is None:
        return "Cancelling…", [f"{wishes.cancelled_by} cancelled this."], ()
    match job.state:
        case "requested":
            if plan is None:
                return "Retrain the model?", ["I am looking at the documents…"], (cancel,)
            if wishes.confirmed_by:
                return "Starting…", [f"{wishes.confirmed_by} confirmed this.", *_plan(plan)], (cancel,)
            if job.options.dry_run:
                return "Dry run", _plan(plan), ()
            return "Retrain the model?", _plan(plan), (Button("Start training", "confirm", "primary"), cancel)
        case "confirmed" | "preparing":
            where = "AWS" if job.options.platform == "aws" else "the training process"
            return "Preparing", [f"Bringing code, configuration and documents to {where}, encrypted."], (cancel,)
        case "running":
            return "Training", _running(job, now), (cancel,)
        case "evaluating":
            done = "Training is done, and no machine runs any more."
            return (
                "Measuring the candidate",
                [done, "It answers your golden questions beside the live model.", _money(job, now)],
                (cancel,),
            )
        case "awaiting_approval":
            passed = job.gate is not None and job.gate.passed
            verdict = "The candidate is better. Shall it go live?" if passed else "The candidate did not win."
            if wishes.decision == "approve":
                return "Going live…", [f"{wishes.decided_by} approved version {job.version}."], ()
            if wishes.decision == "reject":
                return "Rejecting…", [f"{wishes.decided_by} rejected version {job.version}."], ()
            approve = Button("Approve" if passed else "Approve anyway", "approve", "primary" if passed else "danger")
            return verdict, [*_reasons(job), *_curve(job), _money(job, now)], (approve, Button("Reject", "reject"))
        case "promoted":
            return (
                f"Version {job.version} is live",
                [
                    f"Approved by {wishes.decided_by}.",
                    *(f"✓ {worker.name} serves it." for worker in job.swapped),
                    "" if job.swapped else "The workers swap one after the other; each is named here.",
                    _money(job, now),
                    "`/hr-retrain rollback` goes back to the model before.",
                ],
                (),
            )
        case "rejected":
            return (
                "Rejected",
                [
                    f"{wishes.decided_by} rejected version {job.version}. The live model stays as it is.",
                    _money(job, now),
                ],
                (),
            )
        case "failed":
            return "The training failed", [*_failed(job.failure), _money(job, now), _nothing_runs(job)], ()
        case "cancelled":
            return _cancelled(job, wishes, now)


def _cancelled(job: Job, wishes: Wishes, now: float) -> tuple[str, list[str], Sequence[Button]]:
    if job.options.dry_run and job.plan and not wishes.cancelled_by:
        return "Dry run", [*_plan(job.plan), "Nothing was started."], ()
    if wishes.cancelled_by:
        return "Cancelled", [f"{wishes.cancelled_by} cancelled this.", _money(job, now), _nothing_runs(job)], ()
    return "Not started", ["Nobody confirmed it within an hour. Type /hr-retrain to see the plan again."], ()


def _plan(plan: Plan) -> list[str]:
    changed = _some(plan.changed) if plan.changed else "none"
    lines = [
        f"Documents: {plan.documents}; changed since the live model: {changed}."
        + (f" Removed: {_some(plan.removed)}." if plan.removed else ""),
        f"Examples: about {_round(plan.examples):,}, in {plan.steps:,} steps. Base: {plan.base}.",
        f"Where: {plan.where}. Estimated: {_minutes(plan.minutes)}"
        + (f", about ${plan.price:.2f}." if plan.price_per_hour else ", no rent."),
        f"Hard cap: {plan.cap_minutes} minutes"
        + (f", ${plan.cap_price:.2f}. The machine ends itself then, whatever happens." if plan.price_per_hour else "."),
    ]
    return lines + [f"Note: {note}" for note in plan.notes]


def _running(job: Job, now: float) -> list[str]:
    attempt, progress = job.attempt, job.progress
    lines = []
    earlier = [one for one in job.attempts[:-1] if one.outcome == "interrupted"]
    if earlier:
        lines.append(f"Spot machines taken back so far: {len(earlier)}; it goes on from the last checkpoint.")
    if attempt is None or attempt.instance is None:
        lines.append("Asking for a machine…")
    elif progress is None:
        lines.append(f"Machine {attempt.instance} is starting.")
    elif progress.stage == "training" and progress.steps:
        filled = round(BAR * progress.step / progress.steps)
        lines.append(f"{'█' * filled}{'░' * (BAR - filled)} step {progress.step} of {progress.steps}")
        figures = []
        if progress.loss is not None:
            figures.append(f"loss {progress.loss:.3f}")
        if progress.tokens_per_second is not None:
            figures.append(f"{progress.tokens_per_second:,.0f} tokens/s")
        if progress.seconds_left is not None:
            figures.append(f"{_minutes(progress.seconds_left / 60)} left")
        lines += [", ".join(figures), *_curve(job)]
    else:
        lines.append(f"Machine {attempt.instance}: {progress.stage}.")
    return [*(line for line in lines if line), _money(job, now), *_safe_by(job)]


def _reasons(job: Job) -> list[str]:
    return [f"• {reason}" for reason in job.gate.reasons] if job.gate else []


def _curve(job: Job) -> list[str]:
    """The loss as a line of blocks, for those who cannot see the picture."""
    losses = job.progress.curve if job.progress else ()
    if len(losses) < 2:
        return []
    low, high = min(losses), max(losses)
    height = (high - low) or 1.0
    drawn = "".join(SPARKS[round((loss - low) / height * (len(SPARKS) - 1))] for loss in losses)
    return [f"Loss {losses[0]:.2f} {drawn} {losses[-1]:.2f}"]


def _failed(failure: Failure | None) -> list[str]:
    return [failure.text, failure.advice] if failure else []


def _money(job: Job, now: float) -> str:
    minutes = _minutes(job.seconds(now) / 60)
    if job.plan is None or not job.plan.price_per_hour:
        return f"Time so far: {minutes}; it cost no rent."
    return f"So far: {minutes} of machine time, ${job.cost(now):.2f}."


def _nothing_runs(job: Job) -> str:
    if any(attempt.instance for attempt in job.attempts):
        return "No machine of this job runs any more; I looked."
    return "No machine was started."


def _safe_by(job: Job) -> list[str]:
    if not any(attempt.asked for attempt in job.attempts) or job.options.platform != "aws":
        return []
    moment = datetime.fromtimestamp(gone_by(job), UTC)
    return [f"Whatever happens, the machine ends itself by {moment:%H:%M} UTC."]


def _round(count: int) -> int:
    """To two digits: the rest is not known before the training."""
    return round(count, 2 - len(str(count))) if count > 99 else count


def _some(names: Sequence[str], shown: int = 5) -> str:
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + rest


def _minutes(minutes: float) -> str:
    if minutes < 1:
        return f"{max(0, round(minutes * 60))} seconds"
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"


def ended_line(job: Job) -> str:
    """One line of the history."""
    day = datetime.fromtimestamp(job.created_at, UTC)
    cost = f", ${job.cost(job.changed_at):.2f}" if job.plan and job.plan.price_per_hour else ""
    version = f", version {job.version}" if job.version else ""
    why = f": {job.failure.text}" if job.failure else ""
    state = job.state.replace("_", " ")
    return f"{day:%Y-%m-%d %H:%M} {job.id}: {state}{version}{cost}{why} (asked for by {job.requested_by})"
