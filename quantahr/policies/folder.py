"""From files to documents, and from a folder to a library that one bad file cannot spoil.

The idea: `load_document` either returns a whole document or raises an error that names the file and the fix;
`load_folder` turns that error into a finding and serves the rest.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from quantahr.errors import PolicyError
from quantahr.policies.conflicts import contradictions
from quantahr.policies.dates import audience_in, combined_audience, folder_audience, plain_date, roles
from quantahr.policies.markdown import read_markdown
from quantahr.policies.model import ROLES, Document, Finding, Library, Section, make_section
from quantahr.policies.safety import clean_package, read_stable
from quantahr.policies.structure import Outline, outline

READ = (".docx", ".md", ".markdown")
_OTHER = (".doc", ".docm", ".dotx", ".dotm", ".dot", ".pdf", ".odt", ".rtf", ".pages", ".txt", ".html", ".htm")
_NO_TITLE = {"word document", "document", "untitled", "title", "microsoft word", "dokument", "normal"}


def load_document(path: Path, *, root: Path | None = None) -> Document:
    """One policy document. `root` is the folder that its name and audience are relative to; default: its own folder.

    Raises PolicyError, naming file and fix, for a file that is missing, damaged, protected, unsafe or of another kind.
    """
    name = path.relative_to(root).as_posix() if root is not None else path.name
    _refuse_kind(path, name)
    data = read_stable(path, name=name, root=root or path.parent)
    try:
        return _parse(name, data)
    except PolicyError:
        raise
    except Exception as error:
        # What a damaged file can set off inside XML and zip libraries has no end; it must not take the folder with it.
        cause = type(error).__name__
        raise PolicyError(f"{name} is damaged inside ({cause}). Open it in Word and save it again as .docx.") from None


def _parse(name: str, data: bytes) -> Document:
    """The document with these bytes; `name` decides its format."""
    if name.lower().endswith(".docx"):
        return _from_word(name, data)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", errors="replace")
    elif b"\0" in data:
        raise PolicyError(f"{name} is not text. Save it as UTF-8 Markdown, or as .docx.")
    else:
        text = data.decode("utf-8", errors="replace")
    content = read_markdown(text)
    front = content.front
    divided = outline(name, front.get("title", ""), content.blocks, ())
    date = front.get("effective") or front.get("effective_date") or front.get("effective date") or ""
    stated = roles(front.get("audience", ""))
    return _document(name, data, divided, stated=stated, date=date, month_first=False, findings=[])


def _from_word(name: str, data: bytes) -> Document:
    from quantahr.policies.word import read_word

    package = clean_package(data, name)
    content = read_word(package)
    title = content.core_title.strip()
    if title.lower() in _NO_TITLE or re.match(r"microsoft word - ", title, re.IGNORECASE):
        title = ""
    month_first = content.language.lower() == "en-us"
    divided = outline(name, title, content.blocks, content.notes, month_first=month_first)
    findings = []
    if package.linked:
        detail = f"{package.linked} pictures, templates or objects are linked from elsewhere and were not fetched."
        findings.append(Finding(name, "linked_content", "", detail, "Insert the pictures into the document itself."))
    if package.embedded:
        detail = f"{package.embedded} embedded documents were not read."
        findings.append(Finding(name, "embedded_document", "", detail, "Paste their text into this document."))
    stated = roles(content.custom.get("audience", "")) or audience_in(content.keywords)
    date = content.custom.get("effective_date") or content.custom.get("effective date") or ""
    return _document(name, data, divided, stated=stated, date=date, month_first=month_first, findings=findings)


def _document(
    name: str,
    data: bytes,
    divided: Outline,
    *,
    stated: tuple[str, ...],
    date: str,
    month_first: bool,
    findings: Sequence[Finding],
) -> Document:
    stated = stated or divided.audience
    audience, disagree = combined_audience(stated, folder_audience(name))
    findings = [*findings, *divided.findings]
    if disagree:
        detail = f"The document says {', '.join(stated)}; its folder stands for {', '.join(audience)}, which was used."
        findings.append(Finding(name, "audience", "", detail, "Move the document, or change its audience property."))
    if unknown := [role for role in audience if role not in ROLES]:
        detail = f"Nobody has the role {', '.join(unknown)}, so it shows the document to nobody."
        findings.append(Finding(name, "audience", "", detail, f"Use one of: {', '.join(ROLES)}."))
    document_date = plain_date(date, month_first=month_first) or divided.effective_date
    sections: list[Section] = []
    known: set[str] = set()
    for passage in divided.passages:
        section = make_section(
            document=name,
            title=divided.title,
            heading_path=passage.path,
            text="\n".join(passage.lines),
            audience=audience,
            effective_date=passage.effective_date or document_date,
            order=len(sections),
        )
        if section.content_hash not in known:
            known.add(section.content_hash)
            sections.append(section)
    return Document(name, divided.title, hashlib.sha256(data).hexdigest(), tuple(sections), tuple(findings))


def load_folder(root: Path) -> Library:
    """Every readable document under `root`; each unreadable one is a finding.

    Raises PolicyError only when the folder itself is missing or may not be listed.
    """
    documents, findings = [], []
    for path in policy_files(root):
        try:
            documents.append(load_document(path, root=root))
        except PolicyError as error:
            findings.append(unreadable(path.relative_to(root).as_posix(), error))
    return assemble(documents, findings)


def assemble(documents: Sequence[Document], findings: Sequence[Finding]) -> Library:
    """The library of these documents, sorted by name, with what only shows when they are seen together.

    The second of two identical files is left out and reported; so are sentences that contradict another document's.
    """
    kept: dict[tuple[str, tuple[str, ...]], Document] = {}
    findings = list(findings)
    for document in sorted(documents, key=lambda document: document.name):
        audience = document.sections[0].audience if document.sections else ()
        first = kept.setdefault((document.file_hash, audience), document)
        if first is not document:
            detail = f"The same file as {first.name}, which is used."
            findings.append(Finding(document.name, "duplicate", "", detail, "Keep one of the two."))
    findings += contradictions([section for document in kept.values() for section in document.sections])
    return Library(tuple(kept.values()), tuple(sorted(findings, key=lambda finding: finding.document)))


def unreadable(name: str, error: PolicyError) -> Finding:
    """The finding for a file that could not be read."""
    cause, _, fix = str(error).partition(". ")
    return Finding(name, "unreadable", "", f"{cause}.", fix or "Save it again from Word as .docx.")


def policy_files(root: Path) -> Iterator[Path]:
    """The files of `root` and its subfolders that are, or were meant as, policies, in a fixed order.

    Lock files of Word and LibreOffice, hidden files and files of other kinds (pictures, data) are passed over; linked
    folders are not entered. Raises PolicyError when `root` is no folder that may be listed.
    """
    try:
        with os.scandir(root) as entries:
            any(entries)
    except (FileNotFoundError, NotADirectoryError):
        raise PolicyError(f"There is no policy folder at {root}. Create it, or set the right folder.") from None
    except PermissionError:
        raise PolicyError(f"The policy folder {root} may not be read. Give this program read permission.") from None
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else "unknown reason"
        raise PolicyError(f"The policy folder {root} cannot be listed ({reason}). Check the disk or drive.") from None
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith((".", "~")) and name.lower().endswith(READ + _OTHER):
                yield Path(folder) / name


def _refuse_kind(path: Path, name: str) -> None:
    suffix = path.suffix.lower()
    if suffix in {".docm", ".dotm"}:
        raise PolicyError(f"{name} may contain macros and is refused. In Word, save it as .docx (without macros).")
    if suffix not in READ:
        raise PolicyError(f"{name} is not a .docx file. Open it in Word and save it as .docx.")
