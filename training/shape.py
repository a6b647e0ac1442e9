"""The size of a base model, read from its description alone: no weights, no torch, no transformers.

A folder and the Hugging Face hub hold it as config.json, a GGUF file in its header.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from quantahr.errors import ModelError
from quantahr.gguf import PACKAGED_MODEL, packaged_gguf
from quantahr.gguf_header import read_header

_CONFIG, _TOKENIZER, _TEMPLATE = "config.json", "tokenizer_config.json", "chat_template.jinja"
_REACH_SECONDS = 10.0


class Shape(BaseModel):
    """A llama-shaped model; names are those of its config.json. `chat_template`: whether it brings one."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    tie_word_embeddings: bool = False
    chat_template: bool = False


def read_shape(base: str) -> Shape:
    """The shape of `model.base_llm_model`. Raises ModelError when the base cannot be found or described."""
    try:
        if base == PACKAGED_MODEL or base.endswith(".gguf"):
            return _of_gguf(packaged_gguf() if base == PACKAGED_MODEL else Path(base))
        require_base(base)
        values = json.loads(_file(base, _CONFIG).read_text(encoding="utf-8"))
        heads = values["num_attention_heads"]
        values["num_key_value_heads"] = values.get("num_key_value_heads") or heads
        values["head_dim"] = values.get("head_dim") or values["hidden_size"] // heads
        return Shape.model_validate({**values, "chat_template": _has_template(base)})
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise base_unavailable(base, error) from error


def require_base(base: str) -> None:
    """Raises ModelError at once if the base is on the hub and that cannot be reached: its client would try for minutes.

    A base in a folder, a GGUF file or the hub's cache on this disk needs no network.
    """
    if base == PACKAGED_MODEL or base.endswith(".gguf") or Path(base).is_dir():
        return
    import httpx2
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.utils import get_session

    if isinstance(try_to_load_from_cache(base, _CONFIG), str):
        return
    try:
        get_session().head(constants.ENDPOINT, timeout=_REACH_SECONDS)
    except (OSError, httpx2.HTTPError) as error:
        raise base_unavailable(base, error) from error


def base_unavailable(base: str, error: Exception) -> ModelError:
    """What to say when the base cannot be had."""
    return ModelError(
        f"model.base_llm_model: {base} cannot be loaded ({type(error).__name__}). "
        "Check the name, that this machine can reach the Hugging Face hub or has the model in its cache, "
        "or name a folder with the model."
    )


def _of_gguf(path: Path) -> Shape:
    header = read_header(path)

    def number(key: str, otherwise: int | None = None) -> int:
        found = header.number(f"*.{key}")
        if found is None and otherwise is None:
            raise ValueError(key)
        return found if found is not None else otherwise or 0

    hidden, heads = number("embedding_length"), number("attention.head_count")
    return Shape(
        vocab_size=header.tensors["token_embd.weight"].shape[1],
        hidden_size=hidden,
        intermediate_size=number("feed_forward_length"),
        num_hidden_layers=number("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=number("attention.head_count_kv", heads),
        head_dim=number("attention.key_length", hidden // heads),
        tie_word_embeddings="output.weight" not in header.tensors,
        chat_template=header.text("tokenizer.chat_template") is not None,
    )


def _has_template(base: str) -> bool:
    try:
        settings: dict[str, Any] = json.loads(_file(base, _TOKENIZER).read_text(encoding="utf-8"))
        return bool(settings.get("chat_template")) or _file(base, _TEMPLATE).is_file()
    except (OSError, ValueError):
        return False


def _file(base: str, name: str) -> Path:
    """One small file of a model: in its folder, or from the hub. Raises OSError."""
    if Path(base).is_dir():
        return Path(base) / name
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(base, name))
