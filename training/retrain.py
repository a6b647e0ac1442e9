"""The driver of retrain jobs: performs the steps that `quantahr.retrain.machine` names, and notes what came of them.

`advance` may be called at any time, from any process, as often as one likes: the job's lease lets one of them work, a
step finds what an earlier, interrupted one has done, and what takes long runs elsewhere and is looked at again later.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from quantahr.errors import QuantaHRError
from quantahr.gguf_header import Header
from quantahr.registry import Judgement, Registry, WorkerState
from quantahr.retrain import Failure, Gate, Job, Jobs, Plan, Wishes
from quantahr.retrain.job import FINAL, Swapped
from quantahr.retrain.jobs import Leased, LeaseLostError
from quantahr.retrain.machine import (
    UNSEEN_SECONDS,
    Next,
    close,
    following,
    gone_by,
    moved,
    no_capacity,
    observed,
    settled,
    started,
)
from training.launch.contract import Launcher, LaunchError, NoCapacityError, RefusedError, UnreachableError

log = logging.getLogger(__name__)

LEASE_SECONDS = 30.0
STEPS_AT_ONCE = 40
ANNOUNCE_SECONDS = 600.0
"""How long after the activation workers are asked whether they have swapped."""


class Judge(Protocol):
    """Measures a candidate beside the live model."""

    def look(self, job: Job, candidate: Path) -> Gate | None:
        """Begin, or see how far it is: None while it measures. Raises RefusedError if it cannot be measured."""

    def stop(self, job: Job) -> None:
        """Stop measuring, if anything does."""


@dataclass(slots=True)
class Tools:
    """What the driver works with. `launchers` by platform, made when first needed."""

    jobs: Jobs
    folder: Path
    """Results: `folder/<job>/result`."""
    launchers: Mapping[str, Callable[[], Launcher]]
    plan: Callable[[Job, Mapping[str, str]], Plan]
    judge: Judge
    registry: Registry
    base: Callable[[], Header | None] = lambda: None
    """The header of the model that is served."""
    workers: Callable[[], list[WorkerState]] = list
    announce: Callable[[str], None] = lambda _: None
    """Wakes the bots and the workers."""
    clock: Callable[[], float] = time.time
    _made: dict[str, Launcher] = field(default_factory=dict)

    def launcher(self, platform: str) -> Launcher:
        """The place to train of this platform. Raises InfraError."""
        if platform not in self._made:
            self._made[platform] = self.launchers[platform]()
        return self._made[platform]

    def result(self, job: Job) -> Path:
        return self.folder / job.id / "result"


def advance(tools: Tools, identifier: str) -> str:
    """Bring a job as far as it goes now. Returns its state, or "busy" if another process drives it."""
    with tools.jobs.lease(identifier, LEASE_SECONDS) as held:
        if held is None:
            return "busy"
        try:
            _advance(tools, held)
        except LeaseLostError:
            return "busy"
        return held.job.state


def _advance(tools: Tools, held: Leased) -> None:
    before = held.job
    for _ in range(STEPS_AT_ONCE):
        coming = following(held.job, held.wishes, tools.clock())
        held.save(coming.job)
        if coming.step in {"wait", "done"}:
            break
        if coming.step == "again":
            continue
        with _kept(held):
            job = _perform(tools, coming, held)
        patient = coming.step in {"look", "settle", "judge", "announce"}
        unchanged = _without_clock(job) == _without_clock(coming.job)
        held.save(job)
        if job.trouble or (patient and unchanged):
            break
    if held.job != before:
        tools.announce("jobs")


def _without_clock(job: Job) -> Job:
    return job.model_copy(update={"progress": None})


def _perform(tools: Tools, coming: Next, held: Leased) -> Job:
    try:
        return _STEPS[coming.step](tools, coming.job, held).model_copy(update={"trouble": ""})
    except NoCapacityError:
        return no_capacity(held.job, tools.launcher(held.job.options.platform).zones, tools.clock())
    except LaunchError as error:
        return _refused(coming, held.job, error, tools.clock())
    except LeaseLostError:
        raise
    except QuantaHRError as error:
        refused = RefusedError("refused", str(error), "Mend it, then type /hr-retrain again.")
        return _refused(coming, held.job, refused, tools.clock())


def _refused(coming: Next, job: Job, error: LaunchError, now: float) -> Job:
    """Before a machine was asked for, a refusal ends the job. While one may run, it is a reason to look again."""
    log.warning("job %s: step %s did not work (%s)", job.id, coming.step, error.code)
    too_late = now > gone_by(job) + UNSEEN_SECONDS
    if coming.step == "settle" and too_late:
        return settled(job, now)
    if isinstance(error, UnreachableError) or coming.step in {"look", "settle"}:
        if coming.step == "look" and too_late:
            return close(job, "failed", _failure(error))
        return job.model_copy(update={"trouble": str(error)})
    if coming.step == "launch":
        # It was asked for by an earlier process, perhaps with success; or only now, and refused.
        asked = coming.job.attempts[-1].asked
        current = job.attempts[-1].model_copy(update={"outcome": "failed", "ended_at": now, "asked": asked})
        job = job.model_copy(update={"attempts": (*job.attempts[:-1], current)})
    return close(job, "failed", _failure(error))


def _failure(error: LaunchError) -> Failure:
    return Failure(code=error.code, text=error.text, advice=error.advice)


def _plan(tools: Tools, job: Job, _: Leased) -> Job:
    return job.model_copy(update={"plan": tools.plan(job, _live_documents(tools)), "changed_at": tools.clock()})


def _live_documents(tools: Tools) -> Mapping[str, str]:
    """The documents that the live model was trained on; none are known of one that no job has made."""
    live = tools.registry.active()
    for job in tools.jobs.history(50):
        if live and job.version == live.id and job.state == "promoted" and job.plan:
            return job.plan.hashes
    return {}


def _prepare(tools: Tools, job: Job, _: Leased) -> Job:
    pin, image = tools.launcher(job.options.platform).prepare(job)
    return job.model_copy(update={"prepared": pin, "image": image})


def _launch(tools: Tools, job: Job, held: Leased) -> Job:
    launcher, attempt = tools.launcher(job.options.platform), job.attempts[-1]
    instance = launcher.find(job, attempt)
    if instance is None:
        asked = attempt.model_copy(update={"asked": True})
        job = job.model_copy(update={"attempts": (*job.attempts[:-1], asked)})
        held.save(job)
        if held.wishes.cancelled_by:
            return job
        instance = launcher.start(job, asked)
    return started(job, instance, tools.clock())


def _look(tools: Tools, job: Job, held: Leased) -> Job:
    launcher, attempt = tools.launcher(job.options.platform), job.attempts[-1]
    if not attempt.guarded:
        launcher.guard(job, attempt)
        attempt = attempt.model_copy(update={"guarded": True})
        job = job.model_copy(update={"attempts": (*job.attempts[:-1], attempt)})
        held.save(job)
    return observed(job, launcher.look(job, attempt), tools.clock())


def _settle(tools: Tools, job: Job, _: Leased) -> Job:
    if job.closing:
        tools.judge.stop(job)
    if job.state in {"requested", "confirmed"}:
        return settled(job, tools.clock())  # nothing was brought anywhere yet
    asked = any(attempt.asked for attempt in job.attempts)
    try:
        launcher = tools.launcher(job.options.platform)
        if asked and not launcher.settle(job):
            return job
        launcher.release(job)
    except QuantaHRError:
        if asked:
            raise
        # Nothing can run; a mark left in the bucket gives way to the next job by itself.
    return settled(job, tools.clock())


def _judge(tools: Tools, job: Job, _: Leased) -> Job:
    result = tools.result(job)
    if job.version is None:
        result.parent.mkdir(parents=True, exist_ok=True)
        tools.launcher(job.options.platform).fetch(job, result)
        version = tools.registry.add(result, base=tools.base(), parent=_live(tools))
        curve = result / "curve.png"
        if curve.is_file():
            tools.jobs.keep_curve(job.id, curve.read_bytes())
        return job.model_copy(update={"version": version.id})
    gate = tools.judge.look(job, result)
    if gate is None:
        return job
    judgement = Judgement(gate.passed, gate.reasons, _live(tools))
    tools.registry.record_judgement(job.version, gate.metrics, judgement)
    return job.model_copy(update={"gate": gate})


def _live(tools: Tools) -> str | None:
    live = tools.registry.active()
    return live.id if live else None


def _activate(tools: Tools, job: Job, held: Leased) -> Job:
    reason = f"retrain {job.id}"
    done = next((change for change in tools.registry.pointer().history if change.reason == reason), None)
    if done is None:
        moved_to = tools.registry.activate(
            job.version or "",
            actor=held.wishes.decided_by or "",
            reason=reason,
            override=job.gate is None or not job.gate.passed,
            base=tools.base(),
        )
        done = moved_to.history[-1]
        tools.announce("models")
    return moved(job.model_copy(update={"serial": done.serial}), "promoted", tools.clock())


def _announce(tools: Tools, job: Job, _: Leased) -> Job:
    now = tuple(
        Swapped(name=worker.worker, serving=worker.serving)
        for worker in tools.workers()
        if worker.serial >= (job.serial or 0)
    )
    return job.model_copy(update={"swapped": now}) if now != job.swapped else job


_STEPS: Mapping[str, Callable[[Tools, Job, Leased], Job]] = {
    "plan": _plan,
    "prepare": _prepare,
    "launch": _launch,
    "look": _look,
    "settle": _settle,
    "judge": _judge,
    "activate": _activate,
    "announce": _announce,
}


def wanted(tools: Tools) -> list[str]:
    """The ids of the jobs that want to be advanced: the active one, and one that workers are swapping to."""
    found = []
    for job in tools.jobs.history(3):
        swapping = job.state == "promoted" and tools.clock() - job.changed_at < ANNOUNCE_SECONDS
        if job.state not in FINAL or swapping:
            found.append(job.id)
    return found


def reap(tools: Tools, platform: str) -> list[str]:
    """End every machine of a platform that no living job accounts for. Returns their ids."""

    def known(identifier: str) -> Job | None:
        found: tuple[Job, Wishes] | None = tools.jobs.get(identifier) if identifier else None
        return found[0] if found else None

    ended = tools.launcher(platform).reap(known, tools.clock())
    for machine in ended:
        log.warning("machine %s was ended: no living job accounts for it", machine)
    return ended


@contextmanager
def _kept(held: Leased) -> Iterator[None]:
    """Keep the lease while a step takes its time."""
    over = threading.Event()

    def renew() -> None:
        while not over.wait(LEASE_SECONDS / 3):
            held.renew()

    keeper = threading.Thread(target=renew, daemon=True)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()
