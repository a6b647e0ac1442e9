"""Further training of the embedding model: only biases and norms move, towards the sentences that answer."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'quantahr[training]'")

from training import embedding_fit  # noqa: E402
from training.retrieval_fit import READING, used_for_embedding  # noqa: E402

TOPICS = ("parking", "leave", "expenses", "training", "sickness", "pensions")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers

    texts = [row["input"] + " " + row["instruction"] for row in _rows()]
    words = sorted({word for text in texts for word in text.casefold().replace(".", " .").split()} | set(TOPICS))
    made = Tokenizer(models.WordLevel({word: at for at, word in enumerate(["[UNK]", *words])}, "[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.enable_padding()
    made.enable_truncation(embedding_fit.MAX_TOKENS)
    return made


@pytest.fixture
def model(tokenizer: Any) -> Any:
    from transformers import BertConfig, BertModel

    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64,
    )  # fmt: skip
    return BertModel(config).eval()


@pytest.fixture
def reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three files, of which the second is for others to be fitted on."""
    monkeypatch.setattr(embedding_fit, "READING", tmp_path)
    for part in range(3):
        rows = [{**row, "passage_id": f"{part}-{row['passage_id']}"} for row in _rows()]
        (tmp_path / f"part{part}.json").write_text(json.dumps(rows))
    return tmp_path


def _rows() -> list[dict[str, Any]]:
    return [
        {
            "instruction": f"who decides about {topic} in town {number}",
            "input": f"Rules > {topic}\nThe office of town {number} decides about {topic}. Ask early about the rest.",
            "evidence": [f"The office of town {number} decides about {topic}."],
            "passage_id": f"{topic}-{number}",
            "kind": "answerable",
        }
        for topic in TOPICS
        for number in range(4)
    ]


def test_whole_files_are_kept_from_it(reading: Path, model: Any, tokenizer: Any) -> None:
    found = embedding_fit.examples(embedding_fit.vectors_by(model, tokenizer))
    assert {row["section"].id.split("-")[0] for row in found} == {"0", "2"}
    assert all("decides" in unit.text for row in found for unit in row["right"])
    for row in found:
        assert not any(unit in row["right"] for section, unit in row["hard"] if section.id == row["section"].id)
    files = sorted(READING.glob("part*.json"))
    kept = [file for file in files if not used_for_embedding(file, files)]
    assert len(kept) >= len(files) // 3


def test_only_biases_and_norms_move_and_questions_come_closer_to_their_sentences(
    reading: Path, model: Any, tokenizer: Any
) -> None:
    vectors_of = embedding_fit.vectors_by(model, tokenizer)
    rows = embedding_fit.examples(vectors_of)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}

    def margin() -> float:
        questions = vectors_of([row["query"].text for row in rows])
        right = vectors_of([row["right"][0].quoted for row in rows])
        wrong = vectors_of([row["hard"][0][1].quoted for row in rows])
        return float(np.mean((questions * (right - wrong)).sum(1)))

    was = margin()
    arrays = embedding_fit.train(model, tokenizer, list(rows), epochs=8)
    assert margin() > was
    assert all(("bias" in name or "LayerNorm" in name) and "pooler" not in name for name in arrays)
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved
    assert moved <= set(arrays)
    assert all(array.dtype == np.float16 for array in arrays.values())
