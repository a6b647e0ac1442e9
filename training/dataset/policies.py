"""The company's own documents as training material: every section, asked in many ways.

Questions come from the rules, from the heading and, if configured, from a stronger model. Some of a section's questions
are held out for evaluation; never a whole section, because what is not trained on is not learned. The distractors come
from `training.dataset.neighbours`.
"""

import hashlib
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from quantahr.policies import Section, load_document
from quantahr.retrieval.units import split_units
from training.config import DocxDataset, dataset_files
from training.dataset.material import Ask, Material, Passage
from training.dataset.neighbours import Search
from training.dataset.questions import heading_questions, questions_for

ASKS_PER_SECTION = 8
_FAMILY = "policies"

Writer = Callable[[Section], Sequence[tuple[str, str, tuple[int, ...]]]]
"""Further questions about a section: question, answer, indices of the units that answer it."""


def read_policies(
    dataset: DocxDataset, *, search: Search, root: Path = Path(), writer: Writer | None = None
) -> Material:
    """All sections of the dataset's documents with their questions, and the neighbours that `search` finds them.

    Raises PolicyError for an unreadable file.
    """
    sections = [section for path in dataset_files(dataset, root) for section in load_document(path).sections]
    material = Material("docx", dataset.weight)
    for section in sections:
        units = tuple(unit.quoted for unit in split_units(section.text))
        if not units:
            material.dropped["section without sentences"] += 1
            continue
        material.passages[section.id] = Passage(section.id, " > ".join(section.heading_path), units, _FAMILY)
        train, held_out = section_asks(section, units, writer)
        material.asks += train
        material.held_out += held_out
    material.neighbours = search(sections, material)
    return material


def section_asks(section: Section, units: Sequence[str], writer: Writer | None = None) -> tuple[list[Ask], list[Ask]]:
    """(questions to train on, questions held out for evaluation) of one section. Deterministic."""
    rng = random.Random(section.id)  # noqa: S311 (a reproducible choice)
    topic = section.heading_path[-1]
    by_rule = [(asked, index) for index, unit in enumerate(units) for asked in questions_for(unit)]
    rng.shuffle(by_rule)
    held_out: list[Ask] = []
    kept: list[Ask] = []
    for asked, index in by_rule:
        ask = Ask(section.id, "answer", asked.question, asked.answer, (index,))
        # One in eight, and only while enough remain to learn the section from.
        lot = int(hashlib.sha256(f"{section.id}:{ask.question}".encode()).hexdigest(), 16)
        held = len(by_rule) >= 4 and lot % 8 == 0
        (held_out if held else kept).append(ask)
    asks = kept[:ASKS_PER_SECTION]
    opening = _first(units, words=40)
    if opening:
        answer = " ".join(units[index] for index in opening)
        asks.append(Ask(section.id, "answer", rng.choice(heading_questions(topic)), answer, opening))
    if len(units) >= 3 and (telling := _telling(units)):
        said = " ".join(units[index] for index in telling)
        kind, question, answer = rng.choice(
            (
                ("summary", f"Summarise {topic} for me.", said),
                ("summary", f"{topic}: the short version please", said),
                ("onboarding", f"Write a short note for a new joiner about {topic}.", f"Welcome! {said}"),
            )
        )
        asks.append(Ask(section.id, kind, question, answer, telling))
    for question, answer, evidence in writer(section) if writer else ():
        asks.append(Ask(section.id, "answer", question, answer, evidence))
    return asks, held_out


def _first(units: Sequence[str], *, words: int) -> tuple[int, ...]:
    found: list[int] = []
    for index in range(min(3, len(units))):
        words -= len(units[index].split())
        if words < 0 or not _whole(units[index]):
            break
        found.append(index)
    return tuple(found)


def _telling(units: Sequence[str]) -> tuple[int, ...]:
    """Two or three short units that say the most: the first, then those with numbers or duties."""
    short = [index for index, unit in enumerate(units) if len(unit.split()) <= 28 and _whole(unit)]
    rules = [index for index in short if questions_for(units[index])]
    chosen = sorted({*short[:1], *rules[:2]})
    return tuple(chosen) if len(chosen) >= 2 else ()


def _whole(unit: str) -> bool:
    """Whether a unit is a sentence, not a piece of a list."""
    return unit[:1].isupper() and unit.rstrip().endswith((".", "!", ")", "]"))
