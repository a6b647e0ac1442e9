"""Writes the handbooks of the fictional companies that the product is judged on as real Word files.

The text lives in `<company>/source/`, in a markup small enough to read at a glance; this script turns it into what Word
itself would have saved: heading styles, automatic numbering, tables, footnotes in their own part, a table-of-contents
field with its cached entries, a page header and footer. A document with `headings: bold` has no heading styles at all,
only bold lines, as many handbooks do.

The companies exist to evaluate on: nothing may be trained or tuned on them, and on Larkspur not even looked at before
the last measurement. The same text always gives the same bytes, so `python tests/companies/build_companies.py` leaves
the working tree clean.

Markup: `# ## ###` headings; `- ` bullets and `1. ` numbers, nested by two spaces; `| a | b |` table rows, the first of
them the header; `^[note]` a footnote; anything else is a paragraph. `key: value` lines on top describe the document.
"""

from __future__ import annotations

import datetime as dt
import io
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import docx
from docx.enum.style import WD_STYLE_TYPE
from docx.enum.text import WD_ALIGN_PARAGRAPH, WD_TAB_ALIGNMENT, WD_TAB_LEADER
from docx.opc.constants import RELATIONSHIP_TYPE
from docx.opc.packuri import PackURI
from docx.opc.part import Part
from docx.oxml import OxmlElement, parse_xml
from docx.oxml.ns import nsdecls, qn
from docx.shared import Cm, Pt

HERE = Path(__file__).parent
SAVED_AT = dt.datetime(2025, 10, 6, 9, 30)
ZIP_TIME = (2025, 10, 6, 9, 30, 0)
FOOTNOTES_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.footnotes+xml"
FOOTNOTE = re.compile(r"\^\[([^\]]+)\]")
LIST_ITEM = re.compile(r"^( *)(-|\d+\.) (.+)$")
ABSTRACT_BULLETS, ABSTRACT_NUMBERS = "90", "91"


@dataclass(frozen=True)
class Company:
    """What stands on every page of a company's documents, and who saved them."""

    page_header: str
    author: str


COMPANIES = {
    "kahawai_ferries": Company("Kahawai Strait Ferries Limited – Crew handbook", "People & Crew"),
    "larkspur_institute": Company("The Larkspur Institute – Administrative and Personnel Manual", "Administration"),
}
"""By the name of the folder."""


@dataclass
class _Writer:
    """A document in the making: python-docx's object, its footnotes so far and the last list's numbering id."""

    document: Any
    bold_headings: bool
    footnotes: list[str] = field(default_factory=list)
    bookmarks: int = 0

    def heading(self, text: str, level: int) -> None:
        """Adds a heading, styled and bookmarked for the contents, or as a bold line where styles are not used."""
        if self.bold_headings:
            self.document.add_paragraph().add_run(text).bold = True
            return
        paragraph = self.document.add_heading(text, level)
        self.bookmarks += 1
        start, end = OxmlElement("w:bookmarkStart"), OxmlElement("w:bookmarkEnd")
        for mark in (start, end):
            mark.set(qn("w:id"), str(self.bookmarks))
        start.set(qn("w:name"), f"_Toc{self.bookmarks:06d}")
        paragraph._p.insert(1, start)
        paragraph._p.append(end)

    def text(self, paragraph: Any, text: str) -> None:
        """Fills a paragraph, turning `^[note]` into a reference to a real footnote."""
        pieces = FOOTNOTE.split(text)
        for words, note in zip(pieces[::2], [*pieces[1::2], None], strict=True):
            if words:
                paragraph.add_run(words)
            if note is not None:
                self.footnotes.append(note)
                paragraph._p.append(
                    parse_xml(
                        f'<w:r {nsdecls("w")}><w:rPr><w:vertAlign w:val="superscript"/></w:rPr>'
                        f'<w:footnoteReference w:id="{len(self.footnotes)}"/></w:r>'
                    )
                )

    def list_item(self, text: str, depth: int, num_id: int) -> None:
        """Adds one item of an automatic list: Word draws the bullet or number, it is not in the text."""
        paragraph = self.document.add_paragraph(style="List Paragraph")
        paragraph._p.get_or_add_pPr().append(
            parse_xml(f'<w:numPr {nsdecls("w")}><w:ilvl w:val="{depth}"/><w:numId w:val="{num_id}"/></w:numPr>')
        )
        self.text(paragraph, text)

    def new_list(self, numbered: bool) -> int:
        """A numbering instance of its own, so that each numbered list starts at 1. Returns its id."""
        numbering = self.document.part.numbering_part.element
        ids = [int(num.get(qn("w:numId"))) for num in numbering.findall(qn("w:num"))]
        num_id = max(ids, default=0) + 1
        abstract = ABSTRACT_NUMBERS if numbered else ABSTRACT_BULLETS
        start = '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="1"/></w:lvlOverride>' if numbered else ""
        numbering.append(
            parse_xml(f'<w:num {nsdecls("w")} w:numId="{num_id}"><w:abstractNumId w:val="{abstract}"/>{start}</w:num>')
        )
        return num_id

    def table(self, rows: list[list[str]]) -> None:
        """Adds a gridded table whose first row is marked as the header that repeats on each page."""
        table = self.document.add_table(rows=0, cols=len(rows[0]), style="Table Grid")
        for number, cells in enumerate(rows):
            row = table.add_row()
            for cell, value in zip(row.cells, cells, strict=True):
                self.text(cell.paragraphs[0], value)
                if number == 0:
                    for run in cell.paragraphs[0].runs:
                        run.bold = True
            if number == 0:
                row._tr.get_or_add_trPr().append(OxmlElement("w:tblHeader"))
        self.document.add_paragraph()


