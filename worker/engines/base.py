"""What every engine can do: the contract between answering and the program that holds the model.

Two ideas. Engines are synchronous and thread-safe, because the worker runs one thread per slot; an engine that can
serve only one request at a time makes the others wait. And an engine is one version from its first token to its last:
another adapter means another engine beside it (blue/green), never a change underneath a running answer.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from quantahr.errors import QuantaHRError
from quantahr.prompt import Message

OnText = Callable[[str], bool]
"""Receives each piece of text as it is made; returning True cancels the generation and frees its slot."""

Finish = Literal["stop", "length", "cancelled"]


class EngineError(QuantaHRError):
    """The engine cannot do what was asked. The message never holds prompt text."""


class EngineClosedError(EngineError):
    """The engine has been closed; ask the one that replaced it."""


class ContextLimitError(EngineError):
    """The prompt has `prompt_tokens` tokens and does not fit the `context_tokens` of a slot."""

    def __init__(self, prompt_tokens: int, context_tokens: int) -> None:
        super().__init__(
            f"The prompt has {prompt_tokens} tokens and a slot holds {context_tokens}. "
            "Give it less evidence, or raise `model.context_tokens`."
        )
        self.prompt_tokens = prompt_tokens
        self.context_tokens = context_tokens


@dataclass(frozen=True, slots=True)
class EngineVersion:
    """`base` and `adapter`: the first 12 hex digits of the sha256 of the weights. `label` is for people."""

    base: str
    adapter: str | None
    label: str


@dataclass(frozen=True, slots=True)
class Generation:
    """A finished generation.

    `prompt_tokens` counts the whole prompt, `cached_tokens` the part of it that was not computed again.
    `ms_first_token` runs from the call to the first piece, waiting for a slot included; None when nothing came.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish: Finish
    ms_first_token: float | None
    cached_tokens: int


class Engine(Protocol):
    """A loaded model. All methods may be called from any thread."""

    @property
    def version(self) -> EngineVersion: ...

    @property
    def slots(self) -> int:
        """How many generations run side by side."""

    @property
    def context_tokens(self) -> int:
        """Prompt and answer together must fit this, per slot."""

    def generate(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        stop: Sequence[str] = (),
        on_text: OnText | None = None,
        temperature: float = 0.0,
    ) -> Generation:
        """Answer a chat. The pieces given to `on_text` join to `Generation.text`; the stop string is in neither.

        An exception of `on_text` cancels the generation and is raised from here. A full context ends the answer with
        "length". Raises ContextLimitError, EngineClosedError, EngineError.
        """

    def choose(self, messages: Sequence[Message], options: Sequence[str]) -> dict[str, float]:
        """How likely the answer begins with each of `options` (a word or digit that is one token), as probabilities.

        They do not add up to one: what is missing went to other words. Case and a leading space make no difference.
        Raises as `generate` does.
        """

    def count_tokens(self, text: str) -> int:
        """How many tokens `text` is, without the turns of a chat around it."""

    def close(self) -> None:
        """Unload. Running generations are cancelled and waited for; later calls raise EngineClosedError."""


def share_of_options(tops: Iterable[tuple[str, float]], options: Sequence[str]) -> dict[str, float]:
    """Probability per option from (token text, log probability) pairs of the likeliest next tokens."""
    shares = dict.fromkeys(options, 0.0)
    wanted = {option.strip().casefold(): option for option in options}
    for token, logprob in tops:
        option = wanted.get(token.strip().casefold())
        if option is not None:
            shares[option] += math.exp(logprob)
    return shares
