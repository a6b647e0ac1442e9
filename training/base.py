"""The frozen base model with its LoRA, loaded for this machine: what precision, which device, and why, said aloud.

The base is NF4 (bitsandbytes) when the configuration says so, and computes in the configured dtype where the machine
has it: a CPU without bfloat16 instructions only emulates 16 bits, many times slower, and computes in float32 instead.
The LoRA itself is always float32.
"""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quantahr.gguf import model_source
from training.config import QloraConfig
from training.identity import base_identity
from training.shape import base_unavailable


@dataclass(slots=True)
class Base:
    """A model ready to train. `dtype` names what it computes in; `notes` are the decisions taken, as sentences."""

    model: Any
    tokenizer: Any
    device: str
    dtype: str
    identity: str
    notes: list[str] = field(default_factory=list)


def load_tokenizer(config: QloraConfig, state_dir: Path) -> Any:
    """The base's tokenizer. Raises ModelError when it cannot be had."""
    from transformers import AutoTokenizer

    source = model_source(config.model.base_llm_model, state_dir)
    try:
        return AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise base_unavailable(config.model.base_llm_model, error) from error


def load_base(config: QloraConfig, state_dir: Path) -> Base:
    """The base with a fresh LoRA, in training mode on the GPU if there is one, else on the CPU.

    The LoRA's weights are float32 and depend on training.seed only. Raises ModelError when the base cannot be had.
    """
    import torch
    import transformers

    transformers.logging.disable_progress_bar()
    with _no_kernel_download():
        from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
        from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    dtype, notes = choose_dtype(config, device=device, has_bf16=bf16)
    quantization = config.model.quantization
    arguments: dict[str, Any] = {"dtype": getattr(torch, dtype), "device_map": {"": device}}
    if quantization.load_in_4bit:
        arguments["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_compute_dtype=getattr(torch, dtype),
            bnb_4bit_use_double_quant=quantization.bnb_4bit_use_double_quant,
            bnb_4bit_quant_type=quantization.bnb_4bit_quant_type,
        )
    tokenizer = load_tokenizer(config, state_dir)
    try:
        model = AutoModelForCausalLM.from_pretrained(model_source(config.model.base_llm_model, state_dir), **arguments)
    except (OSError, ValueError) as error:
        raise base_unavailable(config.model.base_llm_model, error) from error
    checkpointing = config.training.gradient_checkpointing
    if quantization.load_in_4bit:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=checkpointing)
    elif checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    lora = config.model.lora
    torch.manual_seed(config.training.seed)
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
    peft = get_peft_model(
        model,
        LoraConfig(
            r=lora.r,
            lora_alpha=lora.lora_alpha,
            target_modules=list(lora.target_modules),
            lora_dropout=lora.lora_dropout,
            bias=lora.bias,
            task_type=lora.task_type,
        ),
    )
    peft.config.use_cache = False
    peft.train()
    return Base(peft, tokenizer, device, dtype, base_identity(config), notes)


def choose_dtype(config: QloraConfig, *, device: str, has_bf16: bool) -> tuple[str, list[str]]:
    """The compute dtype's name, and what must be said about it. `has_bf16`: the device computes bfloat16 natively."""
    training = config.training
    asked = "float16" if training.fp16 else "bfloat16" if training.bf16 else "float32"
    where = "GPU" if device == "cuda" else "CPU"
    if asked == "float32" or (asked == "bfloat16" and has_bf16):
        return asked, []
    if device == "cpu" and has_bf16:
        return "bfloat16", ["This machine has no GPU: computing in bfloat16, which this CPU has, instead of float16."]
    if device == "cpu":
        return "float32", [f"This {where} only emulates {asked}, slowly: computing in float32 instead."]
    if asked == "bfloat16":
        return "float16", ["This GPU has no bfloat16: computing in float16 instead."]
    return asked, ["Computing in float16 as configured; this GPU's bfloat16 is more stable."] if has_bf16 else []


@contextmanager
def _no_kernel_download() -> Iterator[None]:
    """While bitsandbytes is imported, the package by which it would fetch a compiled CPU kernel cannot be found.

    No network call is made that the operator did not configure; without the kernel it uses plain torch operations.
    """
    before = sys.modules.get("kernels")
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    level = logger.level
    logger.setLevel(logging.ERROR)
    sys.modules["kernels"] = None  # type: ignore[assignment]
    try:
        import bitsandbytes  # noqa: F401

        yield
    finally:
        logger.setLevel(level)
        if before is None:
            sys.modules.pop("kernels", None)
        else:
            sys.modules["kernels"] = before
