"""Every engine keeps the same promises. The suite is written once and run against all three."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from quantahr.prompt import Message
from tests.fakes.fake_tgi import FakeTgi, into
from worker.engines.base import ContextLimitError, Engine, EngineClosedError, EngineError
from worker.serving import Serving

CHAT: list[Message] = [
    {"role": "system", "content": "You are kind."},
    {"role": "user", "content": "Please write a long story about the sea."},
]


@pytest.fixture(scope="module")
def llamacpp() -> Iterator[Engine]:
    from quantahr.gguf import packaged_gguf
    from worker.engines.llamacpp import LlamaCppEngine

    engine = LlamaCppEngine(packaged_gguf(), slots=2, context_tokens=256)
    yield engine
    engine.close()


def tiny_llama(folder: Path, *, template: bool = True, width: int = 32) -> Path:
    """A llama of 30,000 random weights with a tokenizer of words, in Hugging Face's layout."""
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'quantahr[training]'")
    import tokenizers
    import transformers

    words = ["<unk>", "<s>", "</s>", *"please write a long story about the sea you are kind say yes no".split()]
    words += [f"w{number}" for number in range(60)]
    core = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, "<unk>"))
    core.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    if template:
        tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    config = transformers.LlamaConfig(
        vocab_size=len(words), hidden_size=width, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(7)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def transformers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tiny_llama(tmp_path_factory.mktemp("tiny"))
    from worker.engines.transformers import TransformersEngine

    engine = TransformersEngine(str(folder), state_dir=folder, context_tokens=256)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def tgi() -> Iterator[Engine]:
    from worker.engines.tgi import TgiEngine

    with FakeTgi(word_seconds=0.002).serve() as server:
        engine = TgiEngine(server.url)
        yield engine
        engine.close()


@pytest.fixture(params=[pytest.param("llamacpp", marks=pytest.mark.model), "transformers", "tgi"])
def engine(request: pytest.FixtureRequest) -> Engine:
    found: Engine = request.getfixturevalue(request.param)
    return found


def test_the_pieces_join_to_the_text(engine: Engine) -> None:
    pieces: list[str] = []
    answer = engine.generate(CHAT, max_tokens=8, on_text=into(pieces))
    assert answer.text
    assert "".join(pieces) == answer.text
    assert len(pieces) > 1
    assert answer.finish == "length"
    assert answer.completion_tokens == 8
    assert answer.prompt_tokens > 5
    assert answer.ms_first_token is not None
    assert answer.ms_first_token > 0


def test_the_same_question_gets_the_same_answer(engine: Engine) -> None:
    assert engine.generate(CHAT, max_tokens=8).text == engine.generate(CHAT, max_tokens=8).text


def test_cancelling_ends_the_answer_and_frees_the_slot(engine: Engine) -> None:
    for _ in range(engine.slots + 2):
        answer = engine.generate(CHAT, max_tokens=100, on_text=lambda _: True)
        assert answer.finish == "cancelled"
        assert answer.completion_tokens <= 2
    assert engine.generate(CHAT, max_tokens=3).finish == "length"


def test_an_error_of_the_reader_comes_back_to_the_caller(engine: Engine) -> None:
    def fall_over(_: str) -> bool:
        raise LookupError("the reader is gone")

    with pytest.raises(LookupError, match="the reader is gone"):
        engine.generate(CHAT, max_tokens=8, on_text=fall_over)
    assert engine.generate(CHAT, max_tokens=3).text


def test_a_stop_string_ends_the_answer_before_it(engine: Engine) -> None:
    whole = engine.generate(CHAT, max_tokens=8).text
    stop = whole.split()[3]
    pieces: list[str] = []
    answer = engine.generate(CHAT, max_tokens=8, stop=[stop], on_text=into(pieces))
    assert answer.finish == "stop"
    assert answer.text == whole[: whole.index(stop)]
    assert "".join(pieces) == answer.text


def test_tokens_are_counted(engine: Engine) -> None:
    assert engine.count_tokens("") == 0
    few, many = engine.count_tokens("please write"), engine.count_tokens("please write a long story about the sea")
    assert 0 < few < many


def test_choosing_gives_probabilities(engine: Engine) -> None:
    question: list[Message] = [{"role": "user", "content": "Is water wet? say yes or no"}]
    shares = engine.choose(question, ["yes", "no", "xylophonist"])
    assert list(shares) == ["yes", "no", "xylophonist"]
    assert all(0 <= share <= 1 for share in shares.values())
    assert sum(shares.values()) <= 1.0001
    assert shares["yes"] + shares["no"] > shares["xylophonist"]


def test_eight_askers_each_get_their_own_answer(engine: Engine) -> None:
    questions: list[list[Message]] = [[{"role": "user", "content": f"say w{number} {number}"}] for number in range(8)]
    alone = [engine.generate(question, max_tokens=4).text for question in questions[:2]]

    def ask(question: list[Message]) -> tuple[str, str]:
        pieces: list[str] = []
        answer = engine.generate(question, max_tokens=4, on_text=into(pieces))
        return answer.text, "".join(pieces)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, questions))
    assert len(answers) == 8
    assert all(text == streamed for text, streamed in answers)
    assert all(text for text, _ in answers)
    assert [text for text, _ in answers[:2]] == alone


