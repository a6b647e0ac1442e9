"""The upper layers of the packaged MiniLM in torch, with what can be learned of them: the reader's and the embedder's.

Two ideas. The packaged int8 model is the start, and only a difference of low rank (LoRA) to its matrices, its biases
and its norms are learned: a megabyte, laid over the packaged model when it is loaded (quantahr/retrieval/minilm.py).
And the lower layers stay as they are, so what comes out of them is computed once, in int8 as it will be when it serves,
and training takes minutes on two cores.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from quantahr.retrieval.minilm import HEADS, MATRICES, NORMS, Base, Session, Text, encoder, packaged_base
from quantahr.retrieval.onnx_file import Graph

RANK = 24
FIRST = 3
"""The first layer that is trained."""
SCALE = 2.0
"""LoRA's alpha over its rank."""
DTYPE = torch.bfloat16


class Lower:
    """The layers before FIRST, as they serve."""

    def __init__(self) -> None:
        graph = Graph()
        self._session = Session(graph, {encoder(graph, packaged_base(), {}, FIRST).states: 3})

    def states(self, texts: Sequence[Text]) -> list[torch.Tensor]:
        """What comes out of them for each text: [tokens, size] in DTYPE."""
        found: dict[int, torch.Tensor] = {}
        for places, states in self._session.run(texts):
            for at, rows in zip(places, states, strict=True):
                found[at] = torch.tensor(rows[: sum(map(len, texts[at]))]).to(DTYPE)
        return [found[at] for at in range(len(texts))]


class Matrix(torch.nn.Module):
    """A frozen matrix [in, out] with a difference of low rank, and a bias that is learned whole."""

    def __init__(self, weight: Any, bias: Any, rank: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.tensor(weight).T.contiguous().to(DTYPE))
        self.bias = torch.nn.Parameter(torch.tensor(bias))
        self.down = torch.nn.Parameter(torch.randn(weight.shape[0], rank) / weight.shape[0] ** 0.5)
        self.up = torch.nn.Parameter(torch.zeros(rank, weight.shape[1]))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        low = (states @ self.down.to(DTYPE)) @ (self.up * SCALE).to(DTYPE)
        return functional.linear(states, self.weight, self.bias.to(DTYPE)) + low


class Norm(torch.nn.Module):
    """A layer norm that is learned whole."""

    def __init__(self, weight: Any, bias: Any) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weight))
        self.bias = torch.nn.Parameter(torch.tensor(bias))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(states.float(), states.shape[-1:], self.weight, self.bias, 1e-12).to(DTYPE)


class Upper(torch.nn.Module):
    """The layers from FIRST on."""

    def __init__(self, base: Base, rank: int = RANK, dropout: float = 0.1) -> None:
        super().__init__()
        self.layers = range(FIRST, base.layers)
        self.dropout = dropout
        self.parts = torch.nn.ModuleDict()
        for layer in self.layers:
            for name in MATRICES:
                key = f"{layer}_{name}"
                self.parts[key] = Matrix(base.matrix(key), base.plain[f"{key}_bias"], rank)
            for name in NORMS:
                key = f"{layer}_{name}"
                self.parts[key] = Norm(base.plain[f"{key}_weight"], base.plain[f"{key}_bias"])

    def read(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """What comes out at the top, in DTYPE, for what the lower layers give: both [batch, tokens, size]."""
        hidden = ((mask[:, None, None, :] - 1) * 1e4).to(DTYPE)
        for layer in self.layers:
            q, k, v = (
                self.parts[f"{layer}_{name}"](states).unflatten(-1, (HEADS, -1)).transpose(1, 2)
                for name in ("query", "key", "value")
            )
            # Spelled out: torch's own attention takes twice as long backwards for texts as short as these.
            mixed = torch.softmax(q * q.shape[-1] ** -0.5 @ k.transpose(2, 3) + hidden, -1) @ v
            mixed = self.parts[f"{layer}_mix"](mixed.transpose(1, 2).flatten(2))
            states = self.parts[f"{layer}_attention_norm"](states + self.drop(mixed))
            wide = functional.gelu(self.parts[f"{layer}_wide"](states))
            states = self.parts[f"{layer}_output_norm"](states + self.drop(self.parts[f"{layer}_narrow"](wide)))
        return states

    def mean(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The mean over a text's tokens, float32: [batch, size]."""
        weights = mask[:, :, None].float()
        return (states.float() * weights).sum(1) / weights.sum(1)

    def drop(self, states: torch.Tensor) -> torch.Tensor:
        """Dropout of a text's features, the same for all its tokens: a chance for each costs as much as a layer."""
        if not self.training:
            return states
        kept = torch.rand(len(states), *[1] * (states.dim() - 2), states.shape[-1]) >= self.dropout
        return states * kept.to(states.dtype) / (1 - self.dropout)

    def arrays(self) -> dict[str, Any]:
        """What ships: everything learned, in float16."""
        found: dict[str, torch.Tensor] = {}
        for name, part in self.parts.items():
            if isinstance(part, Matrix):
                found |= {f"{name}_down": part.down, f"{name}_up": part.up * SCALE, f"{name}_bias": part.bias}
            else:
                found |= {f"{name}_weight": part.weight, f"{name}_bias": part.bias}
        return {name: value.detach().numpy().astype(np.float16) for name, value in found.items()}


def padded(texts: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """States of texts, [tokens, size] each, as one batch, and its mask."""
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(one)) for one in texts], batch_first=True)
    return torch.nn.utils.rnn.pad_sequence(list(texts), batch_first=True).to(DTYPE), mask


def keep_pass(network: Upper, out: Path, epoch: int, losses: Sequence[float], seconds: float) -> None:
    """Write what has been learned to `out`, and beside it under the number of the pass; say how the pass went."""
    for file in (out.with_stem(f"{out.stem}-{epoch + 1}"), out):
        np.savez_compressed(file, **network.arrays())
    print(f"pass {epoch + 1}: loss {np.mean(losses):.4f}, {seconds:.0f} s", flush=True)
