"""What one worker process holds for people, beside the engine and the index: standard answers, summaries, versions."""

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

from quantahr.bus import Answering, Claim
from quantahr.errors import PolicyError
from quantahr.messages import Event, Final
from quantahr.people.loop import Loop
from quantahr.people.versions import Versions
from quantahr.policies import Library, load_document
from quantahr.retrieval import Index
from quantahr.settings import Settings
from quantahr.store import Store
from worker.knowledge import Knowledge
from worker.people.drafting import draft
from worker.people.early import EarlyAnswerer
from worker.people.personal import Personal
from worker.people.phrasing import phrase_with
from worker.people.standards import Standards
from worker.people.summaries import Summaries, wanted
from worker.serving import Serving

log = logging.getLogger(__name__)


class PeopleRoom:
    """Made with the runtime; begins to record versions at once."""

    def __init__(self, settings: Settings, store: Store, knowledge: Knowledge, serving: Serving) -> None:
        self._settings = settings
        phrase = phrase_with(settings, serving)
        self._versions = Versions(store)
        self.summaries = Summaries(knowledge.index, knowledge.embedder, self._versions, phrase)
        self.personal = Personal(knowledge.index, knowledge.embedder, phrase)
        self.loop = Loop(store)
        self.answerer = EarlyAnswerer(
            settings,
            knowledge.index,
            serving,
            knowledge.disclosure,
            standards=Standards(self.loop, knowledge.embedder),
            summaries=self.summaries,
        )
        knowledge.listen(self._record)

    def write(self, claim: Claim, bus: Answering) -> Final:
        """What a question of kind "summary" or "draft" asks for."""
        question = claim.question
        if question.kind == "draft":
            if not {"hr", "admin"} & set(question.roles):
                return Final(verdict="refused", text="Drafts are for HR only.", asker_only=True)
            return draft(self._settings, self.personal, question.text)
        data = bus.upload(question.id)
        if data is None:
            return self.summaries.topic(question.text, question.roles, claim.emit, lambda: claim.stopped)
        try:
            if not {"hr", "admin"} & set(question.roles):
                return Final(verdict="refused", text="Only HR can send me documents.", asker_only=True)
            return self._document(question.text, data, claim.emit, lambda: claim.stopped)
        finally:
            bus.drop_upload(question.id)

    def _document(self, text: str, data: bytes, emit: Callable[[Event], None], stopped: Callable[[], bool]) -> Final:
        name, _, caption = text.partition("\n")
        with tempfile.TemporaryDirectory(prefix="qhr-") as folder:
            # As people see it in the sources, but never a path, and no longer than a file system takes.
            file = Path(folder) / f"{Path(name.replace(chr(0), '')).stem[:80] or 'document'}.docx"
            file.write_bytes(data)
            try:
                document = load_document(file)
            except PolicyError as error:
                return Final(verdict="invalid", text=str(error), asker_only=True)
        told = self.summaries.sections(document.sections, wanted(caption).sentences, emit, stopped)
        return told.model_copy(update={"asker_only": True})

    def _record(self, library: Library, index: Index) -> None:
        del index
        try:
            self._versions.record(library)
        except Exception as error:  # without them answers still come
            log.warning("the versions of the documents could not be kept (%s)", type(error).__name__)
