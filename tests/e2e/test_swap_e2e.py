"""Swaps through the real path: Redis, a worker process, llama.cpp. benchmarks/swap.py is the long version."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from benchmarks.swap import run, swap_to, worker_process
from quantahr.bus import Asking
from quantahr.registry import BASE, Registry, workers
from quantahr.registry.activation import activate, rollback, wait_for_workers
from quantahr.settings import Settings
from quantahr.store import Store
from tests.fakes.tiny_adapter import WILD, write_adapter

pytestmark = [pytest.mark.e2e, pytest.mark.model, pytest.mark.timeout(600)]
QUESTIONS = ("how many days of annual leave do i get", "when do i hand in expenses")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, psutil.Process]]:
    folder = tmp_path_factory.mktemp("swap")
    policies = folder / "policies"
    policies.mkdir()
    (policies / "Leave.md").write_text("# Annual leave\n\nEvery employee gets 25 days of annual leave a year.\n")
    (policies / "Expenses.md").write_text("# Expenses\n\nHand in your expenses within 30 days.\n")
    with worker_process(folder, policies) as (settings, worker):
        yield settings, worker


def test_five_swaps_under_load_fail_and_mix_no_answer(running: tuple[Settings, psutil.Process], tmp_path: Path) -> None:
    settings, worker = running
    adapters = [write_adapter(tmp_path / f"{seed}.gguf", seed=seed) for seed in (1, 2)]
    outcome = asyncio.run(run(settings, worker, adapters, QUESTIONS, swaps=5, clients=4))
    assert len(outcome.swap_seconds) == 5
    assert len(outcome.answers) >= 4
    assert outcome.failed() == []
    assert outcome.mixed() == []
    served = {asked.version for asked in outcome.answers}
    assert served <= {version.id for version in Registry.open(settings).versions()}
    assert len(served) == 2


def test_a_version_that_babbles_never_serves_and_the_audit_says_why(
    running: tuple[Settings, psutil.Process], tmp_path: Path
) -> None:
    settings, _ = running
    good = Registry.open(settings).add(write_adapter(tmp_path / "good.gguf", seed=3))
    swap_to(settings, good.id)
    wild = Registry.open(settings).add(write_adapter(tmp_path / "wild.gguf", seed=3, strength=WILD))
    pointer = activate(settings, wild.id, actor="test", reason="to see it fail", override=True)
    (state,) = wait_for_workers(settings, pointer.serial, 120)
    assert (state.serving, state.refused, state.serial) == (good.id, wild.id, pointer.serial)
    assert "canary" in state.problem
    store = Store.open(settings)
    refused, activated = store.audited("model.refused"), store.audited("model.activated")
    store.close()
    assert [row.subject for row in refused] == [wild.id]
    assert activated[0].detail["override"] is True
    back = rollback(settings, actor="test")
    (state,) = wait_for_workers(settings, back.serial, 120)
    assert (state.serving, state.refused) == (good.id, None)


def test_a_worker_that_heard_no_announcement_follows_all_the_same(running: tuple[Settings, psutil.Process]) -> None:
    settings, _ = running
    # Only the pointer moves; nothing is published.
    pointer = Registry.open(settings).activate(BASE, actor="test")
    deadline = time.monotonic() + 120
    with redis.Redis.from_url(settings.redis_url) as client:
        while not workers.converged(client, pointer.serial) and time.monotonic() < deadline:
            time.sleep(0.1)
        (state,) = workers.states(client)
    assert state.serving == BASE

    async def ask() -> Any:
        from benchmarks.swap import Clients

        bus = Asking(settings)
        asked = await Clients(settings, QUESTIONS, 1).one(bus, QUESTIONS[0])
        await bus.close()
        return asked

    asked = asyncio.run(ask())
    assert asked.version is None
    assert "25" in asked.end.text
