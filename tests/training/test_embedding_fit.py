"""Further training of the embedding model: questions come closer to the sentences that answer them."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'quantahr[training]'")

from quantahr.retrieval import Index, SectionLike, load_embedder  # noqa: E402
from quantahr.retrieval.embedder import PackagedEmbedder  # noqa: E402
from quantahr.retrieval.minilm import packaged_base  # noqa: E402
from training import retrieval_fit  # noqa: E402
from training.embedding_fit import Taught, Texts, judge, shown, taught, train  # noqa: E402
from training.retrieval_fit import READING, company_questions, reading_questions, used_for_embedding  # noqa: E402
from training.upper import Upper  # noqa: E402

HANDBOOK = """# Rules

## Parking

The gate is opened by the night porter. Cars without a sticker are towed. Bicycles stand in the yard.

## Leave

Rest days are booked in the blue ledger. The ledger lies with the bursar. Half days are noted in pencil.

## Money

Coins for the machine are handed out by the bursar. Slips are kept for a year. Foreign coins are refused.
"""
ASKED = {
    "how do i get my car in at night": "The gate is opened by the night porter.",
    "where do i put down my holiday": "Rest days are booked in the blue ledger.",
    "change for the coffee machine": "Coins for the machine are handed out by the bursar.",
}


def index_of(sections: Sequence[SectionLike]) -> Index:
    return Index.build(sections, load_embedder(), reader=lambda: None)


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> list[Taught]:
    folder = tmp_path_factory.mktemp("company")
    (folder / "policies").mkdir()
    (folder / "policies" / "rules.md").write_text(HANDBOOK)
    sources = ("Parking", "Leave", "Money")
    rows = [
        {
            "id": str(n),
            "question": asked,
            "kind": "answerable",
            "expect": [["x"]],
            "sources": [source],
            "evidence": [told],
        }
        for n, (source, (asked, told)) in enumerate(zip(sources, ASKED.items(), strict=True))
    ]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(taught(list(company_questions(folder / "policies", folder / "questions.jsonl", index_of))))


def test_what_answers_is_right_and_what_stands_beside_it_is_near(book: list[Taught]) -> None:
    assert [shown(row.view, row.right[0], under_heading=False) for row in book] == list(ASKED.values())
    assert shown(book[0].view, book[0].right[0], under_heading=True).startswith("Rules - Parking: The gate")
    for row in book:
        assert row.near
        assert not set(row.near) & set(row.right)


def test_questions_come_closer_to_their_sentences_and_what_is_written_serves(
    book: list[Taught], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    network, texts, out = Upper(packaged_base(), rank=4), Texts(), tmp_path / "tuned.npz"
    texts.prepare([row.asked[0] for row in book])
    texts.prepare([shown(row.view, at, under_heading=False) for row in book for at in (*row.right, *row.near)])

    def margin() -> float:
        network.eval()
        with torch.no_grad():
            asked = texts.vectors(network, [row.asked[0] for row in book])
            right = texts.vectors(network, [shown(row.view, row.right[0], under_heading=False) for row in book])
            near = texts.vectors(network, [shown(row.view, row.near[0], under_heading=False) for row in book])
        return float((asked * (right - near)).sum(1).mean())

    before = margin()
    train([book], network, texts, out, lambda _: None, epochs=25)
    assert margin() > before + 0.05
    assert "pass 25" in capsys.readouterr().out
    assert judge(book, network, texts).startswith("@1 100.0%")

    sentences = [shown(row.view, row.right[0], under_heading=False) for row in book]
    served = PackagedEmbedder(out).embed(sentences)
    with torch.no_grad():
        trained = texts.vectors(network, sentences).numpy()
    # int8 and bfloat16 round
    assert (served * trained).sum(1).min() > 0.98
    assert not any(name.startswith(("0_", "1_", "2_")) for name in np.load(out))


def test_whole_files_are_kept_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval_fit, "READING", tmp_path)
    for part in range(3):
        row = {
            "instruction": f"who decides in town {part}",
            "input": f"Rules > Town\nThe office of town {part} decides. Ask early.",
            "evidence": [f"The office of town {part} decides."],
            "passage_id": f"{part}-1",
            "kind": "answerable",
        }
        (tmp_path / f"part{part}.json").write_text(json.dumps([row]))

    def asked(*, for_embedding: bool) -> set[str]:
        rows = reading_questions(index_of, load_embedder().embed, for_embedding=for_embedding)
        return {row.view.entries[row.section].section.id for row in rows}

    assert (asked(for_embedding=True), asked(for_embedding=False)) == ({"0-1", "2-1"}, {"1-1"})
    files = sorted(READING.glob("part*.json"))
    assert len([file for file in files if not used_for_embedding(file, files)]) >= len(files) // 3
