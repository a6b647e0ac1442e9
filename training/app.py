"""`quantahr jobs`: the process that drives retrain jobs, by short Celery tasks on a queue of their own.

A tick every few seconds asks for the next step of every job that is not done, and for the reaper's round now and then.
Several such processes may run: a job's lease lets one of them work on it, and a repeated tick finds nothing to do.
The worker that answers questions imports none of this.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from celery import Celery, signals

from quantahr import queue
from quantahr.errors import QuantaHRError
from quantahr.infra import INFRA_FILE, load_infra
from quantahr.people.approved import write_approved
from quantahr.retrain import Job, Jobs, Plan, Taught
from quantahr.settings import Settings, load_settings
from quantahr.store import Store
from training.config import DEFAULT_CONFIG, QloraConfig, load_config
from training.launch.contract import Launcher
from training.pace import measured
from training.planning import Request, for_options, plan_in_a_process, with_taught
from training.retrain import Tools, advance, reap, wanted

log = logging.getLogger(__name__)

QUEUE: Final = "retrain"
ADVANCE: Final = "quantahr.retrain.advance"
REAP: Final = "quantahr.retrain.reap"
TICK_SECONDS: Final = 3.0
REAP_SECONDS: Final = 60.0


def make_tools(settings: Settings, *, config: Path = DEFAULT_CONFIG, root: Path = Path()) -> Tools:
    """What the driver works with, as configured. Nothing is reached for before it is needed."""
    import redis

    from quantahr.bus.answering import connect
    from quantahr.bus.scripts import MODELS, OUTBOX
    from quantahr.registry import Registry, served_base
    from quantahr.registry.workers import states
    from training.judging import DetachedJudge

    folder = settings.state_dir.resolve() / "retrain"
    client = connect(settings.redis_url)
    channels = {"jobs": OUTBOX, "models": MODELS}

    def announce(what: str) -> None:
        with contextlib.suppress(redis.RedisError):  # only a wake-up: everybody looks by themselves
            client.publish(channels[what], "")

    def workers() -> list[Any]:
        try:
            return states(client)
        except redis.RedisError:
            return []

    store = Store.open(settings)
    jobs = Jobs(store)

    def plan(job: Job, live: Mapping[str, str]) -> Plan:
        told: dict[str, Any] = {"paces": measured(jobs.history(50)), "approved": folder / "approved"}
        if approved := write_approved(store, folder / "approved"):
            told["taught"] = Taught(file=approved.file.name, answers=approved.answers, share=approved.share)
        return plan_in_a_process(Request(config=config, root=root, options=job.options, live=live, **told))

    def chosen(job: Job) -> QloraConfig:
        wanted = for_options(load_config(config, root=root), job.options)
        return with_taught(wanted, job.plan.taught if job.plan else None, folder / "approved")

    def local() -> Launcher:
        from training.launch.local import LocalLauncher

        return LocalLauncher(folder, chosen, root=root, state_dir=settings.state_dir)

    def aws() -> Launcher:
        from training.launch.aws import AwsLauncher

        return AwsLauncher(load_infra(), chosen, root=root)

    return Tools(
        jobs=jobs,
        folder=folder,
        launchers={"local": local, "aws": aws},
        plan=plan,
        judge=DetachedJudge(folder),
        registry=Registry.open(settings),
        base=lambda: served_base(settings),
        workers=workers,
        announce=announce,
    )


def make_app(settings: Settings, tools: Tools) -> Celery:
    """The Celery application with its two tasks."""
    application = queue.make_celery(settings)

    @application.task(name=ADVANCE, acks_late=True, ignore_result=True)
    def advance_job(identifier: str) -> None:
        began = time.monotonic()
        state = advance(tools, identifier)
        log.info("job %s: %s after %.2f s", identifier, state, time.monotonic() - began)

    @application.task(name=REAP, acks_late=True, ignore_result=True)
    def reap_machines() -> None:
        for platform in ("local", "aws") if INFRA_FILE.exists() else ("local",):
            try:
                reap(tools, platform)
            except QuantaHRError as error:
                log.warning("the reaper could not look at %s: %s", platform, error)

    return application


class Ticker(threading.Thread):
    """Sends the tasks. A task that was not taken before the next one is sent expires."""

    def __init__(self, application: Celery, tools: Tools) -> None:
        super().__init__(daemon=True, name="ticker")
        self._application, self._tools = application, tools
        self._over = threading.Event()

    def run(self) -> None:
        reaped = 0.0
        while not self._over.wait(TICK_SECONDS):
            try:
                for identifier in wanted(self._tools):
                    self._send(ADVANCE, (identifier,), TICK_SECONDS * 2)
                if time.monotonic() - reaped > REAP_SECONDS:
                    self._send(REAP, (), REAP_SECONDS)
                    reaped = time.monotonic()
            except Exception as error:
                log.warning("a tick failed (%s); trying again", type(error).__name__)

    def stop(self) -> None:
        self._over.set()

    def _send(self, name: str, arguments: tuple[str, ...], expires: float) -> None:
        self._application.send_task(name, arguments, queue=QUEUE, expires=expires, retry=False)


def run_jobs(settings: Settings | None = None, *, log_level: str = "info") -> None:
    """Run until told to stop. Raises StoreError and SettingsError."""
    settings = settings or load_settings()
    tools = make_tools(settings)
    application = make_app(settings, tools)
    ticker = Ticker(application, tools)

    @signals.worker_ready.connect(weak=False)
    def ready(**_: Any) -> None:
        ticker.start()

    @signals.worker_shutdown.connect(weak=False)
    def stop(**_: Any) -> None:
        ticker.stop()

    application.worker_main(
        [
            "worker",
            "--pool=threads",
            "--concurrency=2",
            f"--queues={QUEUE}",
            f"--loglevel={log_level}",
            "--hostname=jobs@%h",
            "--without-gossip",
            "--without-mingle",
        ]
    )
