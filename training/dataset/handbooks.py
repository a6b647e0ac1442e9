"""Whole handbooks with questions: what retrieval really finds for each, whether or not it answers.

Three ideas. The evidence is quoted exactly as the worker quotes it, so that training sees what serving sends. A
question whose evidence is taken away is a near miss that nobody had to write. And evidence is worth a second question:
one that other sentences of the same section answer, or that the handbook does not answer though it comes close.
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quantahr.grading import Golden, read_golden
from quantahr.policies import Section, load_document
from quantahr.prompt import NO_ANSWER, Excerpt, build_messages
from quantahr.retrieval import EmbeddingCache, Index, SectionLike, load_embedder
from quantahr.retrieval.embedder import Embedder
from quantahr.retrieval.evidence import joined, pick, weighed
from quantahr.retrieval.query import understand
from quantahr.retrieval.quotation import gather
from quantahr.retrieval.reader import default_reader
from quantahr.retrieval.scoring import View, default_scorer
from quantahr.retrieval.sections import EVERYONE
from training.config import HandbookDataset, dataset_files
from training.dataset.alpaca import DatasetError
from training.dataset.example import Example
from training.dataset.material import Material
from training.dataset.phrasing import typed

POLICIES = "policies"
"""The folder with a company's documents, beside its questions."""
_ANSWER_UNITS = 3
"""Sentences in an answer, at most."""
_TYPED = 0.2
"""The share of questions that are written as on a phone."""


@dataclass(frozen=True, slots=True)
class _Listed:
    """Some evidence: `excerpts` as the model reads them, the `units` they are made of, and who asked for it."""

    asked: Golden
    excerpts: tuple[Excerpt, ...]
    units: frozenset[int]


@dataclass(frozen=True, slots=True)
class _Company:
    """One handbook, searched. `right` are the units that answer each question, by its id."""

    name: str
    view: View
    questions: tuple[Golden, ...]
    right: Mapping[str, frozenset[int]]
    listed: tuple[_Listed, ...]


def read_handbooks(dataset: HandbookDataset, *, cache: Path, root: Path = Path()) -> Material:
    """Every handbook of the dataset with its questions. `cache` is the file that keeps embeddings.

    Raises GoldenError for questions that cannot be read, DatasetError for a company without documents, PolicyError for
    an unreadable one.
    """
    material = Material("handbook", dataset.weight)
    kept = EmbeddingCache(cache)
    try:
        embedder = load_embedder()
        for name, sections, questions in companies(dataset, root):
            material.ready += _examples(_searched(name, sections, questions, embedder, kept, material))
    finally:
        kept.close()
    return material


def sketch_handbooks(dataset: HandbookDataset, *, root: Path = Path()) -> Material:
    """About the same number of examples of about the same length, without searching."""
    material = Material("handbook", dataset.weight)
    for name, sections, questions in companies(dataset, root):
        for question in questions:
            section = next((s for s in sections for source in question.sources if matches_source(s, source)), None)
            text = " ".join((section or sections[0]).text.split()[:90])
            excerpts = [Excerpt(1, " > ".join((section or sections[0]).heading_path), text)]
            answer = f"{' '.join(question.evidence)} [1]" if question.evidence else NO_ANSWER
            messages = tuple(build_messages(question.question, excerpts))
            # Asked with its evidence and, if there is an answer, without; and a second question on each.
            for number in range(4 if question.evidence else 2):
                material.ready.append(Example(f"{name}:{question.id}:{number}", question.kind, messages, answer))
    return material


def companies(dataset: HandbookDataset, root: Path) -> Iterator[tuple[str, list[Section], list[Golden]]]:
    """(name, sections that everyone may read, questions) of each; a company is the folder of its questions."""
    files = dataset_files(dataset, root)
    for file in files:
        if file.suffix.lower() != ".jsonl":
            continue
        folder = file.parent / POLICIES
        documents = [path for path in files if path.parent == folder]
        sections = [section for path in documents for section in load_document(path).sections]
        sections = [section for section in sections if EVERYONE in section.audience]
        if not sections:
            raise DatasetError(f"{file}: no document for it. Add {folder}/* to the dataset's input_files.")
        questions = [row for row in read_golden(file) if row.kind in ("answerable", "unanswerable")]
        yield file.parent.name, sections, questions


