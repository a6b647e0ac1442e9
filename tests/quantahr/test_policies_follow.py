"""The library keeps up with its folder, without a restart and without reading twice what did not change."""

import os
import queue
import threading
from pathlib import Path

import pytest

from quantahr.errors import PolicyError
from quantahr.policies import Library, LibraryFollower, follow
from quantahr.policies.folder import load_document


def write(path: Path, text: str) -> None:
    path.write_text(f"# Leave\n\n{text}\n")


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were parsed, in order."""
    names: list[str] = []

    def counted(path: Path, *, root: Path | None = None) -> object:
        names.append(path.name)
        return load_document(path, root=root)

    monkeypatch.setattr(follow, "load_document", counted)
    return names


def age(path: Path, seconds: int = 60) -> None:
    """Lets a file look as if it was saved a while ago."""
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns - seconds * 10**9))


def texts(library: Library) -> list[str]:
    return [section.text for section in library.sections]


def test_changed_added_and_removed_files_reach_the_listener(tmp_path: Path) -> None:
    write(tmp_path / "a.md", "one")
    seen: queue.Queue[Library] = queue.Queue()
    with LibraryFollower(tmp_path, seen.put, interval=0.02) as follower:
        first = follower.library
        assert texts(first) == ["one"]
        write(tmp_path / "a.md", "two")
        changed = _until(seen, ["two"])
        assert changed.version != first.version
        (tmp_path / "managers").mkdir()
        write(tmp_path / "managers" / "b.md", "three")
        _until(seen, ["two", "three"])
        (tmp_path / "a.md").unlink()
        assert _until(seen, ["three"]) == follower.library
    write(tmp_path / "c.md", "after the end")
    assert texts(follower.library) == ["three"]


def _until(seen: "queue.Queue[Library]", expected: list[str]) -> Library:
    while True:
        library = seen.get(timeout=10)
        if texts(library) == expected:
            return library


def test_a_save_of_the_same_size_within_the_same_tick_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    write(path, "one")
    follower = LibraryFollower(tmp_path, lambda _: None)
    follower.check()
    before = path.stat()
    write(path, "two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert follower.check()
    assert texts(follower.library) == ["two"]


def test_what_did_not_change_is_not_parsed_again(tmp_path: Path, parsed: list[str]) -> None:
    write(tmp_path / "a.md", "one")
    write(tmp_path / "b.md", "two")
    follower = LibraryFollower(tmp_path, lambda _: None)
    assert follower.check()
    assert not follower.check()
    (tmp_path / "a.md").touch()
    assert not follower.check()
    write(tmp_path / "b.md", "three")
    assert follower.check()
    assert parsed == ["a.md", "b.md", "b.md"]


def test_a_settled_file_is_not_even_hashed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.md", "one")
    monkeypatch.setattr(follow, "_SETTLED_NS", -1)
    follower = LibraryFollower(tmp_path, lambda _: None)
    follower.check()
    hashed: list[Path] = []
    monkeypatch.setattr(follow, "_digest", hashed.append)
    assert not follower.check()
    assert hashed == []


def test_a_half_saved_document_keeps_its_last_version_until_it_settles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.md"
    write(path, "one")
    follower = LibraryFollower(tmp_path, lambda _: None)
    follower.check()
    path.write_bytes(b"")
    assert not follower.check()
    assert texts(follower.library) == ["one"]
    monkeypatch.setattr(follow, "_SETTLED_NS", -1)
    assert follower.check()
    assert texts(follower.library) == []
    assert [finding.kind for finding in follower.library.findings] == ["unreadable"]
    write(path, "two")
    assert follower.check()
    assert (texts(follower.library), follower.library.findings) == (["two"], ())


def test_a_listener_that_fails_is_told_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[list[str]] = []
    told = threading.Event()

    def fails_once(library: Library) -> None:
        calls.append(texts(library))
        if len(calls) == 1:
            raise RuntimeError("the secret text of a policy")
        told.set()

    with LibraryFollower(tmp_path, fails_once, interval=0.02):
        write(tmp_path / "a.md", "one")
        assert told.wait(timeout=10)
    assert calls == [["one"], ["one"]]
    assert "secret" not in caplog.text


def test_a_folder_that_disappears_leaves_the_last_library_in_use(tmp_path: Path) -> None:
    root = tmp_path / "policies"
    root.mkdir()
    write(root / "a.md", "one")
    seen: queue.Queue[Library] = queue.Queue()
    with LibraryFollower(root, seen.put, interval=0.02) as follower:
        root.rename(tmp_path / "away")
        with pytest.raises(PolicyError, match="no policy folder"):
            follower.check()
        assert texts(follower.library) == ["one"]
        (tmp_path / "away").rename(root)
        write(root / "a.md", "two")
        _until(seen, ["two"])


def test_a_missing_folder_is_named_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="no policy folder"):
        LibraryFollower(tmp_path / "none", lambda _: None).start()


def test_a_follower_can_be_stopped_twice_and_started_again(tmp_path: Path) -> None:
    follower = LibraryFollower(tmp_path, lambda _: None, interval=0.02)
    follower.start()
    follower.stop()
    follower.stop()
    write(tmp_path / "a.md", "one")
    assert texts(follower.start()) == ["one"]
    follower.stop()
