"""A model that lives on another server: Text Generation Inference, or one with the same API (vLLM, llama.cpp).

Two ideas. The server is asked, never assumed: what it is, which model and adapter it has, how much context. And the
adapter's name carries its version, because these servers keep cached prefixes by name: a new version is a new name,
chosen per request, so two versions serve side by side. Servers differ in what they can do about it: vLLM loads an
adapter while it runs (if it was started so), the other two only when they start; then the refusal says what to type.

Nothing that the server says about a request is passed on, because servers quote prompts: only the status is.
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal, TypeVar

import httpx2
from huggingface_hub import InferenceClient
from huggingface_hub.errors import OfflineModeIsEnabled, TextGenerationError
from huggingface_hub.utils import get_session

from quantahr.errors import ModelError
from quantahr.prompt import PLAIN_STOP, Message, plain_text
from worker.engines.base import (
    ContextLimitError,
    EngineError,
    EngineVersion,
    Finish,
    Generation,
    OnText,
    share_of_options,
)
from worker.engines.gate import Gate
from worker.engines.pieces import Pieces

BACKOFF_SECONDS = (0.3, 1.0, 3.0)
"""How long to wait before each further try when the server is busy or away."""

_PATIENCE_SECONDS = 120.0
_LIKELIEST = 5
_PASSING = (None, 429, 500, 502, 503, 504)
"""Statuses after which a second try may succeed; None: no answer at all."""

Kind = Literal["tgi", "vllm", "llamacpp"]
_TITLES: dict[Kind, str] = {"tgi": "Text Generation Inference", "vllm": "vLLM", "llamacpp": "llama.cpp"}
_FINISH: dict[str, Finish] = {"length": "length", "stop": "stop", "eos_token": "stop", "stop_sequence": "stop"}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Server:
    """What the server said about itself. `chat`: whether it can apply the model's chat template."""

    kind: Kind
    model: str
    revision: str
    context_tokens: int
    chat: bool


