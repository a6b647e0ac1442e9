"""When a step is due, and what is sent when nobody could send for a while."""

import datetime
import re
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from quantahr.people.errors import PeopleError
from quantahr.people.joiner import Joiner, Kept, due, plan
from quantahr.people.journeys import Journeys, load_journeys

FILE = """
arrival: ask
default_location: Berlin
reminders: {after_days: 3, times: 2}
locations:
  Berlin: {country: Germany, time_zone: Europe/Berlin, hours: "09:00-17:00", holidays: [2027-01-13, 2027-03-29]}
  Sydney: {country: Australia, time_zone: Australia/Sydney}
journeys:
  - name: All
    steps:
      - {id: early, day: -2, to: manager, title: "Prepare for {first_name}", ask: true}
      - {id: hello, day: 0, at: "09:30", title: "Welcome {first_name}", text: "Hello in {location}.", useful_days: 1}
      - {id: leave, day: 2, title: Leave, useful_days: 10}
      - {id: forms, day: 3, title: Forms, ask: true, useful_days: 10}
  - name: Sales
    for: {role: [sales], contract: [permanent]}
    steps:
      - {id: crm, day: 1, title: The CRM}
"""
TOP = {"id: leave", "default_location: Bonn"}
"""What is wrong between lines is told at the top."""
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def journeys(tmp_path: Path) -> Journeys:
    file = tmp_path / "onboarding.yaml"
    file.write_text(FILE, encoding="utf-8")
    return load_journeys(file)


def joiner(**changes: object) -> Joiner:
    values = {
        "id": "j1", "platform": "slack", "tenant": "T", "user": "UANA", "email": "", "name": "Ana Lopez",
        "start": datetime.date(2027, 1, 11), "role": "Data engineer", "location": "Berlin", "contract": "",
        "manager": "UBOSS", "buddy": "", "status": "active", "run": 1,
    }  # fmt: skip
    return Joiner(**{**values, **changes})  # type: ignore[arg-type]


def at(day: int, hour: int, minute: int = 0, month: int = 1) -> float:
    return datetime.datetime(2027, month, day, hour, minute, tzinfo=BERLIN).timestamp()


def kept(someone: Joiner, journeys: Journeys, **states: str) -> list[Kept]:
    return [
        Kept(p.step, p.recipient, p.title, p.due, states.get(p.step, "waiting"), p.asks)
        for p in plan(someone, journeys)
    ]


def test_steps_fall_on_working_days_in_working_hours_of_the_persons_place(journeys: Journeys) -> None:
    times = {one.step: one.due for one in plan(joiner(), journeys)}
    assert times["early"] == at(8, 9), "two days before Monday the 11th is a Saturday: the Friday before is in time"
    assert times["hello"] == at(11, 9, 30)
    assert times["leave"] == at(14, 9), "the 13th is a holiday"
    sydney = {one.step: one.due for one in plan(joiner(location="Sydney"), journeys)}
    assert times["hello"] - sydney["hello"] == 10 * 3600


def test_the_change_of_the_clocks_moves_nothing(journeys: Journeys) -> None:
    after = {one.step: one.due for one in plan(joiner(start=datetime.date(2027, 3, 26)), journeys)}
    assert after["forms"] == at(30, 9, month=3), "the 29th is a holiday, and summer time began on the 28th"
    assert datetime.datetime.fromtimestamp(after["forms"], BERLIN).hour == 9


def test_a_journey_is_for_those_whom_it_names(journeys: Journeys) -> None:
    assert "crm" not in {one.step for one in plan(joiner(role="Sales lead"), journeys)}
    sales = joiner(role="Sales lead", contract="Permanent")
    assert "crm" in {one.step for one in plan(sales, journeys)}


def test_nothing_is_sent_at_night_or_on_a_free_day(journeys: Journeys) -> None:
    rows = kept(joiner(), journeys)
    for now, opens in ((at(11, 23), at(12, 9)), (at(13, 11), at(14, 9)), (at(9, 12), at(11, 9))):
        what = due(joiner(), rows, journeys, now)
        assert what.parcels == ()
        assert what.next_at == opens


def test_after_three_days_without_a_server_one_message_holds_what_is_still_useful(journeys: Journeys) -> None:
    what = due(joiner(), kept(joiner(), journeys, early="done"), journeys, at(14, 16))
    assert [(parcel.recipient, parcel.steps) for parcel in what.parcels] == [("joiner", ("leave", "forms"))]
    assert what.late == ("hello",), "a welcome after two working days welcomes nobody"


def test_who_has_no_account_yet_is_written_to_later_and_a_missing_buddy_is_hrs(journeys: Journeys) -> None:
    nobody = joiner(user="", manager="")
    what = due(nobody, kept(nobody, journeys), journeys, at(11, 10))
    assert [parcel.recipient for parcel in what.parcels] == ["hr"]
    assert due(nobody, kept(nobody, journeys), journeys, at(11, 10), hr=False).parcels == ()


def test_reminders_are_gentle(journeys: Journeys) -> None:
    def row(reminders: int, reminded_at: float | None) -> list[Kept]:
        return [Kept("forms", "joiner", "Forms", at(14, 9), "sent", True, at(14, 9), None, reminders, reminded_at)]

    assert due(joiner(), row(0, None), journeys, at(18, 10)).parcels == (), "two working days later"
    assert due(joiner(), row(0, None), journeys, at(19, 10)).parcels[0].reminder
    assert due(joiner(), row(1, at(19, 10)), journeys, at(20, 10)).parcels == ()
    assert due(joiner(), row(2, at(22, 10)), journeys, at(29, 10)).parcels == (), "twice is enough"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("title: The CRM", "titel: The CRM", "did you mean `title`?"),
        ("Europe/Berlin", "Europe/Berlim", "did you mean Europe/Berlin?"),
        ("{first_name}\", text", "{firstname}\", text", "did you mean {first_name}?"),
        ("day: 2,", "day: soon,", "valid integer"),
        ("id: forms", "id: leave", "two steps have the id leave"),
        ("default_location: Berlin", "default_location: Bonn", "Bonn does not stand under locations"),
    ],
)  # fmt: skip
def test_a_slip_in_the_file_is_named_with_its_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    file = tmp_path / "onboarding.yaml"
    text = FILE.replace(old, new, 1)
    file.write_text(text, encoding="utf-8")
    line = 1 if new in TOP else text[: text.index(new)].count("\n") + 1
    with pytest.raises(PeopleError) as caught:
        load_journeys(file)
    assert re.search(rf"line {line}\b", str(caught.value))
    assert said in str(caught.value)


def test_the_journeys_of_the_project_are_valid() -> None:
    assert load_journeys(Path("config/onboarding.yaml")).journeys
