"""The words the model sees: one format, shared by the worker that asks and the training that teaches.

Two ideas. The system text comes first and never changes within an installation, so that an engine's prefix cache holds
it; what differs (excerpts, then the question) comes last. And the model only ever sees evidence: numbered sentences,
each with the heading path it stands under, because a small model phrases what it is given and knows nothing itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

NO_ANSWER = "I could not find that in our HR documents."
"""The one sentence by which the model abstains; the worker adds whom to ask."""

SYSTEM = (
    "You are an HR assistant. Answer the question in one to three short sentences, using only the excerpts, "
    f"and cite them like [1]. If they do not answer it, reply: {NO_ANSWER}"
)


class Message(TypedDict):
    """One chat turn, in the shape that chat templates and `/v1/chat/completions` take."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A piece of evidence: `number` is what the model cites, `label` the heading path joined by " > "."""

    number: int
    label: str
    text: str


def build_messages(question: str, excerpts: Sequence[Excerpt], *, earlier: Sequence[str] = ()) -> list[Message]:
    """The chat for one question.

    `earlier` are the asker's previous questions of the same thread, oldest first, so that "and for part-timers?" can be
    understood. Returns a system and a user message.
    """
    lines = [f"[{excerpt.number}] {excerpt.label}: {excerpt.text}" for excerpt in excerpts]
    lines += [f"Earlier question: {text}" for text in earlier]
    lines.append(f"Question: {question}")
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "\n".join(lines)}]


def plain_text(messages: Sequence[Message]) -> str:
    """The same chat as text, for a base model without a chat template. The answer follows directly after it."""
    names = {"system": "Instruction", "user": "Input", "assistant": "Answer"}
    turns = [f"### {names[message['role']]}:\n{message['content']}\n\n" for message in messages]
    return "".join(turns) + "### Answer:\n"


PLAIN_STOP = "\n### "
"""Where a model prompted with `plain_text` has begun to invent the next turn."""
