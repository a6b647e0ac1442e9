"""Every step once, whoever sends and whatever dies."""

import datetime
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import func, select

from quantahr.people import periods
from quantahr.people.joiner import Due, Joiner, Parcel, plan
from quantahr.people.journeys import Journeys, load_journeys
from quantahr.people.onboarding import Letter, LostError, Onboarding
from quantahr.settings import Settings
from quantahr.store import Store
from quantahr.store.people_tables import StepRow
from quantahr.store.tables import OutboxRow

FILE = """
default_location: Berlin
locations:
  Berlin: {country: Germany, time_zone: Europe/Berlin, hours: "00:00-23:59", weekend: []}
journeys:
  - name: All
    steps:
"""
STEPS = 6


@pytest.fixture
def journeys(tmp_path: Path) -> Journeys:
    file = tmp_path / "onboarding.yaml"
    steps = "".join(f"      - {{id: s{n}, day: {n - 30}, title: T{n}, useful_days: 99}}\n" for n in range(STEPS))
    file.write_text(FILE + steps, encoding="utf-8")
    return load_journeys(file)


def enrol(onboarding: Onboarding, user: str = "UANA", **more: object) -> Joiner:
    start = datetime.date.today()
    return onboarding.enrol(platform="slack", tenant="T", by="slack:UHR", user=user, start=start, **more)[0]  # type: ignore[arg-type]


def letter(joiner: Joiner, *steps: str, recipient: str = "joiner") -> Letter:
    parcel = Parcel(recipient, steps)
    return Letter(parcel.id(joiner, joiner.start), parcel, {"user": joiner.user}, {"text": "hello", "rows": []})


def queued(store: Store) -> int:
    with store.session() as session:
        return session.scalar(select(func.count()).select_from(OutboxRow)) or 0


def test_the_same_person_has_one_journey(store: Store) -> None:
    onboarding = Onboarding(store)
    first = enrol(onboarding, role="Engineer")
    again, new = onboarding.enrol(
        platform="slack", tenant="T", by="slack:UHR", user="UANA", start=datetime.date(2027, 2, 1)
    )
    assert (again.id, new, again.role, again.start.month) == (first.id, False, "Engineer", 2)


def test_a_journey_waits_for_the_account_of_its_e_mail_address(store: Store) -> None:
    onboarding = Onboarding(store)
    waiting = enrol(onboarding, user="", email="Ana@example.com")
    assert onboarding.arrived(platform="slack", tenant="T", user="U9", email="other@example.com", name="O") is None
    found = onboarding.arrived(platform="slack", tenant="T", user="UANA", email="ana@EXAMPLE.com", name="Ana Lopez")
    assert found is not None
    assert (found.id, found.user, found.name) == (waiting.id, "UANA", "Ana Lopez")


def test_a_changed_plan_moves_what_waits_and_leaves_what_was_sent(store: Store, journeys: Journeys) -> None:
    onboarding = Onboarding(store)
    ana = enrol(onboarding)
    onboarding.lay(ana, plan(ana, journeys), "1")
    [(joiner, token)] = onboarding.claim()
    onboarding.settle(joiner, token, Due((), ("s1",), 0.0), [letter(joiner, "s0")])
    later = enrol(onboarding)
    moved = [one for one in plan(later, journeys) if one.step != "s4"]
    onboarding.lay(later, [type(one)(one.step, one.recipient, one.title, one.due + 60, one.asks) for one in moved], "2")
    states = {row.step: (row.state, row.due) for row in onboarding.steps(later)}
    before = {one.step: one.due for one in moved}
    assert states["s0"] == ("sent", before["s0"])
    assert states["s1"] == ("late", before["s1"])
    assert states["s2"] == ("waiting", before["s2"] + 60)
    assert "s4" not in states


def test_those_who_plan_and_claim_at_the_same_moment_do_not_trip_over_each_other(
    store: Store, journeys: Journeys
) -> None:
    onboarding = Onboarding(store)
    people = [enrol(onboarding, user=f"U{number}") for number in range(6)]
    claimed: list[str] = []
    failed: list[Exception] = []
    gate = threading.Barrier(4)

    def work() -> None:
        gate.wait()
        try:
            for one in people:
                onboarding.lay(one, plan(one, journeys), "1")
            claimed.extend(one.id for one, _ in onboarding.claim())
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert sorted(claimed) == sorted(one.id for one in people)
    assert all(len(onboarding.steps(one)) == STEPS for one in people)


