"""Many questions at once, for evaluation by others: the same path as the chat, without the queue.

The output is written in the order of the input, a line as soon as all before it are there, and a run that was cut off
goes on after the last whole line.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantahr.errors import QuantaHRError
from quantahr.messages import Final
from quantahr.settings import Settings
from worker.answering.pipeline import Answerer, Request
from worker.knowledge import Knowledge
from worker.serving import Serving
from worker.swap import open_active


@dataclass(frozen=True, slots=True)
class Asked:
    """One line of the input. `earlier` and `roles` are optional there."""

    id: str
    request: Request


def read_questions(file: Path) -> list[Asked]:
    """The questions in a JSONL file of {"id", "question"}. Raises QuantaHRError naming the line that is wrong."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise QuantaHRError(f"{file} cannot be read ({type(error).__name__}). Is it a UTF-8 text file?") from None
    asked = []
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            identifier, text = str(row["id"]), str(row["question"])
        except (ValueError, KeyError, TypeError):
            raise QuantaHRError(f'{file}, line {number}: expected {{"id": "…", "question": "…"}}.') from None
        if identifier in seen:
            raise QuantaHRError(f"{file}, line {number}: the id {identifier} occurs twice. Ids must be unique.")
        seen.add(identifier)
        earlier, roles = tuple(row.get("earlier", ())), tuple(row.get("roles", ("employee",)))
        asked.append(Asked(identifier, Request(text, earlier, roles)))
    return asked


def run_batch(settings: Settings, questions: Path, out: Path, progress: Callable[[int, int], None]) -> int:
    """Answer every question of `questions` into `out`. Returns how many were answered now.

    `progress` gets (lines written, lines in all). Raises QuantaHRError.
    """
    asked = read_questions(questions)
    done = _keep_whole_lines(out, [question.id for question in asked])
    progress(done, len(asked))
    if done == len(asked):
        return 0
    knowledge = Knowledge(settings)
    serving = Serving(lambda: open_active(settings))
    try:
        knowledge.start()
        answerer = Answerer(settings, knowledge.index, serving, knowledge.disclosure)
        with out.open("a", encoding="utf-8") as file:
            for written, row in enumerate(_answers(answerer, asked[done:], settings.model.slots), done + 1):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                file.flush()
                progress(written, len(asked))
    finally:
        knowledge.close()
        serving.close()
    return len(asked) - done


def _answers(answerer: Answerer, asked: Iterable[Asked], threads: int) -> Iterator[dict[str, Any]]:
    def one(question: Asked) -> dict[str, Any]:
        final = answerer.answer(question.request, lambda _: None, lambda: False)
        return _row(question.id, final)

    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(one, asked)


def _row(identifier: str, final: Final) -> dict[str, Any]:
    return {
        "id": identifier,
        "answer": final.text,
        "verdict": final.verdict,
        "sources": [source.heading for source in final.sources],
        "retrieved": [source.heading for source in final.closest],
        "ms_first_token": _rounded(final.ms_first_token),
        "ms_total": _rounded(final.ms_total),
    }


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 1)


def _keep_whole_lines(out: Path, ids: list[str]) -> int:
    """Cut `out` after its last whole line that belongs to this input. Returns how many lines stay."""
    if not out.exists():
        return 0
    kept = 0
    size = 0
    with out.open("rb") as file:
        for line, expected in zip(file, ids, strict=False):
            try:
                row = json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n") or not isinstance(row, dict):
                break
            if row.get("id") != expected:
                raise QuantaHRError(
                    f"{out} holds answers to other questions (id {row.get('id')} where {expected} was expected). "
                    "Name another --out, or delete it."
                )
            kept += 1
            size += len(line)
    with out.open("rb+") as file:
        file.truncate(size)
    return kept
