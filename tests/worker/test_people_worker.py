"""The worker's part for people: texts for one person, summaries, changes, standard answers, gaps, drafts."""

import datetime
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from quantahr.grading import read_golden
from quantahr.messages import Final, Question
from quantahr.people.corrections import Corrections
from quantahr.people.countries import Places
from quantahr.people.drafts import MARK
from quantahr.people.joiner import Joiner
from quantahr.people.journeys import Step, load_journeys
from quantahr.people.loop import FEWEST, Gap, Loop
from quantahr.people.names import without_names
from quantahr.people.onboarding import Onboarding
from quantahr.people.versions import Versions
from quantahr.policies import load_folder
from quantahr.retrieval import Embedder, Index, load_embedder
from quantahr.settings import People, Settings
from quantahr.store import Store
from quantahr.store.tables import OutboxRow
from tests.worker.test_pipeline import ScriptedEngine
from worker.answering.pipeline import Request
from worker.people.drafting import draft
from worker.people.early import EarlyAnswerer
from worker.people.gaps import Unanswered, find_gaps, unanswered
from worker.people.onboarding import send_due
from worker.people.personal import Passage, Personal
from worker.people.phrasing import phrase_with, quote_only
from worker.people.standards import Standards
from worker.people.summaries import Summaries, changed_topic, wanted
from worker.serving import Serving

HANDBOOK = """# Leave
## Annual leave
Full-time employees get 28 days of paid annual leave a year in Germany and 25 days in the United Kingdom.
Ask for it in the portal two weeks ahead.
## Sick leave
Tell your manager by 10:00 on the first day.
A certificate is needed from the fourth day in Germany, and from the eighth day in the United Kingdom.
## Bereavement
When a close relative dies you get 5 paid days.
"""
SECRET = """---
audience: manager
---
# Restructuring
## Selection
Managers of the Leeds office prepare the list of redundant posts by 4 May.
"""
JOURNEYS = """
default_location: Berlin
locations:
  Berlin: {country: Germany, time_zone: Europe/Berlin, hours: "00:00-23:59", weekend: []}
  Leeds: {country: United Kingdom, time_zone: Europe/London, hours: "00:00-23:59", weekend: []}
journeys:
  - name: All
    steps:
      - {id: leave, day: 0, title: "Leave, {first_name}", text: "Rest!", policy: "How many days of annual leave?"}
      - {id: forms, day: 0, title: Forms, ask: true}
"""


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return load_embedder()


@pytest.fixture
def folder(settings: Settings) -> Path:
    settings.policies_dir.mkdir()
    (settings.policies_dir / "Handbook.md").write_text(HANDBOOK, encoding="utf-8")
    (settings.policies_dir / "Restructuring.md").write_text(SECRET, encoding="utf-8")
    return settings.policies_dir


@pytest.fixture
def index(folder: Path, embedder: Embedder) -> Callable[[], Index]:
    """The index of the folder as it is now."""
    return lambda: Index.build(load_folder(folder).sections, embedder)


@pytest.fixture
def summaries(index: Callable[[], Index], embedder: Embedder, store: Store, folder: Path) -> Summaries:
    versions = Versions(store)
    versions.record(load_folder(folder))
    return Summaries(index, embedder, versions, quote_only)


Ask = Callable[..., tuple[Final, ScriptedEngine]]


def nothing(_: object) -> None: ...


def go_on() -> bool:
    return False


def phrasing(settings: Settings) -> Settings:
    """The same settings, with a model that is allowed to phrase."""
    return settings.model_copy(update={"answering": settings.answering.model_copy(update={"phrase": True})})


# For one person


@pytest.mark.parametrize(("country", "mine", "others"), [("Germany", "28 days", "25"), ("UK", "25 days", "28")])
def test_a_person_reads_their_own_countrys_rule(
    index: Callable[[], Index], embedder: Embedder, country: str, mine: str, others: str
) -> None:
    passage = Personal(index, embedder).read("How many days of annual leave do I get?", Places(country))
    assert passage is not None
    assert mine in passage.text
    assert others not in passage.text
    assert passage.where[0].startswith("Handbook.md › Leave › Annual leave")