def test_a_prompt_that_does_not_fit_is_named_with_its_numbers(engine: Engine) -> None:
    secret = "gran died "
    with pytest.raises(ContextLimitError) as caught:
        engine.generate([{"role": "user", "content": secret * 200}], max_tokens=8)
    assert caught.value.prompt_tokens > caught.value.context_tokens > 0
    assert secret.strip() not in str(caught.value)
    assert engine.generate(CHAT, max_tokens=3).text


def test_it_says_which_version_it_is(engine: Engine) -> None:
    assert len(engine.version.base) == 12
    assert int(engine.version.base, 16) >= 0
    assert engine.version.adapter is None
    assert engine.version.label
    assert engine.context_tokens == 256
    assert engine.slots >= 1


@pytest.fixture(params=[pytest.param("llamacpp", marks=pytest.mark.model), "transformers", "tgi"])
def short_lived(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An engine of the test's own, to be closed."""
    if request.param == "tgi":
        from worker.engines.tgi import TgiEngine

        with FakeTgi(word_seconds=0.1).serve() as server:
            yield TgiEngine(server.url)
    elif request.param == "transformers":
        folder = tiny_llama(tmp_path)
        from worker.engines.transformers import TransformersEngine

        yield TransformersEngine(str(folder), state_dir=tmp_path, context_tokens=256)
    else:
        from quantahr.gguf import packaged_gguf
        from worker.engines.llamacpp import LlamaCppEngine

        yield LlamaCppEngine(packaged_gguf(), slots=1, context_tokens=256)


def test_closing_cancels_what_is_running_and_refuses_what_comes_later(short_lived: Engine) -> None:
    begun = threading.Event()
    outcome: list[Any] = []

    def show(_: str) -> bool:
        begun.set()
        time.sleep(0.01)
        return False

    def ask() -> None:
        outcome.append(short_lived.generate(CHAT, max_tokens=200, on_text=show))

    asker = threading.Thread(target=ask)
    asker.start()
    assert begun.wait(30)
    short_lived.close()
    asker.join(30)
    assert outcome[0].finish == "cancelled"
    short_lived.close()
    for late in (
        lambda: short_lived.generate(CHAT, max_tokens=1),
        lambda: short_lived.count_tokens("a"),
        lambda: short_lived.choose(CHAT, ["yes"]),
    ):
        with pytest.raises(EngineClosedError):
            late()
    assert issubclass(EngineClosedError, EngineError)


@pytest.fixture(params=[pytest.param("llamacpp", marks=pytest.mark.model), "transformers", "tgi"])
def two_versions(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Engine, Engine]]:
    """The base alone, and the same base with an adapter."""
    if request.param == "tgi":
        from worker.engines.tgi import TgiEngine

        with FakeTgi("vllm", word_seconds=0.002, adapters=("hr-0123456789ab",)).serve() as server:
            yield TgiEngine(server.url), TgiEngine(server.url, adapter="hr-0123456789ab")
    elif request.param == "transformers":
        folder = tiny_llama(tmp_path)
        import peft
        import transformers

        from worker.engines.transformers import TransformersEngine

        base = transformers.AutoModelForCausalLM.from_pretrained(folder)
        # PEFT begins with an adapter that changes nothing; this one does.
        lora = peft.LoraConfig(r=2, target_modules=["v_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
        peft.get_peft_model(base, lora).save_pretrained(tmp_path / "adapter")
        yield (
            TransformersEngine(str(folder), state_dir=tmp_path, context_tokens=256),
            TransformersEngine(str(folder), state_dir=tmp_path, context_tokens=256, adapter=tmp_path / "adapter"),
        )
    else:
        from quantahr.gguf import packaged_gguf
        from tests.fakes.tiny_adapter import write_adapter
        from worker.engines.llamacpp import LlamaCppEngine

        adapter = write_adapter(tmp_path / "adapter.gguf", seed=1)
        yield (
            LlamaCppEngine(packaged_gguf(), slots=1, context_tokens=256),
            LlamaCppEngine(packaged_gguf(), slots=1, context_tokens=256, adapter=adapter),
        )


def test_a_swap_leaves_the_running_answer_to_the_old_version(two_versions: tuple[Engine, Engine]) -> None:
    old, new = two_versions
    assert new.version.base == old.version.base
    assert new.version.adapter != old.version.adapter
    undisturbed = old.generate(CHAT, max_tokens=12).text
    serving = Serving(lambda: old)
    begun, swapped = threading.Event(), threading.Event()
    answers: list[Any] = []

    def show(_: str) -> bool:
        begun.set()
        assert swapped.wait(60)
        return False

    def ask() -> None:
        with serving.lease() as engine:
            answers.append((engine.version, engine.generate(CHAT, max_tokens=12, on_text=show)))

    asker = threading.Thread(target=ask)
    asker.start()
    assert begun.wait(60)
    returned: list[Engine | None] = []
    swap = threading.Thread(target=lambda: returned.append(serving.switch(new)))
    swap.start()
    while True:
        with serving.lease() as engine:
            if engine is new:
                assert engine.generate(CHAT, max_tokens=3).text
                break
    assert not returned
    swapped.set()
    asker.join(60)
    swap.join(60)
    assert answers[0][0] == old.version
    assert answers[0][1].text == undisturbed
    assert returned == [old]
    old.close()
    assert new.generate(CHAT, max_tokens=3).text
    serving.close()
