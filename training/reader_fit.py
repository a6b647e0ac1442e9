"""Trains the reader: whether these sentences answer this question, by MiniLM reading both together (a cross-encoder).

    python -m training.reader_fit --out runs/reader/fold.npz --epochs 5
    python -m training.reader_fit --out quantahr/retrieval/reader.npz --mean-of fold-3.npz fold-4.npz

The companies that are left out are those on which training/answer_fit.py weighs it, and which tell when to stop.
Each question is seen with the sentences that look most like its answer: the right ones must win over the others and
over "none of them" (softmax), and each has a probability of its own (cross-entropy).
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
from quantahr.retrieval.minilm import Base, packaged_base
from quantahr.retrieval.reader import tokens_of
from training.answer_fit import area
from training.reader_data import Pair, Read, of_company, of_passages, reading_rows
from training.retrieval_fit import CACHE, LEFT_OUT, companies
from training.upper import RANK, Lower, Upper, keep_pass, padded

LEARNING_RATE = 1e-3
QUESTIONS = 12
"""Questions in a step."""
UNITS = 7
"""Units of a question that do not answer it; a pass sees MISSES of them."""
MISSES = 4
EPOCHS = 4


class Network(Upper):
    """The reader in torch: the upper layers, and a head that says whether a passage answers."""

    def __init__(self, base: Base, rank: int = RANK, dropout: float = 0.1) -> None:
        super().__init__(base, rank, dropout)
        size = len(base.plain["embedding_norm_bias"])
        self.hidden = torch.nn.Linear(2 * size, 64)
        self.verdict = torch.nn.Linear(64, 1)

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Log-odds, [batch], of what the lower layers give: [batch, tokens, size], with its mask."""
        states = self.read(states, mask)
        pooled = torch.cat([states[:, 0].float(), self.mean(states, mask)], 1)
        return self.verdict(functional.gelu(self.hidden(self.drop(pooled))))[:, 0]

    def arrays(self) -> dict[str, Any]:
        """See `Upper.arrays`; the head with it."""
        found = {
            "hidden": self.hidden.weight.T,
            "hidden_bias": self.hidden.bias,
            "verdict": self.verdict.weight.T,
            "verdict_bias": self.verdict.bias,
        }
        return super().arrays() | {name: value.detach().numpy().astype(np.float16) for name, value in found.items()}


@dataclasses.dataclass(slots=True)
class Prepared:
    """A question with what the lower layers make of its pairs: `states` [tokens of a pair, size] in bfloat16."""

    pairs: list[Pair]
    states: list[torch.Tensor]


def prepared(rows: Sequence[Read], lower: Lower, chance: np.random.Generator) -> list[Prepared]:
    """Each question with some of its pairs: what is right, the best-looking others more often than the rest."""
    found: list[Prepared] = []
    for row in rows:
        right = [pair for pair in row.pairs if pair[1]]
        wrong = [pair for pair in row.pairs if not pair[1]]
        share = 0.85 ** np.arange(len(wrong))
        some = chance.choice(len(wrong), min(len(wrong), UNITS), replace=False, p=share / share.sum())
        chosen = [*(wrong[place] for place in sorted(some)), *right[:2]]
        question = row.typed if chance.random() < 0.2 else row.question
        found.append(Prepared(chosen, lower.states(tokens_of([(question, passage) for passage, _ in chosen]))))
    return found


def some_of(row: Prepared, chance: np.random.Generator) -> Prepared:
    """A question with what one pass sees of it."""
    pairs = row.pairs
    right = chance.permutation([at for at, pair in enumerate(pairs) if pair[1]])[:1]
    wrong = chance.permutation([at for at, pair in enumerate(pairs) if not pair[1]])[:MISSES]
    chosen = [int(at) for at in (*wrong, *right)]
    return Prepared([pairs[at] for at in chosen], [row.states[at] for at in chosen])


