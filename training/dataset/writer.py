"""Further questions from a stronger model, where the operator names one: an OpenAI-compatible chat endpoint.

The model proposes and rules decide: a question is kept only if the sentence it names stands in the section and every
number of its answer stands in that sentence. What was written is kept in the state folder, by section, server and
model: a run can be repeated without asking again, and a section's text leaves this machine once, to that server only.
"""

import hashlib
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from quantahr.errors import QuantaHRError
from quantahr.policies import Section
from quantahr.retrieval.units import split_units
from training.config import QuestionWriter

_SECONDS = 120
_PROMPT = (
    "You write questions that employees ask their HR assistant about one section of a handbook: short, varied, as "
    "typed in a chat. Write {count}. For each give the answer in one short sentence and the number of the one sentence "
    'that answers it. Reply with a JSON array only: [{{"question": "…", "answer": "…", "sentence": 1}}]'
)


class WriterError(QuantaHRError):
    """The question writer's server cannot be used."""


class _Proposal(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    question: str
    answer: str
    sentence: int


class EndpointWriter:
    """Asks the configured server about a section; see `training.dataset.policies.Writer`."""

    def __init__(self, settings: QuestionWriter, folder: Path) -> None:
        self._settings, self._folder = settings, folder

    def __call__(self, section: Section) -> Sequence[tuple[str, str, tuple[int, ...]]]:
        """(question, answer, units that answer it), at most `questions_per_section`. Raises WriterError."""
        settings = self._settings
        key = f"{settings.url}\n{settings.model}\n{settings.questions_per_section}\n{section.content_hash}"
        kept = self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
        if kept.is_file():
            text = kept.read_text(encoding="utf-8")
        else:
            text = self._ask(section)
            self._folder.mkdir(parents=True, exist_ok=True)
            partial = kept.with_suffix(".partial")
            partial.write_text(text, encoding="utf-8")
            partial.rename(kept)
        return accepted(text, section)[: settings.questions_per_section]

    def _ask(self, section: Section) -> str:
        units = [unit.quoted for unit in split_units(section.text)]
        numbered = "\n".join(f"{number}. {unit}" for number, unit in enumerate(units, 1))
        body = {
            "model": self._settings.model,
            "temperature": 0,
            "messages": [
                {"role": "system", "content": _PROMPT.format(count=self._settings.questions_per_section)},
                {"role": "user", "content": f"{' > '.join(section.heading_path)}\n{numbered}"},
            ],
        }
        headers = {"Content-Type": "application/json"}
        if self._settings.api_key_env:
            secret = os.environ.get(self._settings.api_key_env, "")
            if not secret:
                raise WriterError(
                    f"question_writer.api_key_env names {self._settings.api_key_env}, which is not set. Set it, or "
                    "remove the question_writer from the dataset."
                )
            headers["Authorization"] = f"Bearer {secret}"
        address = f"{self._settings.url.rstrip('/')}/chat/completions"
        request = urllib.request.Request(address, json.dumps(body).encode(), headers)  # noqa: S310 (http(s), by config)
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310
                reply: dict[str, Any] = json.load(answer)
            return str(reply["choices"][0]["message"]["content"])
        except urllib.error.HTTPError as error:
            raise WriterError(f"{address} answered {error.code}. Check the model's name and the key.") from None
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise WriterError(
                f"{address} cannot be used ({type(error).__name__}). "
                "Check that the server runs and speaks the OpenAI API."
            ) from None


def accepted(text: str, section: Section) -> list[tuple[str, str, tuple[int, ...]]]:
    """What of a reply can be trusted: known sentences, and no number that the sentence does not have."""
    units = [unit.quoted for unit in split_units(section.text)]
    start, end = text.find("["), text.rfind("]")
    try:
        proposals = [_Proposal.model_validate(value) for value in json.loads(text[start : end + 1])]
    except (ValueError, ValidationError, TypeError):
        return []
    found: list[tuple[str, str, tuple[int, ...]]] = []
    for proposal in proposals:
        index = proposal.sentence - 1
        if not 0 <= index < len(units) or not proposal.question.strip() or not proposal.answer.strip():
            continue
        if set(re.findall(r"\d+", proposal.answer)) <= set(re.findall(r"\d+", units[index])):
            found.append((proposal.question.strip(), proposal.answer.strip(), (index,)))
    return found