def test_the_model_phrases_and_is_not_believed(
    index: Callable[[], Index], embedder: Embedder, settings: Settings
) -> None:
    asked = "How many days of annual leave do I get?"

    def read(script: str) -> str:
        engine = ScriptedEngine(script, "adapter")
        passage = Personal(index, embedder, phrase_with(phrasing(settings), Serving(lambda: engine))).read(
            asked, Places("Germany")
        )
        assert "25 days" not in "\n".join(engine.prompts), "the prompt holds no other country's rule"
        return passage.text if passage else ""

    assert read("You get 28 days of paid annual leave a year. [1]") == "You get 28 days of paid annual leave a year."
    assert "40" not in read("You get 40 days of paid annual leave a year. [1]")
    assert "28 days" in read("You get 40 days of paid annual leave a year. [1]")


def test_a_due_step_reaches_the_outbox_once_with_the_persons_rule(
    index: Callable[[], Index],
    embedder: Embedder,
    settings: Settings,
    store: Store,
    tmp_path: Path,
) -> None:
    file = tmp_path / "onboarding.yaml"
    file.write_text(JOURNEYS, encoding="utf-8")
    journeys, onboarding = load_journeys(file), Onboarding(store)
    personal = Personal(index, embedder)
    today = datetime.datetime.now(datetime.UTC).date()
    onboarding.enrol(platform="slack", tenant="T", by="x", user="UANA", name="Ana Lopez", start=today, location="Leeds")

    def read(step: Step, joiner: Joiner) -> Passage | None:
        return personal.read(step.policy or "", journeys.places(joiner.location))

    now = store.clock() + 86_400
    for _ in range(3):
        send_due(onboarding, journeys, settings, read, now)
    with store.session() as session:
        [row] = session.query(OutboxRow).all()
    texts = " ".join(line["text"] for line in row.payload["rows"])
    assert "*Leave, Ana*\nRest!" in texts
    assert "25 days" in texts
    assert "28" not in texts
    assert [button["label"] for line in row.payload["rows"] for button in line["buttons"]] == ["Done"]


def test_a_text_that_cannot_be_made_holds_nobody_else_up(
    settings: Settings, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "onboarding.yaml"
    file.write_text(JOURNEYS, encoding="utf-8")
    journeys, onboarding = load_journeys(file), Onboarding(store)
    today = datetime.datetime.now(datetime.UTC).date()
    for name in ("Ana", "Ben", "Cleo"):
        onboarding.enrol(platform="slack", tenant="T", by="x", user=f"U{name}", name=name, start=today)

    def read(step: Step, joiner: Joiner) -> Passage | None:
        if joiner.name == "Ben":
            raise RuntimeError("a secret sentence")
        return None

    assert send_due(onboarding, journeys, settings, read, store.clock() + 86_400) == 2
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


# Summaries


@pytest.mark.parametrize(
    ("text", "topic", "sentences"),
    [
        ("summarise parental leave", "parental leave", 6),
        ("summarize the travel policy in 3 sentences", "travel policy", 3),
        ("please summarise sick leave in about 90 words", "sick leave", 5),
        ("a short summary of leave", "a summary of leave", 3),
        ("summarise leave in five points", "leave", 5),
    ],
)
def test_topic_and_length_are_understood(text: str, topic: str, sentences: int) -> None:
    assert (wanted(text).topic, wanted(text).sentences) == (topic, sentences)


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("What changed in the travel policy?", "travel policy"),
        ("what's new in Leave", "Leave"),
        ("what has changed about sick leave?", "sick leave"),
        ("How can I change my address?", None),
        ("What happens if my shift is changed?", None),
    ],
)
def test_a_question_about_changes_is_recognised(text: str, topic: str | None) -> None:
    assert changed_topic(text) == topic


