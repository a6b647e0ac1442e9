"""The model file: found, judged before llama.cpp sees it, and the packaged one rewritten once."""

from pathlib import Path

import numpy as np
import pytest

from quantahr.errors import ModelError
from quantahr.gguf import packaged_gguf
from quantahr.gguf_header import base_sha256, cached_sha256, read_header
from worker import model_files
from worker.model_files import find_model, prepare_packaged, requantize


def write_model(path: Path, *, columns: int = 64, seed: int = 1) -> Path:
    """A GGUF with the tensors of a (useless) tiny language model in Q4_1."""
    import gguf

    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("model")
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_token_list([f"word{number}" for number in range(40)])
    writer.add_array("general.languages", ["en"])
    for name in ("token_embd.weight", "blk.0.attn_v.weight"):
        data = rng.standard_normal((40, columns)).astype(np.float32)
        writer.add_tensor(name, gguf.quantize(data, gguf.GGMLQuantizationType.Q4_1),
                          raw_dtype=gguf.GGMLQuantizationType.Q4_1)  # fmt: skip
    writer.add_tensor("blk.0.attn_norm.weight", rng.standard_normal(columns).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def weights(path: Path) -> dict[str, np.ndarray]:
    import gguf

    return {tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type) for tensor in gguf.GGUFReader(path).tensors}


def test_a_configured_file_is_served_as_it_is(tmp_path: Path) -> None:
    model = write_model(tmp_path / "mine.gguf")
    assert find_model(str(model), tmp_path / "state") == model
    assert not (tmp_path / "state").exists()


def test_rewriting_keeps_the_weights_the_words_and_the_identity(tmp_path: Path) -> None:
    source = write_model(tmp_path / "mine.gguf")
    target = tmp_path / "models" / "mine.Q8_0.gguf"
    requantize(source, target, "Q8_0", cached_sha256(source))
    before, after = weights(source), weights(target)
    assert before.keys() == after.keys()
    for name, values in before.items():
        assert np.abs(values - after[name]).max() <= np.abs(values).max() / 127, name
    assert np.array_equal(before["blk.0.attn_norm.weight"], after["blk.0.attn_norm.weight"])
    assert read_header(target).metadata["general.languages"] == ("en",)
    assert read_header(target).number("*.context_length") == 128
    assert base_sha256(read_header(target)) == base_sha256(read_header(source)) == cached_sha256(source)


def test_a_file_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    source = write_model(tmp_path / "mine.gguf")
    before = read_header(source)
    assert read_header(source) is before
    other = tmp_path / "other.gguf"
    requantize(source, other, "Q8_0", "ab" * 32)
    other.replace(source)
    assert base_sha256(read_header(source)) == "ab" * 32


def test_rewriting_is_deterministic_and_leaves_nothing_behind(tmp_path: Path) -> None:
    source = write_model(tmp_path / "mine.gguf")
    for name in ("a.gguf", "b.gguf"):
        requantize(source, tmp_path / "out" / name, "Q4_0", "ab" * 32)
    assert (tmp_path / "out/a.gguf").read_bytes() == (tmp_path / "out/b.gguf").read_bytes()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.gguf", "b.gguf"]


def test_a_state_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    source = write_model(tmp_path / "mine.gguf")
    (tmp_path / "state").write_text("a file where the folder should be")
    with pytest.raises(ModelError, match="state"):
        requantize(source, tmp_path / "state" / "x.gguf", "Q8_0", "ab" * 32)


@pytest.mark.model
def test_the_packaged_model_is_rewritten_once(tmp_path: Path) -> None:
    first = find_model(None, tmp_path)
    written = first.stat().st_mtime_ns
    assert find_model("", tmp_path) == first
    assert first.stat().st_mtime_ns == written
    assert base_sha256(read_header(first)) == cached_sha256(packaged_gguf())
    assert [path.name for path in (tmp_path / "models").iterdir()] == [first.name]


def test_what_an_image_brings_prepared_is_served_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wheel").mkdir()
    source = write_model(tmp_path / "wheel" / "Small.Q4_1.gguf")
    monkeypatch.setattr(model_files, "packaged_gguf", lambda: source)
    prepared = prepare_packaged()
    assert find_model(None, tmp_path / "state") == prepared
    assert prepared.parent == source.parent
    assert base_sha256(read_header(prepared)) == cached_sha256(source)
    assert not (tmp_path / "state" / "models").exists()


def damaged(tmp_path: Path, name: str) -> Path:
    path = tmp_path / name
    whole = write_model(tmp_path / "whole.gguf").read_bytes()
    contents = {
        "empty.gguf": b"",
        "text.gguf": b"<!doctype html><title>404</title>",
        "head-cut.gguf": whole[:200],
        "tail-cut.gguf": whole[:-500],
        "version.gguf": b"GGUF" + (77).to_bytes(4, "little") + whole[8:],
        "counts.gguf": whole[:8] + b"\xff" * 16 + whole[24:],
        "names.gguf": whole[:24] + b"\xff" * 8 + whole[32:],
    }
    path.write_bytes(contents[name])
    return path


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty.gguf", "not a GGUF"),
        ("text.gguf", "not a GGUF"),
        ("head-cut.gguf", "damaged"),
        ("tail-cut.gguf", "cut off"),
        ("version.gguf", "version 77"),
        ("counts.gguf", "damaged"),
        ("names.gguf", "damaged"),
    ],
)
def test_a_damaged_file_is_named_with_its_fix(tmp_path: Path, name: str, reason: str) -> None:
    path = damaged(tmp_path, name)
    with pytest.raises(ModelError, match=reason) as caught:
        find_model(str(path), tmp_path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model file"):
        find_model(str(tmp_path / "nowhere.gguf"), tmp_path)
    with pytest.raises(ModelError, match=r"set `model\.engine` to transformers"):
        find_model(str(tmp_path), tmp_path)


def test_every_cut_of_a_file_is_refused_with_our_own_error(tmp_path: Path) -> None:
    whole = write_model(tmp_path / "whole.gguf").read_bytes()
    for length in range(0, len(whole) - 1, 97):
        cut = tmp_path / "cut.gguf"
        cut.write_bytes(whole[:length])
        with pytest.raises(ModelError, match=r"cut\.gguf"):
            read_header(cut)


def test_the_hash_of_a_file_is_remembered_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model(tmp_path / "mine.gguf")
    first = cached_sha256(model, tmp_path / "state")
    monkeypatch.setattr("quantahr.gguf_header._hashes", {})
    monkeypatch.setattr("quantahr.gguf_header.file_sha256", lambda _: "hashed again")
    assert cached_sha256(model, tmp_path / "state") == first
    write_model(model, columns=96)
    assert cached_sha256(model, tmp_path / "state") == "hashed again"