def test_a_plan_from_details_that_have_changed_since_is_not_laid(store: Store, journeys: Journeys) -> None:
    onboarding = Onboarding(store)
    before = enrol(onboarding)
    after = enrol(onboarding, role="Engineer")
    onboarding.lay(before, plan(before, journeys), "1")
    assert onboarding.steps(before) == []
    onboarding.lay(after, plan(after, journeys), "1")
    assert len(onboarding.steps(after)) == STEPS


def test_a_claim_is_exclusive_and_a_lost_one_writes_nothing(store: Store, journeys: Journeys) -> None:
    onboarding = Onboarding(store)
    ana = enrol(onboarding)
    onboarding.lay(ana, plan(ana, journeys), "1")
    [(joiner, token)] = onboarding.claim()
    assert onboarding.claim() == []
    with pytest.raises(LostError):
        onboarding.settle(joiner, "another", Due((), (), 0.0), [letter(joiner, "s0")])
    onboarding.mark(joiner.id, 1, "s1", "done", "UANA")
    with pytest.raises(LostError):
        onboarding.settle(joiner, token, Due((), (), 0.0), [letter(joiner, "s0", "s1")])
    assert queued(store) == 0
    assert {row.state for row in onboarding.steps(joiner)} == {"waiting", "done"}


def test_pause_holds_restart_begins_anew_and_stop_ends(store: Store, journeys: Journeys) -> None:
    onboarding = Onboarding(store)
    ana = enrol(onboarding)
    onboarding.lay(ana, plan(ana, journeys), "1")
    onboarding.set_status(ana.id, "paused", "slack:UHR")
    assert onboarding.claim() == []
    onboarding.restart(ana.id, "slack:UHR")
    again = onboarding.get(ana.id)
    assert again is not None
    assert (again.run, again.status) == (2, "active")
    assert onboarding.steps(again) == []
    onboarding.set_status(ana.id, "stopped", "slack:UHR")
    assert onboarding.find("slack", "T", "UANA") is None
    assert [row.action for row in store.audited()][:3] == [
        "onboarding.stopped", "onboarding.restarted", "onboarding.paused",
    ]  # fmt: skip


def test_of_several_beats_one_does_the_work_and_a_dead_one_is_followed(settings: Settings) -> None:
    now = [1000.0]
    store = Store(settings.database, clock=lambda: now[0])
    assert periods.keep(store, "beat", 90, "a")
    assert not periods.keep(store, "beat", 90, "b")
    assert periods.keep(store, "beat", 90, "a"), "the holder renews"
    assert periods.take(store, "retention", 86400, "a")
    assert not periods.take(store, "retention", 86400, "a"), "once a day"
    now[0] += 91
    assert periods.keep(store, "beat", 90, "b")
    assert not periods.keep(store, "beat", 90, "a")
    store.close()


SENDER = """
import sys, time
from quantahr.people.joiner import Due, Parcel
from quantahr.people.onboarding import Letter, LostError, Onboarding
from quantahr.store import Store
store = Store(sys.argv[1], clock=lambda: time.time() * 100)
onboarding = Onboarding(store)
print("ready", flush=True)
while True:
    for joiner, token in onboarding.claim(1):
        waiting = [row.step for row in onboarding.steps(joiner) if row.state == "waiting"][:1]
        parcels = [Parcel("joiner", (step,)) for step in waiting]
        letters = [Letter(p.id(joiner, joiner.start), p, {"user": joiner.user}, {"text": "x"}) for p in parcels]
        try:
            onboarding.settle(joiner, token, Due((), (), store.clock() + 1), letters)
        except LostError:
            pass
"""


@pytest.mark.e2e
def test_each_step_goes_out_once_although_senders_are_killed(settings: Settings, journeys: Journeys) -> None:
    """Real processes, kill -9 at random moments; a hundredfold clock ends their leases while they run."""
    store = Store(settings.database)
    onboarding = Onboarding(store)
    for number in range(5):
        someone = enrol(onboarding, user=f"U{number}")
        onboarding.lay(someone, plan(someone, journeys), "1")
    running: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        running.append(subprocess.Popen([sys.executable, "-c", SENDER, settings.database], stdout=subprocess.PIPE))

    for _ in range(3):
        start()
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()
    for round_ in range(4):
        time.sleep(0.05 * (round_ + 1))
        victim = running.pop(0)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        start()
    deadline = time.monotonic() + 60
    while queued(store) < 5 * STEPS and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in running:
        process.kill()
        process.wait()
    with store.session() as session:
        sent = list(session.execute(select(StepRow.joiner, StepRow.step).where(StepRow.state == "sent")))
        messages = [(row.address["user"], row.payload["text"]) for row in session.scalars(select(OutboxRow))]
    store.close()
    assert len(sent) == len(messages) == 5 * STEPS
    assert all(messages.count((f"U{number}", "x")) == STEPS for number in range(5))