def _define_lists(document: Any) -> None:
    def level(index: int, style: str, label: str) -> str:
        indent = 360 * (index + 1)
        return (
            f'<w:lvl w:ilvl="{index}"><w:start w:val="1"/><w:numFmt w:val="{style}"/><w:lvlText w:val="{label}"/>'
            f'<w:lvlJc w:val="left"/><w:pPr><w:ind w:left="{indent}" w:hanging="360"/></w:pPr></w:lvl>'
        )

    numbering = document.part.numbering_part.element
    first_num = numbering.find(qn("w:num"))
    for abstract, levels in (
        (ABSTRACT_BULLETS, level(0, "bullet", "•") + level(1, "bullet", "–")),
        (ABSTRACT_NUMBERS, level(0, "decimal", "%1.") + level(1, "lowerLetter", "%2)")),
    ):
        first_num.addprevious(
            parse_xml(
                f'<w:abstractNum {nsdecls("w")} w:abstractNumId="{abstract}">'
                f'<w:multiLevelType w:val="multilevel"/>{levels}</w:abstractNum>'
            )
        )


def _add_contents(document: Any, headings: list[tuple[int, str]]) -> None:
    """A table of contents as Word caches it: a field in a content control, one linked line per heading."""
    lines = []
    for number, (level, text) in enumerate(headings, start=1):
        begin = '<w:r><w:fldChar w:fldCharType="begin"/></w:r>'
        code = r'<w:r><w:instrText xml:space="preserve"> TOC \o "1-3" \h \z \u </w:instrText></w:r>'
        separate = '<w:r><w:fldChar w:fldCharType="separate"/></w:r>'
        lines.append(
            f'<w:p><w:pPr><w:pStyle w:val="TOC{level}"/></w:pPr>{begin + code + separate if number == 1 else ""}'
            f'<w:hyperlink w:anchor="_Toc{number:06d}"><w:r><w:t xml:space="preserve">{escape(text)}</w:t></w:r>'
            f"<w:r><w:tab/></w:r><w:r><w:t>{1 + number // 6}</w:t></w:r></w:hyperlink></w:p>"
        )
    document.element.body.insert_element_before(
        parse_xml(
            f"<w:sdt {nsdecls('w')}><w:sdtPr><w:docPartObj><w:docPartGallery w:val='Table of Contents'/>"
            "<w:docPartUnique/></w:docPartObj></w:sdtPr><w:sdtContent>"
            '<w:p><w:pPr><w:pStyle w:val="TOCHeading"/></w:pPr><w:r><w:t>Contents</w:t></w:r></w:p>'
            f'{"".join(lines)}<w:p><w:r><w:fldChar w:fldCharType="end"/></w:r></w:p></w:sdtContent></w:sdt>'
        ),
        "w:sectPr",
    )