class TgiEngine:
    """One model, and at most one of its adapters, on a server at `url`."""

    def __init__(self, url: str, *, adapter: str | None = None, token: str | None = None, slots: int = 4) -> None:
        """Ask the server what it has.

        `adapter` is the name under which the server knows (or, vLLM, the path from which it can load) the adapter; the
        last part of a path is its name. `slots` is how many requests the worker sends at a time.
        Raises ModelError when the server cannot be reached, or cannot serve that adapter.
        """
        self._url = url.rstrip("/").removesuffix("/v1")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._slots = slots
        self._gate = Gate()
        self.server = self._discover()
        self._adapter = self._select(adapter) if adapter else None
        # The chat API calls an adapter a model. Text Generation Inference's own word for "the base" is "tgi".
        self._name = self._adapter or ("tgi" if self.server.kind == "tgi" else self.server.model)
        identity = f"{self.server.model}@{self.server.revision}"
        self._version = EngineVersion(
            base=hashlib.sha256(identity.encode()).hexdigest()[:12],
            adapter=_version_in(self._adapter) if self._adapter else None,
            label=f"{self.server.model} on {_TITLES[self.server.kind]}",
        )

    @property
    def version(self) -> EngineVersion:
        return self._version

    @property
    def slots(self) -> int:
        return self._slots

    @property
    def context_tokens(self) -> int:
        return self.server.context_tokens

    def generate(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        stop: Sequence[str] = (),
        on_text: OnText | None = None,
        temperature: float = 0.0,
    ) -> Generation:
        """See Engine.generate. A busy server is tried again as long as nothing has been shown."""
        began = time.monotonic()
        stops = list(stop) if self.server.chat else [*stop, PLAIN_STOP]
        with self._gate.enter():
            answer = _Answer(Pieces(stops), on_text, self._gate)
            # Leaving the client closes the connection, by which a cancelled request frees its place on the server.
            with self._client() as client:
                ask = self._chat if self.server.chat else self._continue

                def attempt() -> None:
                    answer.read(ask(client, messages, max_tokens, stops, temperature))

                self._reach(attempt, lambda: not answer.began, messages, max_tokens)
        if answer.finish is None:
            raise EngineError(f"The model server at {self._url} ended an answer without saying why. Ask again.")
        return Generation(
            text=answer.pieces.text,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens or answer.count,
            finish=answer.finish,
            ms_first_token=None if answer.first is None else (answer.first - began) * 1000,
            cached_tokens=answer.cached_tokens,
        )

    def choose(self, messages: Sequence[Message], options: Sequence[str]) -> dict[str, float]:
        """See Engine.choose. Servers tell only the five likeliest tokens for sure; others get 0."""

        def attempt() -> dict[str, float]:
            if not self.server.chat:
                return share_of_options(self._first_tokens(plain_text(messages)), options)
            with self._client() as client:
                answer: Any = client.chat_completion(
                    list(messages),
                    model=self._name,
                    max_tokens=1,
                    temperature=0.0,
                    logprobs=True,
                    top_logprobs=_LIKELIEST,
                )
            content = answer.choices[0].logprobs.content if answer.choices[0].logprobs else []
            tops = content[0].top_logprobs if content else []
            return share_of_options(((top.token, top.logprob) for top in tops), options)

        with self._gate.enter():
            return self._reach(attempt, lambda: True, messages, 1)

    def count_tokens(self, text: str) -> int:
        """See Engine.count_tokens. One request to the server."""
        bodies: dict[Kind, dict[str, object]] = {
            "tgi": {"inputs": text, "add_special_tokens": False},
            "vllm": {"model": self.server.model, "prompt": text, "add_special_tokens": False},
            "llamacpp": {"content": text, "add_special": False},
        }

        def attempt() -> int:
            found = self._post("/tokenize", bodies[self.server.kind])
            tokens = found if isinstance(found, list) else found["tokens"]
            return len(tokens)

        with self._gate.enter():
            return self._reach(attempt, lambda: True)

    def close(self) -> None:
        """See Engine.close. The server goes on."""
        self._gate.close()

    def _client(self) -> InferenceClient:
        # Said explicitly even when empty: otherwise the client sends the machine's Hugging Face token to this server.
        headers = {"authorization": self._headers.get("Authorization", "")}
        return InferenceClient(base_url=f"{self._url}/v1", headers=headers, timeout=_PATIENCE_SECONDS)

    def _chat(
        self, client: InferenceClient, messages: Sequence[Message], max_tokens: int, stop: list[str], temperature: float
    ) -> "Iterator[_Event]":
        stream: Any = client.chat_completion(
            list(messages),
            model=self._name,
            max_tokens=max_tokens,
            temperature=temperature,
            stop=stop or None,
            stream=True,
            stream_options={"include_usage": True},
        )
        for chunk in stream:
            usage = getattr(chunk, "usage", None)
            if usage is not None:
                details = getattr(usage, "prompt_tokens_details", None) or {}
                yield _Event(
                    prompt_tokens=usage.prompt_tokens,
                    completion_tokens=usage.completion_tokens,
                    cached_tokens=int(details.get("cached_tokens") or 0) if isinstance(details, dict) else 0,
                )
            for choice in chunk.choices or ():
                yield _Event(text=choice.delta.content or "", finish=choice.finish_reason)

    def _continue(
        self, client: InferenceClient, messages: Sequence[Message], max_tokens: int, stop: list[str], temperature: float
    ) -> "Iterator[_Event]":
        """For a base model without a chat template: the text itself, continued by `/generate_stream`."""
        stream = client.text_generation(
            plain_text(messages),
            model=f"{self._url}/generate_stream",
            adapter_id=self._adapter,
            details=True,
            stream=True,
            do_sample=temperature > 0,
            temperature=temperature if temperature > 0 else None,
            max_new_tokens=max_tokens,
            return_full_text=False,
            stop=stop,
        )
        for chunk in stream:
            details = chunk.details
            yield _Event(
                text="" if chunk.token.special else chunk.token.text,
                finish=str(details.finish_reason) if details else None,
                completion_tokens=details.generated_tokens if details else None,
                prompt_tokens=details.input_length if details else None,
            )

    def _first_tokens(self, prompt: str) -> list[tuple[str, float]]:
        parameters: dict[str, object] = {
            "max_new_tokens": 1,
            "details": True,
            "top_n_tokens": _LIKELIEST,
            "do_sample": False,
        }
        if self._adapter:
            parameters["adapter_id"] = self._adapter
        answer = self._post("/generate", {"inputs": prompt, "parameters": parameters})
        tops = answer["details"]["top_tokens"][0]
        return [(top["text"], top["logprob"]) for top in tops]

    def _discover(self) -> Server:
        info = self._reach(lambda: self._get("/info"), lambda: True)
        if info and "model_id" in info:
            greeting = {"model": info["model_id"], "messages": [{"role": "user", "content": "Hello"}]}
            context = int(info.get("max_total_tokens") or info.get("max_input_tokens") or 0)
            chat = self._accepts("/chat_tokenize", greeting)
            return Server("tgi", info["model_id"], str(info.get("model_sha") or ""), context, chat)
        models = (self._reach(lambda: self._get("/v1/models"), lambda: True) or {}).get("data") or []
        if not models:
            raise ModelError(
                f"The server at {self._url} answers neither /info nor /v1/models. Check `model.url`: it must be a "
                "Text Generation Inference, vLLM or llama.cpp server."
            )
        base = next((model for model in models if not model.get("parent")), models[0])
        if base.get("max_model_len"):
            return Server("vllm", base["id"], str(base.get("root") or ""), int(base["max_model_len"]), chat=True)
        settings = self._get("/props") or {}
        context = int((settings.get("default_generation_settings") or {}).get("n_ctx") or 0)
        meta = base.get("meta") or {}
        revision = ".".join(str(meta[key]) for key in ("n_params", "size") if key in meta)
        return Server("llamacpp", PurePath(base["id"]).name, revision, context or int(meta.get("n_ctx_train", 0)), True)

    def _select(self, adapter: str) -> str:
        """The adapter's name at the server. Raises ModelError when the server cannot serve it."""
        name = PurePath(adapter).name
        kind = self.server.kind
        advice: dict[Kind, str] = {
            "tgi": "It loads adapters only when it starts: start it with "
            f"LORA_ADAPTERS={name}={adapter}, the version being part of the name.",
            "vllm": f"Start it with --enable-lora --lora-modules {name}={adapter}, or allow loading while it runs with "
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True.",
            "llamacpp": f"It loads adapters only when it starts: start it with --lora {adapter}.",
        }
        if kind == "tgi":
            trial = {"inputs": "a", "parameters": {"max_new_tokens": 1, "adapter_id": name}}
            if self._accepts("/generate", trial):
                return name
        elif kind == "vllm":
            listed = {model["id"] for model in (self._get("/v1/models") or {}).get("data", ())}
            if name in listed or self._accepts("/v1/load_lora_adapter", {"lora_name": name, "lora_path": adapter}):
                return name
        else:
            # llama.cpp applies it to every request, under the model's one name.
            loaded = self._get("/lora-adapters")
            for entry in loaded if isinstance(loaded, list) else ():
                if PurePath(entry["path"]).name == name and entry.get("scale"):
                    return name
        raise ModelError(f"{_TITLES[kind]} at {self._url} does not serve the adapter {name}. {advice[kind]}")

    def _get(self, path: str) -> Any:
        """The JSON at `path`; None when the server has no such page."""
        response = get_session().get(f"{self._url}{path}", headers=self._headers, timeout=_PATIENCE_SECONDS)
        if response.status_code in (404, 405, 501):
            return None
        response.raise_for_status()
        return response.json()

    def _post(self, path: str, body: object) -> Any:
        response = get_session().post(f"{self._url}{path}", json=body, headers=self._headers, timeout=_PATIENCE_SECONDS)
        response.raise_for_status()
        return response.json()

    def _accepts(self, path: str, body: object) -> bool:
        """Whether the server says yes to this request; "busy" is tried again, "no" is an answer."""

        def attempt() -> bool:
            response = get_session().post(
                f"{self._url}{path}", json=body, headers=self._headers, timeout=_PATIENCE_SECONDS
            )
            if response.status_code not in (400, 403, 404, 405, 422, 424, 500):
                response.raise_for_status()
            return bool(response.is_success)

        return self._reach(attempt, lambda: True)

    def _reach(
        self,
        attempt: Callable[[], T],
        may_retry: Callable[[], bool],
        messages: Sequence[Message] = (),
        max_tokens: int = 0,
    ) -> T:
        """Run `attempt`; again after a pause while the server is busy or away; failures become our own errors."""
        for pause in (*BACKOFF_SECONDS, None):
            try:
                return attempt()
            except OfflineModeIsEnabled:
                raise ModelError(
                    "HF_HUB_OFFLINE is set, and huggingface_hub then blocks every server, this one too. "
                    "Unset HF_HUB_OFFLINE for the worker."
                ) from None
            except (httpx2.HTTPError, TextGenerationError, OSError) as error:
                problem = self._explain(error, messages, max_tokens)
                if pause is None or problem.status not in _PASSING or not may_retry() or self._gate.closed:
                    raise problem.error from None
                time.sleep(pause)
        raise AssertionError("the last pause is None")

    def _explain(self, error: Exception, messages: Sequence[Message], max_tokens: int) -> "_Problem":
        status = getattr(getattr(error, "response", None), "status_code", None)
        status = 429 if type(error).__name__ == "OverloadedError" else status
        if isinstance(error, httpx2.HTTPStatusError | TextGenerationError) and status is None:
            status = 500
        if status in (401, 403):
            return _Problem(status, ModelError(f"The model server at {self._url} wants another token. Set TGI_TOKEN."))
        if status in (400, 413, 422) and messages:
            room = self.context_tokens - max_tokens
            length = self.count_tokens(plain_text(messages))
            if self.context_tokens and length > room:
                return _Problem(status, ContextLimitError(length, room))
        if status is None:
            return _Problem(None, ModelError(
                f"The model server at {self._url} cannot be reached ({type(error).__name__}). "
                "Start it, or mend `model.url`."
            ))  # fmt: skip
        busy = "is too busy" if status == 429 else f"refused a request (HTTP {status})"
        return _Problem(
            status, EngineError(f"The model server at {self._url} {busy}. Ask again later, or see its log.")
        )


