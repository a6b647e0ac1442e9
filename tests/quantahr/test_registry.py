"""The registry: versions that cannot change unnoticed, one active at a time, and the way back."""

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from quantahr.errors import ModelError
from quantahr.gguf import file_sha256, packaged_gguf
from quantahr.gguf_header import Header, read_header
from quantahr.registry import BASE, Judgement, Registry, RegistryError, Version
from quantahr.registry.storage import FolderStorage, S3Storage, Storage
from tests.fakes.tiny_adapter import write_adapter

PASSED = Judgement(True, ("better",), None)
FAILED = Judgement(False, ("correct: worse",), None)


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    if request.param == "folder":
        yield FolderStorage(tmp_path / "registry")
        return
    import boto3
    from moto import mock_aws

    with mock_aws(), pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="models")
        yield S3Storage("models", "hr/registry", tmp_path / "cache", client)


@pytest.fixture
def registry(storage: Storage) -> Registry:
    ticks = iter(range(1_700_000_000, 1_800_000_000))
    return Registry(storage, clock=lambda: next(ticks))


@pytest.fixture(scope="module")
def base() -> Header:
    return read_header(packaged_gguf())


def add(registry: Registry, folder: Path, seed: int, judgement: Judgement | None = PASSED) -> Version:
    return registry.add(write_adapter(folder / f"{seed}.gguf", seed=seed), judgement=judgement)


def run_folder(folder: Path, seed: int) -> Path:
    """What a training run leaves: adapter.gguf and a manifest over it."""
    adapter = write_adapter(folder / "adapter.gguf", seed=seed)
    files = {"adapter.gguf": {"sha256": file_sha256(adapter), "bytes": adapter.stat().st_size}}
    facts = {"run_id": "abc123", "base": "packaged/SmolLM2-135M-Instruct@0011", "files": files}
    (folder / "manifest.json").write_text(json.dumps(facts))
    return folder


def test_a_version_is_named_by_its_weights_and_keeps_where_it_came_from(registry: Registry, tmp_path: Path) -> None:
    source = run_folder(tmp_path / "run", 1)
    version = registry.add(source, parent="0123456789ab", metrics={"correct": 0.8}, judgement=PASSED)
    assert version.id == file_sha256(source / "adapter.gguf")[:12]
    assert registry.get(version.id[:5]) == version
    assert (version.run, version.base) == ("abc123", "packaged/SmolLM2-135M-Instruct@0011")
    assert (version.parent, version.metrics, version.judgement) == ("0123456789ab", {"correct": 0.8}, PASSED)
    assert registry.adapter(version, "llamacpp").read_bytes() == (source / "adapter.gguf").read_bytes()


def test_a_new_registry_is_empty_and_serves_the_base_alone(registry: Registry) -> None:
    assert registry.versions() == []
    assert registry.active() is None
    assert registry.pointer().serial == 0
    with pytest.raises(RegistryError, match="nothing to go back to"):
        registry.rollback(actor="me")


def test_activation_and_rollback_walk_back_through_the_history(registry: Registry, tmp_path: Path) -> None:
    one, two, three = (add(registry, tmp_path, seed) for seed in (1, 2, 3))
    for version in (one, two, three):
        registry.activate(version.id, actor="ada", reason="new")
    assert registry.active() == three
    assert registry.rollback(actor="bob").active == two.id
    assert registry.rollback(actor="bob").active == one.id
    registry.activate(three.id, actor="ada")
    assert registry.rollback(actor="bob").active == one.id
    assert registry.rollback(actor="bob").active is None
    history = registry.pointer().history
    assert [change.serial for change in history] == list(range(1, 9))
    assert [change.actor for change in history if change.rollback] == ["bob"] * 4
    assert [version.id for version in registry.versions()] == [one.id, two.id, three.id]


def test_the_base_alone_can_be_made_active(registry: Registry, tmp_path: Path) -> None:
    registry.activate(add(registry, tmp_path, 1).id, actor="ada")
    assert registry.activate(BASE, actor="ada").active == BASE
    assert registry.active() is None


@pytest.mark.parametrize(("judgement", "why"), [(FAILED, "not let through"), (None, "not been judged")])
def test_what_the_gate_did_not_pass_needs_an_administrators_word(
    registry: Registry, tmp_path: Path, judgement: Judgement | None, why: str
) -> None:
    version = add(registry, tmp_path, 1, judgement)
    with pytest.raises(RegistryError, match=why):
        registry.activate(version.id, actor="ada")
    with pytest.raises(RegistryError, match=why):
        registry.activate(version.id, actor="ada", override=True, reason=" ")
    assert registry.active() is None
    registry.activate(version.id, actor="ada", override=True, reason="the old one is broken")
    change = registry.pointer().history[-1]
    assert (change.active, change.override, change.reason) == (version.id, True, "the old one is broken")


def test_a_judgement_can_follow_later(registry: Registry, tmp_path: Path) -> None:
    version = add(registry, tmp_path, 1, None)
    registry.record_judgement(version.id, {"correct": 0.9}, PASSED)
    assert registry.get(version.id).metrics == {"correct": 0.9}
    assert registry.activate(version.id, actor="ada").active == version.id