def _searched(
    name: str,
    sections: Sequence[Section],
    questions: Sequence[Golden],
    embedder: Embedder,
    cache: EmbeddingCache,
    material: Material,
) -> _Company:
    view = Index.build(sections, embedder, cache).view((EVERYONE,))
    queries = [understand(question.question, view.speller) for question in questions]
    vectors = cache.embed(embedder, [text for query in queries for text in (query.text, query.expanded)])
    right: dict[str, frozenset[int]] = {}
    listed: list[_Listed] = []
    for number, (question, query) in enumerate(zip(questions, queries, strict=True)):
        units = right_units(view, question)
        if question.kind == "answerable" and not units:
            material.dropped["question whose evidence is not in its handbook"] += 1
            continue
        right[question.id] = frozenset(units)
        ranking = default_scorer().rank(view, query, vectors[2 * number : 2 * number + 2])
        scores, _ = weighed(view, query.text, ranking, default_reader())
        found = pick(view, scores)
        choices = [found]
        if units:
            hidden = np.where(np.isin(np.arange(len(scores)), list(units)), -np.inf, scores).astype(np.float32)
            choices.append(pick(view, hidden))
            if not found.keys() & units:
                shown = np.where(np.isin(np.arange(len(scores)), list(units)), scores + scores.max(), scores)
                choices.append(pick(view, shown.astype(np.float32)))
        listed += [_listed(view, question, chosen) for chosen in choices if chosen]
    known = tuple(question for question in questions if question.id in right)
    return _Company(name, view, known, right, tuple(listed))


def _listed(view: View, question: Golden, chosen: Mapping[int, float]) -> _Listed:
    quoted = gather(joined(view, chosen), question.question)
    excerpts = tuple(
        Excerpt(number, " > ".join(piece.section.heading_path), piece.text) for number, piece in enumerate(quoted, 1)
    )
    texts = {excerpt.label: plain(excerpt.text) for excerpt in excerpts}
    shown = {
        at
        for at, unit in enumerate(view.units)
        if plain(unit.text) in texts.get(" > ".join(view.entries[int(view.owner[at])].section.heading_path), "")
    }
    return _Listed(question, excerpts, frozenset(shown))


def _examples(company: _Company) -> Iterator[Example]:
    rng = random.Random(company.name)  # noqa: S311 (a reproducible choice)
    owner = company.view.owner
    about = {
        question.id: {int(owner[unit]) for unit in company.right[question.id]}
        or {int(owner[unit]) for listed in company.listed if listed.asked is question for unit in listed.units}
        for question in company.questions
    }
    for number, listed in enumerate(company.listed):
        source = f"{company.name}:{number}"
        sections = {int(owner[unit]) for unit in listed.units}
        near = [q for q in company.questions if q is not listed.asked and about[q.id] & sections]
        second = rng.sample(near, min(1, len(near)))
        for question in (listed.asked, *second):
            yield _example(company, source, listed, question, rng)


def _example(company: _Company, source: str, listed: _Listed, question: Golden, rng: random.Random) -> Example:
    right = company.right[question.id] & listed.units
    asked = typed(question.question, rng) if rng.random() < _TYPED else question.question
    messages = tuple(build_messages(asked, listed.excerpts))
    if not right:
        return Example(source, "abstain", messages, NO_ANSWER)
    units = [company.view.units[at] for at in sorted(right)[:_ANSWER_UNITS]]
    cited = [
        excerpt.number for excerpt in listed.excerpts if any(plain(unit.text) in plain(excerpt.text) for unit in units)
    ]
    marks = "".join(f"[{number}]" for number in cited)
    return Example(source, "answer", messages, f"{' '.join(unit.quoted for unit in units)} {marks}".strip())


def right_units(view: View, question: Golden) -> set[int]:
    """The units of a handbook that answer a question, all of them in the sections that it names."""
    evidence, expected = proofs(question)
    if question.kind != "answerable":
        return set()
    places = {
        at
        for at, entry in enumerate(view.entries)
        for source in question.sources
        if matches_source(entry.section, source)
    }
    return {
        at
        for at, unit in enumerate(view.units)
        if int(view.owner[at]) in places and holds(plain(unit.quoted), plain(unit.text), evidence, expected)
    }


def proofs(question: Golden) -> tuple[list[str], list[str]]:
    """What `holds` looks for: the sentences that answer or, where a question names none, the words it expects."""
    evidence = [plain(text) for text in question.evidence]
    return evidence, [] if evidence else [plain(text) for group in question.expect for text in group]


def holds(quoted: str, text: str, evidence: Sequence[str], expected: Sequence[str]) -> bool:
    """Whether a unit, with and without the words it cannot stand without, states the evidence or an expected word."""
    if any(text in held or held in quoted for held in evidence):
        return True
    return any(f" {word} " in f" {quoted} " for word in expected)


def matches_source(section: SectionLike, source: str) -> bool:
    """Whether a section is the one that a source names, with or without the document's title."""
    path = " > ".join(plain(part) for part in section.heading_path)
    wanted = " > ".join(plain(part) for part in source.split(">"))
    titled = f"{plain(section.title)} > {path}"
    return wanted in (path, titled) or titled.endswith(f" > {wanted}") or wanted.endswith(f" > {path}")


def plain(text: str) -> str:
    """Words only, for comparing evidence with units."""
    return re.sub(r"\W+", " ", text.lower()).strip()
