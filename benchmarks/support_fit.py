"""Weighs the trained model's doubt against retrieval's opinion: the two numbers of worker/answering/support.py.

    python -m benchmarks.support_fit [--adapter GGUF] [--opinions FILE]

It asks about companies that neither the search's models nor the adapter has learned from. Every question is searched,
and the model asked for its doubt, once; then each pair of numbers is tried on all of them. What it shows is what an
employee meets: of the answerable questions the share that is answered right with the right citation, of the
unanswerable ones the share that is declined.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.path import percentile
from quantahr.grading import holds, read_golden, same_heading
from quantahr.policies import load_folder
from quantahr.prompt import Excerpt
from quantahr.retrieval import Index, load_embedder, quotation
from quantahr.retrieval.sections import EVERYONE
from quantahr.settings import Settings
from training.answer_fit import area
from training.retrieval_fit import companies
from worker.answering.support import doubt, log_odds
from worker.swap import open_active

WEIGHTS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)


@dataclass(frozen=True, slots=True)
class Seen:
    """A question with both opinions, and whether its quotation would be right, with the right section named."""

    company: str
    answerable: bool
    right: bool
    likely: float
    doubtful: float


def seen(company: str, policies: Path, questions: Path, settings: Settings) -> list[Seen]:
    """Every answerable and unanswerable question of a company."""
    sections = [part for part in load_folder(policies).sections if EVERYONE in part.audience]
    index, engine = Index.build(sections, load_embedder()), open_active(settings)
    found = []
    try:
        for row in read_golden(questions):
            if row.kind not in ("answerable", "unanswerable"):
                continue
            result = index.search(row.question, audiences=(EVERYONE,))
            pieces = quotation.gather(result.evidence, row.question)
            headings = [" > ".join(piece.section.heading_path) for piece in pieces]
            excerpts = [Excerpt(n, headings[n - 1], piece.text) for n, piece in enumerate(pieces, 1)]
            held = holds(" ".join(piece.text for piece in pieces), row.expect)
            cited = any(same_heading(heading, source) for heading in headings for source in row.sources)
            answerable = row.kind == "answerable"
            doubtful = doubt(engine, row.question, excerpts, ()) if excerpts else 1.0
            found.append(Seen(company, answerable, answerable and held and cited, result.answerable, doubtful))
    finally:
        engine.close()
    return found


def opinions(kept: Path | None, adapter: str | None) -> list[Seen]:
    """The questions of every company that is left out; `kept` holds those of the companies that were asked before."""
    found: list[Seen] = []
    if kept and kept.is_file():
        found = [Seen(**json.loads(line)) for line in kept.read_text("utf-8").splitlines()]
    known = {row.company for row in found}
    with tempfile.TemporaryDirectory(prefix="support-") as state:
        settings = Settings(state_dir=Path(state))
        if adapter:
            settings = settings.model_copy(update={"model": settings.model.model_copy(update={"adapter": adapter})})
        for folder in companies(left_out=True):
            if folder.name in known:
                continue
            found += seen(folder.name, folder / "policies", folder / "questions.jsonl", settings)
            if kept:
                kept.write_text("".join(json.dumps(asdict(row)) + "\n" for row in found), encoding="utf-8")
    return found


def table(rows: Sequence[Seen], weight: float, cuts: Sequence[float]) -> list[str]:
    """Lines of a table, one for each cut of the sum in log-odds: answered right, answered at all, declined."""
    odds = np.array([log_odds(row.likely) - weight * log_odds(row.doubtful) for row in rows])
    answerable, right = np.array([row.answerable for row in rows]), np.array([row.right for row in rows])
    names = sorted({row.company for row in rows})
    lines = []
    for cut in cuts:
        shares = []
        for name in names:
            own = np.array([row.company == name for row in rows])
            said = odds >= cut
            declined = (~said)[own & ~answerable].mean()
            shares.append(((said & right)[own & answerable].mean(), declined))
        each = " | ".join(f"{a:.0%} / {b:.0%}" for a, b in shares)
        mean = np.mean(shares, 0)
        lines.append(f"| {weight} | {cut:+.2f} | {each} | {mean[0]:.1%} / {mean[1]:.1%} | {mean.sum():.3f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--adapter", help="a GGUF LoRA; what ships if not given")
    parser.add_argument("--opinions", type=Path, help="keep the opinions here, and take them from here if it is there")
    chosen = parser.parse_args()
    rows = opinions(chosen.opinions, chosen.adapter)
    names = sorted({row.company for row in rows})
    print("| company | retrieval's opinion | the model's doubt | (areas under the curve)")
    for name in names:
        own = [row for row in rows if row.company == name]
        truth = [row.right for row in own]
        likely, sure = area([row.likely for row in own], truth), area([-row.doubtful for row in own], truth)
        print(f"| {name} | {likely:.3f} | {sure:.3f} |")
    print(f"| weight | cut, log-odds | {' | '.join(names)} | mean | sum |")
    print("|---" * (len(names) + 4) + "|")
    for weight in WEIGHTS:
        odds = [log_odds(row.likely) - weight * log_odds(row.doubtful) for row in rows]
        cuts = [percentile(odds, share) for share in (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)]
        print("\n".join(table(rows, weight, cuts)))


if __name__ == "__main__":
    main()
