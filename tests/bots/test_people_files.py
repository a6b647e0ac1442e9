"""Files on both platforms: what somebody drops into the chat, wrong ones first, and a draft that comes as a Word file.

Real bots, real Redis and database, the worker's real rooms; the fakes hold everybody to the platforms' rules for files.
"""

import io
import json
import logging
import zipfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from docx import Document
from sqlalchemy import inspect

from bots import wording
from bots.conversation import Conversation
from bots.teams.files import DRAFT_GONE, NO_FILE
from bots.uploads import UPLOAD_BYTES
from quantahr.bus import scripts
from quantahr.people.drafts import MARK
from quantahr.settings import Settings
from quantahr.store import Store
from tests.bots.conftest import Start
from tests.bots.test_people_slack import said as said_in_slack
from tests.bots.test_people_teams import action
from tests.bots.test_people_teams import said as said_in_teams
from tests.fakes.fake_connector import BOT, FakeTeams
from tests.fakes.fake_slack import FakeSlack
from tests.fakes.people import Shown, answers, until
from tests.fakes.room_worker import RoomWorker
from tests.fakes.slack_world import CHANNEL, SlackPerson, SlackWorld
from tests.fakes.teams_bot import teams_bot
from tests.fakes.teams_files import CONSENT, INFO
from tests.fakes.teams_world import TeamsPerson, TeamsWorld

HANDBOOK = "# Leave\n## Annual leave\nFull-time employees get 28 days of paid annual leave a year.\n"
WORDS = "zebrafinch"
PDF = b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\ntrailer\n%%EOF\n"


@dataclass
class Office:
    """A platform with HR's Hanna and Ana on it."""

    platform: str
    hanna: SlackPerson | TeamsPerson
    ana: SlackPerson | TeamsPerson
    slack: FakeSlack
    teams: FakeTeams

    async def drop(
        self, person: SlackPerson | TeamsPerson, *files: tuple[str, bytes], text: str = "", told: int | None = None
    ) -> None:
        if self.platform == "slack":
            hosted = [self.slack.drive.add(name, data, told=told) for name, data in files]
            await self.slack.drop(person.id, self.slack.dm_of(person.id), *hosted, text=text)
        else:
            await self.teams.drop(person.id, *files, text=text)

    @property
    def downloads(self) -> int:
        return len(self.slack.drive.downloads) + self.teams.drive.downloads

    async def told(self, person: SlackPerson | TeamsPerson, words: str) -> Shown:
        found: list[Shown] = await until(
            lambda: [one for one in answers(person, "private") if words in f"{one.text} {one.raw}"]
        )
        return found[-1]


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "Handbook.md").write_text(HANDBOOK, encoding="utf-8")
    roles = {"hr": ("slack:UHR_HANNA", "teams:aad-29:hr_hanna")}
    return settings.model_copy(
        update={"policies_dir": folder, "roles": roles, "state_dir": tmp_path / "state"},
    )


@pytest.fixture
def worker(settings: Settings, store: Store) -> Iterator[RoomWorker]:
    running = RoomWorker(settings)
    running.start()
    yield running
    running.stop()


@pytest.fixture(params=["slack", "teams"])
async def office(
    request: pytest.FixtureRequest,
    slack: FakeSlack,
    start_slack: Start,
    teams: FakeTeams,
    settings: Settings,
    store: Store,
    worker: RoomWorker,
) -> AsyncIterator[Office]:
    if request.param == "slack":
        world = SlackWorld(slack)
        async with start_slack():
            yield Office("slack", world.person("hr_hanna"), world.person("ana"), slack, teams)
        assert slack.unacked == 0
    else:
        people = TeamsWorld(teams)
        async with teams_bot(settings, store, teams):
            yield Office("teams", people.person("hr_hanna"), people.person("ana"), slack, teams)
        assert teams.refused == []
        assert teams.drive.leaks == 0


