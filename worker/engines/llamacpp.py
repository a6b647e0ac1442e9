"""llama.cpp in this process: the default engine. No compiler, no torch, no second process to look after.

xllamacpp carries llama.cpp's server core: slots that generate side by side (continuous batching), and a prefix cache.
Found by experiment: the cache belongs to a slot. A prefix that one slot knows is computed again by the next, with a
unified cache or without; so loading ends with a warm-up that puts the system prompt into every slot (a tenth of a
second each), and after it each question pays only for its own words. llama.cpp's second cache in RAM (8 GB by default)
is off: it is not shared either, and would keep questions in memory.

llama.cpp judges files late and on stderr, so they are judged before it sees them (quantahr.gguf_header); and it never
speaks: its log would hold prompts. It opens a port on loopback that cannot be closed; a random key guards it, and this
module itself uses it to count tokens.
"""

import http.client
import json
import os
import secrets
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from quantahr.errors import ModelError
from quantahr.gguf_header import Header, base_sha256, check_adapter, check_model, read_header
from quantahr.heap import give_back_memory
from quantahr.prompt import PLAIN_STOP, SYSTEM, Message, plain_text
from quantahr.registry.version import adapter_id
from worker.engines.base import (
    ContextLimitError,
    EngineError,
    EngineVersion,
    Generation,
    OnText,
    share_of_options,
)
from worker.engines.gate import Gate
from worker.engines.machine import free_memory, usable_cores

_COMPUTE_BYTES = 150 << 20
"""What llama.cpp needs beside weights and cache, measured with batches of 512 and a vocabulary of 49,152."""

_SPIN = "1000"
"""How often a thread of OpenMP looks whether the others are done before it sleeps."""

_LIKELIEST = 100
"""How many next tokens `choose` looks at."""


