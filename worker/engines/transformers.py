"""transformers and PEFT: the engine for a worker with a GPU, and the reference that the others are compared with.

The base is loaded in 4-bit NF4 where there is a GPU (and it is wanted), the adapter beside it, never merged into it:
merging into 4-bit weights loses what was learnt. On a processor it is plain float32. Versions that are loaded at the
same time share the base's weights: a swap takes an adapter's memory, not a model's. An engine generates one answer at
a time, so it has one slot, and callers wait in turn.
"""

import copy
import hashlib
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quantahr.errors import ModelError
from quantahr.gguf import PACKAGED_MODEL, gguf_source, model_source
from quantahr.gguf_header import base_sha256, cached_sha256, read_header
from quantahr.prompt import PLAIN_STOP, Message, plain_text
from quantahr.registry.version import adapter_id
from worker.engines.base import (
    ContextLimitError,
    EngineVersion,
    Finish,
    Generation,
    OnText,
    share_of_options,
)
from worker.engines.gate import Gate
from worker.engines.pieces import Pieces

_LIKELIEST = 100


class TransformersEngine:
    """One model and at most one PEFT adapter, for as long as the object lives."""

    def __init__(
        self,
        model: str | None,
        *,
        state_dir: Path,
        adapter: Path | None = None,
        context_tokens: int = 1024,
        load_in_4bit: bool = True,
        threads: int | None = None,
    ) -> None:
        """Load.

        `model` is a folder, a Hugging Face name, a GGUF file (dequantized once into `state_dir`) or None for the
        packaged model. `load_in_4bit` counts on a GPU only. Raises ModelError when something is missing or does not
        fit.
        """
        try:
            import torch
            import transformers
        except ImportError as error:
            raise ModelError(
                f"The transformers engine needs {error.name}. Type: pip install 'quantahr[training]', "
                "or set `model.engine` to llamacpp."
            ) from error
        if threads:
            torch.set_num_threads(threads)
        name = model or PACKAGED_MODEL
        source = model_source(name, state_dir)
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(source)
            self._base: Any = _base(source, load_in_4bit=load_in_4bit)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(
                f"The model {name} cannot be loaded ({type(error).__name__}). Name a folder that holds config.json, "
                "safetensors and a tokenizer, or a Hugging Face name that this machine can reach, in `model.path`."
            ) from error
        except torch.OutOfMemoryError as error:
            free, total = torch.cuda.mem_get_info()
            raise ModelError(
                f"The model {name} does not fit the GPU ({free >> 20:,} of {total >> 20:,} MB free). "
                "Set `model.load_in_4bit`, name a smaller model, or free the GPU."
            ) from error
        self._model: Any = self._base if adapter is None else _with_adapter(self._base, adapter)
        trained = getattr(self._base.config, "max_position_embeddings", None)
        if trained and context_tokens > trained:
            raise ModelError(f"{name} has {trained} tokens of context. Set `model.context_tokens` to that or less.")
        self._context = context_tokens
        self._gate = Gate()
        self._turn = threading.Lock()
        self._version = EngineVersion(
            base=_base_hash(name, source), adapter=adapter_id(adapter) if adapter else None, label=name
        )

    @property
    def version(self) -> EngineVersion:
        return self._version

    @property
    def slots(self) -> int:
        return 1

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
        """See Engine.generate."""
        began = time.monotonic()
        with self._gate.enter():
            prompt = self._prompt(messages)
            stops = list(stop) if self._tokenizer.chat_template else [*stop, PLAIN_STOP]
            room = self._context - prompt["input_ids"].shape[1]
            watcher = _Watcher(self._tokenizer, Pieces(stops), on_text, self._gate)
            with self._turn:
                self._run(prompt, min(max_tokens, room), temperature, watcher)
        finish = watcher.finish or ("length" if watcher.count >= min(max_tokens, room) else "stop")
        return Generation(
            text=watcher.pieces.text,
            prompt_tokens=prompt["input_ids"].shape[1],
            completion_tokens=watcher.count,
            finish=finish,
            ms_first_token=None if watcher.first is None else (watcher.first - began) * 1000,
            cached_tokens=0,
        )

    def choose(self, messages: Sequence[Message], options: Sequence[str]) -> dict[str, float]:
        """See Engine.choose."""
        import torch

        with self._gate.enter():
            prompt = self._prompt(messages)
            with self._turn, torch.inference_mode():
                logits = self._model(**prompt).logits[0, -1].float()
            tops = torch.log_softmax(logits, -1).topk(min(_LIKELIEST, logits.shape[0]))
            pairs = zip(tops.indices.tolist(), tops.values.tolist(), strict=True)
            return share_of_options(((self._tokenizer.decode([token]), logprob) for token, logprob in pairs), options)

    def count_tokens(self, text: str) -> int:
        """See Engine.count_tokens."""
        with self._gate.enter():
            return len(self._tokenizer.encode(text, add_special_tokens=False))

    def close(self) -> None:
        """See Engine.close."""
        if self._gate.close():
            import gc

            import torch

            self._model = self._base = None
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _prompt(self, messages: Sequence[Message]) -> Any:
        """The tokens of the chat, on the model's device. Raises ContextLimitError."""
        if self._tokenizer.chat_template:
            prompt = self._tokenizer.apply_chat_template(
                list(messages), add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
        else:
            prompt = self._tokenizer(plain_text(messages), return_tensors="pt", return_token_type_ids=False)
        length = prompt["input_ids"].shape[1]
        if length >= self._context:
            raise ContextLimitError(length, self._context)
        return prompt.to(self._model.device)

    def _run(self, prompt: Any, max_tokens: int, temperature: float, watcher: "_Watcher") -> None:
        import torch

        sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
        if self._gate.closed:
            watcher.finish = "cancelled"
            return
        with torch.inference_mode():
            self._model.generate(
                **prompt,
                **sampling,
                max_new_tokens=max_tokens,
                pad_token_id=self._tokenizer.pad_token_id or self._tokenizer.eos_token_id or 0,
                stopping_criteria=[watcher],
            )
        watcher.end()


class _Watcher:
    """transformers asks it after every token whether to stop; it shows the new text on the way."""

    def __init__(self, tokenizer: Any, pieces: Pieces, on_text: OnText | None, gate: Gate) -> None:
        self._tokenizer = tokenizer
        self._on_text = on_text
        self._gate = gate
        self._tokens: list[int] = []
        self.pieces = pieces
        self.count = 0
        self.first: float | None = None
        self.finish: Finish | None = None

    def __call__(self, input_ids: Any, _scores: Any, **_: Any) -> Any:
        import torch

        self.count += 1
        self._tokens.append(int(input_ids[0, -1]))
        self._show(self.pieces.grow(self._tokenizer.decode(self._tokens, skip_special_tokens=True)))
        if self.finish is None and self.pieces.stopped:
            self.finish = "stop"
        if self.finish is None and self._gate.closed:
            self.finish = "cancelled"
        return torch.full((1,), self.finish is not None, device=input_ids.device)

    def end(self) -> None:
        """Show what was held back, and tell an answer that ended by itself from one that was cut."""
        if self.finish != "cancelled":
            self._show(self.pieces.finish())
        ends = self._tokenizer.eos_token_id
        if self.finish is None and self._tokens and self._tokens[-1] == ends:
            self.finish = "stop"

    def _show(self, piece: str) -> None:
        if not piece:
            return
        if self.first is None:
            self.first = time.monotonic()
        if self._on_text is not None and self._on_text(piece):
            self.finish = "cancelled"


_bases: "weakref.WeakValueDictionary[tuple[str, bool], Any]" = weakref.WeakValueDictionary()
"""The bases that some engine of this process holds, without adapters."""
_loading = threading.Lock()


def _base(source: str, *, load_in_4bit: bool) -> Any:
    """The model at `source`, which may be shared: nothing in it may be changed."""
    import torch
    import transformers

    on_gpu = torch.cuda.is_available()
    options: dict[str, Any] = {"dtype": torch.bfloat16 if on_gpu else torch.float32}
    if on_gpu:
        options["device_map"] = {"": 0}
        if load_in_4bit:
            options["quantization_config"] = transformers.BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=torch.bfloat16,
            )
    with _loading:
        key = (source, load_in_4bit)
        loaded = _bases.get(key)
        if loaded is None:
            transformers.logging.disable_progress_bar()  # it would fill the worker's log
            loaded = transformers.AutoModelForCausalLM.from_pretrained(source, **options).eval()
            _bases[key] = loaded
        return loaded


