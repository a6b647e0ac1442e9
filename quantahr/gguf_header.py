"""What stands at the front of a GGUF file, and whether the file is whole.

llama.cpp says why it refuses a file only on stderr, and some damage ends the process. So every model and adapter is
judged here first: the header is small and its own list of tensors says how long the file must be. Long arrays (the
vocabulary, the merges) are skipped, which makes reading a matter of milliseconds whatever the size of the model.

A file made from another one (requantized, or an adapter trained on it) names that other one by `BASE_KEY`, so that a
model keeps its identity when its weights are stored differently, and an adapter knows what it fits.
"""

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from quantahr.errors import ModelError
from quantahr.gguf import file_sha256

BASE_KEY = "quantahr.base.sha256"
"""GGUF metadata: the sha256 (hex) of the file these weights were made from, or the adapter was trained on."""
ADAPTER_KEY = "quantahr.adapter.sha256"
"""GGUF metadata of an adapter: the sha256 (hex) of the safetensors file that it was made from."""

_SCALARS: Mapping[int, str] = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_LONGEST_STRING = 1 << 20
_KEPT_ARRAY = 16
_MOST_DIMENSIONS = 4

Value = int | float | bool | str | tuple["Value", ...]


@dataclass(frozen=True, slots=True)
class Tensor:
    """`shape` as GGUF writes it (fastest dimension first); `type` is the ggml type number; `size` in bytes."""

    shape: tuple[int, ...]
    type: int
    size: int


@dataclass(frozen=True, slots=True)
class Header:
    """`metadata` holds scalars, strings and short arrays; long arrays are left out."""

    path: Path
    metadata: Mapping[str, Value]
    tensors: Mapping[str, Tensor]

    def text(self, key: str) -> str | None:
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None

    def number(self, key: str) -> int | None:
        """`key` may start with "*.", which stands for the architecture."""
        value = self.metadata.get(key.replace("*", self.architecture, 1))
        return value if isinstance(value, int) else None

    @property
    def architecture(self) -> str:
        return self.text("general.architecture") or ""

    @property
    def is_adapter(self) -> bool:
        return self.text("general.type") == "adapter"


def read_header(path: Path) -> Header:
    """The header of a GGUF file (version 2 or 3, little-endian), remembered for this process by size and mtime.

    Reading one takes 40 ms of Python for the packaged model, and a swap asks several times, beside running answers.
    Raises ModelError when there is no such file, it is not a GGUF, or it is shorter than its own list of tensors says.
    """
    if not path.is_file():
        raise ModelError(f"There is no model file {path}. Check the path in `model.path`, or leave it empty.")
    try:
        stat = path.stat()
        return _read_once(path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}. Check the rights of the file.") from error
    except (struct.error, UnicodeDecodeError, ValueError) as error:
        raise ModelError(f"{path} is damaged: its GGUF header cannot be read. Download or copy it again.") from error


@lru_cache(maxsize=8)
def _read_once(path: Path, size: int, changed: int) -> Header:  # noqa: ARG001 - a replaced file is another one
    with path.open("rb") as stream:
        return _read(stream, path)


def check_model(header: Header) -> None:
    """Raises ModelError when the file is not a language model that can be served."""
    if header.is_adapter:
        raise ModelError(f"{header.path} is an adapter, not a model. Name it as `model.adapter`.")
    if not header.architecture or "token_embd.weight" not in header.tensors:
        raise ModelError(f"{header.path} holds no language model. Name a model's GGUF file in `model.path`.")


def check_adapter(adapter: Header, base: Header) -> None:
    """Raises ModelError when the adapter is not a LoRA, or was made for another base than `base`."""
    if not adapter.is_adapter or adapter.text("adapter.type") != "lora":
        raise ModelError(f"{adapter.path} is not a LoRA adapter. Name the adapter.gguf that a training run wrote.")
    if adapter.architecture != base.architecture:
        raise ModelError(
            f"{adapter.path} is for {adapter.architecture or 'an unknown architecture'}, the model {base.path.name} "
            f"is {base.architecture}. Name the model that it was trained on, or another adapter."
        )
    trained_on = adapter.text(BASE_KEY)
    if trained_on and not base_sha256(base).startswith(trained_on[:12]):
        raise ModelError(
            f"{adapter.path} was trained on the model {trained_on[:12]}, not on {base.path.name} "
            f"({base_sha256(base)[:12]}). Name that model in `model.path`, or train again on this one."
        )
    pairs = {name.removesuffix(".lora_a") for name in adapter.tensors if name.endswith(".lora_a")}
    if not pairs:
        raise ModelError(f"{adapter.path} holds no LoRA tensors. Export the adapter again.")
    for name in sorted(pairs):
        target, down = base.tensors.get(name), adapter.tensors[f"{name}.lora_a"]
        up = adapter.tensors.get(f"{name}.lora_b")
        if target is None or up is None or (down.shape[0], up.shape[-1]) != target.shape[:2]:
            raise ModelError(
                f"{adapter.path} does not fit {base.path.name}: its tensor {name} has no counterpart of that size. "
                "Name the model that it was trained on, or another adapter."
            )