class LlamaCppEngine:
    """One GGUF model, and at most one LoRA adapter, for as long as the object lives."""

    def __init__(
        self,
        model: Path,
        *,
        adapter: Path | None = None,
        slots: int = 4,
        context_tokens: int = 1024,
        threads: int | None = None,
        system: str = SYSTEM,
        rest_seconds: float = 0.0,
    ) -> None:
        """Load and warm up (under a second for the packaged model).

        `context_tokens` is per slot. `threads` defaults to the cores this process may use: more than that halves the
        speed of decoding. `system` is the system prompt to have ready in every slot. `rest_seconds` is slept before
        and after loading and after each slot's warm-up: for an engine that answers meanwhile.
        Raises ModelError when a file is missing, damaged or does not fit, or memory is short.
        """
        header = read_header(model)
        check_model(header)
        trained = header.number("*.context_length")
        if trained and context_tokens > trained:
            raise ModelError(
                f"{model.name} was trained on {trained} tokens of context. Set `model.context_tokens` to that or less."
            )
        if adapter is not None:
            check_adapter(read_header(adapter), header)
        check_memory(_bytes_needed(header, adapter, slots * context_tokens), free_memory(), model)

        # Read by OpenMP when it is loaded. By default its threads spin while they wait for each other, and where other
        # processes want the same cores that cost more than nine tenths of the speed; where none do, not spinning at
        # all costs a quarter, for an adapter's many small products (benchmarks/RESULTS.md). So they spin, but briefly.
        if "OMP_WAIT_POLICY" not in os.environ:
            os.environ.setdefault("GOMP_SPINCOUNT", _SPIN)
        import xllamacpp

        self._key = secrets.token_urlsafe(32)
        cores = threads or usable_cores()
        params = xllamacpp.CommonParams()
        params.model.path = os.fspath(model)
        params.n_parallel = slots
        params.n_ctx = slots * context_tokens
        params.fit_params = False
        params.cpuparams.n_threads = cores
        params.cpuparams_batch.n_threads = cores
        params.warmup = False  # the slots' own, below, is one with something to remember
        params.verbosity = -1
        params.cache_ram_mib = 0
        params.cache_idle_slots = False
        # The system prompt, which all share, is no reason to take the slot that holds somebody's evidence.
        params.slot_prompt_similarity = 0.5
        params.api_keys = [self._key]
        params.ui = False
        params.endpoint_slots = False
        params.enable_reasoning = 0
        params.force_pure_content_parser = True
        if adapter is not None:
            params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(os.fspath(adapter), 1.0)]
        time.sleep(rest_seconds)
        try:
            # This holds Python's lock, a quarter of a second for the packaged model.
            self._server: Any = xllamacpp.Server(params)
        except (RuntimeError, MemoryError) as error:
            with_adapter = f" with {adapter.name}" if adapter else ""
            raise ModelError(
                f"llama.cpp could not load {model}{with_adapter} ({header.architecture}). "
                "Check free memory, or name a model that this version of llama.cpp knows."
            ) from error
        self._address = urlsplit(self._server.listening_address)
        self._gate = Gate()
        self._local = threading.local()
        self._has_template = header.text("tokenizer.chat_template") is not None
        self._slots, self._context = slots, context_tokens
        name = header.text("general.name") or model.stem
        self._version = EngineVersion(
            base=base_sha256(header)[:12],
            adapter=adapter_id(adapter) if adapter else None,
            label=f"{name} ({model.name})",
        )
        for slot in range(slots):
            time.sleep(rest_seconds)
            self._ask([{"role": "system", "content": system}, {"role": "user", "content": ""}], 1, {"id_slot": slot})
        time.sleep(rest_seconds)

    @property
    def version(self) -> EngineVersion:
        return self._version

    @property
    def slots(self) -> int:
        return self._slots

    @property
    def context_tokens(self) -> int:
        return self._context

    def generate(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        stop: Sequence[str] = (),
        on_text: OnText | None = None,
        temperature: float = 0.0,
    ) -> Generation:
        """See Engine.generate. More callers than slots wait inside llama.cpp, first come first served."""
        with self._gate.enter():
            stream = _Stream(on_text, self._gate)
            options = {
                "stream": True,
                "stream_options": {"include_usage": True},
                "timings_per_token": True,
                "temperature": temperature,
                "stop": list(stop),
            }
            self._ask(messages, max_tokens, options, stream)
            return stream.generation()

    def choose(self, messages: Sequence[Message], options: Sequence[str]) -> dict[str, float]:
        """See Engine.choose. Costs the prompt and one token; options outside the 100 likeliest tokens get 0."""
        with self._gate.enter():
            wanted = {"temperature": 0, "logprobs": True}
            likeliest = {"top_logprobs": _LIKELIEST} if self._has_template else {"n_probs": _LIKELIEST}
            answer = self._ask(messages, 1, wanted | likeliest)
        tokens = (answer["choices"][0].get("logprobs") or {}).get("content") or []
        tops = tokens[0]["top_logprobs"] if tokens else []
        return share_of_options(((top["token"], top["logprob"]) for top in tops), options)

    def count_tokens(self, text: str) -> int:
        """See Engine.count_tokens."""
        with self._gate.enter():
            body = json.dumps({"content": text, "add_special": False})
            headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
            connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
            for fresh in (False, True):
                if connection is None or fresh:
                    connection = http.client.HTTPConnection(self._address.hostname or "", self._address.port)
                try:
                    connection.request("POST", "/tokenize", body, headers)
                    tokens = json.loads(connection.getresponse().read())["tokens"]
                except (http.client.HTTPException, OSError):
                    # A kept connection may have been closed in the meantime: once more with a new one.
                    if fresh:
                        raise
                    continue
                self._local.connection = connection
                return len(tokens)
        raise EngineError("llama.cpp does not answer. Restart the worker.")

    def close(self) -> None:
        """See Engine.close. Other engines in this process go on undisturbed; the weights they share stay mapped."""
        if self._gate.close():
            self._server = None
            give_back_memory()

    def _ask(
        self, messages: Sequence[Message], max_tokens: int, options: dict[str, Any], stream: "_Stream | None" = None
    ) -> dict[str, Any]:
        """Give llama.cpp one request; with `stream`, its pieces go there and the result is empty."""
        request = {"max_tokens": max_tokens, "cache_prompt": True, **options}
        callback = stream.receive if stream else None
        if self._has_template:
            request["messages"] = list(messages)
            answer = self._server.handle_chat_completions(request, callback)
        else:
            request["prompt"] = plain_text(messages)
            request["stop"] = [*request.get("stop", ()), PLAIN_STOP]
            answer = self._server.handle_completions(request, callback)
        problem = (answer or {}).get("error") or (stream.problem if stream else None)
        if problem:
            raise _error(problem)
        return answer or {}