@dataclass(frozen=True, slots=True)
class _Problem:
    status: int | None
    error: ModelError | EngineError


@dataclass(frozen=True, slots=True)
class _Event:
    """One thing a stream said, whichever of the two APIs it came from."""

    text: str = ""
    finish: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None


class _Answer:
    """Reads a stream of events into text that can be shown."""

    def __init__(self, pieces: Pieces, on_text: OnText | None, gate: Gate) -> None:
        self.pieces = pieces
        self._on_text = on_text
        self._gate = gate
        self._raw = ""
        self.count = 0
        self.first: float | None = None
        self.finish: Finish | None = None
        self.prompt_tokens = self.completion_tokens = self.cached_tokens = 0

    @property
    def began(self) -> bool:
        return self.count > 0

    def read(self, events: Iterator[_Event]) -> None:
        try:
            for event in events:
                self._take(event)
                if self.finish == "cancelled":
                    return
        except ValueError:
            # huggingface_hub knows only "data: [DONE]"; another spelling of the end is harmless, broken JSON is not.
            if self.finish is None:
                raise EngineError("The model server sent something that is not the stream it promised.") from None
        self._show(self.pieces.finish())

    def _take(self, event: _Event) -> None:
        self.prompt_tokens = event.prompt_tokens or self.prompt_tokens
        self.completion_tokens = event.completion_tokens or self.completion_tokens
        self.cached_tokens = event.cached_tokens or self.cached_tokens
        if event.text:
            self.count += 1
            self._raw += event.text
            self._show(self.pieces.grow(self._raw))
        if self._gate.closed:
            self.finish = "cancelled"
        if self.finish is None and (event.finish or self.pieces.stopped):
            self.finish = "stop" if self.pieces.stopped else _FINISH.get(event.finish or "", "stop")

    def _show(self, piece: str) -> None:
        if not piece:
            return
        if self.first is None:
            self.first = time.monotonic()
        if self._on_text is not None and self._on_text(piece):
            self.finish = "cancelled"


def _version_in(name: str) -> str:
    """The version that an adapter's name carries ("hr-1a2b3c4d5e6f"); of a name without one, the name's own hash."""
    found = re.search(r"[0-9a-f]{12}", name)
    return found.group() if found else hashlib.sha256(name.encode()).hexdigest()[:12]