def test_of_two_administrators_at_the_same_moment_one_is_told(storage: Storage, tmp_path: Path) -> None:
    registry = Registry(storage)
    version = add(registry, tmp_path, 1)
    barrier = threading.Barrier(2)

    class Together(Registry):
        """Both have read the pointer before either writes it."""

        def _pointer(self):  # type: ignore[no-untyped-def]
            found = super()._pointer()
            barrier.wait(10)
            return found

    outcomes: list[str] = []

    def activate(actor: str) -> None:
        try:
            Together(storage).activate(version.id, actor=actor)
            outcomes.append("done")
        except RegistryError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=activate, args=(actor,)) for actor in ("ada", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(outcomes)[1] == "done"
    assert "Somebody else" in sorted(outcomes)[0]
    assert registry.pointer().serial == 1


def test_an_adapter_for_another_base_is_refused(registry: Registry, tmp_path: Path, base: Header) -> None:
    named = write_adapter(tmp_path / "named.gguf", seed=1, base="f" * 64)
    shaped = write_adapter(tmp_path / "shaped.gguf", seed=1, width=640)
    with pytest.raises(ModelError, match="was trained on the model ffffffffffff"):
        registry.add(named, base=base)
    with pytest.raises(ModelError, match="does not fit"):
        registry.add(shaped, base=base)
    assert registry.versions() == []
    slipped_in = registry.add(named, judgement=PASSED)
    with pytest.raises(ModelError, match="was trained on the model ffffffffffff"):
        registry.activate(slipped_in.id, actor="ada", base=base)
    assert registry.active() is None


def test_a_truncated_or_changed_adapter_is_refused(registry: Registry, tmp_path: Path) -> None:
    source = run_folder(tmp_path / "run", 1)
    whole = (source / "adapter.gguf").read_bytes()
    (source / "adapter.gguf").write_bytes(whole[:-4000])
    with pytest.raises(ModelError, match="cut off"):
        registry.add(source)
    (source / "adapter.gguf").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(RegistryError, match="not the file that the manifest"):
        registry.add(source)
    (source / "adapter.gguf").write_bytes(b"hello")
    with pytest.raises(ModelError, match="not a GGUF"):
        registry.add(source)
    (source / "adapter.gguf").unlink()
    with pytest.raises(RegistryError, match="holds no adapter"):
        registry.add(source)
    assert registry.versions() == []


def test_damage_in_the_registry_is_found_before_it_serves_and_adding_again_mends_it(tmp_path: Path) -> None:
    registry = Registry(FolderStorage(tmp_path / "registry"))
    version = add(registry, tmp_path, 1)
    stored = registry.adapter(version, "llamacpp")
    whole = stored.read_bytes()
    stored.write_bytes(whole[:-10])
    with pytest.raises(RegistryError, match="cut off"):
        registry.activate(version.id, actor="ada")
    stored.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(RegistryError, match="hash differs"):
        registry.adapter(version, "llamacpp")
    assert add(registry, tmp_path, 1).id == version.id
    registry.activate(version.id, actor="ada")
    (tmp_path / "registry/pointer.json").write_text("{")
    with pytest.raises(RegistryError, match="damaged"):
        registry.active()


def test_a_spoilt_copy_of_a_version_in_s3_is_fetched_again(storage: Storage, tmp_path: Path) -> None:
    if not isinstance(storage, S3Storage):
        pytest.skip("a folder keeps no copies")
    registry = Registry(storage)
    version = add(registry, tmp_path, 1)
    copy = registry.adapter(version, "llamacpp")
    whole = copy.read_bytes()
    copy.write_bytes(whole[:-1] + b"?")
    assert registry.adapter(version, "llamacpp").read_bytes() == whole


def test_the_shipped_adapter_serves_until_something_is_activated(storage: Storage, tmp_path: Path) -> None:
    shipped = run_folder(tmp_path / "shipped", 7)
    registry = Registry(storage, shipped=shipped)
    first = registry.active()
    assert first is not None
    assert first.id == file_sha256(shipped / "adapter.gguf")[:12]
    assert [version.id for version in registry.versions()] == [first.id]
    assert registry.adapter(first, "llamacpp") == shipped / "adapter.gguf"
    other = add(registry, tmp_path, 1)
    registry.activate(other.id, actor="ada")
    assert registry.active() == other
    registry.rollback(actor="ada")
    assert registry.active() == first
    registry.activate(other.id, actor="ada")
    assert registry.activate(first.id, actor="ada").active == first.id


def test_a_peft_adapter_has_a_folder_that_carries_its_version(storage: Storage, tmp_path: Path) -> None:
    source = tmp_path / "run"
    (source / "adapter").mkdir(parents=True)
    (source / "adapter/adapter_config.json").write_text('{"base_model_name_or_path": "acme/model"}')
    (source / "adapter/adapter_model.safetensors").write_bytes(b"weights")
    registry = Registry(storage)
    version = registry.add(source)
    assert version.base == "acme/model"
    found = registry.adapter(version, "transformers")
    assert found.name == f"quantahr-{version.id}"
    assert (found / "adapter_model.safetensors").read_bytes() == b"weights"
    shutil.rmtree(source)
    assert registry.adapter(version, "tgi") == found
    with pytest.raises(RegistryError, match=r"no adapter\.gguf"):
        registry.adapter(version, "llamacpp")


def test_an_unknown_version_is_named_with_where_to_look(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="models list"):
        registry.activate("123456789abc", actor="ada")


def test_more_than_a_page_of_versions_is_listed_from_s3(storage: Storage) -> None:
    if not isinstance(storage, S3Storage):
        pytest.skip("a folder has no pages")
    for number in range(1003):
        assert storage.replace(f"versions/{number:012x}/note", b"x", None)
    assert len(storage.folders("versions/")) == 1003
