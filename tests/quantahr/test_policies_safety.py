"""A bad file is named with its fix, costs little memory, and never keeps the rest of the folder from being served."""

import io
import os
import struct
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import docx
import pytest

from quantahr.errors import PolicyError
from quantahr.policies import load_document, load_folder, safety

DocxOf = Callable[..., Path]
BODY = """<w:p><w:pPr><w:pStyle w:val="Heading1"/></w:pPr><w:r><w:t>Leave</w:t></w:r></w:p>
<w:p><w:r><w:t>25 days.</w:t></w:r></w:p>"""
RELATION = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
MEMORY = 512 * 2**20


def rewritten(path: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """The package with each part replaced by `change(name, content)`; None leaves it out."""
    packed = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    path.write_bytes(packed.getvalue())
    return path


def refusal(path: Path, root: Path | None = None) -> str:
    with pytest.raises(PolicyError) as caught:
        load_document(path, root=root)
    assert path.name in str(caught.value)
    return str(caught.value)


def peak_of(code: str, *arguments: Path) -> tuple[int, str]:
    """The extra peak memory in bytes of `code` after importing the reader, and what it printed last."""
    script = (
        "import resource, sys\nfrom pathlib import Path\nfrom quantahr.errors import PolicyError\n"
        "from quantahr.policies import load_document, load_folder\nimport quantahr.policies.word\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\npath = Path(sys.argv[1])\n"
        f"{code}\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=True, cwd=root
    )
    *said, peak = done.stdout.splitlines()
    return int(peak) * 1024, said[-1] if said else ""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"Dear all, this is plain text.", "not a Word document"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "old .doc format"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"), "password"),
        (b"PK\x03\x04" + b"\0" * 40, "damaged or incomplete"),
    ],
)
def test_what_is_no_docx_is_named_with_its_fix(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "Leave.docx"
    path.write_bytes(content)
    message = refusal(path)
    assert said in message
    assert message.count(". ") >= 1


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(docx_of: DocxOf, kept: float) -> None:
    path = docx_of(BODY)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    assert "damaged or incomplete" in refusal(path)


def test_every_single_damaged_byte_ends_in_sections_or_one_clear_error(docx_of: DocxOf) -> None:
    path = docx_of(BODY)
    whole = path.read_bytes()
    for position in range(0, len(whole), max(1, len(whole) // 150)):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        library = load_folder(path.parent)
        assert len(library.documents) + len(library.findings) == 1


def test_macros_are_refused_by_name_and_by_content(docx_of: DocxOf, tmp_path: Path) -> None:
    assert "macros" in refusal(docx_of(BODY, parts={"word/vbaProject.bin": "x"}))
    renamed = tmp_path / "Leave.docm"
    renamed.write_bytes(docx_of(BODY).read_bytes())
    assert "macros" in refusal(renamed)
    assert "macros" in refusal(
        rewritten(docx_of(BODY), lambda name, content: content.replace(b"document.main", b"macroEnabled.main"))
    )


def test_a_spreadsheet_and_a_strict_document_are_named(docx_of: DocxOf) -> None:
    sheet = rewritten(docx_of(BODY), lambda name, content: content.replace(b"word/document.xml", b"xl/workbook.xml"))
    assert "not a Word document" in refusal(sheet)
    strict = rewritten(
        docx_of(BODY),
        lambda name, content: content.replace(
            RELATION.encode(), b"http://purl.oclc.org/ooxml/officeDocument/relationships"
        ),
    )
    assert "Strict" in refusal(strict)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("part", ["word/document.xml", "word/styles.xml", "_rels/.rels"])
def test_entities_are_refused_in_every_part_and_encoding(
    docx_of: DocxOf, tmp_path: Path, part: str, encoding: str
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("hunter2")

    def poison(name: str, content: bytes) -> bytes:
        if name != part:
            return content
        text = content.decode().split("?>", 1)[1]
        declared = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE x [<!ENTITY e SYSTEM "{secret.as_uri()}">]>'
        return (declared + text.replace("25 days.", "&e;")).encode(encoding)

    assert "XML entities" in refusal(rewritten(docx_of(BODY), poison))


def test_linked_pictures_are_reported_and_not_fetched(docx_of: DocxOf) -> None:
    link = f'<Relationship Id="rIdX" Type="{RELATION}/image" Target="http://127.0.0.1:9/x.png" TargetMode="External"/>'
    document = load_document(docx_of(BODY, relations=link))
    assert [finding.kind for finding in document.findings] == ["linked_content"]
    assert document.sections[0].text == "25 days."


def test_a_relation_to_a_missing_part_does_no_harm(docx_of: DocxOf) -> None:
    gone = f'<Relationship Id="rIdX" Type="{RELATION}/image" Target="NULL"/>'
    assert load_document(docx_of(BODY, relations=gone)).sections[0].text == "25 days."


def test_a_bomb_is_refused_in_little_memory(docx_of: DocxOf, tmp_path: Path) -> None:
    path = docx_of(BODY)
    packed = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if name != "word/document.xml":
                new.writestr(name, old.read(name))
        with new.open("word/document.xml", "w") as part:
            part.write(b"<w:document>")
            for _ in range(600):
                part.write(b"<w:p/>" * (2**20 // 6))
    data = bytearray(packed.getvalue())
    entry = data.rindex(b"word/document.xml") - 46
    data[entry + 24 : entry + 28] = struct.pack("<I", 2_000_000_000)
    path.write_bytes(data)
    code = "try:\n    load_document(path)\nexcept PolicyError as error:\n    print(error)"
    peak, said = peak_of(code, path)
    assert "unpacks to far more" in said
    assert peak < MEMORY


def test_the_densest_document_that_is_allowed_stays_within_memory(docx_of: DocxOf) -> None:
    def fill(name: str, content: bytes) -> bytes:
        dense = b'<w:p w:a="1"><w:r><w:t>x</w:t></w:r></w:p>' * (safety.MAX_MARKUP // 8)
        return content.replace(b"</w:body>", dense + os.urandom(300_000).hex().encode() + b"</w:body>")

    path = docx_of(BODY)
    with_noise = rewritten(path, lambda name, content: fill(name, content) if name == "word/document.xml" else content)
    peak, said = peak_of("print(len(load_document(path).sections))", with_noise)
    assert said == "1"
    assert peak < MEMORY


def test_three_hundred_pages_are_read_whole_within_memory(tmp_path: Path) -> None:
    document = docx.Document()
    for chapter in range(300):
        document.add_heading(f"Chapter {chapter}", 1)
        for paragraph in range(12):
            document.add_paragraph(f"Rule {paragraph} of chapter {chapter}: " + "ask your manager early. " * 10)
    document.save(str(tmp_path / "Long.docx"))
    peak, said = peak_of("print(len(load_document(path).sections))", tmp_path / "Long.docx")
    assert said == "300"
    assert peak < MEMORY


def test_a_link_out_of_the_folder_is_refused_and_one_within_is_read(docx_of: DocxOf, tmp_path: Path) -> None:
    outside = docx_of(BODY, name="elsewhere/Secret.docx")
    inside = docx_of(BODY, name="policies/Leave.docx")
    root = tmp_path / "policies"
    (root / "Out.docx").symlink_to(outside)
    (root / "Again.docx").symlink_to(inside)
    assert "outside the policy folder" in refusal(root / "Out.docx", root)
    assert load_document(root / "Again.docx", root=root).sections[0].text == "25 days."


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission_is_named(docx_of: DocxOf) -> None:
    path = docx_of(BODY)
    path.chmod(0)
    assert "may not be read" in refusal(path)


def test_a_file_that_may_not_be_opened_is_named(docx_of: DocxOf, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> int:
        raise PermissionError(13, "denied")

    path = docx_of(BODY)
    monkeypatch.setattr(os, "open", forbidden)
    assert "may not be read" in refusal(path)


def test_a_named_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "Leave.docx")
    assert "not a regular file" in refusal(tmp_path / "Leave.docx")


def test_a_file_that_grows_while_it_is_read_is_tried_again(docx_of: DocxOf, monkeypatch: pytest.MonkeyPatch) -> None:
    path = docx_of(BODY)
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    reads = []

    def read_then_grow(file: Path, name: str) -> bytes | None:
        reads.append(name)
        if len(reads) == 1:
            real_open = os.open

            def growing(*arguments: object) -> int:
                descriptor = real_open(*arguments)  # type: ignore[arg-type]
                path.write_bytes(whole)
                return descriptor

            with monkeypatch.context() as patch:
                patch.setattr(os, "fstat", lambda descriptor: os.stat_result((0o100644, 0, 0, 1, 0, 0, 1000, 0, 0, 0)))
                patch.setattr(os, "open", growing)
                return once(file, name)
        return once(file, name)

    once = safety._read_once
    monkeypatch.setattr(safety, "_read_once", read_then_grow)
    monkeypatch.setattr(safety, "_SETTLE_SECONDS", 0)
    assert load_document(path).sections[0].text == "25 days."
    assert len(reads) == 2


def test_a_file_that_never_settles_is_named(docx_of: DocxOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safety, "_read_once", lambda path, name: None)
    monkeypatch.setattr(safety, "_SETTLE_SECONDS", 0)
    assert "still being written" in refusal(docx_of(BODY))


def test_the_rest_of_the_folder_is_served(docx_of: DocxOf, tmp_path: Path) -> None:
    docx_of(BODY, name="p/Leave.docx")
    docx_of(BODY.replace("25", "30"), name="p/hr/Pay.docx")
    root = tmp_path / "p"
    (root / "Empty.docx").touch()
    (root / "Old.doc").write_bytes(b"\xd0\xcf\x11\xe0")
    (root / "~$Leave.docx").write_bytes(b"lock")
    (root / ".Leave.docx.swp").write_bytes(b"x")
    (root / "logo.png").write_bytes(b"x")
    library = load_folder(root)
    assert [document.name for document in library.documents] == ["Leave.docx", "hr/Pay.docx"]
    assert [(finding.document, finding.kind) for finding in library.findings] == [
        ("Empty.docx", "unreadable"),
        ("Old.doc", "unreadable"),
    ]
    assert library.findings[0].detail == "Empty.docx is empty (0 bytes)."
    assert library.findings[0].fix == "Save it again from Word, or remove it."


def test_the_same_file_twice_is_used_once(docx_of: DocxOf, tmp_path: Path) -> None:
    docx_of(BODY, name="p/Leave.docx")
    (tmp_path / "p" / "Leave (1).docx").write_bytes((tmp_path / "p" / "Leave.docx").read_bytes())
    library = load_folder(tmp_path / "p")
    assert len(library.sections) == 1
    assert [finding.kind for finding in library.findings] == ["duplicate"]


def test_a_missing_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="no policy folder"):
        load_folder(tmp_path / "none")


def test_same_file_same_sections_in_any_process(docx_of: DocxOf) -> None:
    path = docx_of(BODY)
    root = Path(__file__).parents[2]
    code = (
        "import sys; from pathlib import Path; from quantahr.policies import load_folder; "
        "print(load_folder(Path(sys.argv[1])).version)"
    )
    versions = {
        subprocess.run(
            [sys.executable, "-c", code, str(path.parent)],
            capture_output=True,
            text=True,
            check=True,
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert versions == {load_folder(path.parent).version}
    assert load_document(path) == load_document(path)


def test_documents_can_be_read_by_several_threads_at_once(docx_of: DocxOf) -> None:
    path = docx_of(BODY)
    expected = load_document(path)
    seen: list[bool] = []
    threads = [threading.Thread(target=lambda: seen.append(load_document(path) == expected)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 4
