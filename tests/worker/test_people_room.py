"""A dropped document, and the beat's work, in a whole worker."""

import datetime
import io
from collections.abc import Iterator

import pytest
import redis
from docx import Document

from quantahr.bus import Asking, scripts
from quantahr.messages import Event, Final, Question, Role
from quantahr.people.onboarding import Onboarding
from quantahr.settings import People, Settings
from quantahr.store.tables import OutboxRow, QuestionRow
from tests.worker.test_people_worker import HANDBOOK, JOURNEYS
from tests.worker.test_pipeline import ScriptedEngine
from worker.runtime import Runtime
from worker.tasks.ask import answer_question
from worker.tasks.people import run_work


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    settings.policies_dir.mkdir()
    (settings.policies_dir / "Handbook.md").write_text(HANDBOOK, encoding="utf-8")
    file = settings.policies_dir.parent / "onboarding.yaml"
    file.write_text(JOURNEYS, encoding="utf-8")
    slack = settings.slack.model_copy(update={"hr_channel": "C0HR"})
    configured = settings.model_copy(update={"people": People(onboarding=file), "slack": slack})
    running = Runtime(configured, lambda: ScriptedEngine("no"))
    running.warm_up()
    yield running
    running.close()


def document() -> bytes:
    made = Document()
    made.add_heading("Parking", 1)
    made.add_paragraph("Bicycles are parked in the yard behind house 7. The gate closes at 20:00.")
    made.add_heading("Cars", 1)
    made.add_paragraph("There are 14 places for cars.")
    written = io.BytesIO()
    made.save(written)
    return written.getvalue()


async def drop(runtime: Runtime, data: bytes, *roles: Role) -> Event:
    bus = Asking(runtime.settings)
    asked = Question(
        id="upload-question", platform="slack", tenant="T", conversation="D", thread="t", user="UHR",
        text="Parking.docx\nin 3 sentences", private=True, asked_at=1.0, kind="summary", roles=("employee", *roles),
    )  # fmt: skip
    await bus.put_upload(asked.id, data, 60)
    assert await bus.ask(asked, {})
    answer_question(runtime, asked.id)
    end = await bus.ended(asked.id)
    await bus.close()
    assert end is not None
    return end


async def test_a_dropped_document_is_summarised_and_not_kept(runtime: Runtime) -> None:
    end = await drop(runtime, document(), "hr")
    assert isinstance(end, Final)
    assert "house 7" in end.text
    assert "14 places" in end.text
    assert end.asker_only
    assert {source.document for source in end.sources} == {"Parking.docx"}
    client = redis.Redis.from_url(runtime.settings.redis_url)
    assert not client.exists(scripts.upload_key("upload-question"))
    with runtime.store.session() as session:
        assert session.query(QuestionRow).count() == 0
    assert not any("Parking" in section.document for section in runtime.knowledge.index().sections)


async def test_a_document_of_somebody_else_or_a_bad_one_is_refused_and_not_kept(runtime: Runtime) -> None:
    end = await drop(runtime, document())
    assert isinstance(end, Final)
    assert end.verdict == "refused"
    client = redis.Redis.from_url(runtime.settings.redis_url)
    assert not client.exists(scripts.upload_key("upload-question"))


async def test_a_file_that_is_no_word_document_is_told_in_words(runtime: Runtime) -> None:
    end = await drop(runtime, b"PK\x03\x04 not a document at all", "hr")
    assert isinstance(end, Final)
    assert end.verdict == "invalid"
    assert "Parking.docx" in end.text


def test_the_beats_work_sends_what_is_due_once_and_the_digest_once_a_week(runtime: Runtime) -> None:
    yesterday = datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=1)
    Onboarding(runtime.store).enrol(
        platform="slack", tenant="T", by="x", user="UANA", name="Ana", start=yesterday, location="Berlin"
    )
    for number in range(6):
        asked = Question(
            id=f"gap-question-{number}", platform="slack", tenant="T", conversation="C", thread="t", user=f"U{number}",
            text="Can I bring my dog to the office?", private=True, asked_at=runtime.store.clock(),
        )  # fmt: skip
        runtime.store.record_answer(asked, Final(verdict="abstained", text="no"))
    for _ in range(2):
        run_work(runtime, "onboarding")
        run_work(runtime, "digest")
    with runtime.store.session() as session:
        rows = {row.id.partition("-")[0]: row for row in session.query(OutboxRow)}
        assert session.query(OutboxRow).count() == 2
    assert rows["onb"].address["user"] == "UANA"
    assert rows["digest"].address == {"channel": "C0HR"}
    assert "6 people asked, 6 times" in str(rows["digest"].payload)
