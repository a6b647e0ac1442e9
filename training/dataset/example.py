"""One example: the chat the worker would send and the answer it should get, as words and as tokens.

The prompt is tokenized by itself and the answer by itself, because that is how generation meets them: the prompt's last
token is fixed before the answer's first is chosen. The answer ends with the token that ends the assistant's turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from quantahr.prompt import Message, plain_text


@dataclass(frozen=True, slots=True)
class Example:
    """`source` is the id of the passage or section it comes from; `kind` what it teaches ("answer", "abstain", …)."""

    source: str
    kind: str
    messages: tuple[Message, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids. Only `answer` is learned; it is never empty, since it ends with the end-of-turn token."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


class Encoder:
    """Renders and tokenizes with one tokenizer: its chat template where it has one, else the project's plain format."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._cache: dict[str, tuple[int, ...]] = {}
        self.has_template = bool(getattr(tokenizer, "chat_template", None))
        self.end_of_turn = self._end_of_turn() if self.has_template else (int(tokenizer.eos_token_id),)

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt as text, up to where the answer begins."""
        if not self.has_template:
            return plain_text(messages)
        return str(self._tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True))

    def encode(self, example: Example) -> Encoded:
        # A template writes its own special tokens; a plain prompt gets what the tokenizer puts in front of any text.
        prompt = self._ids(self.render(example.messages), special=not self.has_template)
        return Encoded(prompt, (*self._ids(example.answer, special=False), *self.end_of_turn))

    def _ids(self, text: str, *, special: bool) -> tuple[int, ...]:
        # The same example comes back in every epoch.
        if text not in self._cache:
            self._cache[text] = tuple(self._tokenizer(text, add_special_tokens=special)["input_ids"])
        return self._cache[text]

    def _end_of_turn(self) -> tuple[int, ...]:
        probe: list[Message] = [{"role": "user", "content": "a"}]
        before = self.render(probe)
        answered = [*probe, Message(role="assistant", content="b")]
        whole = str(self._tokenizer.apply_chat_template(answered, tokenize=False))
        after = whole[len(before) :].removeprefix("b") if whole.startswith(before) else ""
        ids = self._tokenizer(after, add_special_tokens=False)["input_ids"] if after else []
        special = set(self._tokenizer.all_special_ids)
        return (int(ids[0]),) if ids and ids[0] in special else (int(self._tokenizer.eos_token_id),)
