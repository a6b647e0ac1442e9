"""The worker follows the registry: the active version is loaded beside the old one, tried, and then takes over.

Four ideas. The pointer is the truth and is looked at every few seconds; a message on Redis only makes the worker look
sooner, so that one which starts later or was cut off arrives at the same version. A version that does not load, or
fails its canary prompts, never serves: the old one goes on and the administrator is told. The engine before this one
stays in memory while there is room, so that a rollback is a matter of milliseconds. Between the steps of a swap
the worker rests, so that nobody's answer waits for more than one of them.
"""

import contextlib
import hashlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import redis

from quantahr.bus import scripts
from quantahr.bus.answering import connect
from quantahr.errors import QuantaHRError
from quantahr.people.words import card
from quantahr.registry import BASE, Registry, RegistryError, Version, WorkerState, workers
from quantahr.settings import Secrets, Settings, load_secrets
from quantahr.store import Store
from worker.canary import check_canaries
from worker.engines.base import Engine
from worker.engines.machine import free_memory
from worker.engines.pick import open_engine
from worker.serving import Serving

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 3.0
REPORT_SECONDS: Final = 5.0
KEEP_BYTES: Final = 1 << 30
"""The previous engine stays loaded while this much memory is free."""

REST_SECONDS: Final = 0.3
"""Around each step of a swap (loading, a slot's warm-up, a canary): as long as the answers take that it held up."""

