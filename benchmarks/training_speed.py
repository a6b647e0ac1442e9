"""How many answer-bearing examples a second the trainer learns from, against loops that do not save work.

All variants train the same LoRA on the same micro-batches on this machine, taking turns, so that noise hits all alike:
- padded: every example padded to max_sequence_length, logits everywhere (the common loop);
- longest: padded to the longest of the micro-batch, logits everywhere;
- answers: padded to the longest, logits only where an answer is learned;
- shared: what `training.trainer` does: no padding, shared prefixes once, logits only where an answer is learned.

    python benchmarks/training_speed.py --rounds 3
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from training.base import Base, load_base
from training.config import load_config
from training.dataset.example import Encoded
from training.packing import pack
from training.run import make_plan


def padded_loss(base: Base, batch: Sequence[Encoded], width: int, *, everywhere: bool) -> Any:
    """The summed answer loss of a right-padded micro-batch."""
    import torch
    from torch.nn import functional

    ids = torch.full((len(batch), width), 2)
    mask = torch.zeros((len(batch), width), dtype=torch.long)
    labels = torch.full((len(batch), width), -100)
    for row, example in enumerate(batch):
        whole = torch.tensor([*example.prompt, *example.answer])
        ids[row, : len(whole)] = whole
        mask[row, : len(whole)] = 1
        labels[row, len(example.prompt) : len(whole)] = whole[len(example.prompt) :]
    ids, mask, labels = ids.to(base.device), mask.to(base.device), labels.to(base.device)
    if everywhere:
        logits = base.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
        return functional.cross_entropy(
            logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="sum"
        )
    hidden = base.model.get_base_model().model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    wanted = labels[:, 1:] != -100
    logits = base.model.get_base_model().lm_head(hidden[:, :-1][wanted]).float()
    return functional.cross_entropy(logits, labels[:, 1:][wanted], reduction="sum")


def main() -> None:
    from training.trainer import summed_loss

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("config/demo_qlora_config.json"))
    parser.add_argument("--state", type=Path, default=Path(".quantahr"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=3, help="micro-batches a round and variant")
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    plan = make_plan(config, state_dir=arguments.state, max_steps=max(2, arguments.rounds * arguments.batches))
    batches = [batch for step in plan.schedule.steps for batch in step]
    base = load_base(config, arguments.state)
    limit = config.model.max_sequence_length
    variants: dict[str, Callable[[Sequence[Encoded]], Any]] = {
        "padded": lambda batch: padded_loss(base, batch, limit, everywhere=True),
        "longest": lambda batch: padded_loss(base, batch, max(map(len, batch)), everywhere=True),
        "answers": lambda batch: padded_loss(base, batch, max(map(len, batch)), everywhere=False),
        "shared": lambda batch: summed_loss(base, pack(batch)),
    }
    variants["shared"](batches[0]).backward()
    speeds: dict[str, list[float]] = {name: [] for name in variants}
    losses: dict[str, float] = dict.fromkeys(variants, 0.0)
    for number in range(arguments.rounds):
        chosen = batches[number * arguments.batches : (number + 1) * arguments.batches]
        for name, loss_of in variants.items():
            started = time.monotonic()
            for batch in chosen:
                loss = loss_of(batch)
                loss.backward()
                losses[name] += loss.item()
            speeds[name].append(sum(len(batch) for batch in chosen) / (time.monotonic() - started))
    ratios = [shared / padded for shared, padded in zip(speeds["shared"], speeds["padded"], strict=True)]
    report = {
        "device": base.device,
        "dtype": base.dtype,
        "examples_per_second": {name: round(statistics.median(values), 2) for name, values in speeds.items()},
        "summed_loss": {name: round(value, 1) for name, value in losses.items()},
        "shared_over_padded": round(statistics.median(ratios), 2),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
