"""llama.cpp in the worker: what it refuses, what it keeps to itself, and how two versions live side by side."""

import os
import subprocess
import sys
import textwrap
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from quantahr.errors import ModelError
from quantahr.gguf import packaged_gguf
from quantahr.gguf_header import BASE_KEY, cached_sha256
from quantahr.prompt import SYSTEM, Message
from worker.engines.llamacpp import LlamaCppEngine, check_memory
from worker.engines.machine import free_memory, usable_cores

pytestmark = pytest.mark.model
CHAT: list[Message] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "Tell me about the sea."}]
LAYERS, WIDTH, VALUE_WIDTH = 30, 576, 192


def write_adapter(path: Path, *, strength: float, width: int = WIDTH, base: str = "", arch: str = "llama") -> Path:
    """A LoRA of rank 2 on every value projection of the packaged model, with random weights."""
    import gguf

    rng = np.random.default_rng(3)
    writer = gguf.GGUFWriter(path, arch)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 2.0)
    if base:
        writer.add_string(BASE_KEY, base)
    for layer in range(LAYERS):
        down = rng.standard_normal((2, width)).astype(np.float32) * strength
        up = rng.standard_normal((VALUE_WIDTH, 2)).astype(np.float32) * strength
        writer.add_tensor(f"blk.{layer}.attn_v.weight.lora_a", down)
        writer.add_tensor(f"blk.{layer}.attn_v.weight.lora_b", up)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def engine() -> Iterator[LlamaCppEngine]:
    loaded = LlamaCppEngine(packaged_gguf(), slots=3, context_tokens=256)
    yield loaded
    loaded.close()


def test_after_loading_every_slot_has_the_system_prompt_ready(engine: LlamaCppEngine) -> None:
    together = threading.Barrier(3)
    cached: list[int] = []

    def ask(number: int) -> None:
        together.wait(10)
        question: list[Message] = [CHAT[0], {"role": "user", "content": f"Who may take {number} days?"}]
        cached.append(engine.generate(question, max_tokens=12).cached_tokens)

    askers = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert len(cached) == 3
    assert min(cached) >= engine.count_tokens(SYSTEM)


def test_a_full_context_ends_the_answer_with_length(engine: LlamaCppEngine) -> None:
    story: list[Message] = [{"role": "user", "content": "Write a very long story about a ship. " * 12}]
    answer = engine.generate(story, max_tokens=400)
    assert answer.finish == "length"
    assert answer.prompt_tokens + answer.completion_tokens <= engine.context_tokens


def test_its_port_answers_nobody_without_the_key(engine: LlamaCppEngine) -> None:
    for path in ("/v1/models", "/props", "/slots", "/completion", "/lora-adapters"):
        request = urllib.request.Request(f"{engine._server.listening_address}{path}", data=b"{}")
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=10)
        assert caught.value.code in (401, 404)
        caught.value.close()


def test_nothing_is_said_on_stdout_or_stderr(tmp_path: Path) -> None:
    code = """
        from quantahr.gguf import packaged_gguf
        from worker.engines.llamacpp import LlamaCppEngine
        engine = LlamaCppEngine(packaged_gguf(), slots=1, context_tokens=256)
        engine.generate([{"role": "user", "content": "my marzipan secret"}], max_tokens=4)
        try:
            engine.generate([{"role": "user", "content": "marzipan " * 400}], max_tokens=4)
        except Exception as error:
            assert "marzipan" not in str(error)
        engine.close()
    """
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, timeout=120, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_worker_does_not_need_torch() -> None:
    code = (
        "import sys, worker.engines.llamacpp, worker.model_files, worker.engines.pick; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


def test_a_new_version_loads_beside_the_old_and_the_old_one_leaves_undisturbed(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "new.gguf", strength=1.0, base=cached_sha256(packaged_gguf()))
    blue = LlamaCppEngine(packaged_gguf(), slots=1, context_tokens=256)
    before = blue.generate(CHAT, max_tokens=16).text
    halfway, gone = threading.Event(), threading.Event()

    def watch(_: str) -> bool:
        halfway.set()
        assert gone.wait(60)
        return False

    green = LlamaCppEngine(packaged_gguf(), adapter=adapter, slots=1, context_tokens=256)
    answers = []
    asker = threading.Thread(target=lambda: answers.append(green.generate(CHAT, max_tokens=16, on_text=watch)))
    asker.start()
    assert halfway.wait(60)
    assert blue.generate(CHAT, max_tokens=16).text == before
    blue.close()
    gone.set()
    asker.join(60)
    assert answers[0].finish in ("length", "stop")
    assert answers[0].text != before
    assert green.version.base == blue.version.base
    assert green.version.adapter == cached_sha256(adapter)[:12]
    green.close()


def test_an_adapter_without_strength_changes_nothing(tmp_path: Path, engine: LlamaCppEngine) -> None:
    adapter = write_adapter(tmp_path / "nothing.gguf", strength=0.0)
    with_adapter = LlamaCppEngine(packaged_gguf(), adapter=adapter, slots=1, context_tokens=256)
    assert with_adapter.generate(CHAT, max_tokens=8).text == engine.generate(CHAT, max_tokens=8).text
    with_adapter.close()


def test_an_adapter_that_does_not_fit_is_refused_by_name(tmp_path: Path) -> None:
    wrong = {
        "other-size.gguf": (write_adapter(tmp_path / "other-size.gguf", strength=1, width=64), "does not fit"),
        "other-kind.gguf": (write_adapter(tmp_path / "other-kind.gguf", strength=1, arch="qwen2"), "is for qwen2"),
        "other-base.gguf": (write_adapter(tmp_path / "other-base.gguf", strength=1, base="ab" * 32), "was trained on"),
        packaged_gguf().name: (packaged_gguf(), "not a LoRA adapter"),
    }
    for name, (path, reason) in wrong.items():
        with pytest.raises(ModelError, match=reason) as caught:
            LlamaCppEngine(packaged_gguf(), adapter=path, slots=1, context_tokens=256)
        assert name in str(caught.value)


def test_an_adapter_named_as_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"Name it as `model\.adapter`"):
        LlamaCppEngine(write_adapter(tmp_path / "a.gguf", strength=1))


def test_more_context_than_the_model_knows_is_refused() -> None:
    with pytest.raises(ModelError, match="8192 tokens"):
        LlamaCppEngine(packaged_gguf(), context_tokens=9000)


def test_too_little_memory_is_said_with_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"big\.gguf needs about 4,000 MB and 1,000 MB are free"):
        check_memory(4000 << 20, 1000 << 20, Path("big.gguf"))
    check_memory(1000 << 20, 4000 << 20, Path("small.gguf"))
    check_memory(1 << 60, None, Path("unknown.gguf"))


def test_a_cache_that_cannot_fit_is_refused_before_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.engines.llamacpp.free_memory", lambda: 300 << 20)
    with pytest.raises(ModelError, match=r"lower `model\.slots`"):
        LlamaCppEngine(packaged_gguf(), slots=16, context_tokens=4096)


def test_a_containers_limits_count(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable: 8000000 kB\n",
        "sys/fs/cgroup/memory.max": "1000000000\n",
        "sys/fs/cgroup/memory.current": "700000000\n",
        "sys/fs/cgroup/memory.stat": "anon 500000000\nfile 200000000\n",
        "sys/fs/cgroup/cpu.max": "100000 100000\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert free_memory(tmp_path) == 500_000_000
    assert usable_cores(tmp_path) == 1
    assert free_memory(tmp_path / "nowhere") is None
    assert usable_cores(tmp_path / "nowhere") == len(os.sched_getaffinity(0))
