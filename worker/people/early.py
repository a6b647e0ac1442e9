"""What is answered before the documents are searched: HR's standard answers, and "What changed?".

The guard still comes first: a disclosure is never met with a standard answer.
"""

from collections.abc import Callable

from quantahr.messages import Delta, Event, Provenance
from quantahr.messages import Final as FinalEvent
from quantahr.retrieval import Index
from quantahr.settings import Settings
from worker.answering import guard
from worker.answering.disclosure import Disclosure
from worker.answering.pipeline import Answerer, Request
from worker.people.standards import Standards, source_of
from worker.people.summaries import Summaries, changed_topic
from worker.serving import Serving


class EarlyAnswerer(Answerer):
    """An Answerer that asks the standard answers first."""

    def __init__(
        self,
        settings: Settings,
        index: Callable[[], Index],
        serving: Serving,
        disclosure: Callable[[], Disclosure | None],
        *,
        standards: Standards,
        summaries: Summaries,
    ) -> None:
        super().__init__(settings, index, serving, disclosure)
        self._standards = standards
        self._summaries = summaries

    def _answer(self, request: Request, emit: Callable[[Event], None], stopped: Callable[[], bool]) -> FinalEvent:
        early = self._early(request, emit)
        return early or super()._answer(request, emit, stopped)

    def _early(self, request: Request, emit: Callable[[Event], None]) -> FinalEvent | None:
        topic = changed_topic(request.text)
        index = self._index()
        standard = None if topic else self._standards.find(request.text, request.roles, index)
        if topic is None and standard is None:
            return None
        if guard.check(request.text, self._settings.contacts, self._disclosure()).kind != "ask":
            return None
        if standard is None:
            told = self._summaries.changes(topic or "", request.roles, emit)
            # What no version knows may still stand in a document.
            return told if told.verdict == "answered" else None
        emit(Delta(text=f"{standard.text} [1]"))
        return FinalEvent(
            verdict="answered",
            text=f"{standard.text} [1]",
            sources=(source_of(standard),),
            provenance=Provenance(model="standard answer", index=index.version, engine=standard.id),
        )
