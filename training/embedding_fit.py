"""Trains the embedding model further on how employees ask: only its biases and layer norms (BitFit), 30,720 numbers.

    python -m training.embedding_fit MODEL --out quantahr/retrieval/minilm_hr.npz

MODEL is a folder with all-MiniLM-L6-v2 in float32 and its tokenizer.json. Two ideas. So few numbers cannot forget what
the model knows, and they can be laid over the packaged int8 model, whose biases and norms are float32, without touching
its weights. And a question is pulled towards the sentence that answers it and away from its neighbours in the same
passage and from sentences that the untrained model takes for it (in-batch contrast).
"""

import argparse
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy, normalize
from transformers import AutoModel

from quantahr.retrieval import load_embedder
from quantahr.retrieval.index import heading_of
from quantahr.retrieval.query import lexicon, understand
from quantahr.retrieval.spelling import Speller
from quantahr.retrieval.units import split_units
from training.dataset.handbooks import plain
from training.retrieval_fit import READING, passage_of, used_for_embedding

BATCH = 24
MAX_TOKENS = 44
TEMPERATURE = 0.05
LEARNING_RATE = 2e-3
CHANCE = random.Random(0)  # noqa: S311 - training, not secrets


Vectors = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to unit vectors, [texts, 384]."""


def examples(vectors_of: Vectors) -> list[dict[str, Any]]:
    """Questions with the sentences that answer them, the passage's other sentences, and mistaken ones elsewhere.

    `vectors_of` is the untrained model: its mistakes are what there is to learn from.
    """
    files = sorted(READING.glob("part*.json"))
    rows = [row for file in files if used_for_embedding(file, files) for row in json.loads(file.read_text("utf-8"))]
    speller = Speller({}, lexicon().words, load_embedder().words)
    found: list[dict[str, Any]] = []
    pool = [
        (section, unit)
        for section in {row["input"]: passage_of(row) for row in rows}.values()
        for unit in split_units(section.text)
    ]
    vectors = vectors_of([unit.quoted for _, unit in pool])
    for row in rows:
        evidence = [plain(text) for text in row.get("evidence", ())]
        if row["kind"] != "answerable" or not evidence:
            continue
        section = passage_of(row)
        units = split_units(section.text)
        right = [
            unit for unit in units if any(plain(unit.text) in held or held in plain(unit.text) for held in evidence)
        ]
        if right:
            query = understand(row["instruction"], speller)
            near = np.argsort(-(vectors @ vectors_of([query.text])[0]))[:30]
            hard = [pool[at] for at in near if pool[at][0].id != section.id][3:15]
            hard += [(section, unit) for unit in units if unit not in right]
            found.append({"query": query, "section": section, "right": right, "hard": hard})
    return found


def train(model: Any, tokenizer: Tokenizer, rows: list[dict[str, Any]], epochs: int) -> dict[str, Any]:
    """The trained arrays by name."""
    chosen = {
        name: weight
        for name, weight in model.named_parameters()
        if ("bias" in name or "LayerNorm" in name) and "pooler" not in name
    }
    for name, weight in model.named_parameters():
        weight.requires_grad = name in chosen
    optimizer = torch.optim.AdamW(chosen.values(), lr=LEARNING_RATE, weight_decay=0.0)
    steps = epochs * (len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 8) * (1 - step / steps))
    model.eval()  # no dropout: there is little to overfit with
    for _ in range(epochs):
        CHANCE.shuffle(rows)
        for at in range(0, len(rows) - BATCH + 1, BATCH):
            batch = rows[at : at + BATCH]
            questions = [row["query"].text if CHANCE.random() < 0.6 else row["query"].expanded for row in batch]
            texts = [_shown(row["section"], CHANCE.choice(row["right"])) for row in batch]
            texts += [_shown(*CHANCE.choice(row["hard"])) for row in batch if row["hard"]]
            scores = _embed(model, tokenizer, questions) @ _embed(model, tokenizer, texts).T / TEMPERATURE
            same = torch.tensor([[a["section"].id == b["section"].id for b in batch] for a in batch])
            # Another question's sentence of the same passage may answer this one too.
            scores[:, : len(batch)].masked_fill_(same & ~torch.eye(len(batch), dtype=torch.bool), -1e4)
            loss = cross_entropy(scores, torch.arange(len(batch)))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(chosen.values(), 1.0)
            optimizer.step()
            schedule.step()
    return {name: weight.detach().numpy().astype(np.float16) for name, weight in chosen.items()}


def _embed(model: Any, tokenizer: Tokenizer, texts: list[str]) -> torch.Tensor:
    encoded = tokenizer.encode_batch(texts)
    ids = torch.tensor([entry.ids for entry in encoded])
    mask = torch.tensor([entry.attention_mask for entry in encoded])
    states = model(input_ids=ids, attention_mask=mask).last_hidden_state * mask[:, :, None]
    return normalize(states.sum(1) / mask.sum(1, keepdim=True), dim=1)


def vectors_by(model: Any, tokenizer: Tokenizer) -> Vectors:
    """The model as it is now, without its gradients."""

    def vectors_of(texts: Sequence[str]) -> NDArray[np.float32]:
        with torch.inference_mode():
            parts = [_embed(model, tokenizer, list(texts[at : at + BATCH])) for at in range(0, len(texts), BATCH)]
        found: NDArray[np.float32] = torch.cat(parts).numpy()
        return found

    return vectors_of


def _shown(section: Any, unit: Any) -> str:
    """A unit as the index embeds it: bare, or under its heading."""
    return unit.quoted if CHANCE.random() < 0.5 else f"{heading_of(section)}: {unit.quoted}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("model")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=1)
    chosen = parser.parse_args()
    torch.manual_seed(0)
    tokenizer = Tokenizer.from_file(str(Path(chosen.model) / "tokenizer.json"))
    tokenizer.enable_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    model = AutoModel.from_pretrained(chosen.model).eval()
    arrays = train(model, tokenizer, examples(vectors_by(model, tokenizer)), chosen.epochs)
    np.savez_compressed(chosen.out, **arrays)


if __name__ == "__main__":
    main()
