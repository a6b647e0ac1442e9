"""Fits when the evidence answers: how likeness and the reader's verdict are weighed into one probability.

    python -m training.answer_fit [--reader READER.npz] [--write]

Three ideas. What was trained on a question is surer of it than of new ones, so only companies that neither embedding
model nor reader has seen are used (training/retrieval_fit.py names them); the last of them is kept for checking.
What is fitted is what an employee meets: the evidence holds everything that was expected, or it does not, be it that
the handbook says nothing or that retrieval did not find it. And questions are few, so likeness is weighed first, and
then only its sum against the reader's few numbers; each company is judged by weights of the others.
"""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from quantahr.grading import Golden, holds, read_golden, same_heading
from quantahr.policies import load_folder
from quantahr.retrieval import EmbeddingCache, Evidence, Index, load_embedder
from quantahr.retrieval.answerable import FEATURES, READ_FEATURES, answer_features
from quantahr.retrieval.evidence import choose
from quantahr.retrieval.query import understand
from quantahr.retrieval.reader import Reader, Reads
from quantahr.retrieval.scoring import default_scorer
from quantahr.retrieval.sections import EVERYONE
from training.retrieval_fit import CACHE, CHECKED, WEIGHTS, companies

FEWER_MISSES = 0.45
"""Added to the bias, in log-odds: four in ten of these questions have no answer, which in use are about three."""
CUTS = [cut / 20 for cut in range(4, 17)]
QUOTED = 3
"""Pieces of evidence that an answer quotes (worker/answering/pipeline.py)."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A question with what decides about it: its features, and whether quoting the evidence would be right; `cited`
    asks for the right section, too."""

    company: str
    number: int
    answerable: bool
    features: Any
    right: bool
    cited: bool


def judged(company: str, index: Index, golden: Sequence[Golden], reader: Reads | None) -> list[Judged]:
    """The questions of a company as retrieval and the reader, if there is one, meet them."""
    view, scorer = index.view((EVERYONE,)), default_scorer()
    found = []
    for number, row in enumerate(golden):
        query = understand(row.question, view.speller)
        ranking = scorer.rank(view, query, index.embed([query.text, query.expanded]))
        evidence, reading = choose(view, query.text, ranking, reader)
        features = answer_features(view, query, ranking, evidence, reading)
        right, cited = quoted_right(row, evidence)
        found.append(Judged(company, number, row.kind == "answerable", features, right, cited))
    return found


def quoted_right(row: Golden, evidence: Sequence[Evidence]) -> tuple[bool, bool]:
    """Whether the quotation holds what is expected, and whether it also comes from a right section."""
    quoted = evidence[:QUOTED]
    right = row.kind == "answerable" and holds(" ".join(piece.text for piece in quoted), row.expect)
    headings = [" > ".join(piece.section.heading_path) for piece in quoted]
    return right, right and any(same_heading(heading, source) for heading in headings for source in row.sources)


