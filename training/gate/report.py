"""The evaluation on paper: JSON for programs, one self-contained HTML page for people.

The page loads nothing from anywhere, reads well on a phone and in the dark, and shows old and new side by side,
question by question. A sealed evaluation holds no question and no answer, only the totals.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from training.checkpoints import MANIFEST, extend_manifest
from training.gate.judge import Evaluation
from training.gate.measure import MEASURES, Difference, Graded, Line, Measure

_CSS = Path(__file__).with_name("report.css")
_KINDS = {
    "answerable": "Answerable",
    "unanswerable": "Not in the documents",
    "sensitive": "Sensitive",
    "injection": "Injected instruction",
}


def write_report(evaluation: Evaluation, folder: Path, *, sealed: bool = False) -> Path:
    """Write report.json and report.html into `folder`. Returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = json.dumps(as_json(evaluation, sealed=sealed), indent=1, ensure_ascii=False)
    (folder / "report.json").write_text(facts + "\n", encoding="utf-8")
    page = folder / "report.html"
    page.write_text(as_html(evaluation, sealed=sealed), encoding="utf-8")
    return page


def keep_with_run(page: Path, run: Path) -> Path | None:
    """Put the report beside `page` into `run`/evaluation too, and into the run's manifest. Returns that page.

    None if `run` is not the folder of a finished run; the shipped adapter is none.
    """
    if not ((run / MANIFEST).is_file() and (run / "curve.json").is_file()):
        return None
    folder = run / "evaluation"
    folder.mkdir(exist_ok=True)
    for name in ("report.json", "report.html"):
        shutil.copyfile(page.with_name(name), folder / name)
    extend_manifest(run, "evaluation")
    return folder / page.name


def as_json(evaluation: Evaluation, *, sealed: bool = False) -> dict[str, Any]:
    """Everything that was measured; without questions and answers if `sealed`."""
    facts: dict[str, Any] = {
        "new": evaluation.name,
        "old": evaluation.against,
        "questions": len(evaluation.new),
        "measures": {name: asdict(line) for name, line in evaluation.lines.items()},
    }
    if evaluation.old is not None:
        facts["measures_old"] = {name: asdict(line) for name, line in evaluation.old_lines.items()}
        facts["differences"] = {name: asdict(found) for name, found in evaluation.differences.items()}
    if evaluation.decision:
        facts["decision"] = asdict(evaluation.decision)
    if not sealed:
        facts["answers"] = [_row_json(new, old) for new, old in evaluation.pairs()]
    return facts


def table_rows(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """The totals: label, new, old and difference as text, for a table. Old and difference only if there is an old."""
    rows = []
    for measure in MEASURES:
        if measure.name not in evaluation.lines:
            continue
        row = [measure.label, shown(measure, evaluation.lines[measure.name])]
        if evaluation.old is not None:
            row += [
                shown(measure, evaluation.old_lines[measure.name]),
                difference(measure, evaluation.differences[measure.name]),
            ]
        rows.append(tuple(row))
    return rows


def chat_rows(evaluation: Evaluation) -> tuple[tuple[str, str, str], ...]:
    """(measure, old, new) in few characters, for a table that is read on a phone. Empty without an old version."""

    def short(measure: Measure, line: Line) -> str:
        return f"{line.value:.0%}" if measure.shape == "share" else f"{line.value:,.0f}"

    found = []
    for measure in MEASURES:
        new, old = evaluation.lines.get(measure.name), evaluation.old_lines.get(measure.name)
        if new is not None and old is not None:
            label = f"{measure.label} (of {new.count})" if measure.shape == "share" else measure.label
            found.append((label, short(measure, old), short(measure, new)))
    return tuple(found)


def shown(measure: Measure, line: Line) -> str:
    """ "81.0% (72.4 to 87.3, of 105)", or "34 (31 to 38)"."""
    if measure.shape == "share":
        return f"{line.value:.1%} ({100 * line.low:.1f} to {100 * line.high:.1f}, of {line.count})"
    return f"{line.value:,.0f} ({line.low:,.0f} to {line.high:,.0f})"


def difference(measure: Measure, found: Difference) -> str:
    """ "+3.8 points (2 lost, 6 won)", or "+120 (90 to 151)"."""
    if measure.shape == "share":
        return f"{100 * found.change:+.1f} points ({found.lost} lost, {found.won} won)"
    return f"{found.change:+,.0f} ({found.low:+,.0f} to {found.high:+,.0f})"


def as_html(evaluation: Evaluation, *, sealed: bool = False) -> str:
    """The page."""
    heads = ["Measure", evaluation.name] + ([evaluation.against or "", "Difference"] if evaluation.old else [])
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Evaluation of {escape(evaluation.name)}</title>",
        f"<style>{_CSS.read_text(encoding='utf-8')}</style>",
        f"<main><h1>Evaluation of {escape(evaluation.name)}</h1>",
        _verdict(evaluation),
        f"<p>{len(evaluation.new)} questions, answered by the path, engine and quantization that serve. "
        "In brackets: the 95% interval.</p>",
        '<div class="wide"><table class="totals"><thead><tr>',
        *(f"<th scope=col>{escape(head)}</th>" for head in heads),
        "</tr></thead><tbody>",
        *(
            f"<tr><th scope=row>{escape(label)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
            for label, *cells in table_rows(evaluation)
        ),
        "</tbody></table></div>",
    ]
    if not sealed:
        parts.append(_questions(evaluation))
    return "".join([*parts, "</main></html>\n"])


