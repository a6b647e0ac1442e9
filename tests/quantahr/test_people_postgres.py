"""On a real PostgreSQL: migrations, and what the tables about people are asked, also by several at the same moment.

The sentences of the other tests that use only the database are said here once more, with PostgreSQL under them.
"""

import datetime
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import inspect

from quantahr.messages import Final
from quantahr.people import periods
from quantahr.people.corrections import Corrections
from quantahr.people.errors import PeopleError
from quantahr.people.loop import FEWEST, Gap, Loop
from quantahr.people.onboarding import Onboarding
from quantahr.people.versions import Versions
from quantahr.policies import load_folder
from quantahr.settings import Settings
from quantahr.store import Store
from quantahr.store.schema import configuration
from quantahr.store.tables import Base
from tests.fakes.postgres import PostgresServer, find_programs
from tests.quantahr.test_people_onboarding import (  # noqa: F401 - the same sentences, collected here once more
    journeys,
    test_a_changed_plan_moves_what_waits_and_leaves_what_was_sent,
    test_a_claim_is_exclusive_and_a_lost_one_writes_nothing,
    test_a_journey_waits_for_the_account_of_its_e_mail_address,
    test_each_step_goes_out_once_although_senders_are_killed,
    test_of_several_beats_one_does_the_work_and_a_dead_one_is_followed,
    test_pause_holds_restart_begins_anew_and_stop_ends,
    test_the_same_person_has_one_journey,
    test_those_who_plan_and_claim_at_the_same_moment_do_not_trip_over_each_other,
)
from tests.quantahr.test_people_privacy import (  # noqa: F401
    filled,
    question,
    test_after_a_deletion_nothing_of_the_person_is_left_and_the_receipt_names_nobody,
    test_an_export_holds_everything_of_this_person_and_nothing_of_another,
    test_the_receipt_says_which_approved_texts_came_from_the_person,
    test_what_is_old_leaves_every_day,
)
from tests.quantahr.test_store import (  # noqa: F401
    Clock,
    clock,
    test_a_leased_message_is_not_given_out_again_until_the_lease_ends,
    test_a_message_for_next_week_holds_nobody_up,
    test_a_second_rating_replaces_the_first_and_needs_a_question,
    test_a_thread_remembers_its_last_questions_and_no_others,
    test_an_escalation_and_its_message_are_one_and_happen_once,
    test_hrs_reply_goes_to_the_employee_once,
    test_messages_to_one_place_keep_their_order_while_one_is_retried,
    test_the_migrations_make_exactly_the_tables_of_this_version,
    test_what_is_older_than_the_retention_period_goes_with_all_that_hangs_on_it,
)

pytestmark = pytest.mark.e2e

HANDBOOK = "# Leave\n## Bereavement\nWhen a close relative dies you get 5 paid days.\n"


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    pytest.importorskip("psycopg", reason="pip install 'quantahr[postgres]'")
    programs = find_programs()
    if programs is None:
        pytest.skip("there is no PostgreSQL here: pip install pgserver, or apt-get install postgresql")
    server = PostgresServer(programs)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def settings(settings: Settings, postgres: PostgresServer) -> Settings:
    return settings.model_copy(update={"database_url": postgres.fresh()})


@pytest.fixture
def store(settings: Settings, request: pytest.FixtureRequest) -> Iterator[Store]:
    if "clock" in request.fixturenames:
        opened = Store(settings.database, clock=request.getfixturevalue("clock"))
    else:
        opened = Store.open(settings)
    yield opened
    opened.close()


def at_once(*works: Callable[[], object]) -> list[object]:
    """The results of works that begin at the same moment; an error is its own result."""
    gate, results = threading.Barrier(len(works)), [None] * len(works)

    def run(number: int) -> None:
        gate.wait()
        try:
            results[number] = works[number]()  # type: ignore[call-overload]
        except Exception as error:
            results[number] = error  # type: ignore[call-overload]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return list(results)


def test_processes_that_start_together_migrate_once(settings: Settings) -> None:
    program = "import sys; from quantahr.store import Store; Store(sys.argv[1]).close()"
    started = [subprocess.Popen([sys.executable, "-c", program, settings.database]) for _ in range(3)]
    assert [process.wait(timeout=150) for process in started] == [0, 0, 0]