def word(*paragraphs: str) -> bytes:
    made = Document()
    made.add_heading("Parking", 1)
    for text in paragraphs or (f"Bicycles are parked behind house 7, by the {WORDS}.", "There are 14 places for cars."):
        made.add_paragraph(text)
    written = io.BytesIO()
    made.save(written)
    return written.getvalue()


def with_macros() -> bytes:
    """A .docm that was renamed."""
    made = io.BytesIO(word())
    with zipfile.ZipFile(made, "a") as archive:
        archive.writestr("word/vbaProject.bin", b"\xd0\xcf\x11\xe0 Sub AutoOpen()")
    return made.getvalue()


def bomb() -> bytes:
    """A Word file of some kilobytes whose text unpacks to 200 MB."""
    whole = io.BytesIO(word())
    packed = io.BytesIO()
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "word/document.xml":
                data = data.replace(b"</w:body>", b" " * (200 * 2**20) + b"</w:body>")
            new.writestr(name, data)
    return packed.getvalue()


def everything(store: Store, settings: Settings) -> str:
    """What is stored in the database, in files and in Redis beside the answers' streams, which leave by themselves."""
    found = []
    with store.engine.connect() as connection:
        for table in inspect(store.engine).get_table_names():
            found += [str(tuple(row)) for row in connection.exec_driver_sql(f'SELECT * FROM "{table}"')]
    client = redis.Redis.from_url(settings.redis_url)
    for key in client.scan_iter():
        if client.type(key) == b"string":
            found.append(f"{key!r} {client.get(key)!r}")
    for file in settings.state_dir.rglob("*"):
        if file.is_file():
            found.append(repr(file.read_bytes()))
    return "\n".join(found)


# What is not taken


async def test_a_document_of_somebody_else_than_hr_is_not_even_fetched(office: Office, store: Store) -> None:
    await office.drop(office.ana, ("Payslip.docx", word()))
    await office.told(office.ana, wording.NO_FILES)
    await office.drop(office.ana, ("Payslip.docx", word()), text="how many days of annual leave do I get?")
    await office.told(office.ana, wording.NO_FILES_BUT)
    await office.told(office.ana, "28 days")
    assert office.downloads == 0
    assert [row.action for row in store.audited("upload.refused")] == ["upload.refused"] * 2


async def test_twenty_megabytes_are_refused_whatever_the_platform_says_about_them(
    office: Office, settings: Settings
) -> None:
    large = word() + bytes(20 * 2**20)
    await office.drop(office.hanna, ("Large.docx", large))
    await office.told(office.hanna, "I take up to 5 MB")
    assert office.downloads == (1 if office.platform == "teams" else 0), "Teams does not tell a file's size"
    await office.drop(office.hanna, ("Large.docx", large), told=1000)
    await until(lambda: len([one for one in answers(office.hanna) if "I take up to 5 MB" in one.text]) == 2)
    client = redis.Redis.from_url(settings.redis_url)
    assert list(client.scan_iter(match=scripts.upload_key("*"))) == []


async def test_what_is_not_called_a_word_document_is_not_fetched(office: Office) -> None:
    names = ["Plan.docm", "Plan.pdf", "Plan.doc", "Plan", ".docx.exe"]
    for number, name in enumerate(names, 1):
        await office.drop(office.hanna, (name, PDF))
        await until(lambda: len([a for a in answers(office.hanna) if "(.docx) only" in a.text]) == number)  # noqa: B023
    assert office.downloads == 0


async def test_a_name_of_any_length_is_only_a_name(office: Office) -> None:
    await office.drop(office.hanna, (f"..-{'x' * 300}.docx", word()))
    await office.told(office.hanna, "14 places for cars")


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (with_macros, "contains macros"),
        (bomb, "unpacks to far more"),
        (lambda: PDF, "is not a Word document, whatever its name says"),
        (lambda: word()[:2000], "is damaged or incomplete"),
        (lambda: b"", "is empty"),
    ],
    ids=["renamed docm", "zip bomb", "renamed pdf", "half a file", "nothing"],
)
async def test_what_only_claims_to_be_a_word_document_is_refused_with_its_fix(
    office: Office, settings: Settings, made: Any, said: str
) -> None:
    data = made()
    assert len(data) < UPLOAD_BYTES
    await office.drop(office.hanna, ("Plan.docx", data), text="in 3 sentences")
    shown = await office.told(office.hanna, said)
    assert "Plan.docx" in shown.text
    client = redis.Redis.from_url(settings.redis_url)
    await until(lambda: not list(client.scan_iter(match=scripts.upload_key("*"))))


