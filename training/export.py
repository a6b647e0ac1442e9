"""What a run leaves behind: the adapter for PEFT and for llama.cpp, and the training curve.

llama.cpp's LoRA file holds the same two matrices a module, under its own names, with the rows of q and k in the order
of its rotary embedding (Meta's pairs instead of halves). The base is never touched: merging into quantized weights
would change what they say.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quantahr.errors import ModelError
from quantahr.gguf import file_sha256
from quantahr.gguf_header import ADAPTER_KEY, BASE_KEY
from training.trainer import Point

_MODULES = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
}

_ARCHITECTURES = {
    "llama": ("llama", True),
    "mistral": ("llama", True),
    "qwen2": ("qwen2", False),
    "qwen3": ("qwen3", False),
}
"""transformers' model type → llama.cpp's architecture, and whether its q and k rows are reordered."""


def save_adapter(model: Any, folder: Path, *, base_name: str) -> None:
    """Writes adapter_model.safetensors and adapter_config.json as PEFT reads them, without a path of this machine."""
    # The vocabulary never changes here; PEFT would otherwise ask the hub whether it did.
    model.save_pretrained(folder, save_embedding_layers=False)
    path = folder / "adapter_config.json"
    facts = json.loads(path.read_text(encoding="utf-8")) | {"base_model_name_or_path": base_name}
    path.write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    # PEFT's generic model card says nothing that the run's manifest does not say.
    (folder / "README.md").unlink(missing_ok=True)


def export_gguf(adapter: Path, target: Path, *, model_config: Any, name: str, base_sha256: str | None = None) -> None:
    """Writes the PEFT adapter in `adapter` as a GGUF LoRA (float16) for the base described by `model_config`.

    `base_sha256`, where the base is a GGUF file, is written into it: a worker refuses it with any other base. So is the
    hash of the PEFT adapter, by which the registry knows that the two are one version.

    Raises ModelError for an architecture that llama.cpp names otherwise than is known here.
    """
    import gguf
    from safetensors.numpy import load_file

    if model_config.model_type not in _ARCHITECTURES:
        raise ModelError(
            f"The base is a {model_config.model_type} model: no GGUF adapter is made for it (known: "
            f"{', '.join(_ARCHITECTURES)}). The PEFT adapter works with the transformers and tgi engines."
        )
    architecture, rotary = _ARCHITECTURES[model_config.model_type]
    facts = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    writer = gguf.GGUFWriter(target, architecture)
    writer.add_type("adapter")
    writer.add_name(name)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(facts["lora_alpha"]))
    if base_sha256:
        writer.add_string(BASE_KEY, base_sha256)
    weights = adapter / "adapter_model.safetensors"
    writer.add_string(ADAPTER_KEY, file_sha256(weights))
    for key, tensor in sorted(load_file(weights).items()):
        # base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight
        parts = key.split(".")
        module, side, layer = parts[-3], parts[-2][-1].lower(), int(parts[parts.index("layers") + 1])
        values = tensor.astype(np.float32)
        if rotary and side == "b" and module in ("q_proj", "k_proj"):
            heads = model_config.num_attention_heads if module == "q_proj" else model_config.num_key_value_heads
            values = rotary_rows(values, heads)
        writer.add_tensor(f"blk.{layer}.{_MODULES[module]}.weight.lora_{side}", values.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def rotary_rows(values: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """Rows [heads × head_dim, …] from halves (x1…, y1…) to pairs (x1, y1, x2, y2, …) within each head."""
    rows = values.shape[0]
    return values.reshape(heads, 2, rows // heads // 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def write_curve(curve: Sequence[Point], folder: Path, *, title: str) -> None:
    """curve.json with every step, curve.png with the loss (and its running mean) and the learning rate.

    The picture has 16 colours and is small enough for a card in Teams, which may weigh 28 KB.
    """
    (folder / "curve.json").write_text(
        json.dumps([asdict(point) for point in curve], indent=1) + "\n", encoding="utf-8"
    )
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.subplots()
    steps, losses = [point.step for point in curve], [point.loss for point in curve]
    axes.plot(steps, losses, color="#9ec5e8", linewidth=1, label="loss of a step")
    axes.plot(steps, _running_mean(losses, 20), color="#1f5f99", linewidth=2, label="mean of 20 steps")
    axes.set(xlabel="step", ylabel="loss (nats per learned token)", title=title)
    axes.set_ylim(bottom=0)
    rates = axes.twinx()
    rates.plot(steps, [point.learning_rate for point in curve], color="#c77d2e", linewidth=1, linestyle="--")
    rates.set_ylabel("learning rate (dashed)")
    rates.set_ylim(bottom=0)
    axes.legend(loc="upper right")
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=100)
    Image.open(drawn).convert("RGB").quantize(16, dither=Image.Dither.NONE).save(folder / "curve.png", optimize=True)


def result_facts(config: Mapping[str, Any], curve: Sequence[Point]) -> dict[str, Any]:
    """The numbers of a run for its manifest."""
    seconds = sum(point.seconds for point in curve)
    last = curve[-20:]
    return {
        "name": config["model"]["name"],
        "steps": len(curve),
        "examples": sum(point.examples for point in curve),
        "loss": round(sum(point.loss for point in last) / len(last), 4) if last else None,
        "training_seconds": round(seconds, 1),
        "examples_per_second": round(sum(point.examples for point in curve) / seconds, 3) if seconds else None,
        "tokens_per_second": round(sum(point.tokens for point in curve) / seconds, 1) if seconds else None,
    }


def _running_mean(values: Sequence[float], window: int) -> list[float]:
    return [sum(values[max(0, at - window + 1) : at + 1]) / min(at + 1, window) for at in range(len(values))]
