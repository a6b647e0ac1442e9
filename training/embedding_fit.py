"""Trains the embedding model further on how employees ask.

    python -m training.embedding_fit --out runs/embed/fold.npz
    python -m training.reader_fit --out quantahr/retrieval/minilm_hr.npz --mean-of fold-2.npz fold-3.npz

Two ideas. A question is pulled towards the sentence that answers it and away from those that the search finds beside it
in the same handbook, which is what it has to tell apart when it serves. And a sentence is shown as the index embeds it,
under its heading or bare, so that it is found by what it says either way.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy, normalize

from quantahr.retrieval import EmbeddingCache, Index, SectionLike, load_embedder
from quantahr.retrieval.embedder import tokens_of
from quantahr.retrieval.evidence import worth
from quantahr.retrieval.index import heading_of
from quantahr.retrieval.minilm import packaged_base
from quantahr.retrieval.order import best_first
from quantahr.retrieval.scoring import View, default_scorer
from training.retrieval_fit import CACHE, LEFT_OUT, Asked, companies, company_questions, reading_questions
from training.upper import Lower, Upper, keep_pass, padded

QUESTIONS = 24
"""Questions in a step, all about one handbook."""
MISSES = 5
"""Sentences beside the right one for each of them."""
NEAREST = 24
"""Misses are drawn from so many sentences."""
TEMPERATURE = 0.05
LEARNING_RATE = 5e-4
UNDER_HEADING = 0.6
"""How often a sentence is shown under its heading."""
EPOCHS = 4


@dataclass(slots=True)
class Taught:
    """A question as it is learned from: `asked` its text with and without the handbook's words for it, `right` and
    `near` units of its handbook, what answers it and what the search takes for it."""

    view: View
    asked: tuple[str, str]
    right: list[int]
    near: list[int]


def taught(rows: Sequence[Asked]) -> Iterator[Taught]:
    """What can be learned from questions of one handbook."""
    for row in rows:
        if row.units:
            order = best_first(worth(row.view, default_scorer().rank(row.view, row.query, row.vectors)), NEAREST)
            near = [int(at) for at in order if at not in row.units]
            yield Taught(row.view, (row.query.text, row.query.expanded), row.units, near)


class Texts:
    """What the lower layers make of texts, kept."""

    def __init__(self) -> None:
        self._lower = Lower()
        self._kept: dict[str, torch.Tensor] = {}

    def prepare(self, texts: Sequence[str]) -> None:
        """Run the lower layers on those that are new."""
        new = [text for text in dict.fromkeys(texts) if text not in self._kept]
        self._kept.update(zip(new, self._lower.states(tokens_of(new)), strict=True))

    def vectors(self, network: Upper, texts: Sequence[str]) -> torch.Tensor:
        """Unit vectors of prepared texts by the network as it is, [texts, size]. Like lengths run together."""
        states = [self._kept[text] for text in texts]
        order = sorted(range(len(states)), key=lambda at: len(states[at]))
        found = []
        for part in np.array_split(order, max(1, min(6, len(order) // 24))):
            batch, mask = padded([states[at] for at in part])
            found.append(network.mean(network.read(batch, mask), mask))
        return normalize(torch.cat(found)[torch.tensor(np.argsort(order))], dim=1)


def shown(view: View, at: int, *, under_heading: bool) -> str:
    """A unit as the index embeds it."""
    quoted = view.units[at].quoted
    return f"{heading_of(view.entries[int(view.owner[at])].section)}: {quoted}" if under_heading else quoted


def loss_of(network: Upper, texts: Texts, batch: Sequence[Taught], chance: np.random.Generator) -> torch.Tensor:
    """The loss of one step: of all sentences in it, each question's right one must be the nearest."""
    questions, sentences, units = [], [], []
    for row in batch:
        questions.append(row.asked[int(chance.random() < 0.5)])
        under = chance.random() < UNDER_HEADING
        share = 0.92 ** np.arange(len(row.near))
        misses = chance.choice(len(row.near), min(MISSES, len(row.near)), replace=False, p=share / share.sum())
        own = [row.right[int(chance.integers(len(row.right)))], *(row.near[at] for at in misses)]
        sentences += [shown(row.view, at, under_heading=bool(under)) for at in own]
        units.append(own)
    vectors = texts.vectors(network, questions) @ texts.vectors(network, sentences).T / TEMPERATURE
    places = np.cumsum([0, *(len(own) for own in units[:-1])])
    flat = [at for own in units for at in own]
    # What also answers a question is no miss, and neither is its right sentence when it stands elsewhere in the batch.
    also = torch.tensor([[at in row.right for at in flat] for row in batch])
    also[torch.arange(len(batch)), torch.tensor(places)] = False
    return cross_entropy(vectors.masked_fill(also, -1e4), torch.tensor(places))