def scores_of(network: Network, states: Sequence[torch.Tensor]) -> torch.Tensor:
    """Log-odds of prepared pairs, [len(states)]; like lengths are read together."""
    order = sorted(range(len(states)), key=lambda at: len(states[at]))
    found = []
    for part in np.array_split(order, max(1, min(4, len(states) // 8))):
        chosen = [states[at] for at in part]
        found.append(network(*padded(chosen)))
    return torch.cat(found)[torch.tensor(np.argsort(order))]


def loss_of(scores: torch.Tensor, batch: Sequence[Prepared]) -> torch.Tensor:
    """The loss of one step, whose scores come in the order of its pairs."""
    total = scores.new_zeros(())
    at = 0
    for row in batch:
        own = scores[at : at + len(row.pairs)]
        at += len(row.pairs)
        right = torch.tensor([pair[1] for pair in row.pairs])
        total = total + functional.binary_cross_entropy_with_logits(own, right.float())
        # "None of them" stands in the race with log-odds 0.
        race = torch.log_softmax(torch.cat([own, own.new_zeros(1)]), 0)
        winners = torch.cat([right, torch.tensor([not bool(right.any())])])
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
        keep_pass(network, out, epoch, losses, time.monotonic() - began)
        check(network)


@torch.no_grad()
def judge(rows: Sequence[Prepared], network: Network) -> str:
    """How well answerable and unanswerable are told apart, and how often the right unit comes first."""
    network.eval()
    best, truth, first = [], [], []
    for row in rows:
        right = np.array([pair[1] for pair in row.pairs])
        scores = scores_of(network, row.states).numpy()
        best.append(scores.max())
        truth.append(bool(right.any()))
        if right.any():
            first.append(bool(right[scores.argmax()]))
    return (
        f"area under the curve {area(best, truth):.3f}; right unit first {np.mean(first or [False]):.1%} "
        f"({len(truth)} questions)"
    )


def mean_of(files: Sequence[Path]) -> dict[str, Any]:
    """The mean of what several passes learned: it holds up better on companies of another kind than the last pass."""
    held = [dict(np.load(file)) for file in files]
    return {name: np.mean([one[name] for one in held], 0, np.float32).astype(np.float16) for name in held[0]}


def gathered(folder: Path) -> tuple[list[Read], dict[str, list[Read]]]:
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
        return [Read(**{**line, "pairs": [(text, right) for text, right in line["pairs"]]}) for line in lines]

    folder.mkdir(parents=True, exist_ok=True)
    rows = kept("reading_train", lambda: of_passages(reading_rows(held_out=False), index_of, vectors_of))
    golden = Path("data/golden/golden.jsonl")
    rows += kept("golden", lambda: of_company(Path("data/hr_policies"), golden, index_of))
    checks = {"reading": kept("reading_held", lambda: of_passages(reading_rows(held_out=True), index_of, vectors_of))}
    for company in (*companies(left_out=False), *companies(left_out=True)):
        questions = company / "questions.jsonl"
        found = kept(f"company_{company.name}", lambda c=company, q=questions: of_company(c / "policies", q, index_of))
        if company.parent == LEFT_OUT:
            checks[company.name] = found
        else:
            rows += found
    return rows, checks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--mean-of", type=Path, nargs="+", help="instead of training, the mean of what these learned")
    parser.add_argument("--folder", type=Path, default=Path("runs/reader"), help="keeps the candidates")
    chosen = parser.parse_args()
    if chosen.mean_of:
        np.savez_compressed(chosen.out, **mean_of(chosen.mean_of))
        return
    rows, checks = gathered(chosen.folder)
    lower, chance = Lower(), np.random.default_rng(0)
    held = {name: prepared(part, lower, chance) for name, part in checks.items()}

    def check(trained: Network) -> None:
        for name, part in held.items():
            print(f"  {name}: {judge(part, trained)}", flush=True)

    network = Network(packaged_base())
    train(prepared(rows, lower, chance), network, chosen.out, check, chosen.epochs)


if __name__ == "__main__":
    main()
