"""A model server for tests, over real HTTP: it speaks as Text Generation Inference, vLLM or llama.cpp do.

It knows no language: it answers any prompt by counting ("one two three …"), a word being a token, so that a test can
tell exactly what should come back. It keeps the rules that matter: a context that is enforced, adapters that must be
known, a token, places that are freed when the caller hangs up, and it can be told to be busy or to break off.
"""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from aiohttp import web

WORDS = "one two three four five six seven eight nine ten".split()
CONTEXT = 256


def into(pieces: list[str]) -> Callable[[str], bool]:
    """An `on_text` that collects what an engine streams."""

    def keep(piece: str) -> bool:
        pieces.append(piece)
        return False

    return keep


class FakeTgi:
    """`busy` answers that many requests with 429 first; `break_after` words the stream ends in mid-air."""

    def __init__(
        self,
        kind: Literal["tgi", "vllm", "llamacpp"] = "tgi",
        *,
        adapters: tuple[str, ...] = (),
        loadable: bool = False,
        template: bool = True,
        token: str | None = None,
        word_seconds: float = 0.0,
    ) -> None:
        self.kind, self.loadable, self.template, self.token = kind, loadable, template, token
        self.adapters = list(adapters)
        self.word_seconds = word_seconds
        self.busy = 0
        self.break_after: int | None = None
        self.done_line = "data: [DONE]"
        self.asked_models: list[str | None] = []
        self.authorizations: set[str | None] = set()
        self.running = 0
        self.most_running = 0
        self.url = ""

    @contextmanager
    def serve(self) -> Iterator["FakeTgi"]:
        """Serve on a free loopback port, in a thread of its own."""
        loop = asyncio.new_event_loop()
        runner = web.AppRunner(self._app(), handler_cancellation=True, access_log=None)

        async def start() -> None:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0, shutdown_timeout=1)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"

        loop.run_until_complete(start())
        thread = threading.Thread(target=loop.run_forever, name="fake-tgi")
        thread.start()
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[self._door])
        routes = [
            web.post("/v1/chat/completions", self._chat),
            web.get("/v1/models", self._models),
            web.post("/tokenize", self._tokenize),
        ]
        if self.kind == "tgi":
            routes += [
                web.get("/info", self._info),
                web.post("/chat_tokenize", self._chat_tokenize),
                web.post("/generate", self._generate),
                web.post("/generate_stream", self._generate_stream),
            ]
        if self.kind == "vllm" and self.loadable:
            routes.append(web.post("/v1/load_lora_adapter", self._load))
        if self.kind == "llamacpp":
            routes += [web.get("/props", self._props), web.get("/lora-adapters", self._lora)]
        app.add_routes(routes)
        return app

    @web.middleware
    async def _door(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.authorizations.add(request.headers.get("Authorization"))
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response({"error": "who are you"}, status=401)
        if self.busy and request.path in ("/v1/chat/completions", "/generate_stream"):
            self.busy -= 1
            return web.json_response({"error": "Model is overloaded", "error_type": "overloaded"}, status=429)
        response: web.StreamResponse = await handler(request)
        return response

    async def _info(self, request: web.Request) -> web.Response:
        facts = {"model_id": "acme/hr-1b", "model_sha": "c0ffee", "max_total_tokens": CONTEXT, "version": "3.3.6"}
        return web.json_response(facts)

    async def _models(self, request: web.Request) -> web.Response:
        if self.kind == "vllm":
            listed: list[dict[str, Any]] = [
                {"id": "acme/hr-1b", "root": "acme/hr-1b", "max_model_len": CONTEXT, "parent": None}
            ]
            listed += [{"id": name, "parent": "acme/hr-1b", "max_model_len": None} for name in self.adapters]
        else:
            listed = [{"id": "/models/hr-1b.gguf", "meta": {"n_ctx_train": 4096, "n_params": 1, "size": 2}}]
        return web.json_response({"data": listed})

    async def _props(self, request: web.Request) -> web.Response:
        return web.json_response({"default_generation_settings": {"n_ctx": CONTEXT}})

    async def _lora(self, request: web.Request) -> web.Response:
        return web.json_response([{"id": 0, "path": f"/adapters/{name}", "scale": 1.0} for name in self.adapters])

    async def _load(self, request: web.Request) -> web.Response:
        self.adapters.append((await request.json())["lora_name"])
        return web.Response(text="Success")

    async def _tokenize(self, request: web.Request) -> web.Response:
        body = await request.json()
        key = {"tgi": "inputs", "vllm": "prompt", "llamacpp": "content"}[self.kind]
        tokens = list(range(len(body[key].split())))
        return web.json_response(tokens if self.kind == "tgi" else {"tokens": tokens, "count": len(tokens)})

    async def _chat_tokenize(self, request: web.Request) -> web.Response:
        return web.json_response({}, status=200 if self.template else 422)

    async def _generate(self, request: web.Request) -> web.Response:
        parameters = (await request.json())["parameters"]
        if not self._knows(parameters.get("adapter_id")):
            return web.json_response({"error": "adapter not found", "error_type": "validation"}, status=422)
        tops = [{"id": 1, "text": " one", "logprob": -0.1, "special": False}]
        return web.json_response({"generated_text": "one", "details": {"top_tokens": [tops]}})

    async def _generate_stream(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        parameters = body["parameters"]
        self.asked_models.append(parameters.get("adapter_id"))
        if refused := self._refused(body["inputs"], parameters["max_new_tokens"], parameters.get("adapter_id")):
            return refused
        response = await self._open(request)
        words, finish = self._answer(parameters["max_new_tokens"])
        with self._place():
            for index, word in enumerate(words):
                if self.break_after == index:
                    assert request.transport is not None
                    request.transport.close()
                    return response
                last = index == len(words) - 1
                token = {"id": index, "text": word, "logprob": -0.1, "special": False}
                details = {
                    "finish_reason": "length" if finish == "length" else "eos_token",
                    "generated_tokens": len(words),
                    "input_length": len(body["inputs"].split()),
                }
                await self._send(response, {"index": index, "token": token, "details": details if last else None})
        return response

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        model = body.get("model")
        self.asked_models.append(model)
        adapter = None if model in ("tgi", "acme/hr-1b", "hr-1b.gguf") else model
        prompt = " ".join(message["content"] for message in body["messages"])
        if refused := self._refused(prompt, body["max_tokens"], adapter):
            return refused
        if not body.get("stream"):
            tops = [{"token": "Yes", "logprob": -0.25}, {"token": " no", "logprob": -2.5}]
            choice = {
                "index": 0,
                "finish_reason": "length",
                "message": {"role": "assistant", "content": "Yes"},
                "logprobs": {"content": [{**tops[0], "top_logprobs": tops}]},
            }
            return web.json_response({"choices": [choice], "created": 0, "id": "", "model": "", "usage": None})
        response = await self._open(request)
        words, finish = self._answer(body["max_tokens"])
        with self._place():
            for index, word in enumerate(words):
                if self.break_after == index:
                    assert request.transport is not None
                    request.transport.close()
                    return response
                await self._send(response, self._chunk({"role": "assistant", "content": word}, None))
            await self._send(response, self._chunk({"role": "assistant", "content": ""}, finish))
            usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(words), "total_tokens": 0}
            await self._send(response, {**self._chunk({}, None), "choices": [], "usage": usage})
            await response.write(f"{self.done_line}\n\n".encode())
        return response

    def _chunk(self, delta: dict[str, str], finish: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {"choices": [choice], "created": 0, "id": "", "model": "", "system_fingerprint": ""}

    def _knows(self, adapter: str | None) -> bool:
        return adapter is None or adapter in self.adapters or self.kind == "llamacpp"

    def _refused(self, prompt: str, max_tokens: int, adapter: str | None) -> web.Response | None:
        if not self._knows(adapter):
            return web.json_response({"error": "model not found"}, status=404)
        if len(prompt.split()) + max_tokens > CONTEXT:
            return web.json_response({"error": f"too long: {prompt}", "error_type": "validation"}, status=422)
        return None

    def _answer(self, max_tokens: int) -> tuple[list[str], str]:
        words = [word if index == 0 else f" {word}" for index, word in enumerate(WORDS)]
        return (words[:max_tokens], "length") if max_tokens < len(words) else (words, "stop")

    async def _open(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        return response

    async def _send(self, response: web.StreamResponse, event: dict[str, Any]) -> None:
        await response.write(f"data: {json.dumps(event)}\n\n".encode())
        await asyncio.sleep(self.word_seconds)

    @contextmanager
    def _place(self) -> Iterator[None]:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            yield
        finally:
            self.running -= 1
