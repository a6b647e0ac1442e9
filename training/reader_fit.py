"""Trains the reader: whether these sentences answer this question, by MiniLM reading both together (a cross-encoder).

    python -m training.reader_fit --out runs/reader/fold.npz --leave-out NAME NAME
    python -m training.reader_fit --out runs/reader/final.npz --continue-from runs/reader/fold.npz --epochs 5
    python -m training.reader_fit --out quantahr/retrieval/reader.npz --mean-of fold.npz final-4.npz final-5.npz

The first leaves companies out, on which training/answer_fit.py weighs a reader that has not seen them.
Three ideas. The packaged int8 model is the start, and only a difference of low rank (LoRA) to the matrices of its upper
layers, their biases and norms, and one small head are learned: that is what ships, and it is laid over the packaged
model when it is loaded (quantahr/retrieval/reader.py). The lower layers stay as they are, so what comes out of them is
computed once, in int8 as it will be when it serves, and training takes minutes on two cores. And each question is seen
with the sentences that look most like its answer, in two ways: one by one, where the right ones must win over the
others and over "none of them" (softmax), and together, as they would be shown, where the probability itself is learned
(cross-entropy).
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from quantahr.retrieval import EmbeddingCache, Index, SectionLike, load_embedder
from quantahr.retrieval.minilm import MATRICES, Base, packaged_base
from quantahr.retrieval.reader import Reader
from training.answer_fit import area
from training.reader_data import Pair, Read, companies, of_company, of_passages, reading_rows

RANK = 24
FIRST = 3
"""The first layer that is trained."""
SCALE = 2.0
"""LoRA's alpha over its rank."""
LEARNING_RATE = 1e-3
QUESTIONS = 12
"""Questions in a step."""
UNITS = 4
"""Units of a question that do not answer it."""
TOGETHER = 0.6
"""How often a pass sees the evidence as a whole."""
EPOCHS = 4
DTYPE = torch.bfloat16
CACHE = Path(".quantahr/fit-embeddings.db")
HEADS = 12


class Matrix(torch.nn.Module):
    """A frozen matrix [in, out] with a difference of low rank, and a bias that is learned whole."""

    def __init__(self, weight: Any, bias: Any, rank: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.tensor(weight).T.contiguous().to(DTYPE))
        self.bias = torch.nn.Parameter(torch.tensor(bias))
        self.down = torch.nn.Parameter(torch.randn(weight.shape[0], rank) / weight.shape[0] ** 0.5)
        self.up = torch.nn.Parameter(torch.zeros(rank, weight.shape[1]))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        low = (states @ self.down.to(DTYPE)) @ (self.up * SCALE).to(DTYPE)
        return functional.linear(states, self.weight, self.bias.to(DTYPE)) + low


class Norm(torch.nn.Module):
    """A layer norm that is learned whole."""

    def __init__(self, weight: Any, bias: Any) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weight))
        self.bias = torch.nn.Parameter(torch.tensor(bias))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(states.float(), states.shape[-1:], self.weight, self.bias, 1e-12).to(DTYPE)


