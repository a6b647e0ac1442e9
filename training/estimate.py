"""What a run will need, before it is started: memory, time and money, each with what the figure rests on.

Memory is counted from the model's shape. Time is measured: two steps of the run on this machine, or for a rented
machine the speed that was recorded for it in config/instances.json. None of it is a promise.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training.config import QloraConfig, TrainingConfigError
from training.shape import Shape, read_shape

if TYPE_CHECKING:
    from training.run import Plan

INSTANCES = Path("config/instances.json")
START_MINUTES = 8.0
"""A rented machine boots, installs the packages and fetches the base before the first step."""
A10G_FLOPS = 25e12
"""What an A10G sustains in LoRA training, about a fifth of its 16-bit peak of 125 TFLOP/s: an assumption."""


class Instance(BaseModel):
    """A rentable machine. `relative_speed` is its 16-bit training throughput in units of an A10G's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gpu: str
    gpu_memory_gib: float = Field(gt=0)
    usd_per_hour: float = Field(gt=0)
    relative_speed: float = Field(gt=0)


@dataclass(frozen=True, slots=True)
class Estimate:
    """`memory_gib` at the largest micro-batch; `hours` without the start; `usd` None where nothing is rented."""

    parameters: int
    memory_gib: float
    available_gib: float | None
    hours: float
    usd: float | None
    basis: str

    def rows(self) -> list[tuple[str, str]]:
        """The estimate as (name, text) for people."""
        fits = ""
        if self.available_gib is not None:
            fits = f" of {self.available_gib:.0f} GiB" + (
                "" if self.memory_gib < self.available_gib else ": too little"
            )
        found = [
            ("parameters", f"{self.parameters / 1e6:,.0f} million"),
            ("memory", f"{self.memory_gib:.1f} GiB{fits}"),
            ("training time", f"{self.hours * 60:.0f} minutes" if self.hours < 2 else f"{self.hours:.1f} hours"),
        ]
        if self.usd is not None:
            found.append(("price", f"USD {self.usd:.2f}, start included"))
        return [*found, ("how this was estimated", self.basis)]


def read_instances(path: Path = INSTANCES) -> dict[str, Instance]:
    """The price table. Raises TrainingConfigError when it cannot be read."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return {name: Instance.model_validate(entry) for name, entry in values.items() if not name.startswith("$")}
    except (OSError, ValueError, ValidationError, AttributeError) as error:
        raise TrainingConfigError(
            f"{path} cannot be read ({type(error).__name__}). Restore it from the project."
        ) from None


def work(parameters: int, tokens: int) -> float:
    """Floating-point operations of a LoRA training: forward, and backward through the frozen base."""
    return 4.0 * parameters * tokens


def estimate(plan: "Plan", *, state_dir: Path, instances: Path = INSTANCES) -> Estimate:
    """Memory, time and price of the plan on its platform. Raises TrainingConfigError for an unknown instance type."""
    config = plan.config
    shape = read_shape(config.model.base_llm_model)
    parameters = count_parameters(shape)
    batches = [batch for step in plan.schedule.steps for batch in step]
    widest = max(sum(len(example) for example in batch) for batch in batches)
    cloud = config.compute.platform == "aws"
    memory = memory_gib(config, shape, parameters, tokens=widest, gpu=cloud or _has_gpu())
    flops = work(parameters, plan.schedule.tokens)
    if cloud:
        table = read_instances(instances)
        name = config.compute.instance_type or ""
        if name not in table:
            raise TrainingConfigError(
                f"compute.instance_type: {name} is not in {instances}. Known: {', '.join(table)}. "
                "Add it there with its price to have an estimate."
            )
        instance = table[name]
        hours = flops / (A10G_FLOPS * instance.relative_speed) / 3600
        usd = (hours + START_MINUTES / 60) * instance.usd_per_hour
        basis = f"{instance.gpu} at {A10G_FLOPS * instance.relative_speed / 1e12:.0f} TFLOP/s sustained; {instances}"
        return Estimate(parameters, memory, instance.gpu_memory_gib, hours, usd, basis)
    seconds, steps = _measure(plan, state_dir)
    hours = seconds * len(plan.schedule.steps) / 3600
    return Estimate(parameters, memory, _memory_here(), hours, None, f"{steps} steps measured on this machine")


def count_parameters(shape: Shape) -> int:
    """The parameters of a llama-shaped model, from its configuration."""
    hidden, layers = shape.hidden_size, shape.num_hidden_layers
    heads, pairs = shape.num_attention_heads, shape.num_key_value_heads
    layer = 2 * hidden * shape.head_dim * (heads + pairs) + 3 * hidden * shape.intermediate_size + 2 * hidden
    embeddings = shape.vocab_size * hidden * (1 if shape.tie_word_embeddings else 2)
    return int(layers * layer + embeddings + hidden)


def memory_gib(config: QloraConfig, shape: Shape, parameters: int, *, tokens: int, gpu: bool) -> float:
    """Weights, LoRA with optimizer, and the activations of one micro-batch of `tokens` tokens."""
    sixteen = config.training.fp16 or config.training.bf16
    width = 2 if sixteen and gpu else 4
    per_weight = (0.52 if config.model.quantization.load_in_4bit else 1.0) * (
        1 if config.model.quantization.load_in_4bit else width
    )
    lora = lora_parameters(config, shape) * 16
    per_token = shape.hidden_size * 14 + shape.intermediate_size * 4
    layers = 2 if config.training.gradient_checkpointing else shape.num_hidden_layers
    activations = tokens * per_token * layers * width
    logits = tokens // 4 * shape.vocab_size * 8
    return float(parameters * per_weight + lora + activations + logits) / 2**30 + (0.8 if gpu else 0.6)


def lora_parameters(config: QloraConfig, shape: Shape) -> int:
    """The number of trained parameters."""
    hidden, inner = shape.hidden_size, shape.intermediate_size
    wide, narrow = shape.head_dim * shape.num_attention_heads, shape.head_dim * shape.num_key_value_heads
    sizes = {
        "q_proj": hidden + wide,
        "k_proj": hidden + narrow,
        "v_proj": hidden + narrow,
        "o_proj": wide + hidden,
        "gate_proj": hidden + inner,
        "up_proj": hidden + inner,
        "down_proj": inner + hidden,
    }
    return int(
        shape.num_hidden_layers * config.model.lora.r * sum(sizes[name] for name in config.model.lora.target_modules)
    )


def _measure(plan: "Plan", state_dir: Path) -> tuple[float, int]:
    """Seconds of a step: the second of two, since the first also warms up. The weights are thrown away."""
    from training.base import load_base
    from training.trainer import Point, train

    seen: list[Point] = []
    trial = plan.config.training.model_copy(update={"save_strategy": "no"})
    train(load_base(plan.config, state_dir), plan.schedule.steps[:2], trial, on_step=seen.append)
    return seen[-1].seconds, len(seen)


def _has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _memory_here() -> float | None:
    import torch

    if torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(0).total_memory) / 2**30
    try:
        import os

        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (ValueError, OSError):
        return None