def base_sha256(header: Header) -> str:
    """The identity of a model's weights: the file that they were made from if it names one, else the file itself."""
    return header.text(BASE_KEY) or cached_sha256(header.path)


def cached_sha256(path: Path, cache_dir: Path | None = None) -> str:
    """The sha256 of a file, remembered for this process, and in `cache_dir`/sha256.json, by size and mtime.

    A gigabyte takes seconds to hash; a worker asks at every start and swap.
    """
    stat = path.stat()
    key = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
    if known := _hashes.get(key):
        return known
    store = cache_dir / "sha256.json" if cache_dir else None
    remembered = _load_hashes(store)
    if key not in remembered:
        remembered[key] = file_sha256(path)
        if store:
            store.parent.mkdir(parents=True, exist_ok=True)
            fresh = store.with_name(f"{store.name}.{os.getpid()}")
            fresh.write_text(json.dumps(remembered, indent=0, sort_keys=True), encoding="utf-8")
            fresh.replace(store)
    _hashes[key] = remembered[key]
    return remembered[key]


_hashes: dict[str, str] = {}


def _load_hashes(store: Path | None) -> dict[str, str]:
    try:
        found = json.loads(store.read_text(encoding="utf-8")) if store else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _read(stream: BinaryIO, path: Path) -> Header:
    if stream.read(4) != b"GGUF":
        raise ModelError(f"{path} is not a GGUF file. Name a .gguf model, for example one from the Hugging Face hub.")
    version = _number(stream, "<I")
    if version not in (2, 3):
        raise ModelError(f"{path} is GGUF version {version}; 2 and 3 are read. Convert it with a current llama.cpp.")
    tensor_count, key_count = _number(stream, "<Q"), _number(stream, "<Q")
    if max(tensor_count, key_count) > 1 << 20:
        raise ValueError("impossible count")
    metadata: dict[str, Value] = {}
    for _ in range(key_count):
        key = _string(stream)
        value = _value(stream, _number(stream, "<I"))
        if value is not None:
            metadata[key] = value
    tensors: dict[str, Tensor] = {}
    needed = 0
    for _ in range(tensor_count):
        name = _string(stream)
        dimensions = _number(stream, "<I")
        if not 0 < dimensions <= _MOST_DIMENSIONS:
            raise ValueError("impossible tensor")
        shape = tuple(_number(stream, "<Q") for _ in range(dimensions))
        kind, offset = _number(stream, "<I"), _number(stream, "<Q")
        tensors[name] = Tensor(shape, kind, _bytes_of(shape, kind))
        needed = max(needed, offset + tensors[name].size)
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1:
        raise ValueError("impossible alignment")
    start = -(-stream.tell() // alignment) * alignment
    size = path.stat().st_size
    if tensors and size < start + needed:
        raise ModelError(
            f"{path} is cut off: it has {size:,} bytes and needs {start + needed:,}. Download or copy it again."
        )
    return Header(path, metadata, tensors)


def _number(stream: BinaryIO, form: str) -> int:
    (value,) = struct.unpack(form, stream.read(struct.calcsize(form)))
    return int(value)


def _string(stream: BinaryIO) -> str:
    length = _number(stream, "<Q")
    if length > _LONGEST_STRING:
        raise ValueError("impossible string")
    raw = stream.read(length)
    if len(raw) < length:
        raise ValueError("cut off")
    return raw.decode("utf-8", "replace")


def _value(stream: BinaryIO, kind: int) -> Value | None:
    """One metadata value; None for an array that is too long to keep."""
    if kind == _STRING:
        return _string(stream)
    if kind != _ARRAY:
        form = _SCALARS.get(kind)
        if form is None:
            raise ValueError("unknown type")
        (scalar,) = struct.unpack(form, stream.read(struct.calcsize(form)))
        return scalar  # type: ignore[no-any-return]
    inner, count = _number(stream, "<I"), _number(stream, "<Q")
    if count > _KEPT_ARRAY and inner in _SCALARS:
        stream.seek(count * struct.calcsize(_SCALARS[inner]), os.SEEK_CUR)
        return None
    if count > 1 << 24:
        raise ValueError("impossible array")
    kept: list[Value] = []
    for _ in range(count):
        value = _value(stream, inner)
        if value is not None and count <= _KEPT_ARRAY:
            kept.append(value)
    return tuple(kept) if count <= _KEPT_ARRAY else None


def _bytes_of(shape: tuple[int, ...], kind: int) -> int:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    elements = 1
    for length in shape:
        elements *= length
    return elements // int(block) * int(block_bytes)
