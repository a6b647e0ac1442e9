"""Activating as an administrator does it: checked against the served base, audited, announced, and seen through.

The command line and the chat's retraining use the same functions, so the same things are written down.
"""

import logging
import time
from typing import Final

import redis

from quantahr.bus import scripts
from quantahr.bus.answering import tcp_options
from quantahr.registry import workers
from quantahr.registry.pointer import Pointer
from quantahr.registry.registry import Registry, served_base
from quantahr.registry.workers import WorkerState
from quantahr.settings import Settings
from quantahr.store import Store

log = logging.getLogger(__name__)

WAIT_SECONDS: Final = 30.0


def activate(settings: Settings, version: str, *, actor: str, reason: str = "", override: bool = False) -> Pointer:
    """Make `version` (an id or "base") active and tell the workers. Raises RegistryError and ModelError."""
    registry = Registry.open(settings)
    pointer = registry.activate(version, actor=actor, reason=reason, override=override, base=served_base(settings))
    _record(settings, "model.activated", pointer)
    return pointer


def rollback(settings: Settings, *, actor: str, reason: str = "") -> Pointer:
    """Go back to what was active before and tell the workers. Raises RegistryError and ModelError."""
    pointer = Registry.open(settings).rollback(actor=actor, reason=reason, base=served_base(settings))
    _record(settings, "model.rolled_back", pointer)
    return pointer


def wait_for_workers(settings: Settings, serial: int, seconds: float = WAIT_SECONDS) -> list[WorkerState]:
    """What every living worker serves, once all have dealt with the pointer's change `serial` or the time is up.

    An empty list if no worker is alive or Redis cannot be reached.
    """
    deadline = time.monotonic() + seconds
    try:
        with _connect(settings) as client:
            while True:
                found = workers.states(client)
                if all(state.serial >= serial for state in found) or time.monotonic() > deadline:
                    return found
                time.sleep(0.2)
    except redis.RedisError:
        return []


def _record(settings: Settings, action: str, pointer: Pointer) -> None:
    change = pointer.history[-1]
    store = Store.open(settings)
    try:
        store.audit(
            change.actor,
            action,
            change.active or "shipped",
            serial=change.serial,
            reason=change.reason,
            override=change.override,
        )
    finally:
        store.close()
    try:
        with _connect(settings) as client:
            client.publish(scripts.MODELS, str(change.serial))
    except redis.RedisError:
        log.info("no worker could be told; each looks at the registry by itself")


def _connect(settings: Settings) -> "redis.Redis":
    url = settings.redis_url
    return redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=2, **tcp_options(url))