class Network(torch.nn.Module):
    """The upper layers of the reader in torch."""

    def __init__(self, base: Base, rank: int = RANK, dropout: float = 0.1) -> None:
        super().__init__()
        self.layers = range(FIRST, base.layers)
        self.dropout = dropout
        self.parts = torch.nn.ModuleDict()
        size = 0
        for layer in self.layers:
            for name in MATRICES:
                key = f"{layer}_{name}"
                self.parts[key] = Matrix(base.matrix(key), base.plain[f"{key}_bias"], rank)
            for name in ("attention_norm", "output_norm"):
                self.parts[f"{layer}_{name}"] = _norm(base, f"{layer}_{name}")
                size = len(base.plain[f"{layer}_{name}_bias"])
        self.hidden = torch.nn.Linear(2 * size, 64)
        self.verdict = torch.nn.Linear(64, 1)

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Log-odds, [batch], of what the lower layers give: [batch, tokens, size], with its mask."""
        visible = mask[:, None, None, :].bool()
        for layer in self.layers:
            q, k, v = (
                self.parts[f"{layer}_{name}"](states).unflatten(-1, (HEADS, -1)).transpose(1, 2)
                for name in ("query", "key", "value")
            )
            mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=visible)
            mixed = self.parts[f"{layer}_mix"](mixed.transpose(1, 2).flatten(2))
            states = self.parts[f"{layer}_attention_norm"](states + self._drop(mixed))
            wide = functional.gelu(self.parts[f"{layer}_wide"](states))
            states = self.parts[f"{layer}_output_norm"](states + self._drop(self.parts[f"{layer}_narrow"](wide)))
        weights = mask[:, :, None].float()
        mean = (states.float() * weights).sum(1) / weights.sum(1)
        pooled = torch.cat([states[:, 0].float(), mean], 1)
        hidden = functional.gelu(self.hidden(self._drop(pooled)))
        return self.verdict(hidden)[:, 0]

    def _drop(self, states: torch.Tensor) -> torch.Tensor:
        return functional.dropout(states, self.dropout, self.training)

    def arrays(self) -> dict[str, Any]:
        """What ships: everything learned, in float16."""
        found = {
            "hidden": self.hidden.weight.T,
            "hidden_bias": self.hidden.bias,
            "verdict": self.verdict.weight.T,
            "verdict_bias": self.verdict.bias,
        }
        for name, part in self.parts.items():
            if isinstance(part, Matrix):
                found |= {f"{name}_down": part.down, f"{name}_up": part.up * SCALE, f"{name}_bias": part.bias}
            else:
                found |= {f"{name}_weight": part.weight, f"{name}_bias": part.bias}
        return {name: value.detach().numpy().astype(np.float16) for name, value in found.items()}

    def continue_from(self, learned: Path) -> None:
        """Take over what `arrays` gave, written to a file by an earlier training."""
        with np.load(learned) as held, torch.no_grad():
            for name, value in self.arrays().items():
                given = torch.tensor(held[name].astype(np.float32))
                if given.shape != value.shape:
                    raise ValueError(f"{learned} is of another shape: train it anew.")
                self._place(name).copy_(given.T if name in ("hidden", "verdict") else given)
            for part in self.parts.values():
                if isinstance(part, Matrix):
                    part.up /= SCALE

    def _place(self, name: str) -> torch.Tensor:
        first, _, last = name.rpartition("_")
        if first in self.parts:
            return getattr(self.parts[first], last)
        linear = self.hidden if name.startswith("hidden") else self.verdict
        return linear.bias if last == "bias" else linear.weight


def _norm(base: Base, name: str) -> Norm:
    return Norm(base.plain[f"{name}_weight"], base.plain[f"{name}_bias"])


@dataclasses.dataclass(slots=True)
class Prepared:
    """A question with what the lower layers make of its pairs: `states` [tokens of a pair, size] in bfloat16."""

    pairs: list[Pair]
    states: list[torch.Tensor]


def prepared(rows: Sequence[Read], lower: Reader, chance: np.random.Generator) -> list[Prepared]:
    """Each question with some of its pairs: what is right, the best-looking others more often than the rest."""
    found: list[Prepared] = []
    for row in rows:
        units = [pair for pair in row.pairs if pair[2] == "unit"]
        right = [pair for pair in units if pair[1]]
        wrong = [pair for pair in units if not pair[1]]
        share = 0.8 ** np.arange(len(wrong))
        some = chance.choice(len(wrong), min(len(wrong), UNITS), replace=False, p=share / share.sum())
        chosen = [wrong[place] for place in sorted(some)]
        chosen += right[:2]
        chosen += [pair for pair in row.pairs if pair[2] == "evidence"][:2]
        found.append(Prepared(chosen, _below(row.typed if chance.random() < 0.2 else row.question, chosen, lower)))
    return found


def some_of(row: Prepared, chance: np.random.Generator) -> Prepared:
    """A question with what one pass sees of it; the evidence as a whole, which is long, not every time."""
    pairs = row.pairs
    wrong = [at for at, pair in enumerate(pairs) if pair[2] == "unit" and not pair[1]]
    right = [at for at, pair in enumerate(pairs) if pair[2] == "unit" and pair[1]]
    whole = [at for at, pair in enumerate(pairs) if pair[2] == "evidence"]
    chosen = [*chance.permutation(wrong)[:3], *chance.permutation(right)[:1]]
    chosen += [*chance.permutation(whole)[: int(chance.random() < TOGETHER)]]
    return Prepared([pairs[at] for at in chosen], [row.states[at] for at in chosen])


def _below(question: str, pairs: Sequence[Pair], lower: Reader) -> list[torch.Tensor]:
    found = []
    for pair in pairs:
        found.append(torch.tensor(lower.states((question, pair[0]))).to(torch.bfloat16))
    return found


def scores_of(network: Network, states: Sequence[torch.Tensor]) -> torch.Tensor:
    """Log-odds of prepared pairs, [len(states)]; like lengths are read together."""
    order = sorted(range(len(states)), key=lambda at: len(states[at]))
    found = []
    for part in np.array_split(order, max(1, min(4, len(states) // 8))):
        chosen = [states[at] for at in part]
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(one)) for one in chosen], batch_first=True)
        found.append(network(torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True).to(DTYPE), mask))
    return torch.cat(found)[torch.tensor(np.argsort(order))]


def loss_of(scores: torch.Tensor, batch: Sequence[Prepared]) -> torch.Tensor:
    """The loss of one step, whose scores come in the order of its pairs."""
    total = scores.new_zeros(())
    at = 0
    for row in batch:
        own = scores[at : at + len(row.pairs)]
        at += len(row.pairs)
        right = torch.tensor([float(pair[1]) for pair in row.pairs])
        unit = torch.tensor([pair[2] == "unit" for pair in row.pairs])
        each = functional.binary_cross_entropy_with_logits(own, right, reduction="none")
        total = total + 0.5 * each[unit].mean() + (each[~unit].mean() if (~unit).any() else 0.0)
        # "None of them" stands in the race with log-odds 0.
        race = torch.log_softmax(torch.cat([own[unit], own.new_zeros(1)]), 0)
        winners = torch.cat([right[unit] > 0, torch.tensor([not bool((right[unit] > 0).any())])])
        total = total - 0.5 * torch.logsumexp(race[winners], 0)
    return total / len(batch)


def train(rows: Sequence[Prepared], network: Network, out: Path, check: Any, epochs: int = EPOCHS) -> None:
    """Trains `network`, calling `check` after every pass; each is also kept beside `out`, under its number."""
    torch.manual_seed(0)
    slow = [parameter for name, parameter in network.named_parameters() if not name.startswith(("hidden", "verdict"))]
    fast = [*network.hidden.parameters(), *network.verdict.parameters()]
    optimizer = torch.optim.AdamW(
        [{"params": slow, "lr": LEARNING_RATE}, {"params": fast, "lr": 2 * LEARNING_RATE}], weight_decay=0.01
    )
    steps = epochs * (len(rows) // QUESTIONS)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 40) * max(0.02, 1 - step / max(1, steps))
    )
    for epoch in range(epochs):
        network.train()
        began, losses = time.monotonic(), []
        chance = np.random.default_rng(epoch)
        order = chance.permutation(len(rows))
        for at in range(0, len(order) - QUESTIONS + 1, QUESTIONS):
            batch = [some_of(rows[place], chance) for place in order[at : at + QUESTIONS]]
            loss = loss_of(scores_of(network, [states for row in batch for states in row.states]), batch)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        for file in (out.with_stem(f"{out.stem}-{epoch + 1}"), out):
            np.savez_compressed(file, **network.arrays())
        print(f"pass {epoch + 1}: loss {np.mean(losses):.4f}, {time.monotonic() - began:.0f} s", flush=True)
        check(network)


@torch.no_grad()
def judge(rows: Sequence[Prepared], network: Network) -> str:
    """How well answerable and unanswerable are told apart, and how often the right unit comes first."""
    network.eval()
    together, best, truth, first = [], [], [], []
    for row in rows:
        unit = np.array([pair[2] == "unit" for pair in row.pairs])
        right = np.array([pair[1] for pair in row.pairs])
        scores = scores_of(network, row.states).numpy()
        if unit.any() and not unit.all():
            together.append(scores[~unit][0])
            best.append(scores[unit].max())
            truth.append(bool(right[~unit][0]))
        if right[unit].any():
            first.append(bool(right[unit][scores[unit].argmax()]))
    return (
        f"area under the curve, evidence {area(together, truth):.3f}, best unit {area(best, truth):.3f}; "
        f"right unit first {np.mean(first or [False]):.1%} ({len(truth)} questions)"
    )


def mean_of(files: Sequence[Path]) -> dict[str, Any]:
    """The mean of what several passes learned: it holds up better on companies of another kind than the last pass."""
    held = [dict(np.load(file)) for file in files]
    return {name: np.mean([one[name] for one in held], 0, np.float32).astype(np.float16) for name in held[0]}


def gathered(folder: Path, left_out: Sequence[str] = ()) -> tuple[list[Read], dict[str, list[Read]]]:
    """What is learned from, and by name what is only judged. `folder` keeps them between runs."""
    embedder, cache = load_embedder(), EmbeddingCache(CACHE)

    def index_of(sections: Sequence[SectionLike]) -> Index:
        return Index.build(sections, embedder, cache)

    def vectors_of(texts: Sequence[str]) -> Any:
        return cache.embed(embedder, texts)

    def kept(name: str, make: Any) -> list[Read]:
        file = folder / f"{name}.jsonl"
        if not file.is_file():
            rows = [json.dumps(dataclasses.asdict(row)) for row in make()]
            file.write_text("\n".join(rows) + "\n", encoding="utf-8")
        lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        return [Read(**{**line, "pairs": [tuple(pair) for pair in line["pairs"]]}) for line in lines]

    folder.mkdir(parents=True, exist_ok=True)
    rows = kept("reading_train", lambda: of_passages(reading_rows(held_out=False), index_of, vectors_of))
    golden = Path("data/golden/golden.jsonl")
    rows += kept("golden", lambda: of_company(Path("data/hr_policies"), golden, index_of))
    checks = {"reading": kept("reading_held", lambda: of_passages(reading_rows(held_out=True), index_of, vectors_of))}
    *_, last = folders = companies()
    for company in folders:
        questions = company / "questions.jsonl"
        found = kept(f"company_{company.name}", lambda c=company, q=questions: of_company(c / "policies", q, index_of))
        if company == last or company.name in left_out:
            checks[company.name] = found
        else:
            rows += found
    return rows, checks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--leave-out", nargs="*", default=[], help="companies not to learn from, besides the last")
    parser.add_argument("--continue-from", type=Path, help="begin with what an earlier training learned")
    parser.add_argument("--mean-of", type=Path, nargs="+", help="instead of training, the mean of what these learned")
    parser.add_argument("--folder", type=Path, default=Path("runs/reader"), help="keeps the candidates")
    chosen = parser.parse_args()
    if chosen.mean_of:
        np.savez_compressed(chosen.out, **mean_of(chosen.mean_of))
        return
    rows, checks = gathered(chosen.folder, chosen.leave_out)
    lower, chance = Reader(layers=FIRST), np.random.default_rng(0)
    held = {name: prepared(part, lower, chance) for name, part in checks.items()}

    def check(trained: Network) -> None:
        for name, part in held.items():
            print(f"  {name}: {judge(part, trained)}", flush=True)

    network = Network(packaged_base())
    if chosen.continue_from:
        network.continue_from(chosen.continue_from)
    train(prepared(rows, lower, chance), network, chosen.out, check, chosen.epochs)


if __name__ == "__main__":
    main()