def train(books: Sequence[Sequence[Taught]], network: Upper, texts: Texts, out: Path, check: Any, epochs: int) -> None:
    """Trains `network`, calling `check` after every pass; each is also kept beside `out`, under its number."""
    torch.manual_seed(0)
    for book in books:
        texts.prepare([text for row in book for text in row.asked])
        wanted = {at for row in book for at in (*row.right, *row.near)}
        texts.prepare([shown(book[0].view, at, under_heading=under) for at in wanted for under in (True, False)])
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    steps = epochs * sum(-(-len(book) // QUESTIONS) for book in books)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 30) * max(0.02, 1 - step / steps)
    )
    for epoch in range(epochs):
        network.train()
        chance, began, losses = np.random.default_rng(epoch), time.monotonic(), []
        batches = [
            [book[at] for at in part]
            for book in books
            for part in np.array_split(chance.permutation(len(book)), -(-len(book) // QUESTIONS))
        ]
        for number in chance.permutation(len(batches)):
            loss = loss_of(network, texts, batches[number], chance)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        keep_pass(network, out, epoch, losses, time.monotonic() - began)
        check(network)


@torch.no_grad()
def judge(book: Sequence[Taught], network: Upper, texts: Texts) -> str:
    """How often a sentence that answers is among the nearest of the whole handbook, under its heading and bare."""
    network.eval()
    view = book[0].view
    places = []
    forms = [[shown(view, at, under_heading=under) for at in range(len(view.units))] for under in (True, False)]
    texts.prepare([*forms[0], *forms[1], *(row.asked[0] for row in book)])
    asked = texts.vectors(network, [row.asked[0] for row in book])
    likeness = sum(asked @ texts.vectors(network, form).T for form in forms)
    for row, own in zip(book, torch.as_tensor(likeness), strict=True):
        places.append(int((own > own[row.right].max()).sum()))
    found = np.array(places)
    return " ".join(f"@{k} {np.mean(found < k):.1%}" for k in (1, 3, 6)) + f" ({len(book)} questions)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    chosen = parser.parse_args()
    embedder, cache = load_embedder(), EmbeddingCache(CACHE)

    def index_of(sections: Sequence[SectionLike]) -> Index:
        return Index.build(sections, embedder, cache)

    reading = reading_questions(index_of, lambda texts: cache.embed(embedder, texts), for_embedding=True)
    by_book: dict[int, list[Taught]] = {}
    for row in taught(list(reading)):
        by_book.setdefault(id(row.view), []).append(row)
    books, held = list(by_book.values()), {}
    for folder in (*companies(left_out=False), *companies(left_out=True)):
        book = list(taught(list(company_questions(folder / "policies", folder / "questions.jsonl", index_of))))
        if folder.parent == LEFT_OUT:
            held[folder.name] = book
        else:
            books.append(book)
    texts, network = Texts(), Upper(packaged_base())

    def check(trained: Upper) -> None:
        for name, book in held.items():
            print(f"  {name}: {judge(book, trained, texts)}", flush=True)

    print(f"{sum(map(len, books))} questions of {len(books)} handbooks; before:", flush=True)
    check(network)
    train(books, network, texts, chosen.out, check, chosen.epochs)


if __name__ == "__main__":
    main()
