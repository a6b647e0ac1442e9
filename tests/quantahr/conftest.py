"""Word documents for the tests, made by python-docx from a few lines of WordprocessingML."""

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import docx
import pytest
from lxml import etree

NAMESPACES = " ".join(
    f'xmlns:{prefix}="{uri}"'
    for prefix, uri in {
        "w": "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
        "r": "http://schemas.openxmlformats.org/officeDocument/2006/relationships",
        "mc": "http://schemas.openxmlformats.org/markup-compatibility/2006",
        "a": "http://schemas.openxmlformats.org/drawingml/2006/main",
        "wps": "http://schemas.microsoft.com/office/word/2010/wordprocessingShape",
        "v": "urn:schemas-microsoft-com:vml",
    }.items()
)
DocxOf = Callable[..., Path]


def _body(xml: str) -> etree._Element:
    return etree.fromstring(f"<w:body {NAMESPACES}>{xml}</w:body>")


def _with_parts(data: bytes, parts: Mapping[str, str], relations: str, types: str) -> bytes:
    """The package with parts added or replaced, and relations of the main document and content types added."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            text = old.read(name)
            if name == "word/_rels/document.xml.rels":
                text = text.replace(b"</Relationships>", relations.encode() + b"</Relationships>")
            if name == "[Content_Types].xml":
                text = text.replace(b"</Types>", types.encode() + b"</Types>")
            if name not in parts:
                new.writestr(name, text)
        for name, content in parts.items():
            new.writestr(name, content)
    return packed.getvalue()


@pytest.fixture
def docx_of(tmp_path: Path) -> DocxOf:
    """Writes a docx with this body (inside w:body) into the test's folder and returns its path."""

    def make(
        body: str,
        name: str = "Leave.docx",
        *,
        styles: str = "",
        numbering: str = "",
        keywords: str = "",
        title: str = "",
        parts: Mapping[str, str] | None = None,
        relations: str = "",
        types: str = "",
    ) -> Path:
        document = docx.Document()
        document.core_properties.keywords = keywords
        document.core_properties.title = title
        for child in list(document.element.body):
            document.element.body.remove(child)
        document.element.body.extend(list(_body(body)))
        document.styles.element.extend(list(_body(styles)))
        if numbering:
            root = document.part.numbering_part.element
            for child in list(root):
                root.remove(child)
            root.extend(list(_body(numbering)))
        buffer = io.BytesIO()
        document.save(buffer)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_with_parts(buffer.getvalue(), parts or {}, relations, types))
        return path

    return make