Open = Callable[[str | None], Engine]
"""Loads the engine with an adapter (a path), or the base alone (None)."""
Tell = Callable[[str, str], None]
"""Tells the administrator: which version, and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Started:
    """The engine that a worker starts with: the version's id or BASE, and the pointer's serial that it follows."""

    engine: Engine
    serving: str
    serial: int
    refused: str | None = None
    problem: str = ""


def opener(settings: Settings, secrets: Secrets | None = None, *, rest_seconds: float = 0.0) -> Open:
    """Loads what `settings.model` names, with an adapter of the caller's choice.

    `rest_seconds` is for an engine that answers meanwhile: loading leaves the cores to it after each step.
    """
    found = secrets or load_secrets()
    alone = settings.model_copy(update={"model": settings.model.model_copy(update={"adapter": None})})
    return lambda adapter: open_engine(alone, found, adapter=adapter, rest_seconds=rest_seconds)


def open_active(settings: Settings, secrets: Secrets | None = None, *, tell: Tell | None = None) -> Engine:
    """The engine to answer with: `model.adapter` if it is set, else what the registry says. Raises ModelError."""
    return start(settings, opener(settings, secrets), tell or _only_log).engine


def start(settings: Settings, load: Open, tell: Tell, registry: Registry | None = None) -> Started:
    """Load the active version; if it cannot serve, the one before it; if that cannot either, the base alone.

    Raises ModelError when not even the base can be loaded.
    """
    named = settings.model.adapter
    if named:
        return Started(load(None if named == "none" else named), named, 0)
    registry = registry or Registry.open(settings)
    refused, problem, serial = None, "", 0
    try:
        pointer = registry.pointer()
        serial = pointer.serial
        candidates = [pointer.active]
        with contextlib.suppress(RegistryError):
            candidates.append(pointer.before())
    except QuantaHRError as error:
        refused, problem, candidates = "pointer", str(error), []
        tell("pointer", problem)
    for candidate in candidates:
        name = candidate or "shipped"
        try:
            version = registry.resolve(candidate)
            name = version.id if version else BASE
            if version is None:
                break
            if candidate is None and not _fits(settings, registry, version):
                log.info("the shipped adapter is not for the configured model and engine, and is not used")
                break
            engine = load(_path(registry, version, settings))
        except QuantaHRError as error:
            refused, problem = refused or name, problem or str(error)
            tell(name, str(error))
            continue
        if why := _stranger(settings, version, engine) or check_canaries(engine):
            engine.close()
            refused, problem = refused or name, problem or why
            tell(name, why)
            continue
        return Started(engine, version.id, serial, refused, problem)
    return Started(load(None), BASE, serial, refused, problem)


class Follower:
    """Keeps `serving` on the registry's active version. `follow` looks in the background; `look` is one look.

    An engine that was given from outside, in a `serving` of the caller's, is left alone.
    """

    def __init__(
        self,
        settings: Settings,
        tell: Tell,
        *,
        serving: Serving | None = None,
        load: Open | None = None,
        registry: Registry | None = None,
        look_seconds: float = LOOK_SECONDS,
        canary: Callable[[Engine], str] | None = None,
    ) -> None:
        self._settings = settings
        self.serving = serving or Serving(self.first)
        self._tell = tell
        self._load = load or opener(settings)
        self._load_beside = load or opener(settings, rest_seconds=REST_SECONDS)
        self._registry = registry or Registry.open(settings)
        self._look_seconds = look_seconds
        self._canary = canary or partial(check_canaries, rest_seconds=REST_SECONDS)
        self.worker = f"{socket.gethostname()}-{os.getpid()}"
        self._now = WorkerState(self.worker, BASE, -1, 0.0)
        self._previous: tuple[str, Engine] | None = None
        self._kept = threading.Lock()
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._unreadable = ""

    @property
    def state(self) -> WorkerState:
        """What this worker serves, as it reports it."""
        return self._now

    def first(self) -> Engine:
        """The engine to start with; for Serving, which calls it once."""
        begun = start(self._settings, self._load, self._tell, self._registry)
        self._now = WorkerState(self.worker, begun.serving, begun.serial, time.time(), begun.refused, begun.problem)
        return begun.engine

    def follow(self) -> None:
        """Look now and again, in the background, and report what is served, until `close`.

        With `model.adapter` set there is nothing to look for.
        """
        for work in (self._run, self._report):
            thread = threading.Thread(target=work, name=f"models{work.__name__}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def close(self) -> None:
        """Stop looking, and unload the engine that was kept for a rollback."""
        self._ended.set()
        for thread in self._threads:
            thread.join(timeout=30)
        self._drop_previous()

    def look(self) -> bool:
        """Take the pointer's version into service if it is another one. Returns whether something was swapped."""
        if self._settings.model.adapter or self._now.serial < 0:
            return False
        try:
            pointer = self._registry.pointer()
            if pointer.serial == self._now.serial:
                self._unreadable = ""
                return False
            version = self._registry.resolve(pointer.active)
        except QuantaHRError as error:
            # Said once: the old version goes on, and the next look may find the registry mended.
            if str(error) != self._unreadable:
                self._unreadable = str(error)
                self._tell("pointer", str(error))
            return False
        self._unreadable = ""
        if version and pointer.active is None and not _fits(self._settings, self._registry, version):
            version = None
        wanted = version.id if version else BASE
        if wanted == self._now.serving:
            self._note(wanted, pointer.serial)
            return False
        return self._swap(wanted, version, pointer.serial)

    def _swap(self, wanted: str, version: Version | None, serial: int) -> bool:
        began = time.monotonic()
        engine = self._take_previous(wanted)
        why = ""
        try:
            # What served until the last swap is as it was: nobody who goes back waits for its canaries.
            if engine is None:
                self._drop_previous()
                engine = self._load_beside(_path(self._registry, version, self._settings) if version else None)
                # The base alone has learned nothing that a canary could ask for, and must always be there.
                why = _stranger(self._settings, version, engine) or self._canary(engine) if version else ""
        except QuantaHRError as error:
            why = str(error)
        except Exception as error:
            # Whatever it was: this thread must go on, and the type says enough for the log.
            why = f"It could not be loaded ({type(error).__name__}). The worker's log may say more."
        if why:
            if engine is not None:
                engine.close()
            self._now = WorkerState(self.worker, self._now.serving, serial, time.time(), wanted, why)
            self._tell(wanted, why)
            return False
        before = self.serving.switch(cast("Engine", engine))
        old = self._now.serving
        self._note(wanted, serial)
        log.info("serving %s instead of %s after %.2f s", wanted, old, time.monotonic() - began)
        if before is not None:
            self._keep(old, before)
        return True

    def _note(self, serving: str, serial: int) -> None:
        self._now = WorkerState(self.worker, serving, serial, time.time())

    def _keep(self, name: str, engine: Engine) -> None:
        free = free_memory()
        if free is not None and free < KEEP_BYTES:
            engine.close()
            return
        with self._kept:
            self._previous = (name, engine)

    def _take_previous(self, wanted: str) -> Engine | None:
        with self._kept:
            if self._previous and self._previous[0] == wanted:
                engine = self._previous[1]
                self._previous = None
                return engine
        return None

    def _drop_previous(self) -> None:
        with self._kept:
            previous, self._previous = self._previous, None
        if previous:
            previous[1].close()

    def _run(self) -> None:
        client = connect(self._settings.redis_url)
        while not self._ended.is_set():
            try:
                with cast("Any", client).pubsub(ignore_subscribe_messages=True) as listener:
                    listener.subscribe(scripts.MODELS)
                    self._listen(listener)
            except redis.RedisError as error:
                log.warning("the announcement of models cannot be heard (%s); trying again", type(error).__name__)
                self.look()
                self._ended.wait(1.0)
        client.close()

    def _listen(self, listener: Any) -> None:
        due = 0.0
        while not self._ended.is_set():
            woken = listener.get_message(timeout=0.5) is not None
            if woken or time.monotonic() >= due:
                self.look()
                due = time.monotonic() + self._look_seconds

    def _report(self) -> None:
        """Say what is served, in a thread of its own: loading and draining take their time."""
        client = connect(self._settings.redis_url)
        said: WorkerState | None = None
        due = 0.0
        while not self._ended.wait(0.2):
            now = self._now
            if now.serial < 0 or (now is said and time.monotonic() < due):
                continue
            with contextlib.suppress(redis.RedisError):
                workers.report(client, replace(now, at=time.time()))
            said, due = now, time.monotonic() + REPORT_SECONDS
        with contextlib.suppress(redis.RedisError):
            workers.forget(client, self.worker)
        client.close()


