"""What a policy folder is made of once read: sections, findings, documents and the library.

Two ideas. A section is the unit everything else works with (index, prompt, source line, training example), and its hash
covers all that a reader could notice, so that "same hash" means "same answer". A finding is something HR should look
at; its detail quotes the document, so findings are shown to HR and never logged.
"""

import datetime
import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

EVERYONE = ("employee",)
"""The audience of a document that states none."""

ROLES = ("employee", "manager", "hr", "admin")
"""The roles that a document can be written for."""

KINDS: dict[str, tuple[str, str]] = {
    "placeholder": ("placeholder", "placeholders"),
    "guidance": ("template guidance text", "template guidance texts"),
    "table_of_contents": ("table of contents", "tables of contents"),
    "hidden_text": ("place with hidden text", "places with hidden text"),
    "tracked_changes": ("place with tracked changes", "places with tracked changes"),
    "image_only": ("section with only a picture", "sections with only a picture"),
    "empty_section": ("heading without text", "headings without text"),
    "no_headings": ("missing heading structure", "missing heading structures"),
    "linked_content": ("linked file", "linked files"),
    "embedded_document": ("embedded document", "embedded documents"),
    "audience": ("unclear audience", "unclear audiences"),
    "duplicate": ("duplicate", "duplicates"),
    "contradiction": ("possible contradiction", "possible contradictions"),
    "unreadable": ("unreadable file", "unreadable files"),
}
"""Every kind of finding, with its name for people in singular and plural."""


@dataclass(frozen=True, slots=True)
class Section:
    """A passage under one heading. `id` is stable for as long as the content is; see DESIGN for the fields' meaning.

    `text` has one paragraph, list item or table row per line; nested items are indented by two spaces a level.
    `audience` are the roles that may see it; `effective_date` is the one stated for it or for its document.
    """

    id: str
    document: str
    title: str
    heading_path: tuple[str, ...]
    text: str
    audience: tuple[str, ...]
    effective_date: datetime.date | None
    content_hash: str
    order: int


@dataclass(frozen=True, slots=True)
class Finding:
    """Something HR should look at: `kind` is a key of `KINDS`, `where` a heading path, `fix` what to do."""

    document: str
    kind: str
    where: str
    detail: str
    fix: str


@dataclass(frozen=True, slots=True)
class Document:
    """One file that could be read. `name` is its path relative to the folder, `file_hash` the sha256 of its bytes."""

    name: str
    title: str
    file_hash: str
    sections: tuple[Section, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Library:
    """All documents of a folder, sorted by name, and the findings about files not in it or about several documents."""

    documents: tuple[Document, ...]
    findings: tuple[Finding, ...]

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """Every section, in order of document name and position."""
        return tuple(section for document in self.documents for section in document.sections)

    @cached_property
    def version(self) -> str:
        """12 hex digits that change exactly when a section does."""
        hashes = sorted(section.content_hash for section in self.sections)
        return hashlib.sha256("\n".join(hashes).encode()).hexdigest()[:12]

    @property
    def all_findings(self) -> tuple[Finding, ...]:
        """The findings of the folder, then those of each document."""
        return self.findings + tuple(finding for document in self.documents for finding in document.findings)


def make_section(
    *,
    document: str,
    title: str,
    heading_path: tuple[str, ...],
    text: str,
    audience: tuple[str, ...],
    effective_date: datetime.date | None,
    order: int,
) -> Section:
    """A section with its hash and id. The hash covers title, heading path, text, audience and date."""
    date = effective_date.isoformat() if effective_date else None
    content = json.dumps([title, list(heading_path), text, list(audience), date], ensure_ascii=False)
    content_hash = hashlib.sha256(content.encode()).hexdigest()
    identity = f"{document_slug(document)}:{content_hash[:12]}"
    return Section(identity, document, title, heading_path, text, audience, effective_date, content_hash, order)


def document_slug(name: str) -> str:
    """ "Managers/Sick Leave.docx" → "managers-sick-leave"; a name without Latin letters becomes 8 hex digits."""
    stem = re.sub(r"\.docx$", "", name, flags=re.IGNORECASE)
    ascii_only = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_only).strip("-")
    return slug or hashlib.sha256(name.encode()).hexdigest()[:8]


def summarise(findings: Iterable[Finding]) -> list[str]:
    """One line per document and kind: "12 placeholders in Leave.docx: Annual leave (8), Sick leave (4)"."""
    places: dict[tuple[str, str], Counter[str]] = {}
    for finding in findings:
        places.setdefault((finding.document, finding.kind), Counter())[finding.where] += 1
    lines = []
    for (document, kind), where in places.items():
        total = sum(where.values())
        named = ", ".join(f"{place} ({count})" if count > 1 else place for place, count in where.items() if place)
        lines.append(f"{total} {KINDS[kind][total != 1]} in {document}" + (f": {named}" if named else ""))
    return lines