class _Stream:
    """Collects what llama.cpp streams. `receive` is called from C++, so nothing may be raised there."""

    def __init__(self, on_text: OnText | None, gate: Gate) -> None:
        self._on_text = on_text
        self._gate = gate
        self._began = time.monotonic()
        self._first: float | None = None
        self._pieces: list[str] = []
        self._finish: str | None = None
        self._timings: dict[str, Any] = {}
        self._raised: BaseException | None = None
        self.problem: dict[str, Any] | None = None

    def receive(self, chunk: Any) -> bool:
        try:
            return self._receive(chunk)
        except BaseException as error:  # raised again by generation(), outside of C++
            self._raised = error
            return True

    def _receive(self, chunk: Any) -> bool:
        for event in chunk if isinstance(chunk, list) else [chunk]:
            self.problem = event.get("error", self.problem)
            self._timings = event.get("timings", self._timings)
            for choice in event.get("choices", ()):
                text = choice.get("text") or (choice.get("delta") or {}).get("content")
                self._finish = choice.get("finish_reason") or self._finish
                if text:
                    if self._first is None:
                        self._first = time.monotonic()
                    self._pieces.append(text)
                    if self._on_text is not None and self._on_text(text):
                        self._finish = "cancelled"
                        return True
        if self._gate.closed and self._finish is None:
            self._finish = "cancelled"
            return True
        return False

    def generation(self) -> Generation:
        if self._raised is not None:
            raise self._raised
        if self._finish not in ("stop", "length", "cancelled"):
            raise EngineError("llama.cpp ended an answer without saying why. Ask again.")
        cached = int(self._timings.get("cache_n", 0))
        return Generation(
            text="".join(self._pieces),
            prompt_tokens=cached + int(self._timings.get("prompt_n", 0)),
            completion_tokens=int(self._timings.get("predicted_n", len(self._pieces))),
            finish=self._finish,  # type: ignore[arg-type]
            ms_first_token=None if self._first is None else (self._first - self._began) * 1000,
            cached_tokens=cached,
        )


def _error(problem: dict[str, Any]) -> EngineError:
    if problem.get("type") == "exceed_context_size_error":
        return ContextLimitError(int(problem["n_prompt_tokens"]), int(problem["n_ctx"]))
    # The message of llama.cpp may quote the prompt: only its kind is passed on.
    return EngineError(f"llama.cpp refused the request ({problem.get('type')}, {problem.get('code')}).")


def _bytes_needed(header: Header, adapter: Path | None, context_tokens: int) -> int:
    """What loading takes, in bytes: weights once, the cache of keys and values in float16, and room to compute."""
    heads = header.number("*.attention.head_count") or 1
    cached_heads = header.number("*.attention.head_count_kv") or heads
    width = header.number("*.attention.key_length") or (header.number("*.embedding_length") or 0) // heads
    cache = 2 * 2 * (header.number("*.block_count") or 0) * cached_heads * width * context_tokens
    weights = sum(tensor.size for tensor in header.tensors.values())
    return weights + cache + _COMPUTE_BYTES + (adapter.stat().st_size if adapter else 0)


def check_memory(needed: int, free: int | None, model: Path) -> None:
    """Raises ModelError, with both numbers, when `needed` bytes are not free."""
    if free is not None and needed > free:
        raise ModelError(
            f"{model.name} needs about {needed >> 20:,} MB and {free >> 20:,} MB are free. Give this machine more "
            "memory, name a smaller model, or lower `model.slots` or `model.context_tokens`."
        )
