"""What is kept about a person can be seen, and is gone after it was deleted; everybody else's stays."""

import datetime
import json
from pathlib import Path

import pytest
import redis

from quantahr.bus import scripts
from quantahr.cli.onboard import read_table
from quantahr.messages import Accepted, Final, Question, dump_event
from quantahr.people.errors import PeopleError
from quantahr.people.joiner import plan
from quantahr.people.journeys import load_journeys
from quantahr.people.loop import FEWEST, Gap, Loop
from quantahr.people.onboarding import Onboarding
from quantahr.people.privacy import Person, Privacy
from quantahr.people.retention import purge
from quantahr.people.words import card
from quantahr.settings import Settings
from quantahr.store import Store
from quantahr.store.tables import Base, JobRow

ANA, BEN = "UANA0001", "UBEN0001"


def question(user: str, number: int = 1, text: str = "may I bring my dog?") -> Question:
    return Question(
        id=f"question-{user}-{number}", platform="slack", tenant="T", conversation="C", thread=str(number),
        user=user, text=f"{text} {user}", private=True, asked_at=1000.0 + number,
    )  # fmt: skip


@pytest.fixture
def filled(store: Store, settings: Settings) -> Store:
    """Two people with everything that can be kept about one."""
    journeys = load_journeys(Path("config/onboarding.yaml"))
    onboarding = Onboarding(store)
    client = redis.Redis.from_url(settings.redis_url)
    (settings.state_dir).mkdir(exist_ok=True)
    lines: list[str] = []
    for user, other in ((ANA, BEN), (BEN, ANA)):
        asked = question(user)
        store.record_answer(asked, Final(verdict="abstained", text=f"nothing for {user}"))
        store.record_feedback(asked.id, user, -1, comment=f"hm {user}")
        store.open_escalation(
            question=asked.id, platform="slack", tenant="T", user=user, text=f"help {user}",
            address={"channel": "D", "user": user}, hr_address={"channel": "C0HR"},
        )  # fmt: skip
        store.remember_reference("slack", "T", f"D{user}", user, {"user": user})
        start = datetime.date(2027, 1, 11)
        joiner, _ = onboarding.enrol(
            platform="slack", tenant="T", by=f"slack:{user}", user=user, start=start, manager=other, name=f"N {user}"
        )
        onboarding.lay(joiner, plan(joiner, journeys), "v")
        store.queue_message(f"m-{user}", "slack", {"user": user}, "people", card(f"hello {user}"))
        news = card("", [(f"N {user} has joined", [("Details", f"details:{joiner.id}")])])
        store.queue_message(f"joined-slack-{user}", "slack", {"channel": "C0HR"}, "people", news)
        with store.session.begin() as session:
            document = {"requested_by": f"slack:{user}", "note": f"slack:{user}0"}
            session.add(JobRow(id=f"job{len(lines)}", state="failed", document=document, created_at=1.0))
        waiting = question(user, 2, "still waiting")
        client.set(scripts.question_key(waiting.id), waiting.model_dump_json())
        client.xadd(scripts.answer_key(waiting.id), {"e": dump_event(Accepted())})
        client.set(scripts.upload_key(waiting.id), b"docx")
        client.hset(scripts.pending_key("slack"), waiting.id, json.dumps({"user": user}))
        client.set(f"qhr:kept:shown:{user}", waiting.id)
        lines += [f'{{"user": "{user}", "answer": "x"}}\n', f'{{"user": "{user}0"}}\n']
    (settings.state_dir / "report.jsonl").write_text("".join(lines), encoding="utf-8")
    return store


def everything(store: Store, settings: Settings) -> str:
    """All that is stored anywhere, as one text."""
    found = []
    with store.session() as session:
        for table in Base.metadata.sorted_tables:
            found += [str(tuple(row)) for row in session.execute(table.select())]
    client = redis.Redis.from_url(settings.redis_url)
    for key in client.scan_iter():
        kind = bytes(client.type(key)).decode()  # type: ignore[arg-type]
        value = {"string": client.get, "hash": client.hgetall, "stream": client.xrange}[kind](key)  # type: ignore[operator]
        found.append(f"{key!r} {value!r}")
    found.append((settings.state_dir / "report.jsonl").read_text(encoding="utf-8"))
    return "\n".join(found)