def test_every_sentence_of_a_summary_stands_in_its_source(summaries: Summaries, index: Callable[[], Index]) -> None:
    final = summaries.topic("summarise leave in 5 sentences", ["employee"], nothing, go_on)
    texts = {section.id: section.text for section in index().sections}
    lines = [line for line in final.text.splitlines() if line.startswith("- ")]
    assert 3 <= len(lines) <= 5
    for line in lines:
        sentence, _, number = line[2:].rpartition(" [")
        assert sentence in texts[final.sources[int(number.rstrip("]")) - 1].section]


def test_at_a_short_length_what_is_left_out_is_named(summaries: Summaries) -> None:
    final = summaries.topic("summarise leave in 1 sentence", ["employee"], nothing, go_on)
    assert final.text.count("\n- ") + final.text.startswith("- ") == 1
    left = final.text.splitlines()[-1]
    assert sum(name in left for name in ("Annual leave", "Sick leave", "Bereavement")) == 2


def test_a_summary_believes_no_number_of_the_model(
    index: Callable[[], Index], embedder: Embedder, store: Store, settings: Settings, folder: Path
) -> None:
    phrase = phrase_with(
        phrasing(settings), Serving(lambda: ScriptedEngine("You get 99 days when a relative dies. [1]", "a1"))
    )
    written = Summaries(index, embedder, Versions(store), phrase)
    assert "99" not in written.topic("summarise leave in 3 sentences", ["employee"], nothing, go_on).text


def test_a_managers_document_is_not_summarised_for_an_employee(summaries: Summaries) -> None:
    for text in ("summarise restructuring", "summarise selection", "summarise redundant posts in the Leeds office"):
        final = summaries.topic(text, ["employee"], nothing, go_on)
        assert "4 May" not in final.model_dump_json()
        assert "Restructuring.md" not in final.model_dump_json()
    assert "4 May" in summaries.topic("summarise restructuring", ["employee", "manager"], nothing, go_on).text


def test_what_changed_is_told_in_words_with_both_versions(summaries: Summaries, folder: Path, store: Store) -> None:
    assert summaries.changes("leave", ["employee"], nothing).verdict == "abstained"
    (folder / "Handbook.md").write_text(HANDBOOK.replace("5 paid days", "7 paid days"), encoding="utf-8")
    (folder / "Restructuring.md").write_text(SECRET.replace("4 May", "9 May"), encoding="utf-8")
    Versions(store).record(load_folder(folder))
    final = summaries.changes("bereavement", ["employee"], nothing)
    assert "Before: “When a close relative dies you get 5 paid days.” [1]" in final.text
    assert "Now: “When a close relative dies you get 7 paid days.” [2]" in final.text
    assert len({source.version for source in final.sources}) == 2
    assert "May" not in summaries.changes("restructuring selection", ["employee"], nothing).model_dump_json()
    assert "9 May" in summaries.changes("restructuring", ["manager"], nothing).text


# The loop


def approve(store: Store, question: str, answer: str, sections: tuple[str, ...] = ()) -> None:
    variants = ("Is there a dog policy?", "May I stay away for a funeral?")
    gap = Gap("g1", question, variants, FEWEST, 7, "", "", sections, "")
    Loop(store).replace_gaps([gap])
    assert Loop(store).approve("g1", question, answer, "slack:UHR")


@pytest.fixture
def answer(
    index: Callable[[], Index], embedder: Embedder, store: Store, summaries: Summaries, settings: Settings
) -> Ask:
    def run(question: str, *roles: str) -> tuple[Final, ScriptedEngine]:
        engine = ScriptedEngine("You get 28 days. [1]")
        answerer = EarlyAnswerer(
            settings, index, Serving(lambda: engine), lambda: None,
            standards=Standards(Loop(store), embedder), summaries=summaries,
        )  # fmt: skip
        return answerer.answer(Request(question, (), ("employee", *roles)), nothing, go_on), engine  # type: ignore[arg-type]

    return run


