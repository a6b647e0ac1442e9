"""The index follows the policy folder while the worker runs."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quantahr.errors import PolicyError
from quantahr.retrieval import Index
from quantahr.settings import Settings
from worker.knowledge import Knowledge

PATIENCE = 10.0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "Leave.md").write_text("# Annual leave\nEverybody gets 28 days a year.\n", encoding="utf-8")
    return Settings(policies_dir=folder, state_dir=tmp_path / "state")


@pytest.fixture
def knowledge(settings: Settings) -> Iterator[Knowledge]:
    opened = Knowledge(settings, look_seconds=0.2)
    opened.start()
    yield opened
    opened.close()


def eventually(index: Callable[[], Index], holds: Callable[[Index], bool]) -> Index:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if holds(index()):
            return index()
        time.sleep(0.1)
    raise AssertionError(f"the index did not follow the folder within {PATIENCE} s")


def texts(index: Index) -> str:
    return "\n".join(section.text for section in index.sections)


def test_changed_added_and_removed_documents_are_served_within_seconds(
    knowledge: Knowledge, settings: Settings
) -> None:
    first = knowledge.index()
    assert "28 days" in texts(first)
    (settings.policies_dir / "Leave.md").write_text(
        "# Annual leave\nEverybody gets 30 days a year.\n", encoding="utf-8"
    )
    changed = eventually(knowledge.index, lambda index: "30 days" in texts(index))
    assert "28 days" not in texts(changed)
    assert changed.version != first.version
    (settings.policies_dir / "Dogs.md").write_text("# Dogs\nDogs may come on Fridays.\n", encoding="utf-8")
    eventually(knowledge.index, lambda index: "Fridays" in texts(index))
    (settings.policies_dir / "Leave.md").unlink()
    eventually(knowledge.index, lambda index: "30 days" not in texts(index))


def test_a_search_keeps_the_index_it_began_with(knowledge: Knowledge, settings: Settings) -> None:
    before = knowledge.index()
    (settings.policies_dir / "Leave.md").write_text(
        "# Annual leave\nEverybody gets 31 days a year.\n", encoding="utf-8"
    )
    eventually(knowledge.index, lambda index: "31 days" in texts(index))
    assert "28 days" in before.search("how many days", audiences=["employee"]).evidence[0].text


def test_a_broken_document_does_not_take_the_others_away(knowledge: Knowledge, settings: Settings) -> None:
    knowledge.index()
    (settings.policies_dir / "Broken.docx").write_bytes(b"not a document")
    (settings.policies_dir / "Dogs.md").write_text("# Dogs\nDogs may come on Fridays.\n", encoding="utf-8")
    index = eventually(knowledge.index, lambda index: "Fridays" in texts(index))
    assert "28 days" in texts(index)


def test_a_missing_folder_is_named_with_what_to_do(settings: Settings) -> None:
    lost = Knowledge(settings.model_copy(update={"policies_dir": settings.policies_dir / "nowhere"}))
    with pytest.raises(PolicyError, match=r"nowhere.*Create it"):
        lost.start()
    lost.close()


def test_who_listens_late_hears_of_the_present_handbook_too_and_of_each_once(
    knowledge: Knowledge, settings: Settings
) -> None:
    knowledge.index()
    heard: list[str] = []
    knowledge.listen(lambda library, index: heard.append(f"{len(library.documents)} {index.version}"))
    first = knowledge.index().version
    (settings.policies_dir / "Dogs.md").write_text("# Dogs\nDogs may come on Fridays.\n", encoding="utf-8")
    eventually(knowledge.index, lambda index: index.version != first)
    eventually(knowledge.index, lambda index: len(heard) == 2)
    assert heard == [f"1 {first}", f"2 {knowledge.index().version}"]
