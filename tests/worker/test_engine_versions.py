"""One version, whichever engine serves it: the registry's id is what llama.cpp and transformers both report."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quantahr.errors import ModelError
from quantahr.gguf import PACKAGED_MODEL, file_sha256, packaged_gguf
from quantahr.gguf_header import read_header
from quantahr.prompt import Message
from quantahr.registry import BASE, Judgement, Registry, RegistryError, Version, served_base
from quantahr.registry.storage import FolderStorage
from quantahr.registry.version import adapter_id
from quantahr.settings import Model, Settings
from tests.fakes.fake_tgi import FakeTgi
from tests.fakes.tiny_adapter import write_adapter
from tests.worker.test_engine_contract import tiny_llama
from worker import canary
from worker.canary import check_canaries
from worker.swap import Follower, opener, start

pytest.importorskip("peft", reason="peft is not installed: pip install 'quantahr[training]'")

CHAT: list[Message] = [{"role": "user", "content": "please write a long story about the sea"}]
PASSED = Judgement(True, (), None)


def run_folder(folder: Path, base: Path, *, seed: int, rank: int = 2, trained_on: str = "tiny") -> Path:
    """What a training run on `base` leaves: the adapter for PEFT, the same for llama.cpp, and the manifest."""
    import peft
    import torch
    import transformers

    from training.export import export_gguf, save_adapter

    model: Any = transformers.AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(seed)
    model = peft.get_peft_model(model, peft.LoraConfig(r=rank, target_modules=["v_proj"], task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.5 if rank == 2 else 0.002)
    save_adapter(model, folder / "adapter", base_name=trained_on)
    export_gguf(folder / "adapter", folder / "adapter.gguf", model_config=model.config, name=f"run-{seed}")
    names = ("adapter.gguf", "adapter/adapter_config.json", "adapter/adapter_model.safetensors")
    files = {name: {"sha256": file_sha256(folder / name), "bytes": (folder / name).stat().st_size} for name in names}
    (folder / "manifest.json").write_text(json.dumps({"run_id": f"run{seed}", "base": trained_on, "files": files}))
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def runs(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    return [run_folder(folder / str(seed), base, seed=seed) for seed in (1, 2)]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(FolderStorage(tmp_path / "registry"))


@pytest.fixture
def settings(base: Path, tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path, model=Model(engine="transformers", path=str(base), context_tokens=256))


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def follower(settings: Settings, registry: Registry, told: list[str]) -> Iterator[Follower]:
    """A worker with the real engine. The tiny model knows no words, so its canary is that it answers at all."""

    def answers(engine: Any) -> str:
        return "" if engine.generate(CHAT, max_tokens=4).text else "no answer"

    made = Follower(settings, lambda _, why: told.append(why), registry=registry, canary=answers)
    yield made
    made.close()
    made.serving.close()


def served(follower: Follower) -> tuple[str, str]:
    with follower.serving.lease() as engine:
        return engine.version.adapter or BASE, engine.generate(CHAT, max_tokens=8).text


def test_a_run_is_one_version_in_both_forms(registry: Registry, runs: list[Path]) -> None:
    version = registry.add(runs[0])
    assert {"adapter.gguf", "adapter/adapter_model.safetensors", "adapter/adapter_config.json"} == set(version.files)
    forms = [registry.adapter(version, engine) for engine in ("llamacpp", "transformers", "tgi")]
    assert [adapter_id(form) for form in forms] == [version.id] * 3
    assert adapter_id(runs[0] / "adapter") == adapter_id(runs[0] / "adapter.gguf") == version.id


def test_two_forms_of_different_adapters_are_not_one_version(
    registry: Registry, runs: list[Path], tmp_path: Path
) -> None:
    import shutil

    mixed = shutil.copytree(runs[0], tmp_path / "mixed")
    shutil.copy(runs[1] / "adapter.gguf", mixed / "adapter.gguf")
    (mixed / "manifest.json").unlink()
    with pytest.raises(RegistryError, match="two different adapters"):
        registry.add(mixed)
    assert registry.versions() == []


def test_a_transformers_worker_swaps_and_rolls_back_and_reports_the_registrys_versions(
    follower: Follower, registry: Registry, runs: list[Path], told: list[str]
) -> None:
    nothing, base_text = served(follower)
    assert nothing == BASE
    one, two = (registry.add(run, judgement=PASSED) for run in runs)
    registry.activate(one.id, actor="ada")
    assert follower.look()
    first = served(follower)
    registry.activate(two.id, actor="ada")
    assert follower.look()
    second = served(follower)
    assert (first[0], second[0]) == (one.id, two.id)
    assert len({base_text, first[1], second[1]}) == 3
    registry.rollback(actor="ada")
    assert follower.look()
    assert served(follower) == first
    registry.activate(BASE, actor="ada")
    assert follower.look()
    assert served(follower) == (BASE, base_text)
    assert told == []


def test_versions_side_by_side_share_the_weights_of_the_base(settings: Settings, runs: list[Path]) -> None:
    load = opener(settings)
    alone: Any = load(None)
    before = alone.generate(CHAT, max_tokens=8).text
    beside: Any = [load(str(run / "adapter")) for run in runs]
    weights = {id(weight) for weight in alone._base.parameters()}
    for engine in beside:
        own = [weight for name, weight in engine._model.named_parameters() if "lora" not in name]
        assert {id(weight) for weight in own} == weights
    # What PEFT put into its own copy changed nothing of the base's answers.
    assert alone.generate(CHAT, max_tokens=8).text == before
    beside[0].close()
    assert beside[1].generate(CHAT, max_tokens=8).text
    for engine in (alone, beside[1]):
        engine.close()


def test_a_version_that_fails_its_canary_or_is_no_adapter_never_serves(
    follower: Follower, registry: Registry, runs: list[Path], told: list[str], tmp_path: Path, base: Path
) -> None:
    served(follower)
    good = registry.add(runs[0], judgement=PASSED)
    registry.activate(good.id, actor="ada")
    assert follower.look()
    only_gguf = registry.add(write_adapter(tmp_path / "only.gguf", seed=5), judgement=PASSED)
    registry.activate(only_gguf.id, actor="ada")
    assert not follower.look()
    assert "no PEFT adapter" in told[-1]
    elsewhere = run_folder(tmp_path / "elsewhere", base, seed=3, trained_on=f"tiny-llama@{'0' * 16}")
    registry.activate(registry.add(elsewhere, judgement=PASSED).id, actor="ada")
    assert not follower.look()
    assert "holds other weights" in told[-1]
    assert served(follower)[0] == good.id


def test_an_adapter_of_another_shape_is_refused_with_what_to_name(
    settings: Settings, runs: list[Path], tmp_path: Path
) -> None:
    wider = tiny_llama(tmp_path / "wider", width=64)
    other = settings.model_copy(update={"model": settings.model.model_copy(update={"path": str(wider)})})
    with pytest.raises(ModelError, match=r"does not fit the model .*model\.path"):
        opener(other)(str(runs[0] / "adapter"))
    with pytest.raises(ModelError, match=r"holds no adapter_config\.json"):
        opener(settings)(str(tmp_path / "nothing"))


def test_the_shipped_gguf_is_left_alone_by_a_transformers_worker(tmp_path: Path, told: list[str]) -> None:
    shipped = tmp_path / "shipped"
    write_adapter(shipped / "adapter.gguf", seed=4)
    registry = Registry(FolderStorage(tmp_path / "registry"), shipped=shipped)
    settings = Settings(state_dir=tmp_path, model=Model(engine="transformers"))
    loaded: list[str | None] = []

    def load(adapter: str | None) -> Any:
        loaded.append(adapter)

    assert start(settings, load, lambda _, why: told.append(why), registry).serving == BASE
    assert (loaded, told) == ([None], [])


def test_weights_that_come_from_a_gguf_are_checked_for_both_engines() -> None:
    for engine in ("llamacpp", "transformers"):
        found = served_base(Settings(model=Model(engine=engine)))
        assert found is not None
        assert found.path == packaged_gguf()
    assert served_base(Settings(model=Model(engine="transformers", path="acme/hr-1b"))) is None
    assert served_base(Settings(model=Model(engine="tgi", url="http://127.0.0.1:1"))) is None


@pytest.mark.parametrize(
    ("kind", "advice"), [("tgi", "LORA_ADAPTERS"), ("vllm", "--lora-modules"), ("llamacpp", "--lora")]
)
def test_a_server_that_cannot_swap_says_so_to_the_administrator_and_goes_on(
    kind: Any, advice: str, registry: Registry, runs: list[Path], told: list[str], tmp_path: Path
) -> None:
    version = registry.add(runs[0], judgement=PASSED)
    with FakeTgi(kind).serve() as server:
        follower = _remote(server.url, registry, told, tmp_path)
        assert served(follower)[0] == BASE
        registry.activate(version.id, actor="ada")
        assert not follower.look()
        assert advice in told[0]
        assert version.id in told[0]
        assert served(follower)[0] == BASE
        follower.close()


@pytest.mark.parametrize(("kind", "how"), [("vllm", {"loadable": True}), ("tgi", {"known": True})])
def test_a_server_that_has_or_loads_the_version_swaps_to_it(
    kind: Any, how: dict[str, bool], registry: Registry, runs: list[Path], told: list[str], tmp_path: Path
) -> None:
    versions = [registry.add(run, judgement=PASSED) for run in runs]
    names = tuple(f"quantahr-{version.id}" for version in versions) if how.get("known") else ()
    with FakeTgi(kind, adapters=names, loadable=how.get("loadable", False)).serve() as server:
        follower = _remote(server.url, registry, told, tmp_path)
        served(follower)
        for version in versions:
            registry.activate(version.id, actor="ada")
            assert follower.look()
            assert served(follower)[0] == version.id
        registry.rollback(actor="ada")
        assert follower.look()
        assert served(follower)[0] == versions[0].id
        assert told == []
        follower.close()


def _remote(url: str, registry: Registry, told: list[str], folder: Path) -> Follower:
    settings = Settings(state_dir=folder, model=Model(engine="tgi", url=url))
    return Follower(settings, lambda _, why: told.append(why), registry=registry, canary=lambda _: "")


@pytest.mark.model
@pytest.mark.timeout(900)
def test_the_packaged_models_version_is_the_same_in_llama_cpp_and_transformers(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both pass the canaries with it, report its id and the same base, and begin their answers alike."""
    monkeypatch.setattr(canary, "SECONDS", 600.0)
    from quantahr.gguf import model_source
    from quantahr.prompt import Excerpt, build_messages

    state = Path(".quantahr")
    source = Path(model_source(PACKAGED_MODEL, state))
    run = run_folder(tmp_path / "run", source, seed=1, rank=4, trained_on=PACKAGED_MODEL)
    header = read_header(packaged_gguf())
    version: Version = registry.add(run, base=header, judgement=PASSED)
    registry.activate(version.id, actor="ada", base=header)
    messages = build_messages(
        "How many days of leave do I get?", [Excerpt(1, "Annual leave", "You get 25 days of annual leave a year.")]
    )
    seen = []
    for engine in ("llamacpp", "transformers"):
        settings = Settings(state_dir=state, model=Model(engine=engine, slots=1, context_tokens=512, threads=1))
        loaded = opener(settings)(str(registry.adapter(version, engine)))
        assert check_canaries(loaded) == ""
        seen.append((loaded.version.base, loaded.version.adapter, loaded.generate(messages, max_tokens=6).text))
        loaded.close()
    assert seen[0] == seen[1]
    assert seen[0][1] == version.id
