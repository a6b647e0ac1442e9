"""A pack gives every example the loss and the gradients that it would have alone, for less work."""

from pathlib import Path

import numpy as np
import torch

from quantahr.prompt import NO_ANSWER, Excerpt, build_messages
from tests.training.conftest import settings_for
from training.base import Base, load_base
from training.config import parse_config
from training.dataset.example import Encoded, Encoder, Example
from training.packing import pack
from training.trainer import summed_loss


def make_base(tiny_base: Path, workplace: Path) -> Base:
    values = settings_for(tiny_base)
    values["model"]["lora"]["lora_dropout"] = 0.0
    base = load_base(parse_config(values, root=workplace), workplace)
    with torch.no_grad():
        # A fresh LoRA's B is zero: give it a direction, so that every gradient flows.
        for name, weight in base.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    return base


def examples_of(base: Base) -> list[Encoded]:
    excerpts = [Excerpt(1, "Leave", "You get 25 days."), Excerpt(2, "Leave", "You may carry over five.")]
    asked = [("how many days", "25 days. [1]"), ("how many carry over", "Five. [2]"), ("is there a gym", NO_ANSWER)]
    encoder = Encoder(base.tokenizer)
    return [
        encoder.encode(Example("s", "answer", tuple(build_messages(question, excerpts)), answer))
        for question, answer in asked
    ]


def test_a_pack_has_the_loss_and_the_gradients_of_its_examples_one_by_one(tiny_base: Path, workplace: Path) -> None:
    base = make_base(tiny_base, workplace)
    examples = examples_of(base)
    trained = [weight for weight in base.model.parameters() if weight.requires_grad]

    together = summed_loss(base, pack(examples))
    together_gradients = torch.autograd.grad(together, trained)
    alone = [summed_loss(base, pack([example])) for example in examples]
    alone_gradients = torch.autograd.grad(sum(alone), trained)

    torch.testing.assert_close(together, sum(alone), rtol=1e-4, atol=1e-3)
    for one, other in zip(together_gradients, alone_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_a_single_example_has_the_loss_that_transformers_gives_with_masked_labels(
    tiny_base: Path, workplace: Path
) -> None:
    base = make_base(tiny_base, workplace)
    example = examples_of(base)[0]
    ids = torch.tensor([[*example.prompt, *example.answer]])
    labels = ids.clone()
    labels[0, : len(example.prompt)] = -100
    reference = base.model(input_ids=ids, labels=labels).loss * len(example.answer)
    torch.testing.assert_close(summed_loss(base, pack([example])), reference, rtol=1e-4, atol=1e-3)


def test_what_prompts_share_is_laid_out_once() -> None:
    first = Encoded(prompt=(1, 2, 3, 4), answer=(7, 9))
    second = Encoded(prompt=(1, 2, 3, 5, 6), answer=(7, 8, 9))
    packed = pack([first, second])
    assert packed.ids.tolist() == [1, 2, 3, 4, 7, 5, 6, 7, 8]
    assert packed.positions.tolist() == [0, 1, 2, 3, 4, 3, 4, 5, 6]
    assert packed.targets.tolist() == [7, 9, 7, 8, 9]
    assert packed.predictors.tolist() == [3, 4, 6, 7, 8]
    assert packed.visible[5].tolist() == [True, True, True, False, False, True, False, False, False]
    assert (packed.examples, packed.whole) == (2, 14)


def test_equal_answers_of_equal_prompts_are_not_shared() -> None:
    one = Encoded(prompt=(1, 2), answer=(3, 9))
    packed = pack([one, one])
    assert packed.ids.tolist() == [1, 2, 3, 3]
    assert not packed.visible[3, 2]
    assert np.array_equal(packed.predictors, [1, 2, 1, 3])


def test_the_last_learned_token_ends_the_turn(tiny_base: Path, workplace: Path) -> None:
    base = make_base(tiny_base, workplace)
    for example in examples_of(base):
        assert example.answer[-1] == base.tokenizer.convert_tokens_to_ids("<|im_end|>")
