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
from quantahr.policies import Section
from quantahr.prompt import NO_ANSWER, Excerpt, build_messages
from quantahr.retrieval import Index, SectionLike, quotation
from quantahr.settings import Settings
from worker.answering import guard, support, verify
from worker.answering.disclosure import Disclosure
from worker.answering.release import Release
from worker.engines.base import ContextLimitError, Engine, EngineError
from worker.serving import Serving

log = logging.getLogger(__name__)

CLOSEST: Final = 3
_ABSTAINS: Final = "abstains"


@dataclass(frozen=True, slots=True)
class Request:
    """What the pipeline needs to know of a question. `earlier`: the thread's previous questions, oldest first."""

    text: str
    earlier: Sequence[str] = ()
    roles: Sequence[Role] = ("employee",)


def request_of(question: Question, earlier: Sequence[str]) -> Request:
    return Request(question.text, tuple(earlier), question.roles)


class Answerer:
    """Answers requests. `index` and `disclosure` give what is in force; thread-safe."""

    def __init__(
        self,
        settings: Settings,
        index: Callable[[], Index],
        serving: Serving,
        disclosure: Callable[[], Disclosure | None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._index = index
        self._serving = serving
        self._disclosure = disclosure

    def answer(self, request: Request, emit: Callable[[Event], None], stopped: Callable[[], bool]) -> FinalEvent:
        """Answer, emitting sources and checked text on the way. The caller emits what is returned.

        `stopped` is asked now and then; once it is true the answer ends with what has been shown.
        """
        began = time.monotonic()
        first: list[float] = []

        def timed(event: Event) -> None:
            if isinstance(event, Delta) and not first:
                first.append((time.monotonic() - began) * 1000)
            emit(event)

        final = self._answer(request, timed, stopped)
        return final.model_copy(
            update={"ms_first_token": first[0] if first else None, "ms_total": (time.monotonic() - began) * 1000}
        )

    def _answer(self, request: Request, emit: Callable[[Event], None], stopped: Callable[[], bool]) -> FinalEvent:
        verdict = guard.check(request.text, self._settings.contacts, self._disclosure())
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
        quoted = quotation.gather(found.evidence, request.text)
        sources = tuple(_shown(n, piece.section, piece.text) for n, piece in enumerate(quoted, 1))
        with self._serving.lease() as engine:
            version = engine.version
            made = Provenance(model=version.base, adapter=version.adapter, index=index.version, engine=version.label)
            turn = _Turn(request, sources, closest, made, emit, stopped, verdict.pointer)
            if not sources or self._support(turn, engine, found.answerable) < self._settings.answering.min_support:
                return self._abstain(turn)
            emit(Sources(sources=sources))
            return self._phrase(turn, engine) if self._settings.answering.phrase else _quote(turn)

    def _support(self, turn: "_Turn", engine: Engine, answerable: float) -> float:
        """How probable it is that the evidence answers; a trained model is asked where it can change the outcome."""
        cut = self._settings.answering.min_support
        if engine.version.adapter is None:
            return answerable
        if not support.open_question(answerable, cut):
            return support.together(answerable, 0.5)
        try:
            doubtful = support.doubt(engine, turn.request.text, turn.excerpts, tuple(turn.request.earlier))
        except EngineError as error:
            log.warning("the model gave no opinion (%s); retrieval decides alone", type(error).__name__)
            return answerable
        return support.together(answerable, doubtful)

    def _phrase(self, turn: "_Turn", engine: Engine) -> FinalEvent:
        excerpts = turn.excerpts
        deadline = time.monotonic() + self._settings.answering.timeout_seconds

        def check(sentence: str) -> str | None:
            if sentence.startswith(NO_ANSWER.rstrip(".")):
                return _ABSTAINS
            return verify.check(sentence, excerpts, question=turn.request.text, before=release.sentences)

        def ended() -> bool:
            return turn.stopped() or time.monotonic() > deadline

        release = Release(check, lambda text: turn.emit(Delta(text=text)), ended)
        complete = False
        try:
            generation = engine.generate(
                build_messages(turn.request.text, excerpts, earlier=turn.request.earlier),
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
            return _phrased(turn, release.text, excerpts)
        if turn.stopped():
            return FinalEvent(verdict="quoted", text="", closest=turn.closest, stopped=True, provenance=turn.made)
        # Only an adapter has learned when to abstain; an untrained model says it at random.
        if release.rejected == _ABSTAINS and engine.version.adapter is not None:
            return self._abstain(turn)
        return _quote(turn)

    def _abstain(self, turn: "_Turn") -> FinalEvent:
        contact = self._settings.contacts.hr
        detail = f" ({contact.detail})" if contact.detail else ""
        return FinalEvent(
            verdict="abstained",
            text=turn.whole(f"{NO_ANSWER} Please ask {contact.name}{detail}."),
            closest=turn.closest,
            contact=contact,
            provenance=turn.made,
        )


@dataclass(frozen=True, slots=True)
class _Turn:
    """One answer on its way: what was asked, what was found, what produces it, where it goes."""

    request: Request
    sources: tuple[Source, ...]
    closest: tuple[Source, ...]
    made: Provenance
    emit: Callable[[Event], None]
    stopped: Callable[[], bool]
    pointer: str
    """Whom to turn to, said under an answer on a delicate topic; often empty."""

    @property
    def excerpts(self) -> list[Excerpt]:
        """The evidence, as the model reads it."""
        return [Excerpt(source.number, source.heading, source.passage) for source in self.sources]

    def whole(self, text: str) -> str:
        """`text` with the pointer under it."""
        return f"{text}\n\n{self.pointer}" if self.pointer else text

    def ending(self, text: str) -> str:
        """Emit what is still to be said after `text`, which has been shown, and return the whole."""
        whole = self.whole(text)
        if whole != text:
            self.emit(Delta(text=whole.removeprefix(text)))
        return whole


def _phrased(turn: _Turn, released: str, excerpts: Sequence[Excerpt]) -> FinalEvent:
    text = verify.with_citation(released, excerpts)
    if text != released:
        turn.emit(Delta(text=text.removeprefix(released)))
    cited = verify.citations(text)
    return FinalEvent(
        verdict="answered",
        text=turn.ending(text),
        sources=tuple(source for source in turn.sources if source.number in cited),
        closest=turn.closest,
        stopped=turn.stopped(),
        provenance=turn.made,
    )


def _quote(turn: _Turn) -> FinalEvent:
    """The documents' own sentences: the floor that the model has to beat."""
    text = "\n\n".join(f"“{source.passage.strip()}” [{source.number}]" for source in turn.sources)
    turn.emit(Delta(text=text))
    return FinalEvent(
        verdict="quoted", text=turn.ending(text), sources=turn.sources, closest=turn.closest, provenance=turn.made
    )


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