def test_a_standard_answer_comes_first_and_is_cited_as_such(answer: Ask, store: Store) -> None:
    approve(store, "May I bring my dog to the office?", "Yes, on Fridays.")
    for question in ("may i bring my dog to the office", "is there a dog policy?"):
        final, engine = answer(question)
        assert final.text == "Yes, on Fridays. [1]"
        assert final.sources[0].document == "Standard answer by HR"
        assert engine.prompts == []
    assert "Fridays" not in answer("How many days of annual leave do I get?")[0].text
    assert Loop(store).golden() == [], "no document could tell a model about dogs"


def test_an_approved_answer_adds_golden_questions_that_the_gate_reads(
    store: Store,
    index: Callable[[], Index],
    summaries: Summaries,
    tmp_path: Path,
) -> None:
    section = next(one for one in index().sections if one.heading_path[-1] == "Bereavement")
    approve(store, "How long may I stay away when my gran died?", "5 paid days. Tell your manager.", (section.id,))
    file = tmp_path / "approved.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in Loop(store).golden()), encoding="utf-8")
    first, second = read_golden(file)
    # What HR wrote is taught, so the other ways to ask it measure.
    assert [first.question, second.question] == ["Is there a dog policy?", "May I stay away for a funeral?"]
    assert first.expect == (("5 paid",),)
    assert first.sources == ("Leave > Bereavement",)
    [(taught, heading)] = Loop(store).taught()
    assert (taught.question, heading) == ("How long may I stay away when my gran died?", "Leave > Bereavement")


def test_a_standard_answer_is_silent_when_its_policy_has_changed_or_is_not_for_the_asker(
    answer: Ask,
    store: Store,
    index: Callable[[], Index],
    folder: Path,
) -> None:
    secret = next(section.id for section in index().sections if section.document == "Restructuring.md")
    approve(store, "When is the list of posts ready?", "By 4 May.", (secret,))
    assert answer("When is the list of posts ready?", "manager")[0].text == "By 4 May. [1]"
    assert "4 May" not in answer("When is the list of posts ready?")[0].model_dump_json()
    (folder / "Restructuring.md").write_text(SECRET.replace("4 May", "9 May"), encoding="utf-8")
    assert "4 May" not in answer("When is the list of posts ready?", "manager")[0].model_dump_json()


def test_a_disclosure_is_never_met_with_a_standard_answer(answer: Ask, store: Store) -> None:
    text = "my manager keeps touching me and i am scared"
    approve(store, text, "Please fill in form 7.")
    assert answer(text)[0].verdict == "sensitive"


def test_questions_without_an_answer_are_grouped_by_meaning_and_only_where_many_ask(
    index: Callable[[], Index], embedder: Embedder
) -> None:
    dogs = [
        "Can I bring my dog to the office?", "may i bring my dog to work", "are dogs allowed in the office?",
        "is it ok to bring a dog into the office", "Can I take my dog to the office, Maria said yes",
        "dogs in the office allowed?",
    ]  # fmt: skip
    asked = [Unanswered(text, f"u{number}") for number, text in enumerate(dogs)]
    asked += [Unanswered("Where can I park my bicycle?", f"u{number}") for number in range(FEWEST - 1)]
    asked += [Unanswered("can i work from the moon", "u1")] * 20
    [gap] = find_gaps(asked, embedder, index())
    assert gap.people >= FEWEST
    assert "dog" in gap.question.lower()
    assert "Maria" not in " ".join([gap.question, *gap.variants])


def test_names_and_numbers_leave_what_is_shown() -> None:
    told = without_names("Can Peter Miller (peter@example.com, +49 170 1234567) and I share a desk, asks @ana?")
    for private in ("Miller", "peter@", "1234567", "@ana"):
        assert private not in told


