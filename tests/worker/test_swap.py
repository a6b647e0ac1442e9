"""The worker follows the registry: what it serves after a change, after a bad one, and after it was away."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

from quantahr.bus import scripts
from quantahr.errors import ModelError
from quantahr.gguf_header import cached_sha256
from quantahr.prompt import NO_ANSWER, Message
from quantahr.registry import BASE, Judgement, Registry, Version, workers
from quantahr.registry.storage import FolderStorage
from quantahr.settings import Model, Settings, Teams
from quantahr.store import Store
from tests.fakes.tiny_adapter import GENTLE, WILD, write_adapter
from worker import swap
from worker.canary import check_canaries, judge
from worker.engines.base import EngineVersion, Generation
from worker.swap import Follower, start, tell_administrator

PASSED = Judgement(True, (), None)


class Answers:
    """An engine that answers canaries from their excerpt, or says what it was told to say."""

    slots, context_tokens = 1, 1024

    def __init__(self, adapter: str | None, says: str = "") -> None:
        self.version = EngineVersion("b" * 12, cached_sha256(Path(adapter))[:12] if adapter else None, "fake")
        self._says = says
        self.closed = False
        self.asked = 0

    def generate(self, messages: Sequence[Message], **_: Any) -> Generation:
        self.asked += 1
        text = self._says or messages[-1]["content"].splitlines()[0]
        return Generation(text, 10, 5, "stop", 1.0, 0)

    def close(self) -> None:
        self.closed = True


class Loader:
    """Loads fake engines, remembers them, and fails or babbles for the versions it is told about."""

    def __init__(self) -> None:
        self.loaded: list[Answers] = []
        self.broken: set[str] = set()
        self.babbling: set[str] = set()

    def __call__(self, adapter: str | None) -> Any:
        version = cached_sha256(Path(adapter))[:12] if adapter else BASE
        if version in self.broken:
            raise ModelError("llama.cpp could not load it. Check free memory.")
        self.loaded.append(Answers(adapter, "the the the the" if version in self.babbling else ""))
        return self.loaded[-1]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(FolderStorage(tmp_path / "registry"))


@pytest.fixture
def versions(registry: Registry, tmp_path: Path) -> list[Version]:
    return [registry.add(write_adapter(tmp_path / f"{seed}.gguf", seed=seed), judgement=PASSED) for seed in (1, 2, 3)]


@pytest.fixture
def loader() -> Loader:
    return Loader()


@pytest.fixture
def told() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path)


@pytest.fixture
def follower(settings: Settings, registry: Registry, loader: Loader, told: list[tuple[str, str]]) -> Iterator[Follower]:
    made = follower_of(settings, registry, loader, told)
    yield made
    made.close()


def follower_of(settings: Settings, registry: Registry, loader: Loader, told: list[tuple[str, str]]) -> Follower:
    return Follower(settings, lambda version, why: told.append((version, why)), load=loader, registry=registry)


def serves(follower: Follower) -> str:
    with follower.serving.lease() as engine:
        return engine.version.adapter or BASE


def test_an_empty_registry_means_the_base_alone(follower: Follower) -> None:
    assert serves(follower) == BASE
    assert not follower.look()


def test_a_worker_starts_with_the_active_version_and_follows_the_pointer(
    follower: Follower, registry: Registry, versions: list[Version]
) -> None:
    one, two, _ = versions
    registry.activate(one.id, actor="ada")
    assert serves(follower) == one.id
    registry.activate(two.id, actor="ada")
    assert follower.look()
    assert serves(follower) == two.id
    assert not follower.look()
    registry.activate(BASE, actor="ada")
    assert follower.look()
    assert serves(follower) == BASE
    assert (follower.state.serving, follower.state.serial) == (BASE, 3)


def test_a_rollback_takes_the_engine_that_was_kept_without_asking_it_again(
    follower: Follower, registry: Registry, versions: list[Version], loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap, "free_memory", lambda: 8 << 30)
    one, two, three = versions
    for version in (one, two):
        registry.activate(version.id, actor="ada")
        serves(follower)
        follower.look()
    asked = [engine.asked for engine in loader.loaded]
    assert asked[1] > 0
    registry.rollback(actor="ada")
    assert follower.look()
    assert serves(follower) == one.id
    assert [engine.asked for engine in loader.loaded] == asked
    registry.activate(three.id, actor="ada")
    follower.look()
    assert [engine.closed for engine in loader.loaded] == [False, True, False]


def test_without_memory_the_previous_engine_is_unloaded_at_once(
    follower: Follower, registry: Registry, versions: list[Version], loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap, "free_memory", lambda: 100 << 20)
    registry.activate(versions[0].id, actor="ada")
    serves(follower)
    registry.activate(versions[1].id, actor="ada")
    follower.look()
    assert [engine.closed for engine in loader.loaded] == [True, False]


@pytest.mark.parametrize(("how", "said"), [("broken", "could not load"), ("babbling", "canary")])
def test_a_version_that_fails_never_serves_and_the_administrator_is_told_once(
    how: str,
    said: str,
    follower: Follower,
    registry: Registry,
    versions: list[Version],
    loader: Loader,
    told: list[tuple[str, str]],
) -> None:
    one, two, three = versions
    registry.activate(one.id, actor="ada")
    serves(follower)
    getattr(loader, how).add(two.id)
    registry.activate(two.id, actor="ada")
    assert not follower.look()
    assert not follower.look()
    assert serves(follower) == one.id
    assert [version for version, _ in told] == [two.id]
    assert said in told[0][1]
    assert (follower.state.serving, follower.state.refused, follower.state.serial) == (one.id, two.id, 2)
    registry.activate(three.id, actor="ada")
    assert follower.look()
    assert (serves(follower), follower.state.refused) == (three.id, None)


def test_a_damaged_file_never_serves(
    follower: Follower, registry: Registry, versions: list[Version], told: list[tuple[str, str]], tmp_path: Path
) -> None:
    one, two, _ = versions
    registry.activate(one.id, actor="ada")
    serves(follower)
    registry.activate(two.id, actor="ada")
    file = tmp_path / "registry/versions" / two.id / "adapter.gguf"
    file.write_bytes(file.read_bytes()[:-50])
    assert not follower.look()
    assert serves(follower) == one.id
    assert "cut off" in told[0][1]


def test_a_broken_pointer_is_told_once_and_the_old_version_goes_on(
    follower: Follower, registry: Registry, versions: list[Version], told: list[tuple[str, str]], tmp_path: Path
) -> None:
    registry.activate(versions[0].id, actor="ada")
    serves(follower)
    pointer = tmp_path / "registry/pointer.json"
    whole = pointer.read_bytes()
    pointer.write_text("{")
    assert not follower.look()
    assert not follower.look()
    assert serves(follower) == versions[0].id
    assert [version for version, _ in told] == ["pointer"]
    pointer.write_bytes(whole)
    registry.activate(versions[1].id, actor="ada")
    assert follower.look()


def test_a_worker_that_starts_on_a_broken_pointer_serves_the_base(
    settings: Settings, registry: Registry, loader: Loader, told: list[tuple[str, str]], tmp_path: Path
) -> None:
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry/pointer.json").write_text("{")
    follower = follower_of(settings, registry, loader, told)
    assert serves(follower) == BASE
    assert follower.state.refused == "pointer"
    assert [version for version, _ in told] == ["pointer"]


def test_a_worker_that_starts_late_serves_what_the_others_do(
    settings: Settings, registry: Registry, versions: list[Version], loader: Loader, told: list[tuple[str, str]]
) -> None:
    one, two, _ = versions
    registry.activate(one.id, actor="ada")
    registry.activate(two.id, actor="ada")
    loader.babbling.add(two.id)
    follower = follower_of(settings, registry, loader, told)
    assert serves(follower) == one.id
    assert (follower.state.refused, follower.state.serial) == (two.id, 2)
    assert [engine.closed for engine in loader.loaded] == [True, False]


def test_a_worker_that_was_cut_off_arrives_at_the_last_version_only(
    follower: Follower, registry: Registry, versions: list[Version], loader: Loader
) -> None:
    serves(follower)
    for version in versions:
        registry.activate(version.id, actor="ada")
    assert follower.look()
    assert serves(follower) == versions[-1].id
    assert len(loader.loaded) == 2


def test_an_adapter_named_in_the_settings_is_served_whatever_the_registry_says(
    registry: Registry, versions: list[Version], loader: Loader, told: list[tuple[str, str]], tmp_path: Path
) -> None:
    named = write_adapter(tmp_path / "named.gguf", seed=9)
    settings = Settings(state_dir=tmp_path, model=Model(adapter=str(named)))
    registry.activate(versions[0].id, actor="ada")
    follower = follower_of(settings, registry, loader, told)
    assert serves(follower) == cached_sha256(named)[:12]
    assert not follower.look()
    alone = Settings(state_dir=tmp_path, model=Model(adapter="none"))
    assert start(alone, loader, lambda *_: None, registry).engine.version.adapter is None


def test_the_shipped_adapter_is_served_only_with_the_model_it_was_made_for(
    loader: Loader, told: list[tuple[str, str]], tmp_path: Path
) -> None:
    for width, served in ((576, True), (640, False)):
        shipped = tmp_path / f"shipped-{width}"
        adapter = write_adapter(shipped / "adapter.gguf", seed=4, width=width)
        registry = Registry(FolderStorage(tmp_path / f"registry-{width}"), shipped=shipped)
        follower = follower_of(Settings(state_dir=tmp_path), registry, loader, told)
        assert serves(follower) == (cached_sha256(adapter)[:12] if served else BASE)
    assert told == []


def test_the_administrator_is_told_in_the_chat_and_in_the_audit(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, roles={"admin": ("slack:U1", "teams:t-2")}, teams=Teams(tenant_id="t"))
    store = Store.open(settings)
    tell = tell_administrator(settings, store)
    for _ in range(2):
        tell("abc123abc123", "It failed a canary.")
    assert [row.subject for row in store.audited("model.refused")] == ["abc123abc123"] * 2
    (message,) = store.lease_messages("slack", 10)
    assert message.address == {"user": "U1"}
    assert message.kind == "people"
    assert message.payload["text"].startswith(
        "Model version abc123abc123 does not serve; the version before it goes on."
    )
    (other,) = store.lease_messages("teams", 10)
    assert other.address == {"user": "t-2", "tenant": "t"}
    store.close()


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url) as connection:
        yield connection


def test_workers_say_what_they_serve_and_the_silent_do_not_count(client: Any) -> None:
    def line(name: str, serial: int, at: float) -> workers.WorkerState:
        return workers.WorkerState(name, "abc", serial, at)

    assert not workers.converged(client, 0)
    workers.report(client, line("one", 4, 1000.0))
    workers.report(client, line("two", 3, 1000.0))
    assert [state.worker for state in workers.states(client, now=1001.0)] == ["one", "two"]
    assert not workers.converged(client, 4, now=1001.0)
    workers.report(client, line("one", 4, 1030.0))
    assert workers.converged(client, 4, now=1031.0)
    workers.forget(client, "one")
    assert workers.states(client, now=1031.0) == []


def test_an_announcement_makes_a_worker_look_at_once_and_it_reports_while_it_loads(
    settings: Settings, redis_url: str, client: Any, registry: Registry, versions: list[Version], loader: Loader
) -> None:
    loading, loaded = threading.Event(), threading.Event()

    def load(adapter: str | None) -> Any:
        if adapter:
            loading.set()
            assert loaded.wait(60)
        return loader(adapter)

    connected = settings.model_copy(update={"redis_url": redis_url})
    follower = Follower(connected, lambda *_: None, load=load, registry=registry, look_seconds=3600)
    assert serves(follower) == BASE
    follower.follow()
    pointer = registry.activate(versions[0].id, actor="ada")
    while not loading.wait(0.05):
        client.publish(scripts.MODELS, "1")
    while not workers.states(client):
        loading.wait(0.05)
    assert [state.serving for state in workers.states(client)] == [BASE]
    assert not workers.converged(client, pointer.serial)
    loaded.set()
    while not workers.converged(client, pointer.serial):
        threading.Event().wait(0.05)
    assert [state.serving for state in workers.states(client)] == [versions[0].id]
    follower.close()
    assert workers.states(client) == []


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("You get 25 days [1].", ""),
        ("", "no answer"),
        ("  \n", "no answer"),
        ("It is 30 days.", "not from the excerpt"),
        ("25 " + "leave " * 20, "the same word again and again"),
    ],
)
def test_a_canary_is_judged_by_its_words(answer: str, problem: str) -> None:
    assert judge(answer, "25") == problem


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        (["", "", ""], ""),
        (["No idea.", "", ""], ""),
        (["No idea.", "No idea.", ""], "2 of 3"),
        ([NO_ANSWER, NO_ANSWER, ""], ""),
        ([NO_ANSWER, NO_ANSWER, "No idea."], "3 of 3"),
        ([NO_ANSWER, NO_ANSWER, NO_ANSWER], "3 of 3"),
    ],
)
def test_one_slip_is_forgiven_and_not_knowing_is_sane_if_not_every_time(answers: list[str], problem: str) -> None:
    left = iter(answers)

    class Slips(Answers):
        def generate(self, messages: Sequence[Message], **options: Any) -> Generation:
            self._says = next(left)
            return super().generate(messages, **options)

    found = check_canaries(Slips(None))  # type: ignore[arg-type]
    assert bool(found) == bool(problem)
    assert problem in found


@pytest.mark.model
def test_real_weights_pass_the_canaries_and_wild_ones_do_not(tmp_path: Path) -> None:
    load = swap.opener(Settings(state_dir=tmp_path, model=Model(slots=1, context_tokens=512)))
    for strength, sane in ((GENTLE, True), (WILD, False)):
        engine = load(str(write_adapter(tmp_path / f"{strength}.gguf", seed=1, strength=strength)))
        assert (check_canaries(engine) == "") is sane
        engine.close()