def tell_administrator(settings: Settings, store: Store) -> Tell:
    """Tells the administrators in the chat, and writes it into the audit table. Says the same thing once."""
    admins: Sequence[str] = settings.roles.get("admin", ())

    def tell(version: str, problem: str) -> None:
        log.error("model version %s does not serve: %s", version, problem)
        # Every worker meets the same problem, and again after each start: one message a day is enough.
        said = hashlib.sha256(f"{version}\0{problem}\0{time.strftime('%Y%m%d')}".encode()).hexdigest()[:16]
        what = (
            "The model registry cannot be read" if version == "pointer" else f"Model version {version} does not serve"
        )
        try:
            store.audit("worker", "model.refused", version, problem=problem[:200])
            for admin in admins:
                platform, _, user = admin.partition(":")
                address = {"user": user} | ({"tenant": settings.teams.tenant_id} if platform == "teams" else {})
                message = card(f"{what}; the version before it goes on. {problem}")
                store.queue_message(f"model-{said}-{user}"[:64], platform, address, "people", message)
        except Exception as error:
            log.error("the administrator could not be told: %s", type(error).__name__)  # noqa: TRY400

    return tell


def _only_log(version: str, problem: str) -> None:
    log.error("model version %s does not serve: %s", version, problem)


def _path(registry: Registry, version: Version, settings: Settings) -> str:
    return os.fspath(registry.adapter(version, settings.model.engine))


def _stranger(settings: Settings, version: Version, engine: Engine) -> str:
    """Why the version is not for the base of this engine, where only the engine can tell; else empty.

    A GGUF base is compared when a version is added and activated. The weights of a folder are known once loaded.
    """
    trained_on = version.base.partition("@")[2][:12]
    folder = settings.model.engine == "transformers" and Path(settings.model.path or "").is_dir()
    if not (folder and settings.model.path and trained_on) or trained_on == engine.version.base:
        return ""
    return (
        f"It was trained on {version.base}, and {settings.model.path} holds other weights ({engine.version.base}). "
        "Name the model that it was trained on in `model.path`, or train again on this one."
    )


def _fits(settings: Settings, registry: Registry, version: Version) -> bool:
    """Whether the shipped adapter is for the configured model and engine. Another one is a choice, not a fault."""
    from quantahr.registry import served_base
    from quantahr.registry.version import GGUF, check_base

    base = served_base(settings)
    if base is None:
        return False
    try:
        check_base(version, registry.folder(version) / GGUF, base)
        registry.adapter(version, settings.model.engine)
    except QuantaHRError:
        return False
    return True