def test_the_migrations_lead_back_and_forth_and_give_the_columns_their_lengths(store: Store) -> None:
    config = configuration(store.engine)
    for target in ("0002", "head", "0003", "head"):
        (command.downgrade if target[0] == "0" else command.upgrade)(config, target)
    found = inspect(store.engine)
    for table in Base.metadata.sorted_tables:
        lengths = {column["name"]: getattr(column["type"], "length", None) for column in found.get_columns(table.name)}
        assert lengths == {column.name: getattr(column.type, "length", None) for column in table.columns}, table.name


def test_of_those_who_claim_at_the_same_moment_one_gets_each_joiner(store: Store) -> None:
    onboarding = Onboarding(store)
    for number in range(6):
        joiner, _ = onboarding.enrol(
            platform="slack", tenant="T", by="x", user=f"U{number}", start=datetime.date(2027, 1, 11)
        )
        onboarding.lay(joiner, [], "v")
    taken = at_once(*[onboarding.claim] * 4)
    claimed = [joiner.user for one in taken if isinstance(one, list) for joiner, _ in one]
    assert sorted(claimed) == [f"U{number}" for number in range(6)]


def test_of_those_who_take_a_work_at_the_same_moment_one_does_it(store: Store) -> None:
    for name in ("gaps", "digest"):
        assert sorted(at_once(*[lambda: periods.take(store, name, 60, "a")] * 4)) == [False] * 3 + [True]  # type: ignore[type-var] # noqa: B023


def test_of_two_in_hr_who_approve_at_the_same_moment_one_does(store: Store) -> None:
    loop = Loop(store)
    loop.replace_gaps([Gap("g", "A quiet room?", ("where is it quiet",), FEWEST, 9, "", "", (), "d")])
    approved = at_once(*[lambda: loop.approve("g", "A quiet room?", "On floor 3.", "slack:U1")] * 3)
    assert sorted(map(str, approved)) == ["False", "False", "True"]
    assert len(loop.standards()) == 1


def test_the_loop_from_a_gap_to_a_correction(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "Handbook.md").write_text(HANDBOOK, encoding="utf-8")
    library = load_folder(folder)
    for _ in range(2):
        Versions(store).record(library)
    [section] = library.sections
    loop = Loop(store)
    loop.replace_gaps(
        [Gap("g", "Days when gran died?", ("gran died",), FEWEST, 9, "Handbook.md", "x", (section.id,), "d")]
    )
    assert loop.approve("g", "Days when gran died?", "5 paid days.", "slack:UHR")
    [standard] = loop.standards()
    assert [row["question"] for row in loop.golden()] == ["gran died"]
    assert [one.id for one, _ in loop.taught()] == [standard.id]
    source = {"number": 1, "document": "Handbook.md", "heading": "x", "passage": "p", "version": "v"}
    for number, cited in enumerate((section.id, f"standard:{standard.id}")):
        told = Final.model_validate(
            {"verdict": "answered", "text": "5 days", "sources": [{**source, "section": cited}]}
        )
        store.record_answer(question(f"U{number}").model_copy(update={"asked_at": store.clock()}), told)

    (folder / "Handbook.md").write_text(HANDBOOK.replace("5 paid", "7 paid"), encoding="utf-8")
    Versions(store).record(load_folder(folder))
    assert (loop.golden(), loop.taught()) == ([], [])
    assert [one.id for one in loop.expired()] == [standard.id]
    [change] = Corrections(store).changes()
    assert change.people == 2
    assert "Fewer than 5 people" in str(loop.digest())
    sent = at_once(*[lambda: Corrections(store).send(section.id, "slack:UHR", lambda *_: ("employee",))] * 3)
    assert sum(one for one in sent if isinstance(one, int)) == 2
    assert loop.renew(standard.id, "Days when gran died?", "7 paid days.", "slack:UHR")
    assert [one.text for one, _ in loop.taught()] == ["7 paid days."]
    assert len(Versions(store).changes()) == 1


def test_names_are_kept_as_long_as_files_may_have_them_and_what_is_longer_is_said(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / f"{'long-' * 48}name.md").write_text(f"# {'Title ' * 90}\n## A\nText of it.\n", encoding="utf-8")
    library = load_folder(folder)
    Versions(store).record(library)
    assert [one.section for one in Versions(store).of([library.sections[0].id])] == [library.sections[0].id]
    with pytest.raises(PeopleError, match="The role has 121 characters; at most 120 are kept"):
        Onboarding(store).enrol(
            platform="slack", tenant="T", by="x", user="U1", start=datetime.date(2027, 1, 11), role="r" * 121
        )
