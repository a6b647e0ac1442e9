"""The database: what is kept, what is not, and what happens exactly once."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import inspect

from quantahr.errors import StoreError
from quantahr.messages import Final, Provenance, Question, Source
from quantahr.settings import Secrets
from quantahr.store import Escalation, Store
from quantahr.store.store import with_password
from quantahr.store.tables import Base


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Callable[[], float]) -> Store:
    return Store(f"sqlite:///{tmp_path / 'test.db'}", clock=clock)


def asked(
    number: int = 1, *, user: str = "U1", thread: str = "D1", at: float = 1_000_000.0, private: bool = True
) -> Question:
    return Question(
        id=f"{number:024x}",
        platform="slack",
        tenant="T1",
        conversation="D1",
        thread=thread,
        user=user,
        text=f"question {number}",
        private=private,
        asked_at=at,
    )


SOURCE = Source(number=1, section="leave:1", document="Leave.docx", heading="Leave", passage="28 days", version="abc")
ANSWER = Final(
    verdict="answered",
    text="28 days. [1]",
    sources=(SOURCE,),
    provenance=Provenance(model="m", adapter="a", index="i", engine="llama"),
)


def test_an_answer_is_kept_with_what_produced_it(store: Store) -> None:
    store.record_answer(asked(), ANSWER)
    store.record_answer(asked(), ANSWER)  # the same attempt reported twice
    kept = store.answer(asked().id)
    assert kept is not None
    assert (kept.text, kept.model, kept.adapter, kept.index) == ("28 days. [1]", "m", "a", "i")
    assert kept.sources == [
        {"number": 1, "section": "leave:1", "document": "Leave.docx", "heading": "Leave", "version": "abc"}
    ]


def test_of_a_sensitive_question_only_the_fact_is_kept(store: Store) -> None:
    store.record_answer(asked(), Final(verdict="sensitive", text="Please talk to Ana.", asker_only=True))
    question, answer = store.question(asked().id), store.answer(asked().id)
    assert question is not None
    assert answer is not None
    assert (question.text, answer.text, answer.verdict) == (None, None, "sensitive")


def test_a_thread_remembers_its_last_questions_and_no_others(store: Store) -> None:
    for number in (1, 2, 3):
        store.record_answer(asked(number, at=1_000_000.0 + number), ANSWER)
    store.record_answer(asked(4, thread="other", at=1_000_001.0), ANSWER)
    store.record_answer(asked(5, user="U2", at=1_000_002.0), ANSWER)
    turns = store.earlier(asked(9, at=1_000_010.0), 2)
    assert [turn.text for turn in turns] == ["question 2", "question 3"]


def test_in_a_public_thread_everyones_questions_count(store: Store) -> None:
    store.record_answer(asked(1, user="U2", private=False), ANSWER)
    assert store.earlier(asked(2, at=1_000_001.0, private=False), 2)
    assert not store.earlier(asked(2, at=1_000_001.0, private=True), 2)


def test_an_old_question_is_not_a_follow_ups_context(store: Store) -> None:
    store.record_answer(asked(1), ANSWER)
    assert not store.earlier(asked(2, at=1_000_000.0 + 3600), 2)


def test_a_second_rating_replaces_the_first_and_needs_a_question(store: Store) -> None:
    store.record_answer(asked(), ANSWER)
    assert store.record_feedback(asked().id, "U1", 1)
    assert store.record_feedback(asked().id, "U1", -1, ["wrong"])
    assert not store.record_feedback("f" * 24, "U1", 1)


def opened(store: Store) -> Escalation | None:
    return store.open_escalation(
        question=asked().id,
        platform="slack",
        tenant="T1",
        user="U1",
        text="question 1",
        address={"channel": "D1"},
        hr_address={"channel": "CHR"},
    )


def test_an_escalation_and_its_message_are_one_and_happen_once(store: Store) -> None:
    store.record_answer(asked(), ANSWER)
    escalation = opened(store)
    assert escalation is not None
    assert opened(store) is None
    (message,) = store.lease_messages("slack", 60)
    assert (message.kind, message.address, message.payload["text"]) == ("escalation", {"channel": "CHR"}, "question 1")


def test_hrs_reply_goes_to_the_employee_once(store: Store) -> None:
    store.record_answer(asked(), ANSWER)
    escalation = opened(store)
    assert escalation is not None
    assert store.answer_escalation(escalation.id, "HR1", "Yes.") is not None
    assert store.answer_escalation(escalation.id, "HR2", "No.") is None
    replies = [message for message in store.lease_messages("slack", 60) if message.kind == "hr_reply"]
    assert [(message.address, message.payload["text"]) for message in replies] == [({"channel": "D1"}, "Yes.")]
    assert store.audited("escalation.answered")[0].actor == "slack:HR1"


def test_a_leased_message_is_not_given_out_again_until_the_lease_ends(store: Store, clock: Clock) -> None:
    assert store.queue_message("m1", "slack", {"channel": "C"}, "note", {})
    assert not store.queue_message("m1", "slack", {"channel": "C"}, "note", {})
    assert len(store.lease_messages("slack", 60)) == 1
    assert store.lease_messages("slack", 60) == []
    clock.now += 61
    (again,) = store.lease_messages("slack", 60)
    assert again.attempts == 2
    store.message_sent("m1", "ts1")
    clock.now += 61
    assert store.lease_messages("slack", 60) == []


def test_messages_to_one_place_keep_their_order_while_one_is_retried(store: Store, clock: Clock) -> None:
    for number in (1, 2):
        clock.now += 1
        store.queue_message(f"m{number}", "slack", {"channel": "C"}, "note", {})
    store.queue_message("other", "slack", {"channel": "D"}, "note", {})
    assert sorted(message.id for message in store.lease_messages("slack", 60)) == ["m1", "other"]
    store.message_retry("m1", 30, "busy")
    store.message_sent("other")
    assert store.lease_messages("slack", 60) == []
    clock.now += 31
    assert [message.id for message in store.lease_messages("slack", 60)] == ["m1"]
    store.message_undeliverable("m1", "gone")
    assert [message.id for message in store.lease_messages("slack", 60)] == ["m2"]


def test_a_message_for_next_week_holds_nobody_up(store: Store, clock: Clock) -> None:
    store.queue_message("later", "slack", {"channel": "C"}, "note", {}, not_before=clock.now + 7 * 86_400)
    clock.now += 1
    store.queue_message("now", "slack", {"channel": "C"}, "note", {})
    assert [message.id for message in store.lease_messages("slack", 60)] == ["now"]


def test_a_conversation_that_removed_the_bot_is_not_written_to_until_it_speaks_again(store: Store) -> None:
    store.remember_reference("teams", "T", "conv", "U1", {"service": "x"})
    store.unreachable("teams", "T", "conv")
    assert store.reference_of_user("teams", "T", "U1") is None
    store.remember_reference("teams", "T", "conv", "U1", {"service": "y"})
    found = store.reference_of_user("teams", "T", "U1")
    assert found is not None
    assert found.reference == {"service": "y"}


def test_what_is_older_than_the_retention_period_goes_with_all_that_hangs_on_it(store: Store, clock: Clock) -> None:
    store.record_answer(asked(1), ANSWER)
    store.record_feedback(asked(1).id, "U1", 1)
    opened(store)
    clock.now += 91 * 86_400
    store.record_answer(asked(2, at=clock.now), ANSWER)
    assert store.purge(questions_days=90, audit_days=730) == 1
    assert store.question(asked(1).id) is None
    assert store.answer(asked(1).id) is None
    assert store.question(asked(2).id) is not None


def test_the_migrations_make_exactly_the_tables_of_this_version(store: Store) -> None:
    found = inspect(store.engine)
    for table in Base.metadata.sorted_tables:
        columns = {column["name"] for column in found.get_columns(table.name)}
        assert columns == {column.name for column in table.columns}, table.name


def test_processes_that_start_together_do_not_trip_over_each_other(tmp_path: Path) -> None:
    program = f"from quantahr.store import Store; Store('sqlite:///{tmp_path}/new/shared.db').close()"
    started = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(3)]
    assert [process.wait(timeout=60) for process in started] == [0, 0, 0]


def test_a_database_that_cannot_be_opened_is_named_without_its_password() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StoreError) as caught:
        Store("postgresql+psycopg://hr:hunter2@127.0.0.1:1/hr")
    assert "127.0.0.1:1" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_databases_password_comes_from_its_own_secret_and_is_not_shown() -> None:
    held = Secrets(database_password=SecretStr("from-a-file"))
    url = with_password("postgresql+psycopg://quantahr@db/quantahr", held)
    assert url.password == "from-a-file"
    assert "from-a-file" not in str(url)
    assert with_password("postgresql+psycopg://quantahr:own@db/quantahr", held).password == "own"
    assert with_password("sqlite:///state/quantahr.db", held).password is None