def logistic(x: Any, y: Any, l2: float = 0.02) -> Any:
    """Weights of a logistic regression with the bias last, [features + 1]; the penalty is on standardised features."""
    inputs, right = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
    scale = inputs.std(0).clamp(min=1e-3)
    weights = torch.zeros(inputs.shape[1], requires_grad=True)
    bias = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(inputs / scale @ weights + bias, right)
        loss = loss + l2 * (weights**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return torch.cat([(weights / scale).detach(), bias.detach()[None]]).numpy()


def crossed(rows: Sequence[Judged]) -> Any:
    """The log-odds of every question under weights fitted on the other companies, [rows]."""
    x, y = np.array([row.features for row in rows]), np.array([row.right for row in rows])
    names = np.array([row.company for row in rows])
    odds = np.zeros(len(rows))
    for name in set(names):
        weights = logistic(x[names != name], y[names != name])
        odds[names == name] = x[names == name] @ weights[:-1] + weights[-1]
    return odds


def area(scores: Any, truth: Any) -> float:
    """The share of pairs of a right and a wrong one in which the right one scores higher (area under the ROC curve)."""
    scores, truth = np.asarray(scores), np.asarray(truth, bool)
    high, low = scores[truth][:, None], scores[~truth][None, :]
    return float(((high > low) + 0.5 * (high == low)).mean()) if high.size and low.size else float("nan")


def curve(rows: Sequence[Judged], odds: Any, cuts: Sequence[float]) -> list[str]:
    """The lines of a table: what is right at each cut of the probability."""
    answerable = np.array([row.answerable for row in rows])
    cited = np.array([row.cited for row in rows])
    chance = 1 / (1 + np.exp(-np.asarray(odds)))
    lines = [
        "| cut | answerable: right, right citation | answered at all | unanswerable: abstained |",
        "|---|---|---|---|",
    ]
    for cut in cuts:
        said = chance >= cut
        lines.append(
            f"| {cut:.2f} | {(said & cited)[answerable].mean():.1%} | {said[answerable].mean():.1%} "
            f"| {(~said)[~answerable].mean():.1%} |"
        )
    return lines


def together(likeness: Any, reading: Any) -> Any:
    """Weights of likeness and of what the reader says as one list, bias last; `reading` begins with that of the sum."""
    return np.concatenate([likeness[:-1] * reading[0], reading[1:-1], [likeness[-1] * reading[0] + reading[-1]]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--reader", type=Path, help="a reader's learned numbers; the one that ships if not given")
    parser.add_argument("--write", action="store_true", help=f"write {WEIGHTS}")
    chosen = parser.parse_args()
    embedder, cache = load_embedder(), EmbeddingCache(CACHE)
    reader = Reader(chosen.reader) if chosen.reader else Reader()
    alone: list[Judged] = []
    read: list[Judged] = []
    held: list[Judged] = []
    for folder in companies(left_out=True):
        sections = [part for part in load_folder(folder / "policies").sections if EVERYONE in part.audience]
        golden = [row for row in read_golden(folder / "questions.jsonl") if row.kind.endswith("answerable")]
        index = Index.build(sections, embedder, cache)
        if folder.name == CHECKED:
            held = judged(folder.name, index, golden, reader)
            continue
        alone += judged(folder.name, index, golden, None)
        read += judged(folder.name, index, golden, reader)
    likeness = logistic(*_table(alone))
    odds = crossed(alone)
    print(f"likeness: area under the curve {area(odds, _table(alone)[1]):.3f}, {len(alone)} questions")
    print("\n".join(curve(alone, odds, CUTS)))
    sums = {(row.company, row.number): value for row, value in zip(alone, odds, strict=True)}
    joined = [
        dataclasses.replace(row, features=np.array([sums[row.company, row.number], *row.features[len(FEATURES) :]]))
        for row in read
    ]
    odds = crossed(joined)
    print(f"with the reader: area under the curve {area(odds, _table(joined)[1]):.3f}, {len(joined)} questions")
    print("\n".join(curve(joined, odds, CUTS)))
    weights = together(likeness, logistic(*_table(joined)))
    x, right = _table(held)
    odds = x @ weights[:-1] + weights[-1]
    print(f"{CHECKED}: area under the curve {area(odds, right):.3f}, {len(held)} questions")
    print("\n".join(curve(held, odds, CUTS)))
    if chosen.write:
        report = json.loads(WEIGHTS.read_text("utf-8"))
        for kept, names, fit in (("answer", FEATURES, likeness), ("answer_read", (*FEATURES, *READ_FEATURES), weights)):
            report[kept] = _named((*names, "bias"), [*fit[:-1], fit[-1] + FEWER_MISSES])
        WEIGHTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _table(rows: Sequence[Judged]) -> tuple[Any, Any]:
    return np.array([row.features for row in rows]), np.array([row.right for row in rows])


def _named(names: Sequence[str], weights: Any) -> dict[str, float]:
    return {name: round(float(weight), 4) for name, weight in zip(names, weights, strict=True)}


if __name__ == "__main__":
    main()
