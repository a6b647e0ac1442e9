"""Guard → retrieve → generate → verify, with an engine that says what the test wants."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from quantahr.messages import Delta, Event, Final, Sources
from quantahr.policies import load_folder
from quantahr.prompt import NO_ANSWER, Message
from quantahr.retrieval import Index, load_embedder
from quantahr.settings import Settings
from worker.answering import support
from worker.answering.pipeline import Answerer, Request
from worker.engines.base import EngineError, EngineVersion, Generation, OnText
from worker.serving import Serving

HANDBOOK = """# Leave
## Annual leave
Full-time employees get 28 days of paid annual leave a year.
Unused days lapse on 31 March of the following year.
## Bereavement
When a close relative dies you get 5 paid days. Tell your manager by phone.
# Travel
## Meals
We refund meals on business trips up to €35 a day. Keep the receipts.
"""
SECRET = """---
audience: manager
---
# Restructuring
## Selection
Managers of the Leeds office prepare the list of redundant posts by 4 May.
"""


class ScriptedEngine:
    """Says `script`; an EngineError in its place is raised."""

    slots = 1
    context_tokens = 1024

    def __init__(self, script: str | EngineError, adapter: str | None = None, doubt: float = 0.0) -> None:
        self.script = script
        self.doubt = doubt
        self.version = EngineVersion("base", adapter, "scripted")
        self.prompts: list[str] = []

    def generate(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        stop: Sequence[str] = (),
        on_text: OnText | None = None,
        temperature: float = 0.0,
    ) -> Generation:
        self.prompts.append("\n".join(message["content"] for message in messages))
        if isinstance(self.script, EngineError):
            raise self.script
        said = ""
        for word in self.script.split(" "):
            said += word + " "
            if on_text and on_text(word + " "):
                return Generation(said, 10, 10, "cancelled", 1.0, 0)
        return Generation(said, 10, 10, "stop", 1.0, 0)

    def choose(self, messages: Sequence[Message], options: Sequence[str]) -> dict[str, float]:
        return dict.fromkeys(options, self.doubt)

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def close(self) -> None: ...


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    folder: Path = tmp_path_factory.mktemp("policies")
    (folder / "Handbook.md").write_text(HANDBOOK, encoding="utf-8")
    (folder / "Restructuring.md").write_text(SECRET, encoding="utf-8")
    return Index.build(load_folder(folder).sections, load_embedder())


Ask = Callable[..., tuple[Final, list[Event], ScriptedEngine]]


@pytest.fixture
def ask(index: Index) -> Ask:
    def run(
        question: str,
        script: str | EngineError = "You get 28 days. [1]",
        *,
        adapter: str | None = None,
        roles: Sequence[str] = ("employee",),
        stopped: bool = False,
        doubt: float = 0.0,
        **answering: object,
    ) -> tuple[Final, list[Event], ScriptedEngine]:
        settings = Settings.model_validate(
            {"answering": {"phrase": True, **answering}, "contacts": {"hr": {"name": "Ana", "detail": "x100"}}}
        )
        engine = ScriptedEngine(script, adapter, doubt)
        events: list[Event] = []
        answerer = Answerer(settings, lambda: index, Serving(lambda: engine))
        final = answerer.answer(Request(question, (), tuple(roles)), events.append, lambda: stopped)  # type: ignore[arg-type]
        return final, events, engine

    return run


def test_an_answer_is_phrased_cited_and_carries_its_provenance(ask: Ask, index: Index) -> None:
    final, events, _ = ask("how many days of annual leave do i get")
    assert final.verdict == "answered"
    assert final.text == "You get 28 days. [1]"
    assert [source.heading for source in final.sources] == ["Leave > Annual leave"]
    assert final.provenance is not None
    assert (final.provenance.model, final.provenance.index) == ("base", index.version)
    assert "".join(event.text for event in events if isinstance(event, Delta)) == final.text
    assert isinstance(events[0], Sources)


def test_a_number_that_no_document_states_never_reaches_the_asker(ask: Ask) -> None:
    final, events, _ = ask("how many days of annual leave do i get", "You get 40 days. [1]")
    shown = "".join(event.text for event in events if isinstance(event, Delta))
    assert final.verdict == "quoted"
    assert "28 days" in final.text
    assert "40" not in final.text + shown


def test_what_was_shown_before_a_bad_sentence_stands_and_the_bad_one_is_never_shown(ask: Ask) -> None:
    final, _, _ = ask(
        "how many days of annual leave do i get", "You get 28 days of annual leave. [1] They lapse on 5 May. [1]"
    )
    assert (final.verdict, final.text) == ("answered", "You get 28 days of annual leave. [1]")


def test_an_answer_without_a_citation_gets_one(ask: Ask) -> None:
    final, _, _ = ask("how many days of annual leave do i get", "Full-time employees get 28 days of paid annual leave.")
    assert final.verdict == "answered"
    assert final.text.endswith("[1]")
    assert final.sources


def test_a_question_that_nothing_answers_is_declined_with_a_human_and_the_closest_passages(ask: Ask) -> None:
    final, _, engine = ask("what is the wifi password of the Lisbon lounge", min_support=1.0)
    assert final.verdict == "abstained"
    assert final.text == f"{NO_ANSWER} Please ask Ana (x100)."
    assert final.closest
    assert engine.prompts == []


def test_only_a_trained_model_may_abstain_by_itself(ask: Ask) -> None:
    trained, _, _ = ask("how many days of annual leave do i get", NO_ANSWER, adapter="a1")
    untrained, _, _ = ask("how many days of annual leave do i get", NO_ANSWER)
    assert (trained.verdict, untrained.verdict) == ("abstained", "quoted")


def test_a_failing_model_costs_the_phrasing_and_not_the_answer(ask: Ask) -> None:
    final, _, _ = ask("how many days of annual leave do i get", EngineError("gone"))
    assert final.verdict == "quoted"
    assert "28 days" in final.text


def test_a_sensitive_message_never_reaches_the_model_or_the_index(ask: Ask) -> None:
    final, events, engine = ask("my manager keeps touching me and i am scared")
    assert final.verdict == "sensitive"
    assert final.asker_only
    assert final.contact is not None
    assert engine.prompts == []
    assert events == []


def test_a_managers_section_never_reaches_an_employees_prompt_or_sources(ask: Ask) -> None:
    question = "which posts in Leeds are on the redundancy list and until when is it prepared"
    final, events, engine = ask(question, "By 4 May. [1]", min_support=0.0)
    seen = "\n".join(engine.prompts) + final.model_dump_json() + "".join(event.model_dump_json() for event in events)
    assert "Leeds office" not in seen
    assert "4 May" not in seen
    for_manager, _, told = ask(question, "By 4 May. [1]", roles=("employee", "manager"), min_support=0.0)
    assert "Leeds office" in "\n".join(told.prompts)
    assert "4 May" in for_manager.text


def test_stop_ends_with_what_has_been_shown(ask: Ask) -> None:
    final, _, _ = ask("how many days of annual leave do i get", stopped=True)
    assert final.stopped
    assert final.text == ""


def test_without_phrasing_the_documents_speak_for_themselves(ask: Ask) -> None:
    final, _, engine = ask("how much for lunch on a business trip", phrase=False)
    assert final.verdict == "quoted"
    assert "€35" in final.text
    assert engine.prompts == []


def test_by_default_the_documents_are_quoted(ask: Ask) -> None:
    final, _, engine = ask("how many days of annual leave do i get", adapter="a1", phrase=False)
    assert final.verdict == "quoted"
    assert engine.prompts == []


@pytest.mark.parametrize(("doubt", "verdict"), [(0.01, "quoted"), (0.99, "abstained")])
def test_a_trained_models_doubt_decides_where_retrieval_is_unsure(
    ask: Ask, index: Index, doubt: float, verdict: str
) -> None:
    question = "how many days of annual leave do i get"
    unsure = support.together(index.search(question, audiences=["employee"]).answerable, 0.5)
    final, _, _ = ask(question, adapter="a1", phrase=False, doubt=doubt, min_support=unsure)
    assert final.verdict == verdict


def test_an_untrained_models_doubt_is_not_asked(ask: Ask) -> None:
    final, _, _ = ask("how many days of annual leave do i get", phrase=False, doubt=0.99)
    assert final.verdict == "quoted"


@pytest.mark.parametrize("answerable", [0.02, 0.2, 0.5, 0.8, 0.97])
@pytest.mark.parametrize("cut", [0.2, 0.4, 0.7])
def test_the_model_is_asked_exactly_where_it_can_change_the_outcome(answerable: float, cut: float) -> None:
    verdicts = {support.together(answerable, doubt) >= cut for doubt in (0.01, 0.2, 0.5, 0.8, 0.99)}
    assert support.open_question(answerable, cut) == (len(verdicts) == 2)


def test_where_it_can_change_nothing_the_model_is_not_asked(ask: Ask) -> None:
    final, _, _ = ask(
        "how many days of annual leave do i get", adapter="a1", phrase=False, doubt=0.99, min_support=0.01
    )
    assert final.verdict == "quoted"