def _add_footnotes(document: Any, notes: list[str]) -> None:
    """The footnotes part that python-docx does not write; ids -1 and 0 are the separators that Word expects."""
    body = "".join(
        f'<w:footnote w:id="{number}"><w:p><w:r><w:rPr><w:vertAlign w:val="superscript"/></w:rPr><w:footnoteRef/></w:r>'
        f'<w:r><w:t xml:space="preserve"> {escape(note)}</w:t></w:r></w:p></w:footnote>'
        for number, note in enumerate(notes, start=1)
    )
    separators = (
        '<w:footnote w:type="separator" w:id="-1"><w:p><w:r><w:separator/></w:r></w:p></w:footnote>'
        '<w:footnote w:type="continuationSeparator" w:id="0"><w:p><w:r><w:continuationSeparator/></w:r></w:p>'
        "</w:footnote>"
    )
    xml = (
        '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
        f"<w:footnotes {nsdecls('w')}>{separators}{body}</w:footnotes>"
    )
    part = Part(PackURI("/word/footnotes.xml"), FOOTNOTES_TYPE, xml.encode(), document.part.package)
    document.part.relate_to(part, RELATIONSHIP_TYPE.FOOTNOTES)


def _with_fixed_times(package: bytes) -> bytes:
    """The same zip with every member in name order and stamped alike, so that equal text gives equal bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(package)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        # The content types must come first: some readers sniff the type of the file from it.
        for name in sorted(old.namelist(), key=lambda name: (name != "[Content_Types].xml", name)):
            if not name.startswith("docProps/thumbnail"):
                new.writestr(zipfile.ZipInfo(name, ZIP_TIME), old.read(name), zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _new_document(meta: dict[str, str], company: Company) -> Any:
    document = docx.Document()
    for rel_id, rel in list(document.part.package.rels.items()):
        if "thumbnail" in rel.reltype:
            del document.part.package.rels[rel_id]
    properties = document.core_properties
    properties.title, properties.author = meta["title"], company.author
    properties.created = properties.modified = SAVED_AT
    properties.last_modified_by, properties.revision, properties.comments = company.author, 6, ""
    document.styles["Normal"].font.name, document.styles["Normal"].font.size = "Calibri", Pt(11)
    for level in (1, 2, 3):
        contents_line = document.styles.add_style(f"toc {level}", WD_STYLE_TYPE.PARAGRAPH)
        contents_line.element.set(qn("w:styleId"), f"TOC{level}")
        contents_line.base_style = document.styles["Normal"]
        layout = contents_line.paragraph_format
        layout.left_indent, layout.space_after = Cm(0.5 * (level - 1)), Pt(2)
        layout.tab_stops.add_tab_stop(Cm(15), WD_TAB_ALIGNMENT.RIGHT, WD_TAB_LEADER.DOTS)
    _define_lists(document)
    section = document.sections[0]
    section.header.paragraphs[0].text = company.page_header
    section.footer.paragraphs[0].text = meta["footer"]
    section.footer.paragraphs[0].alignment = WD_ALIGN_PARAGRAPH.CENTER
    return document


def build(source: Path) -> tuple[str, bytes]:
    """Turns `<company>/source/<text>` into a Word file. Returns its name and bytes, always the same for one text."""
    head, body = source.read_text("utf-8").split("\n\n", 1)
    meta = dict(line.split(": ", 1) for line in head.splitlines())
    lines = body.splitlines()
    company = COMPANIES[source.parents[1].name]
    writer = _Writer(_new_document(meta, company), bold_headings=meta.get("headings") == "bold")
    writer.document.add_paragraph(meta["title"], style="Title")
    if meta.get("toc") == "yes":
        marks = [line.split(" ", 1) for line in lines if line.startswith("#")]
        _add_contents(writer.document, [(len(hashes), text) for hashes, text in marks])
    rows: list[list[str]] = []
    num_id = 0
    for line in [*lines, ""]:
        if rows and not line.startswith("|"):
            writer.table(rows)
            rows = []
        item = LIST_ITEM.match(line)
        if item is None:
            num_id = 0
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif line.startswith("#"):
            hashes, text = line.split(" ", 1)
            writer.heading(text, len(hashes))
        elif item is not None:
            num_id = num_id or writer.new_list(numbered=item[2] != "-")
            writer.list_item(item[3], depth=len(item[1]) // 2, num_id=num_id)
        elif line:
            writer.text(writer.document.add_paragraph(), line)
    _add_footnotes(writer.document, writer.footnotes)
    out = io.BytesIO()
    writer.document.save(out)
    return meta["file"], _with_fixed_times(out.getvalue())


def main() -> None:
    """Writes every policy of every company into its folder."""
    for company in COMPANIES:
        policies = HERE / company / "policies"
        policies.mkdir(exist_ok=True)
        for source in sorted((HERE / company / "source").iterdir()):
            name, data = build(source)
            (policies / name).write_bytes(data)


if __name__ == "__main__":
    main()
