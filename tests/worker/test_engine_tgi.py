"""A model on another server: what is asked of it, what it may be told, and what happens when it is busy or away."""

import socket
import time

import pytest

from quantahr.errors import ModelError
from quantahr.prompt import Message
from tests.fakes.fake_tgi import WORDS, FakeTgi, into
from worker.engines import tgi
from worker.engines.base import EngineError
from worker.engines.pieces import Pieces
from worker.engines.tgi import Kind, TgiEngine

CHAT: list[Message] = [{"role": "user", "content": "Count, please."}]
COUNT = " ".join(WORDS)
ADAPTER = "hr-0123456789ab"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tgi, "BACKOFF_SECONDS", (0.0, 0.0, 0.0))


@pytest.mark.parametrize("kind", ["tgi", "vllm", "llamacpp"])
def test_each_server_says_what_it_is(kind: Kind) -> None:
    with FakeTgi(kind).serve() as server:
        engine = TgiEngine(f"{server.url}/v1/")
        assert engine.server.kind == kind
        assert engine.context_tokens == 256
        assert engine.generate(CHAT, max_tokens=20).text == COUNT
        assert engine.count_tokens("three short words") == 3


def test_a_model_without_chat_template_continues_plain_text() -> None:
    with FakeTgi("tgi", template=False, adapters=(ADAPTER,)).serve() as server:
        engine = TgiEngine(server.url, adapter=ADAPTER)
        answer = engine.generate(CHAT, max_tokens=20, stop=["five"])
        assert answer.text == "one two three four "
        assert answer.finish == "stop"
        assert server.asked_models == [ADAPTER]
        assert engine.choose(CHAT, ["one", "two"])["one"] > 0.9


@pytest.mark.parametrize("kind", ["tgi", "vllm"])
def test_two_versions_of_an_adapter_serve_side_by_side(kind: Kind) -> None:
    newer = "hr-ba9876543210"
    with FakeTgi(kind, adapters=(ADAPTER, newer)).serve() as server:
        old, new = TgiEngine(server.url, adapter=ADAPTER), TgiEngine(server.url, adapter=newer)
        assert (old.version.adapter, new.version.adapter) == ("0123456789ab", "ba9876543210")
        assert old.version.base == new.version.base
        old.generate(CHAT, max_tokens=2)
        new.generate(CHAT, max_tokens=2)
        old.close()
        new.generate(CHAT, max_tokens=2)
        assert server.asked_models == [ADAPTER, newer, newer]


@pytest.mark.parametrize(
    ("kind", "advice"),
    [("tgi", "LORA_ADAPTERS"), ("vllm", "VLLM_ALLOW_RUNTIME_LORA_UPDATING"), ("llamacpp", "--lora")],
)
def test_an_adapter_that_the_server_cannot_load_is_refused_with_what_to_type(kind: Kind, advice: str) -> None:
    with FakeTgi(kind).serve() as server:
        with pytest.raises(ModelError, match=advice) as caught:
            TgiEngine(server.url, adapter=f"/adapters/{ADAPTER}")
        assert ADAPTER in str(caught.value)


def test_vllm_loads_an_adapter_while_it_runs_if_it_may() -> None:
    with FakeTgi("vllm", loadable=True).serve() as server:
        engine = TgiEngine(server.url, adapter=f"/adapters/{ADAPTER}")
        assert server.adapters == [ADAPTER]
        assert engine.generate(CHAT, max_tokens=20).text == COUNT


def test_llama_cpp_serves_the_adapter_that_it_was_started_with() -> None:
    with FakeTgi("llamacpp", adapters=(f"{ADAPTER}.gguf",)).serve() as server:
        assert TgiEngine(server.url, adapter=f"/run/{ADAPTER}.gguf").version.adapter == "0123456789ab"


def test_a_busy_server_is_tried_again() -> None:
    with FakeTgi().serve() as server:
        engine = TgiEngine(server.url)
        server.busy = 3
        assert engine.generate(CHAT, max_tokens=20).text == COUNT
        assert server.busy == 0


@pytest.mark.parametrize("template", [True, False])
def test_a_server_that_stays_busy_is_named(template: bool) -> None:
    with FakeTgi(template=template).serve() as server:
        engine = TgiEngine(server.url)
        server.busy = 100
        with pytest.raises(EngineError, match="too busy"):
            engine.generate(CHAT, max_tokens=20)
        assert server.busy == 96


@pytest.mark.parametrize("template", [True, False])
def test_an_answer_that_breaks_off_is_not_begun_again(template: bool) -> None:
    with FakeTgi(template=template).serve() as server:
        engine = TgiEngine(server.url)
        server.break_after = 3
        pieces: list[str] = []
        with pytest.raises((EngineError, ModelError), match=server.url):
            engine.generate(CHAT, max_tokens=20, on_text=into(pieces))
        assert "".join(pieces) == "one two three"


def test_another_spelling_of_the_end_does_no_harm() -> None:
    with FakeTgi().serve() as server:
        server.done_line = "data:[DONE]"
        assert TgiEngine(server.url).generate(CHAT, max_tokens=20).text == COUNT


def test_hanging_up_frees_the_place_on_the_server() -> None:
    with FakeTgi(word_seconds=0.05).serve() as server:
        engine = TgiEngine(server.url)
        for _ in range(5):
            assert engine.generate(CHAT, max_tokens=20, on_text=lambda _: True).finish == "cancelled"
        limit = time.monotonic() + 10
        while server.running and time.monotonic() < limit:
            time.sleep(0.01)
        assert server.running == 0
        assert server.most_running < 5


def test_only_the_configured_token_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_belongs_to_someone_else")
    for template in (True, False):
        with FakeTgi(template=template).serve() as server:
            engine = TgiEngine(server.url)
            engine.generate(CHAT, max_tokens=2)
            engine.choose(CHAT, ["yes"])
            assert not any(server.authorizations - {None, ""})
        with FakeTgi(token="right", template=template).serve() as server:
            TgiEngine(server.url, token="right").generate(CHAT, max_tokens=2)
            assert server.authorizations == {"Bearer right"}
            with pytest.raises(ModelError, match="TGI_TOKEN"):
                TgiEngine(server.url, token="wrong")


def test_a_server_that_is_away_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ModelError, match=r"cannot be reached .*model\.url") as caught:
            TgiEngine(url)
        assert url in str(caught.value)


def test_offline_mode_is_named_as_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "is_offline_mode", lambda: True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with FakeTgi().serve() as server, pytest.raises(ModelError, match="Unset HF_HUB_OFFLINE"):
        TgiEngine(server.url)


def test_pieces_hold_back_what_may_still_change() -> None:
    pieces = Pieces(stop=["\n### "])
    assert pieces.grow("Twelve d\ufffd") == "Twelve d"
    assert pieces.grow("Twelve dé.\n##") == "é."
    assert pieces.grow("Twelve dé.\n## no") == "\n## no"
    assert pieces.grow("Twelve dé.\n## no\n### In") == ""
    assert pieces.stopped
    assert pieces.text == "Twelve dé.\n## no"
    assert pieces.finish() == ""


def test_pieces_give_what_they_held_when_nothing_more_comes() -> None:
    pieces = Pieces(stop=["END"])
    assert pieces.grow("almost EN") == "almost "
    assert pieces.finish() == "EN"
    assert pieces.text == "almost EN"