def _with_adapter(base: Any, adapter: Path) -> Any:
    """The base with an adapter, as a model of its own whose weights are the base's."""
    import peft

    if not (adapter / "adapter_config.json").is_file():
        raise ModelError(
            f"{adapter} is not a PEFT adapter: it holds no adapter_config.json. Name the adapter folder of a "
            "training run in `model.adapter`."
        )
    try:
        # PEFT puts its layers into the model that it is given, so it is given another one around the same weights.
        own = copy.deepcopy(base, {id(weight): weight for weight in base.parameters()})
        return peft.PeftModel.from_pretrained(own, adapter).eval()
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise ModelError(
            f"The adapter {adapter} does not fit the model ({type(error).__name__}). Name the model that it was "
            "trained on in `model.path`, or another adapter."
        ) from error


def _base_hash(name: str, source: str) -> str:
    """The identity of the GGUF file that the weights come from, as llama.cpp's engine reports it; else the hash of a
    folder's weights, or of the name where they are in a cache of the hub."""
    if gguf := gguf_source(name):
        return base_sha256(read_header(gguf))[:12]
    folder = Path(source)
    if not folder.is_dir():
        return hashlib.sha256(source.encode()).hexdigest()[:12]
    digest = hashlib.sha256()
    for weights in sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin")):
        digest.update(cached_sha256(weights).encode())
    return digest.hexdigest()[:12]