async def test_of_two_documents_none_is_guessed(office: Office) -> None:
    await office.drop(office.hanna, ("One.docx", word()), ("Two.docx", word()))
    await office.told(office.hanna, "One document at a time")
    assert office.downloads == 0


async def test_a_document_that_cannot_be_had_is_said(office: Office) -> None:
    office.slack.scopes_missing.add("files:read")
    office.teams.drive.failing = [401]
    await office.drop(office.hanna, ("Plan.docx", word()))
    await office.told(office.hanna, "I could not get this document")
    assert office.downloads == 0


# What is taken


def test_the_platforms_are_told_that_the_app_takes_and_gives_files() -> None:
    teams = json.loads(Path("config/teams/manifest.json").read_text(encoding="utf-8"))
    assert [bot["supportsFiles"] for bot in teams["bots"]] == [True]
    slack = yaml.safe_load(Path("config/slack_manifest.yaml").read_text(encoding="utf-8"))
    assert {"files:read", "files:write"} <= set(slack["oauth_config"]["scopes"]["bot"])


async def test_a_document_is_summarised_with_its_source_and_not_kept(
    office: Office, store: Store, settings: Settings, worker: RoomWorker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await office.drop(office.hanna, ("Parking 2027.docx", word()), text="in 3 sentences, please")
    shown = await office.told(office.hanna, "14 places for cars")
    assert WORDS in f"{shown.text} {shown.raw}"
    assert "Parking 2027.docx" in f"{shown.sources} {shown.raw}"
    assert shown.where == "private"
    await until(lambda: worker.outcomes == ["answered"])
    kept = everything(store, settings)
    assert WORDS not in kept
    assert "Parking 2027" not in kept
    assert not any("Parking" in section.document for section in worker.runtime.knowledge.index().sections)
    assert not any(WORDS in f"{record.getMessage()} {record.exc_text}" for record in caplog.records)
    assert [row.action for row in store.audited("upload.summarised")] == ["upload.summarised"]
    assert not [one for one in answers(office.ana) if WORDS in f"{one.text} {one.raw}"]


async def test_the_same_drop_delivered_twice_is_summarised_once(office: Office, worker: RoomWorker) -> None:
    await office.drop(office.hanna, ("Parking.docx", word()))
    await office.told(office.hanna, "14 places for cars")
    await (office.slack if office.platform == "slack" else office.teams).deliver_again()
    await office.drop(office.ana, ("x.docx", word()))
    await office.told(office.ana, wording.NO_FILES)
    assert worker.outcomes == ["answered"]
    assert office.downloads == 1


async def test_slack_may_only_name_a_file_and_is_asked_for_the_rest(
    slack: FakeSlack, start_slack: Start, worker: RoomWorker
) -> None:
    async with start_slack():
        hanna = SlackWorld(slack).person("hr_hanna")
        file = slack.drive.add("Parking.docx", word())
        await slack.drop(hanna.id, slack.dm_of(hanna.id), file, whole=False)
        await until(lambda: [one for one in answers(hanna) if "14 places for cars" in one.text])
        del slack.drive.hosted[file.id]
        await slack.drop(hanna.id, slack.dm_of(hanna.id), file, whole=False)
        await until(lambda: [one for one in answers(hanna) if "I could not get this document" in one.text])
    assert slack.drive.strangers == 0


async def test_the_token_goes_to_no_other_host_than_slacks(
    slack: FakeSlack, teams: FakeTeams, start_slack: Start, worker: RoomWorker
) -> None:
    async with start_slack():
        hanna = SlackWorld(slack).person("hr_hanna")
        file = slack.drive.add("Plan.docx", word())
        teams.drive.files["key"] = word()
        for url in (
            f"{teams.url}/onedrive/download/key",
            "http://files.slack.com/x",
            "https://slack.com.evil.example/x",
        ):
            file.url = url
            await slack.drop(hanna.id, slack.dm_of(hanna.id), file)
        await until(lambda: len([one for one in answers(hanna) if "files that lie in Slack" in one.text]) == 3)
    assert (teams.drive.leaks, teams.drive.downloads) == (0, 0)


# What is given


VALUES = {
    "name": "Ben Okri", "role": "Analyst", "location": "Leeds", "start": "2027-02-01", "pay": "£40,000",
    "contract": "permanent", "until": "2027-01-15", "sender": "Hanna",
}  # fmt: skip


async def draft_in_slack(slack: FakeSlack, how: str) -> None:
    await slack.slash("UHR_HANNA", CHANNEL, "offer letter", "/hr-draft")
    view = (await until(lambda: slack.views))[-1]
    values: dict[str, Any] = {}
    for block in view["blocks"]:
        name = block["block_id"]
        told: dict[str, Any] = {"value": VALUES.get(name, "x")}
        if block["element"]["type"] == "datepicker":
            told = {"selected_date": VALUES.get(name)}
        if name == "format":
            told = {"selected_option": {"value": how}}
        values[name] = {"value": told}
    await slack.submit("UHR_HANNA", view, values)


async def test_a_draft_comes_as_a_word_file_in_slack(slack: FakeSlack, start_slack: Start, worker: RoomWorker) -> None:
    async with start_slack():
        SlackWorld(slack).person("hr_hanna")
        await draft_in_slack(slack, "word")
        [file] = await until(lambda: slack.files)
        assert file["channel"] == slack.dm_of("UHR_HANNA")
        assert file["name"] == "draft.docx"
        text = "\n".join(one.text for one in Document(io.BytesIO(file["content"])).paragraphs)
        assert MARK in text
        assert "£40,000" in text
        told = await said_in_slack(slack, "£40,000", slack.dm_of("UHR_HANNA"))
        assert file["thread_ts"] == told.thread_ts
        methods = [method for method, _ in slack.calls if method.startswith("files.")]
        assert methods == ["files.getUploadURLExternal", "files.completeUploadExternal"]
        assert slack.refused == []


async def test_without_the_scope_for_files_the_draft_is_there_as_text_and_that_is_said(
    slack: FakeSlack, start_slack: Start, worker: RoomWorker
) -> None:
    slack.scopes_missing.add("files.getUploadURLExternal")
    async with start_slack():
        SlackWorld(slack).person("hr_hanna")
        await draft_in_slack(slack, "word")
        await said_in_slack(slack, "I could not put the Word file here", slack.dm_of("UHR_HANNA"))
        await said_in_slack(slack, "£40,000", slack.dm_of("UHR_HANNA"))


async def test_a_draft_as_a_message_brings_no_file(slack: FakeSlack, start_slack: Start, worker: RoomWorker) -> None:
    async with start_slack():
        SlackWorld(slack).person("hr_hanna")
        await draft_in_slack(slack, "message")
        await said_in_slack(slack, "£40,000", slack.dm_of("UHR_HANNA"))
    assert slack.files == []


@pytest.fixture
async def bot(teams: FakeTeams, settings: Settings, store: Store, worker: RoomWorker) -> AsyncIterator[Conversation]:
    async with teams_bot(settings, store, teams) as conversation:
        yield conversation
    assert teams.refused == []
    assert teams.drive.leaks == 0


async def offered(teams: FakeTeams) -> Any:
    """The card that offers a draft as a file."""
    hanna = TeamsWorld(teams).person("hr_hanna")
    chat = teams.personal(hanna.id).id
    await teams.say(hanna.id, chat, "/hr-draft offer letter")
    form = await said_in_teams(teams, "Offer letter", chat)
    filled = {f"field.{name}": value for name, value in VALUES.items()} | {"field.format": "word"}
    await teams.press(hanna.id, form, action(form, "Draft"), **filled)
    return await until(lambda: next((one for one in teams.messages if _attached(one, CONSENT)), None))


def _attached(message: Any, kind: str) -> list[dict[str, Any]]:
    return [one for one in message.activity.get("attachments") or [] if one["contentType"] == kind]


async def test_a_draft_goes_into_the_onedrive_of_who_accepts_it_and_ends_in_a_card_of_the_file(
    teams: FakeTeams, bot: Conversation
) -> None:
    card = await offered(teams)
    assert card.conversation == teams.personal("29:hr_hanna").id
    assert await teams.consent("29:hr_hanna", card) == 200
    shown = await until(lambda: next((one for one in teams.messages if _attached(one, INFO)), None))
    [place] = teams.drive.places.values()
    [file] = _attached(shown, INFO)
    assert file["content"] == {"uniqueId": place.unique, "fileType": "docx"}
    assert file["name"] == place.name
    text = "\n".join(one.text for one in Document(io.BytesIO(place.content or b"")).paragraphs)
    assert MARK in text
    assert "£40,000" in text
    assert not _attached(card, CONSENT), "nobody can accept it twice"


async def test_a_second_draft_from_the_same_form_is_another_draft(teams: FakeTeams, bot: Conversation) -> None:
    card = await offered(teams)
    form = await said_in_teams(teams, "Offer letter", card.conversation)
    filled = {f"field.{name}": value for name, value in VALUES.items()} | {"field.pay": "£50,000"}
    await teams.press("29:hr_hanna", form, action(form, "Draft"), **filled, **{"field.format": "message"})
    await said_in_teams(teams, "£50,000", card.conversation)


async def test_who_declines_a_file_gets_none(teams: FakeTeams, bot: Conversation) -> None:
    card = await offered(teams)
    assert await teams.consent("29:hr_hanna", card, accept=False) == 200
    await until(lambda: card.text == NO_FILE)
    assert not teams.drive.places
    assert not [one for one in teams.messages if _attached(one, INFO)]


async def test_an_upload_that_fails_is_said_and_may_be_tried_again(teams: FakeTeams, bot: Conversation) -> None:
    card = await offered(teams)
    teams.drive.failing = [503]
    await teams.consent("29:hr_hanna", card)
    await said_in_teams(teams, "I could not put the Word file into your OneDrive", card.conversation)
    await teams.consent("29:hr_hanna", card)
    await until(lambda: next((one for one in teams.messages if _attached(one, INFO)), None))


async def test_a_draft_is_uploaded_to_microsofts_hosts_only(
    teams: FakeTeams, slack: FakeSlack, bot: Conversation
) -> None:
    card = await offered(teams)
    [consent] = _attached(card, CONSENT)
    value = teams.drive.answer(consent, accept=True)
    value["uploadInfo"]["uploadUrl"] = f"{slack.url.replace('127.0.0.1', 'localhost')}/upload/x"
    fields = {"type": "invoke", "name": "fileConsent/invoke", "replyToId": card.id, "value": value}
    await teams.deliver(teams.activity("29:hr_hanna", card.conversation, **fields))
    await said_in_teams(teams, "I could not put the Word file into your OneDrive", card.conversation)


async def test_a_draft_that_is_no_longer_there_is_said(teams: FakeTeams, bot: Conversation, settings: Settings) -> None:
    card = await offered(teams)
    client = redis.Redis.from_url(settings.redis_url)
    client.delete(*client.scan_iter(match=scripts.answer_key("*")))
    await teams.consent("29:hr_hanna", card)
    await until(lambda: card.text == DRAFT_GONE)
    assert card.sender == BOT
    assert all(place.content is None for place in teams.drive.places.values())