def test_an_export_holds_everything_of_this_person_and_nothing_of_another(filled: Store, settings: Settings) -> None:
    told = Privacy(settings, filled).export(Person.parse(f"slack:{ANA}"))
    counts = {name: len(rows) for name, rows in told["store"].items()}
    assert all(counts.values()), counts
    assert len(told["redis"]) == 5
    assert [Path(file).name for file in told["files"]] == ["report.jsonl"]
    mine = {**told["store"], "leads": []}
    assert f"dog? {BEN}" not in json.dumps(mine, default=str)
    assert f"dog? {ANA}" in json.dumps(mine, default=str)


def test_after_a_deletion_nothing_of_the_person_is_left_and_the_receipt_names_nobody(
    filled: Store, settings: Settings
) -> None:
    assert ANA in everything(filled, settings)
    receipt = Privacy(settings, filled).delete(Person.parse(f"slack:{ANA}"))
    left = everything(filled, settings)
    assert f"slack:{ANA}0" in left, "that is somebody else"
    assert f'"user": "{ANA}0"' in left
    assert ANA not in left.replace(f"{ANA}0", "")
    assert left.count(BEN) > 15
    assert receipt["deleted"]["questions"] == 1
    assert receipt["deleted"]["redis"] == 5
    assert receipt["deleted"]["files"] == 1
    assert ANA not in json.dumps(receipt)
    again = Privacy(settings, filled).delete(Person.parse(f"slack:{ANA}"))
    assert set(again["deleted"].values()) == {0}


def test_the_receipt_says_which_approved_texts_came_from_the_person(store: Store, settings: Settings) -> None:
    text = "Is there a quiet room?"
    asked = question(ANA).model_copy(update={"text": text})
    store.record_answer(asked, Final(verdict="abstained", text="no"))
    Loop(store).replace_gaps([Gap("g", "A quiet room?", (text,), FEWEST, 9, "", "", (), "d")])
    Loop(store).approve("g", "A quiet room?", "On floor 3.", "slack:UHR")
    [learned] = Privacy(settings, store).delete(Person.parse(f"slack:{ANA}"))["approved_texts"]
    assert len(learned["golden"]) == 1
    assert (learned["because"], learned["datasets"], learned["adapters"]) == (["asked"], [], [])


def test_what_is_old_leaves_every_day(filled: Store, settings: Settings) -> None:
    filled.clock = lambda: datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC).timestamp()
    gone = purge(filled, settings)
    assert gone == {"questions": 2, "journeys": 2}
    assert Onboarding(filled).everyone("slack", "T") == []


@pytest.mark.parametrize("text", ["UANA", "mail:x", "slack:", ""])
def test_a_person_who_is_nobody_is_refused(text: str) -> None:
    with pytest.raises(PeopleError, match="names nobody"):
        Person.parse(text)


def test_a_table_of_joiners_is_read_and_its_slips_are_told_row_by_row(tmp_path: Path) -> None:
    journeys = load_journeys(Path("config/onboarding.yaml"))
    file = tmp_path / "joiners.csv"
    head = "Person;Name;Start;Role;Location;Manager\n"
    good = "slack:U0ANA;Ana;2027-01-11;Engineer;berlin;slack:U0BOSS\nben@example.com;Ben;01.02.2027;Analyst;Leeds;\n"
    file.write_text(head + good, encoding="utf-8-sig")
    rows, problems = read_table(file, journeys, "slack")
    assert problems == []
    assert [(row["user"], row["email"], row["location"], row["manager"]) for row in rows] == [
        ("U0ANA", "", "Berlin", "U0BOSS"),
        ("", "ben@example.com", "Leeds", ""),
    ]
    file.write_text(head + good + "slack:U0ANA;Ana;soon;x;Mars;\nteams:1;T;2027-01-01;x;Leeds;\n", encoding="utf-8")
    _, problems = read_table(file, journeys, "slack")
    assert len(problems) == 4
    assert "joiners.csv, row 4: “soon” is not a date. Write it as 2027-01-11." in problems
    assert any("row 4: there is no location “Mars”" in one for one in problems)
    assert any("row 4" in one and "twice" in one for one in problems)
    assert any("row 5: “teams:1” is not on slack" in one for one in problems)
    file.write_text("who,when\n", encoding="utf-8")
    with pytest.raises(PeopleError, match="no column `person`"):
        read_table(file, journeys, "slack")