def _verdict(evaluation: Evaluation) -> str:
    decision = evaluation.decision
    if decision is None:
        return ""
    word, kind = ("May be activated", "good") if decision.passed else ("Must not be activated", "bad")
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in decision.reasons)
    return f'<section class="verdict {kind}"><h2>{word}</h2><ul>{reasons}</ul></section>'


def _questions(evaluation: Evaluation) -> str:
    """One table per kind; what changed comes first, then what is wrong, then the rest."""
    parts = ["<h2>Question by question</h2>"]
    if evaluation.old is not None:
        parts.append("<p>Where the two differ comes first.</p>")
    for kind, title in _KINDS.items():
        pairs = [pair for pair in evaluation.pairs() if pair[0].golden.kind == kind]
        if not pairs:
            continue
        pairs.sort(key=lambda pair: (_same(*pair), pair[0].grade.right))
        right = sum(new.grade.right for new, _ in pairs)
        # A phone shows the columns under each other, each named by its version.
        columns = [evaluation.name] + ([evaluation.against or ""] if evaluation.old is not None else [])
        heads = "".join(f"<th scope=col>{escape(name)}</th>" for name in ("Question", *columns))
        rows = "".join(_row(new, old, columns) for new, old in pairs)
        parts.append(
            f"<details open><summary>{title}: {right} of {len(pairs)} right</summary>"
            f'<table class="questions"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></details>'
        )
    return "".join(parts)


def _row(new: Graded, old: Graded | None, columns: Sequence[str]) -> str:
    golden = new.golden
    expected = "; ".join(" or ".join(group) for group in golden.expect)
    wanted = f"<p class=note>Expected: {escape(expected)}</p>" if expected else ""
    where = f"<p class=note>In: {escape(' or '.join(golden.sources))}</p>" if golden.sources else ""
    cells = [_cell(new, columns[0])] + ([_cell(old, columns[1])] if old else [])
    return (
        f"<tr><th scope=row><span class=id>{escape(golden.id)}</span> {escape(golden.question)}{wanted}{where}</th>"
        f"{''.join(cells)}</tr>"
    )


def _cell(one: Graded, column: str) -> str:
    mark, kind = ("✓ right", "good") if one.grade.right else (f"✗ {_why(one)}", "bad")
    sources = f"<p class=note>{escape('; '.join(dict.fromkeys(one.sources)))}</p>" if one.sources else ""
    text = escape(one.answer).replace("\n", "<br>")
    head = f"<span class='mark {kind}'>{mark}</span> <span class=note>{escape(one.verdict)}</span>"
    return f'<td data-version="{escape(column, quote=True)}">{head}<div>{text}</div>{sources}</td>'


def _why(one: Graded) -> str:
    if one.golden.kind != "answerable":
        return "not as it should"
    if one.verdict not in {"answered", "quoted"}:
        return "not answered"
    if not one.grade.correct:
        return "wrong or incomplete"
    return "right, but another section cited"


def _same(new: Graded, old: Graded | None) -> bool:
    return old is None or new.grade == old.grade


def _row_json(new: Graded, old: Graded | None) -> dict[str, Any]:
    golden = new.golden
    row: dict[str, Any] = {
        "id": golden.id,
        "kind": golden.kind,
        "question": golden.question,
        "expect": golden.expect,
        "expected_sources": golden.sources,
        "new": _answer_json(new),
    }
    return row | ({"old": _answer_json(old)} if old else {})


def _answer_json(one: Graded) -> dict[str, Any]:
    grades = {name: value for name, value in asdict(one.grade).items() if value is not None}
    return {"right": one.grade.right, "verdict": one.verdict, "answer": one.answer, "sources": one.sources} | grades