def question(number: int, text: str) -> Question:
    return Question(
        id=f"question{number}", platform="slack", tenant="T", conversation="C", thread=str(number),
        user=f"U{number}", text=text, private=True, asked_at=1.0 + number,
    )  # fmt: skip


def test_only_what_nothing_answered_is_a_gap_and_a_sensitive_question_never(store: Store) -> None:
    store.clock = lambda: 100.0
    store.record_answer(question(1, "dogs?"), Final(verdict="abstained", text="no"))
    store.record_answer(question(2, "leave?"), Final(verdict="answered", text="28"))
    store.record_answer(question(3, "he hit me"), Final(verdict="sensitive", text="please talk"))
    store.record_answer(question(4, "bad one"), Final(verdict="answered", text="wrong"))
    store.record_feedback("question4", "U4", -1)
    assert {one.text for one in unanswered(store, 100.0)} == {"dogs?", "bad one"}


def test_a_correction_reaches_those_who_were_answered_from_the_old_text_once(
    store: Store,
    folder: Path,
    index: Callable[[], Index],
    summaries: Summaries,
) -> None:
    section = next(one for one in index().sections if one.heading_path[-1] == "Bereavement")
    source = {"number": 1, "section": section.id, "document": section.document, "heading": "x", "passage": "p"}
    final = Final.model_validate({"verdict": "answered", "text": "5 days", "sources": [{**source, "version": "v"}]})
    for number in range(3):
        store.record_answer(question(number, f"how many days {number}"), final)
    corrections = Corrections(store)
    assert corrections.changes() == []
    (folder / "Handbook.md").write_text(HANDBOOK.replace("5 paid days", "7 paid days"), encoding="utf-8")
    Versions(store).record(load_folder(folder))
    [change] = corrections.changes()
    assert change.people == 3
    told = json.dumps(Loop(store).digest())
    assert "Fewer than 5 people" in told
    assert "U1" not in told
    assert corrections.send(section.id, "slack:UHR", lambda *_: ("employee",)) == 3
    assert corrections.send(section.id, "slack:UHR", lambda *_: ("employee",)) == 0
    with store.session() as session:
        rows = session.query(OutboxRow).all()
    assert {row.address["user"] for row in rows} == {"U0", "U1", "U2"}
    for row in rows:
        [line] = row.payload["rows"]
        assert line["text"] == (
            "*Before:* When a close relative dies you get 5 paid days.\n*Now:* When a close relative dies you get 7 "
            "paid days."
        )


# Drafts


def test_a_draft_holds_only_what_hr_wrote_and_what_the_documents_say(
    settings: Settings,
    index: Callable[[], Index],
    embedder: Embedder,
    tmp_path: Path,
) -> None:
    file = tmp_path / "onboarding.yaml"
    file.write_text(JOURNEYS, encoding="utf-8")
    configured = settings.model_copy(update={"people": People(onboarding=file)})
    values = {
        "name": "Ben Okri", "role": "Analyst", "location": "Leeds", "start": "2027-02-01", "pay": "£40,000",
        "contract": "permanent", "until": "2027-01-15", "sender": "Hanna",
    }  # fmt: skip
    asked = json.dumps({"template": "offer-letter", "values": values})
    final = draft(configured, Personal(index, embedder), asked)
    assert final.text.startswith(MARK)
    assert final.asker_only
    assert "£40,000" in final.text
    assert "25 days" in final.text
    assert "28" not in final.text
    assert "[nothing about this in the documents]" in final.text, "there is no rule about probation"
    missing = draft(configured, Personal(index, embedder), json.dumps({"template": "offer-letter", "values": {}}))
    assert missing.verdict == "invalid"


def test_a_draft_of_a_judgement_is_refused(settings: Settings, index: Callable[[], Index], embedder: Embedder) -> None:
    values = {"name": "Ana", "role": "x", "sender": "y", "reason": "rank the candidates by age"}
    final = draft(settings, Personal(index, embedder), json.dumps({"template": "rejection-letter", "values": values}))
    assert final.verdict == "refused"
