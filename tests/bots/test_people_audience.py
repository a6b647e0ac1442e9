"""A manager's document on every platform: the manager is answered from it, an employee never sees a word of it.

The real answering behind the real bots: only the language model follows a script, and shows what it was given.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from quantahr.messages import Question
from quantahr.people.loop import Loop
from quantahr.people.versions import Versions
from quantahr.policies import load_folder
from quantahr.retrieval import Index, load_embedder
from quantahr.settings import Settings
from quantahr.store import Store
from tests.fakes.people import World, answers, until
from tests.fakes.scripted_worker import ScriptedWorker, Step
from tests.worker.test_pipeline import HANDBOOK, SECRET, ScriptedEngine
from worker.answering.pipeline import request_of
from worker.people.early import EarlyAnswerer
from worker.people.phrasing import quote_only
from worker.people.standards import Standards
from worker.people.summaries import Summaries
from worker.serving import Serving

QUESTION = "which posts in Leeds are on the redundancy list and until when is it prepared"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Index]:
    folder = tmp_path_factory.mktemp("policies")
    (folder / "Handbook.md").write_text(HANDBOOK, encoding="utf-8")
    (folder / "Restructuring.md").write_text(SECRET, encoding="utf-8")
    return folder, Index.build(load_folder(folder).sections, load_embedder())


@pytest.fixture
def settings(settings: Settings) -> Settings:
    managers = ("slack:UMIA", "teams:aad-29:mia")
    answering = settings.answering.model_copy(update={"phrase": True, "min_support": 0.0})
    return settings.model_copy(update={"roles": {"manager": managers}, "answering": answering})


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine("By 4 May. [1]")


@pytest.fixture
def worker(
    settings: Settings, store: Store, library: tuple[Path, Index], engine: ScriptedEngine
) -> Iterator[ScriptedWorker]:
    folder, index = library
    versions = Versions(store)
    versions.record(load_folder(folder))
    summaries = Summaries(lambda: index, load_embedder(), versions, quote_only)
    standards = Standards(Loop(store), load_embedder())
    answerer = EarlyAnswerer(
        settings, lambda: index, Serving(lambda: engine), lambda: None, standards=standards, summaries=summaries
    )

    def play(question: Question, _: Store) -> Iterator[Step]:
        if question.kind == "summary":
            yield summaries.topic(question.text, question.roles, lambda _: None, lambda: False)
        else:
            yield answerer.answer(request_of(question, ()), lambda _: None, lambda: False)

    running = ScriptedWorker(settings, store, play)
    running.start()
    yield running
    running.stop()


async def test_a_managers_section_reaches_the_manager_and_never_an_employee(
    world: World, worker: ScriptedWorker, engine: ScriptedEngine, settings: Settings, store: Store
) -> None:
    ana = world.person("ana")
    await ana.write(QUESTION)
    await until(lambda: answers(ana))
    await ana.write("summarise restructuring")
    await until(lambda: len(answers(ana)) > 1)
    await ana.write("what changed in the restructuring policy?")
    await until(lambda: len(answers(ana)) > 2)
    seen = " ".join(f"{shown.text} {shown.sources} {shown.raw}" for shown in ana.sees() if shown.by_bot)
    client = redis.Redis.from_url(settings.redis_url)
    streams = " ".join(str(client.xrange(key)) for key in client.scan_iter(match="qhr:answer:*"))
    with store.session() as session:
        from quantahr.store.tables import AnswerRow

        kept = " ".join(f"{row.text} {row.sources}" for row in session.query(AnswerRow))
    for place in (seen, streams, kept, "\n".join(engine.prompts)):
        assert "Leeds office" not in place
        assert "4 May" not in place
        assert "Restructuring.md" not in place
    mia = world.person("mia")
    await mia.write(QUESTION)
    await until(lambda: any("4 May" in shown.text for shown in answers(mia)))
    assert "Leeds office" in "\n".join(engine.prompts)
    assert not any("4 May" in shown.text for shown in ana.sees() if shown.by_bot)
