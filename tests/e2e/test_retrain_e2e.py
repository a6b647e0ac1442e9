"""From `/hr-retrain` to the next answer, as an administrator and their colleagues live through it.

Everything is real but the chat platform and AWS: the bot, the worker with its model, `quantahr jobs`, Redis, and on the
simulated machine the very user data, bootstrap and training, of the model that is served.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
import redis
import yaml
from sqlalchemy import select

from quantahr.gguf import PACKAGED_MODEL, packaged_gguf, transformers_folder
from quantahr.registry import Registry, workers
from quantahr.retrain import Job, Jobs
from quantahr.settings import Settings
from quantahr.store import Store
from quantahr.store.tables import AnswerRow
from tests.aws import simulator
from tests.aws.simulator import Account
from tests.conftest import RedisServer
from tests.fakes.fake_connector import FakeTeams
from tests.fakes.fake_slack import APP_TOKEN, BOT_TOKEN, FakeSlack
from tests.fakes.people import World, answers, until
from tests.fakes.retrain_chat import Chat, SlackChat, TeamsChat
from tests.fakes.slack_world import SlackWorld
from tests.fakes.teams_world import TeamsWorld
from training.launch.aws import ACTIVE

pytestmark = [pytest.mark.e2e, pytest.mark.aws, pytest.mark.model, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = "Bereavement-and-Emergencies.docx"
GOLDEN = ("g045", "g047", "g050")
QUESTIONS = (
    "my grandmother died, how many days off do i get",
    "can i go to a friends funeral in work time",
    "a pipe burst in my kitchen, can i wait for the plumber",
    "my cat died can i stay home",
)
SECONDS = 900.0
"""Patience, not a measure: on a busy machine everything takes its time."""


@pytest.fixture(scope="module")
def box_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training machine has at hand after its first run: the packaged model as training reads it."""
    folder = tmp_path_factory.mktemp("box_state")
    transformers_folder(packaged_gguf(), folder)
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An installation with one document, three golden questions and a short training."""
    folder = tmp_path / "home"
    for part in ("config", "data/hr_policies", "data/golden"):
        (folder / part).mkdir(parents=True)
    shutil.copy(ROOT / "data/hr_policies" / DOCUMENT, folder / "data/hr_policies")
    shutil.copy(ROOT / "config/instances.json", folder / "config")
    golden = (ROOT / "data/golden/golden.jsonl").read_text(encoding="utf-8").splitlines()
    chosen = [line for line in golden if json.loads(line)["id"] in GOLDEN]
    (folder / "data/golden/few.jsonl").write_text("\n".join(chosen) + "\n", encoding="utf-8")
    config = {
        "model": {
            "name": "short",
            "base_llm_model": PACKAGED_MODEL,
            "quantization": {"load_in_4bit": False},
            "lora": {"r": 2, "lora_alpha": 4, "target_modules": ["v_proj"], "lora_dropout": 0.0},
            "max_sequence_length": 512,
        },
        "datasets": [{"type": "docx", "input_files": ["data/hr_policies/*.docx"]}],
        "training": {
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 1,
            "warmup_steps": 1,
            "max_steps": 6,
            "learning_rate": 0.0001,
            "save_steps": 2,
            "save_total_limit": 2,
        },
        "compute": {"platform": "aws", "instance_type": "g5.xlarge", "boot_os_query": "Deep*", "max_minutes": 60},
    }
    (folder / "config/qlora_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.fixture
def account(tmp_path: Path, box_state: Path, home: Path) -> Iterator[Account]:
    with Account(tmp_path / "aws") as made:
        made.environment["QHR_STATE_DIR"] = str(box_state)
        (home / "config/infra.json").write_text(made.infra.model_dump_json(), encoding="utf-8")
        yield made


@pytest.fixture(params=["slack", "teams"])
async def platform(request: pytest.FixtureRequest) -> AsyncIterator[FakeSlack | FakeTeams]:
    fake = FakeSlack() if request.param == "slack" else FakeTeams()
    await fake.start()
    yield fake
    await fake.stop()


@dataclass
class Company:
    """The chat and what runs behind it."""

    chat: Chat
    world: World
    settings: Settings
    jobs: Jobs
    store: Store
    start: Callable[..., subprocess.Popen[bytes]]

    def serving(self) -> list[str]:
        """What the workers serve."""
        with redis.Redis.from_url(self.settings.redis_url) as client:
            return [worker.serving for worker in workers.states(client)]

    @property
    def job(self) -> Job:
        (newest, *_) = self.jobs.history(1)
        return newest

    def adapters(self) -> list[str | None]:
        """What produced each answer, oldest first."""
        with self.store.session() as session:
            return list(session.scalars(select(AnswerRow.adapter).order_by(AnswerRow.answered_at)))


@pytest.fixture
async def company(
    platform: FakeSlack | FakeTeams, home: Path, account: Account, own_redis: RedisServer
) -> AsyncIterator[Company]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "QUANTAHR_REDIS_URL": own_redis.url,
        "QUANTAHR_STATE_DIR": str(home / "state"),
        # A model that phrases is what a swap could disturb.
        "QUANTAHR_ANSWERING__PHRASE": "true",
        "QUANTAHR_MODEL__SLOTS": "2",
        # On a busy machine an answer may take long; an apology would be none.
        "QUANTAHR_QUEUE__GIVE_UP_SECONDS": "900",
        "QUANTAHR_ANSWERING__TIMEOUT_SECONDS": "600",
        **simulator.CREDENTIALS,
        "AWS_ENDPOINT_URL": account.url,
    }
    chat: Chat
    world: World
    if isinstance(platform, FakeSlack):
        chat, world = SlackChat(platform), SlackWorld(platform)
        environment |= {"SLACK_BOT_TOKEN": BOT_TOKEN, "SLACK_APP_TOKEN": APP_TOKEN}
        environment |= {"QUANTAHR_SLACK__API_URL": platform.api_url}
    else:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        platform.bot_url = f"http://127.0.0.1:{port}"
        chat, world = TeamsChat(platform), TeamsWorld(platform)
        teams = platform.settings
        environment |= {
            "TEAMS_APP_PASSWORD": platform.password,
            "QUANTAHR_TEAMS__APP_ID": teams["app_id"],
            "QUANTAHR_TEAMS__TENANT_ID": teams["tenant_id"],
            "QUANTAHR_TEAMS__PORT": str(port),
            "QUANTAHR_TEAMS__SERVICE_URLS": teams["service_urls"][0],
            "QUANTAHR_TEAMS__OPENID_URL": teams["openid_url"],
            "QUANTAHR_TEAMS__LOGIN_URL": teams["login_url"],
        }
    roles = {"roles": {"admin": [chat.role_id("ana")]}}
    (home / "config/quantahr.yaml").write_text(yaml.safe_dump(roles), encoding="utf-8")
    running: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        with (home / f"{arguments[0]}-{len(running)}.log").open("wb") as log:
            command = [sys.executable, "-m", "quantahr", *arguments]
            running.append(subprocess.Popen(command, cwd=home, env=environment, stdout=log, stderr=log))
        return running[-1]

    settings = Settings(state_dir=home / "state", redis_url=own_redis.url)
    store = Store.open(settings)
    try:
        yield Company(chat, world, settings, Jobs(store), store, start)
    finally:
        store.close()
        for process in running:
            process.kill()
            process.wait(timeout=10)


async def connected(platform: FakeSlack | FakeTeams) -> None:
    if isinstance(platform, FakeSlack):
        return await asyncio.wait_for(platform.connected(), SECONDS)
    async with aiohttp.ClientSession() as session:
        for _ in range(int(SECONDS * 10)):
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"{platform.bot_url}/healthz") as answer:
                    if answer.status == 200:
                        return None
            await asyncio.sleep(0.1)
    raise AssertionError("the bot does not listen")


@dataclass
class Reader:
    """Reads the message about the job as it changes, as the administrator would."""

    chat: Chat
    seen: list[str] = field(default_factory=list)

    async def run(self) -> None:
        while True:
            if (now := self.chat.reads()) and (not self.seen or self.seen[-1] != now):
                self.seen.append(now)
            await asyncio.sleep(0.05)

    async def until(self, words: str) -> str:
        def found() -> str | None:
            assert "failed" not in self.chat.reads(), self.chat.reads()
            return next((text for text in reversed(self.seen) if words in text), None)

        return str(await until(found, SECONDS))


async def colleague(company: Company, name: str, asked: list[str], over: asyncio.Event) -> None:
    """Asks as soon as the last answer is there, until it is over."""
    person = company.world.person(name)
    while not over.is_set():
        before = len(answers(person, "private"))
        asked.append(QUESTIONS[len(asked) % len(QUESTIONS)])
        await person.write(asked[-1])
        await until(lambda before=before: len(answers(person, "private")) > before, SECONDS)  # type: ignore[misc]


async def test_what_an_administrator_starts_from_the_chat_answers_the_next_question(
    company: Company, platform: FakeSlack | FakeTeams, account: Account, home: Path, request: pytest.FixtureRequest
) -> None:
    chat = company.chat
    company.start("worker")
    bot = company.start("bots", "--only", company.world.platform)
    company.start("jobs")
    await connected(platform)
    await until(company.serving, SECONDS)
    ben = company.world.person("ben")
    await ben.write("my cat died can i stay home")
    await until(lambda: answers(ben, "private"), SECONDS)
    (before,) = company.adapters()

    reader = Reader(chat)
    reading = asyncio.create_task(reader.run())
    over = asyncio.Event()
    asked: list[str] = []
    load: list[asyncio.Task[None]] = []
    try:
        await chat.type("ben", "")
        await until(lambda: "Only administrators" in chat.told("ben"), SECONDS)

        await chat.type("ana", "")
        await until(lambda: "I am looking at the documents" in chat.told("ana"), SECONDS)
        plan = await reader.until("[Start training]")
        assert "Documents: 1; changed since the live model: Bereavement-and-Emergencies.docx" in plan
        assert "AWS, g5.xlarge" in plan
        assert "Hard cap: 60 minutes, $1.01" in plan
        assert account.boxes == {}, "nothing is rented before somebody says so"

        await chat.press("ana", "Start training")
        await reader.until("is starting")
        await reader.until("Measuring the candidate")
        assert set(account.states().values()) == {"terminated"}
        # The bot is killed while the candidate is measured; the next one keeps the same message up to date.
        bot.send_signal(signal.SIGKILL)
        bot.wait(timeout=10)
        bot = company.start("bots", "--only", company.world.platform)
        verdict = await reader.until("[Reject]")
        assert "live" in verdict
        assert "candidate" in verdict
        approve = "Approve" if "[Approve]" in verdict else "Approve anyway"
        assert company.job.gate
        assert company.job.gate.passed == (approve == "Approve")
        await until(chat.pictures, SECONDS)

        await connected(platform)
        load = [asyncio.create_task(colleague(company, name, asked, over)) for name in ("carl", "dora", "emil")]
        answered = len(company.adapters())
        await until(lambda: len(company.adapters()) > answered + 1, SECONDS)
        await chat.press("ana", approve)
        live = await reader.until("serves it")
        version = company.job.version
        assert version
        assert version != before
        assert f"Version {version} is live" in live
        over.set()
        await asyncio.gather(*load)

        known = len(answers(ben, "private"))
        await ben.write("my cat died can i stay home")
        await until(lambda: len(answers(ben, "private")) > known, SECONDS)
        assert company.serving() == [version]
        assert company.adapters()[-1] == version, "the next answer is the new version's"
        assert set(company.adapters()) == {before, version}
        assert len(company.adapters()) == len(asked) + 2, "every question was answered, once"

        await chat.type("ana", "history")
        await until(lambda: f"promoted, version {version}" in chat.told("ana"), SECONDS)
    finally:
        over.set()
        for task in (reading, *load):
            task.cancel()
        if request.config.getoption("verbose") > 0:
            print("\n\n---\n".join(reader.seen))

    assert len(chat.board()) == 1, "one message, edited in place, whichever bot was alive"
    job = company.job
    assert job.plan
    assert Registry.open(company.settings).active().id == version  # type: ignore[union-attr]
    assert any(key.startswith(f"checkpoints/{job.plan.run}/") for key in account.objects()), "one name for the run"
    kept = [key for key in account.objects() if key.startswith(("data/", "config/")) or key == ACTIVE]
    assert kept == []
    assert len(account.boxes) == 1
    await until(lambda: not any(box.processes() for box in account.boxes.values()))
    assert platform.refused == []
