"""The adapter for llama.cpp says what the adapter in PEFT says, on the same base."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantahr.gguf import PACKAGED_MODEL, packaged_gguf
from quantahr.prompt import Excerpt, build_messages
from tests.training.conftest import settings_for
from training.base import Base, load_base
from training.config import parse_config
from training.dataset.example import Encoder
from training.export import export_gguf, rotary_rows, save_adapter

PROBES = [
    ("how many days leave do i get", "Annual leave", "Full-time staff get 26 days of annual leave a year."),
    ("who approves unpaid leave?", "Unpaid leave", "Unpaid leave is approved by the head of department."),
    ("Can I bring my dog?", "At the office", "Dogs are not allowed in the laboratory."),
]


def test_rotary_rows_bring_each_heads_halves_together() -> None:
    rows = np.arange(8, dtype=np.float32).reshape(8, 1)
    assert rotary_rows(rows, heads=2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_a_base_that_llama_cpp_names_otherwise_has_no_gguf_adapter(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from quantahr.errors import ModelError

    with pytest.raises(ModelError, match="bloom"):
        export_gguf(tmp_path, tmp_path / "a.gguf", model_config=SimpleNamespace(model_type="bloom"), name="a")


@pytest.mark.model
def test_the_gguf_adapter_agrees_with_peft(tmp_path: Path, workplace: Path) -> None:
    import torch

    values = settings_for(Path("unused"))
    values["model"]["base_llm_model"] = PACKAGED_MODEL
    values["model"]["lora"] = {
        "r": 8,
        "lora_alpha": 16,
        "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    }
    base = load_base(parse_config(values, root=workplace), Path(".quantahr"))
    base.model.eval()
    torch.manual_seed(3)
    with torch.no_grad():
        for name, weight in base.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.02)
    save_adapter(base.model, tmp_path / "adapter", base_name=PACKAGED_MODEL)
    target = tmp_path / "adapter.gguf"
    export_gguf(tmp_path / "adapter", target, model_config=base.model.config, name="probe")

    with_adapter, without = _served(target), _served(None)
    agreement, strangers, same = [], [], 0
    for probe in PROBES:
        prompt = _prompt(base, probe)
        ours = _peft_logprobs(base, prompt)
        served = with_adapter(prompt, 1)["probabilities"]
        agreement.append(_correlation(ours, served))
        strangers.append(_correlation(ours, without(prompt, 1)["probabilities"]))
        same += _peft_greedy(base, prompt, 12).strip() == with_adapter(prompt, 12)["text"].strip()
    assert min(agreement) >= 0.998
    assert max(strangers) < min(agreement)
    assert same >= len(PROBES) - 1


def _prompt(base: Base, probe: tuple[str, str, str]) -> str:
    question, label, text = probe
    return Encoder(base.tokenizer).render(build_messages(question, [Excerpt(1, label, text)]))


def _peft_logprobs(base: Base, prompt: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    import torch

    ids = torch.tensor([base.tokenizer(prompt, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        logits = base.model(input_ids=ids).logits[0, -1]
    found: np.ndarray[Any, np.dtype[np.float32]] = torch.log_softmax(logits.float(), dim=-1).numpy()
    return found


def _peft_greedy(base: Base, prompt: str, tokens: int) -> str:
    import torch

    ids = torch.tensor([base.tokenizer(prompt, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        out = base.model.generate(input_ids=ids, max_new_tokens=tokens, do_sample=False)
    return str(base.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))


def _correlation(ours: np.ndarray[Any, np.dtype[np.float32]], served: dict[int, float]) -> float:
    ids = np.array(list(served))
    return float(np.corrcoef(ours[ids], np.array(list(served.values())))[0, 1])


def _served(adapter: Path | None) -> Any:
    """llama.cpp in this process: (prompt, tokens) → text, and log-probabilities of the first token by id."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(packaged_gguf())
    params.n_ctx, params.n_parallel, params.cpuparams.n_threads = 1024, 1, 2
    if adapter:
        lora = xllamacpp.CommonAdapterLoraInfo()
        lora.path, lora.scale = str(adapter), 1.0
        params.lora_adapters = [lora]
    server = xllamacpp.Server(params)

    def ask(prompt: str, tokens: int) -> dict[str, Any]:
        got: list[Any] = []
        request = {
            "prompt": prompt,
            "n_predict": tokens,
            "temperature": 0,
            "n_probs": 49152 if tokens == 1 else 1,
            "cache_prompt": False,
        }
        answer = server.handle_completions(request, got.append) or got[0]
        answer = json.loads(answer) if isinstance(answer, str) else answer
        choice = answer["choices"][0]
        top = choice["logprobs"]["content"][0]["top_logprobs"]
        return {"text": choice["text"], "probabilities": {entry["id"]: entry["logprob"] for entry in top}}

    return ask
