"""Small real LoRA adapters for the packaged model: rank 2 on every value projection, random weights."""

from pathlib import Path

import numpy as np

from quantahr.gguf_header import BASE_KEY

LAYERS, WIDTH, VALUE_WIDTH = 30, 576, 192
GENTLE = 0.02
"""A strength that leaves the model sane, and is another model all the same."""
WILD = 3.0
"""A strength that makes it babble."""


def write_adapter(path: Path, *, seed: int, strength: float = GENTLE, base: str = "", width: int = WIDTH) -> Path:
    """Write an adapter of about 100 KB. The same arguments give the same bytes, and so the same version."""
    import gguf

    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 2.0)
    if base:
        writer.add_string(BASE_KEY, base)
    for layer in range(LAYERS):
        for side, shape in (("a", (2, width)), ("b", (VALUE_WIDTH, 2))):
            values = rng.standard_normal(shape).astype(np.float32) * strength
            writer.add_tensor(f"blk.{layer}.attn_v.weight.lora_{side}", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
