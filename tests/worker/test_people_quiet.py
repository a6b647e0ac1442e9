"""Ids travel, words do not: after whole conversations no log, task, audit row or error holds any of them."""

import base64
import json
import logging
from collections.abc import Iterator

import pytest
import redis

from quantahr.bus import Asking
from quantahr.messages import Question
from quantahr.queue import ASK_QUEUE
from quantahr.settings import Settings
from quantahr.store.tables import AuditRow
from tests.worker.test_pipeline import ScriptedEngine
from worker.engines.base import EngineError
from worker.runtime import Runtime
from worker.tasks.ask import answer_question
from worker.tasks.people import gaps

HANDBOOK = "# Leave\n## Annual leave\nFull-time employees get 28 days of zebrafinch leave a year.\n"
WORDS = ("zebrafinch", "axolotl", "28 days", "Okapi")


class Leaky(ScriptedEngine):
    """Fails with an error that quotes its prompt, as a careless library would."""

    def generate(self, messages, **_):  # type: ignore[no-untyped-def]
        raise RuntimeError(json.dumps(list(messages)))


@pytest.fixture(params=["answers", "fails", "leaks"])
def runtime(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Runtime]:
    settings.policies_dir.mkdir()
    (settings.policies_dir / "Okapi.md").write_text(HANDBOOK, encoding="utf-8")
    engines = {
        "answers": ScriptedEngine("You get 28 days of zebrafinch leave. [1]", "a1"),
        "fails": ScriptedEngine(EngineError("gone"), "a1"),
        "leaks": Leaky("", "a1"),
    }
    running = Runtime(settings, lambda: engines[request.param])
    running.warm_up()
    yield running
    running.close()


async def test_nothing_that_was_asked_or_answered_stands_in_logs_tasks_or_audit(
    runtime: Runtime, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    bus = Asking(settings)
    texts = {
        "ask": [
            "how many days of zebrafinch leave do i get",
            "does my axolotl get leave",
            "what changed in zebrafinch",
        ],
        "summary": ["summarise zebrafinch leave"],
        "draft": ['{"template": "rejection-letter", "values": {"name": "axolotl", "role": "x", "sender": "y"}}'],
    }
    for kind, asked in texts.items():
        for number, text in enumerate(asked):
            question = Question(
                id=f"{kind}-question-{number}", platform="slack", tenant="T", conversation="C", thread="t", user="U1",
                text=text, private=True, asked_at=1.0, kind=kind, roles=("employee", "hr"),
            )  # fmt: skip
            assert await bus.ask(question, {})
            answer_question(runtime, question.id)
    gaps(runtime)
    await bus.close()
    queue = redis.Redis.from_url(settings.redis_url)
    messages = [json.loads(raw) for raw in queue.lrange(ASK_QUEUE, 0, -1)]
    tasks = " ".join(f"{one} {base64.b64decode(one['body']).decode()}" for one in messages)
    with runtime.store.session() as session:
        audit = " ".join(str((row.actor, row.action, row.subject, row.detail)) for row in session.query(AuditRow))
    logged = " ".join(f"{record.getMessage()} {record.exc_text or ''}" for record in caplog.records)
    assert "ask-question-0" in tasks
    for word in WORDS:
        assert word not in tasks
        assert word not in audit
        assert word not in logged
