"""From a question to a checked answer: guard → retrieve → generate → verify.

Two ideas. Evidence sentences are picked before the model speaks, and the model only phrases them: whatever it adds is
caught sentence by sentence, and then the evidence itself, quoted, is the answer. And usefulness never rests on the
model's eloquence: the closest passages come with every answer, folded.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from quantahr.messages import Delta, Event, Provenance, Question, Role, Source, Sources
from quantahr.messages import Final as FinalEvent
from quantahr.prompt import NO_ANSWER, Excerpt, build_messages
from quantahr.policies import Section
from quantahr.retrieval import Index, SectionLike
from quantahr.settings import Settings
from worker.answering import guard, verify
from worker.answering.release import Release
from worker.engines.base import ContextLimitError, Engine, EngineError
from worker.serving import Serving

log = logging.getLogger(__name__)

QUOTED: Final = 3
CLOSEST: Final = 3


@dataclass(frozen=True, slots=True)
class Request:
    """What the pipeline needs to know of a question. `earlier`: the thread's previous questions, oldest first."""

    text: str
    earlier: Sequence[str] = ()
    roles: Sequence[Role] = ("employee",)


def request_of(question: Question, earlier: Sequence[str]) -> Request:
    return Request(question.text, tuple(earlier), question.roles)


class Answerer:
    """Answers requests. `index` gives the index in force; thread-safe."""

    def __init__(self, settings: Settings, index: Callable[[], Index], serving: Serving) -> None:
        self._settings = settings
        self._index = index
        self._serving = serving

    def answer(self, request: Request, emit: Callable[[Event], None], stopped: Callable[[], bool]) -> FinalEvent:
        """Answer, emitting sources and checked text on the way. The caller emits what is returned.

        `stopped` is asked now and then; once it is true the answer ends with what has been shown.
        """
        began = time.monotonic()
        first: list[float] = []

        def timed(event: Event) -> None:
            if not first:
                first.append((time.monotonic() - began) * 1000)
            emit(event)

        final = self._answer(request, timed, stopped)
        return final.model_copy(
            update={"ms_first_token": first[0] if first else None, "ms_total": (time.monotonic() - began) * 1000}
        )

    def _answer(self, request: Request, emit: Callable[[Event], None], stopped: Callable[[], bool]) -> FinalEvent:
        verdict = guard.check(request.text, self._settings.contacts)
        if verdict.kind != "ask":
            return FinalEvent(
                verdict=verdict.kind,
                text=verdict.reply,
                contact=verdict.contact,
                asker_only=verdict.kind == "sensitive",
            )
        index = self._index()
        found = index.search(request.text, audiences=request.roles, earlier=request.earlier)
        closest = tuple(_shown(n, hit.section, hit.section.text) for n, hit in enumerate(found.hits[:CLOSEST], 1))
        with self._serving.lease() as engine:
            version = engine.version
            made = Provenance(model=version.base, adapter=version.adapter, index=index.version, engine=version.label)
            if not found.evidence or found.answerable < self._settings.answering.min_support:
                return self._abstain(closest, made)
            sources = tuple(_shown(n, piece.section, piece.text) for n, piece in enumerate(found.evidence, 1))
            emit(Sources(sources=sources))
            if not self._settings.answering.phrase:
                return _quote(sources, closest, made, emit)
            return self._phrase(request, sources, closest, made, engine, emit, stopped)

    def _phrase(
        self,
        request: Request,
        sources: tuple[Source, ...],
        closest: tuple[Source, ...],
        made: Provenance,
        engine: Engine,
        emit: Callable[[Event], None],
        stopped: Callable[[], bool],
    ) -> FinalEvent:
        excerpts = [Excerpt(source.number, source.heading, source.passage) for source in sources]
        deadline = time.monotonic() + self._settings.answering.timeout_seconds

        def check(sentence: str) -> str | None:
            if sentence.startswith(NO_ANSWER.rstrip(".")):
                return "abstains"
            return verify.check(sentence, excerpts)

        release = Release(check, lambda text: emit(Delta(text=text)), lambda: stopped() or time.monotonic() > deadline)
        complete = False
        try:
            generation = engine.generate(
                build_messages(request.text, excerpts, earlier=request.earlier),
                max_tokens=self._settings.model.max_tokens,
                on_text=release.feed,
            )
            complete = generation.finish == "stop"
        except ContextLimitError:
            log.warning("the evidence did not fit the model's context and is quoted instead")
        except EngineError as error:
            log.warning("the model failed (%s); the evidence is quoted instead", type(error).__name__)
        release.end(complete=complete)
        if release.sentences:
            text = verify.with_citation(release.text, excerpts)
            if text != release.text:
                emit(Delta(text=text.removeprefix(release.text)))
            cited = verify.citations(text)
            return FinalEvent(
                verdict="answered",
                text=text,
                sources=tuple(source for source in sources if source.number in cited),
                closest=closest,
                stopped=stopped(),
                provenance=made,
            )
        if stopped():
            return FinalEvent(verdict="quoted", text="", closest=closest, stopped=True, provenance=made)
        return _quote(sources, closest, made, emit)

    def _abstain(self, closest: tuple[Source, ...], made: Provenance) -> FinalEvent:
        contact = self._settings.contacts.hr
        detail = f" ({contact.detail})" if contact.detail else ""
        text = f"{NO_ANSWER} Please ask {contact.name}{detail}."
        return FinalEvent(verdict="abstained", text=text, closest=closest, contact=contact, provenance=made)


def _quote(
    sources: tuple[Source, ...], closest: tuple[Source, ...], made: Provenance, emit: Callable[[Event], None]
) -> FinalEvent:
    """The documents' own sentences: the floor that the model has to beat."""
    quoted = sources[:QUOTED]
    text = "\n".join(f"“{' '.join(source.passage.split())}” [{source.number}]" for source in quoted)
    emit(Delta(text=text))
    return FinalEvent(verdict="quoted", text=text, sources=quoted, closest=closest, provenance=made)


def _shown(number: int, section: SectionLike, passage: str) -> Source:
    effective = section.effective_date if isinstance(section, Section) else None
    return Source(
        number=number,
        section=section.id,
        document=section.document,
        heading=" > ".join(section.heading_path),
        passage=passage,
        version=section.content_hash[:12],
        effective=effective.isoformat() if effective else None,
    )
