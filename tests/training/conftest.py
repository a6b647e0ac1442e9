"""A llama of two layers with random weights and a tokenizer of its own: everything real, and small."""

from pathlib import Path
from typing import Any

import pytest

from training.config import QloraConfig, parse_config

WORDS = (
    "how many days of leave do i get you may carry over five ten annual the a is in on by and to for your my".split()
)
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tokenizer(*, template: bool = True) -> Any:
    """Bytes, a few words, and ChatML's two special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(WORDS)] * 3, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>", bos_token="<|im_start|>"
    )
    if template:
        wrapped.chat_template = TEMPLATE
    return wrapped


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder as `model.base_llm_model` may name it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("base") / "tiny-llama"
    tokenizer = make_tokenizer()
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


ROWS = [
    {
        "instruction": question,
        "input": f"Leave > {topic}\n{first} {second} Ask your manager in Harbour before you book anything.",
        "output": answer,
        "evidence": evidence,
        "passage_id": topic,
        "kind": "answerable" if evidence else "unanswerable",
    }
    for topic, first, second in (
        ("Annual leave", "You get 25 days a year.", "You may carry over five days."),
        ("Sick leave", "Ring your manager by ten.", "A doctor's note is needed after three days."),
        ("Parking", "Parking is free in Bremen.", "There are twelve places in Valencia."),
    )
    for question, answer, evidence in (
        (f"{topic}: what first?", f"{first} [1]", [first]),
        (f"{topic}: and what else?", f"{second} [1]", [second]),
        (f"is there a gym for {topic}", "I could not find that in our HR documents.", []),
    )
]


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder with data/general_knowledge/rows.json, from which a command may run."""
    import json

    folder = tmp_path / "data" / "general_knowledge"
    folder.mkdir(parents=True)
    (folder / "rows.json").write_text(json.dumps(ROWS), encoding="utf-8")
    return tmp_path


def settings_for(base: Path, **training: Any) -> dict[str, Any]:
    """The configuration's JSON for the tiny model; `training` overrides that section."""
    return {
        "model": {
            "name": "tiny",
            "base_llm_model": str(base),
            "quantization": {"load_in_4bit": False},
            "lora": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "k_proj", "v_proj", "down_proj"]},
            "max_sequence_length": 1024,
        },
        "datasets": [{"type": "alpaca", "input_files": ["data/general_knowledge/*.json"]}],
        "training": {
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 2,
            "warmup_steps": 2,
            "max_steps": 8,
            "learning_rate": 0.03,
            "save_steps": 3,
            "save_total_limit": 2,
            **training,
        },
        "compute": {"platform": "local"},
    }


@pytest.fixture
def tiny_config(tiny_base: Path, workplace: Path) -> QloraConfig:
    return parse_config(settings_for(tiny_base), root=workplace)
