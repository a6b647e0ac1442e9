"""A handbook source as a Word file, with everything that real handbooks have and python-docx does not offer.

python-docx writes paragraphs, styles and tables. Table of contents, footnotes, restarted numbering, text boxes, content
controls and page fields are WordprocessingML added here by hand. The file is the same bytes every time: properties
carry a fixed date, and the zip is written again with sorted entries and without clock time.
"""

import datetime as dt
import re
import zipfile
from io import BytesIO
from typing import Any

import docx
from docx.enum.style import WD_STYLE_TYPE
from docx.enum.text import WD_ALIGN_PARAGRAPH, WD_TAB_ALIGNMENT, WD_TAB_LEADER
from docx.opc.packuri import PackURI
from docx.opc.part import Part
from docx.oxml import OxmlElement, parse_xml
from docx.oxml.ns import nsdecls, qn
from docx.shared import Cm, Pt, RGBColor

from data.handbook.markup import Block, Heading, ListItem, Paragraph, Source, Table

COMPANY = "Tessaline Instruments SE"
_SAVED = dt.datetime(2026, 2, 2, 9, 0, 0)  # fixed, so that a rebuild changes nothing
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_GREY = RGBColor(0x80, 0x80, 0x80)
_WORDS_PER_PAGE = 430  # measured on the rendered documents; Word recounts when the reader updates the field
_WORDS_PER_CONTENTS_LINE = 10
_BULLETS, _NUMBERS, _HEADING_NUMBERS = 901, 902, 903  # ids of our abstract numberings, clear of the template's
_FOOTNOTES_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.footnotes+xml"
_FOOTNOTES_RELATION = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/footnotes"
_INLINE = re.compile(r"\^\[(?P<note>[^\]]+)\]|\*\*(?P<bold>[^*]+)\*\*")


def render(source: Source) -> bytes:
    """The document as the bytes of a .docx file."""
    return _Writer(source).render()


class _Writer:
    """One document being written; holds what Word wants numbered: footnotes, lists, bookmarks."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.document: Any = docx.Document()
        self.notes: list[str] = []
        self.list_id = 0
        self.bookmarks = 0

    def render(self) -> bytes:
        self._prepare()
        self._front()
        for block in self.source.blocks:
            self._write(block)
        self._attach_footnotes()
        buffer = BytesIO()
        self.document.save(buffer)
        return _without_clock(buffer.getvalue())

    # -- the frame --------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        package = self.document.part.package
        for key in [key for key, rel in package.rels.items() if rel.reltype.endswith("/thumbnail")]:
            del package.rels[key]  # the template's preview shows another document
        core = self.document.core_properties
        core.title, core.subject, core.author = self.source.title, self.source.subject, self.source.author
        core.keywords = "audience:manager" if self.source.audience == "manager" else "HR policy"
        core.category, core.comments, core.language = "Handbook", "", "en-GB"
        core.last_modified_by, core.version, core.revision = self.source.author, self.source.version, 7
        core.created = core.modified = core.last_printed = _SAVED
        page = self.document.sections[0]
        page.page_width, page.page_height = Cm(21), Cm(29.7)
        page.left_margin = page.right_margin = page.top_margin = page.bottom_margin = Cm(2.4)
        self._prepare_styles()
        self._prepare_numbering()
        page.header.paragraphs[0].text = f"{COMPANY} · {self.source.title}"
        footer = page.footer.paragraphs[0]
        footer.alignment = WD_ALIGN_PARAGRAPH.CENTER
        footer.add_run(f"Version {self.source.version} · Page ")
        _field(footer, "PAGE", "1")
        footer.add_run(" of ")
        _field(footer, "NUMPAGES", str(self._page_after(len(self.source.blocks))))

    def _prepare_styles(self) -> None:
        styles = self.document.styles
        styles["Normal"].font.name, styles["Normal"].font.size = "Calibri", Pt(10.5)
        styles["Normal"].paragraph_format.space_after = Pt(6)
        for name in ("footnote text", "toc 1", "toc 2", "toc 3"):
            style = styles.add_style(name, WD_STYLE_TYPE.PARAGRAPH)
            style.base_style = styles["Normal"]
            style.font.size = Pt(9.5)
        for level in (1, 2, 3):
            form = styles[f"toc {level}"].paragraph_format
            form.left_indent, form.space_after = Cm(0.5 * (level - 1)), Pt(2)
            form.tab_stops.add_tab_stop(Cm(16), WD_TAB_ALIGNMENT.RIGHT, WD_TAB_LEADER.DOTS)
        styles.add_style("footnote reference", WD_STYLE_TYPE.CHARACTER).font.superscript = True
        if self.source.headings == "numbered":
            # "Contents" inherits from Heading 1; zero takes the number away again.
            styles["TOC Heading"].element.get_or_add_pPr().get_or_add_numPr().get_or_add_numId().val = 0
            for level in (1, 2):
                properties = styles[f"Heading {level}"].element.get_or_add_pPr().get_or_add_numPr()
                properties.get_or_add_ilvl().val = level - 1
                properties.get_or_add_numId().val = _HEADING_NUMBERS

    def _prepare_numbering(self) -> None:
        numbering = self.document.part.numbering_part.element
        first_num = numbering.find(qn("w:num"))
        for abstract, levels in (
            (_BULLETS, [("bullet", "•"), ("bullet", "–"), ("bullet", "▪")]),
            (_NUMBERS, [("decimal", "%1."), ("lowerLetter", "%2)"), ("lowerRoman", "%3.")]),
            (_HEADING_NUMBERS, [("decimal", "%1"), ("decimal", "%1.%2"), ("decimal", "%1.%2.%3")]),
        ):
            first_num.addprevious(_abstract_numbering(abstract, levels, indent=abstract != _HEADING_NUMBERS))
        for abstract in (_BULLETS, _HEADING_NUMBERS):
            numbering.append(_numbering(abstract, abstract, restart=False))

    def _front(self) -> None:
        if self.source.headings == "bold":  # the kind of document that was never formatted with styles
            title = self.document.add_paragraph()
            title.alignment = WD_ALIGN_PARAGRAPH.CENTER
            run = title.add_run(self.source.title)
            run.bold, run.font.size = True, Pt(18)
            return
        self.document.add_paragraph(self.source.title, style="Title")
        self.document.add_paragraph(self.source.subject, style="Subtitle")
        if self.source.toc:
            self._contents()

    def _contents(self) -> None:
        holder = parse_xml(
            f'<w:sdt {nsdecls("w")}><w:sdtPr><w:docPartObj><w:docPartGallery w:val="Table of Contents"/>'
            "<w:docPartUnique/></w:docPartObj></w:sdtPr><w:sdtContent/></w:sdt>"
        )
        content = holder.find(qn("w:sdtContent"))
        heading = self.document.add_paragraph("Contents", style="TOC Heading")
        content.append(heading._p)
        entries = [(at, block) for at, block in enumerate(self.source.blocks) if isinstance(block, Heading)]
        counters = [0, 0, 0]
        for number, (at, block) in enumerate(entries, start=1):
            counters[block.level - 1 :] = [counters[block.level - 1] + 1] + [0] * (3 - block.level)
            line = self.document.add_paragraph(style=f"toc {block.level}")
            if number == 1:
                _field_begin(line, ' TOC \\o "1-3" \\h \\z \\u ')
            link = OxmlElement("w:hyperlink")
            link.set(qn("w:anchor"), _bookmark(number))
            if self.source.headings == "numbered":
                line.add_run(".".join(str(counter) for counter in counters[: block.level]) + "  ")
            line.add_run(f"{block.text}\t")
            _field(line, f" PAGEREF {_bookmark(number)} \\h ", str(self._page_after(at)))
            for run in line._p.findall(qn("w:r"))[3 if number == 1 else 0 :]:
                link.append(run)
            line._p.append(link)
            content.append(line._p)
        end = self.document.add_paragraph()
        _field_char(end, "end")
        content.append(end._p)
        self.document.element.body.insert(len(self.document.element.body) - 1, holder)

    def _page_after(self, blocks: int) -> int:
        words = sum(len(_plain(block).split()) for block in self.source.blocks[:blocks])
        entries = sum(isinstance(block, Heading) for block in self.source.blocks) if self.source.toc else 0
        return 1 + (words + entries * _WORDS_PER_CONTENTS_LINE) // _WORDS_PER_PAGE

    # -- the text ---------------------------------------------------------------------------------------------------

    def _write(self, block: Block) -> None:
        match block:
            case Heading():
                self._heading(block)
            case ListItem():
                self._item(block)
            case Table():
                self._table(block)
            case Paragraph():
                self._paragraph(block)

    def _heading(self, block: Heading) -> None:
        if self.source.headings == "bold":
            self.document.add_paragraph().add_run(block.text).bold = True
            return
        paragraph = self.document.add_paragraph(style=f"Heading {block.level}")
        self.bookmarks += 1
        for tag in ("w:bookmarkStart", "w:bookmarkEnd"):
            mark = OxmlElement(tag)
            mark.set(qn("w:id"), str(self.bookmarks))
            if tag == "w:bookmarkStart":
                mark.set(qn("w:name"), _bookmark(self.bookmarks))
            paragraph._p.append(mark)
            if tag == "w:bookmarkStart":
                paragraph.add_run(block.text)

    def _item(self, block: ListItem) -> None:
        if block.starts_list:
            self.list_id += 1
            numbering = self.document.part.numbering_part.element
            numbering.append(_numbering(1000 + self.list_id, _NUMBERS, restart=True))
        name = "List Number" if block.ordered else "List Bullet"
        paragraph = self.document.add_paragraph(style=name if block.level == 0 else f"{name} {block.level + 1}")
        properties = paragraph._p.get_or_add_pPr().get_or_add_numPr()
        properties.get_or_add_ilvl().val = block.level
        properties.get_or_add_numId().val = 1000 + self.list_id if block.ordered else _BULLETS
        self._text(paragraph, block.text)

    def _paragraph(self, block: Paragraph) -> None:
        paragraph = self.document.add_paragraph(style="Caption" if block.kind == "caption" else None)
        if block.kind == "guidance":
            run = paragraph.add_run(block.text)
            run.italic, run.font.color.rgb = True, _GREY
        elif block.kind == "box":
            paragraph._p.append(_text_box(block.text))
        else:
            self._text(paragraph, block.text)
        if block.kind == "control":
            control = parse_xml(
                f'<w:sdt {nsdecls("w")}><w:sdtPr><w:alias w:val="Policy text"/><w:tag w:val="policy-text"/></w:sdtPr>'
                "<w:sdtContent/></w:sdt>"
            )
            paragraph._p.addprevious(control)
            control.find(qn("w:sdtContent")).append(paragraph._p)

    def _text(self, paragraph: Any, text: str) -> None:
        """Runs of plain and **bold** text, and a footnote where ``^[…]`` stands."""
        at = 0
        for match in _INLINE.finditer(text):
            if match.start() > at:
                paragraph.add_run(text[at : match.start()])
            at = match.end()
            if match["bold"]:
                paragraph.add_run(match["bold"]).bold = True
                continue
            self.notes.append(match["note"])
            run = paragraph.add_run()
            run.style = "footnote reference"
            reference = OxmlElement("w:footnoteReference")
            reference.set(qn("w:id"), str(len(self.notes)))
            run._r.append(reference)
        if at < len(text):
            paragraph.add_run(text[at:])

    def _table(self, block: Table) -> None:
        rows, columns = len(block.rows), len(block.rows[0])
        table = self.document.add_table(rows=rows, cols=columns, style="Table Grid")
        for r, row in enumerate(block.rows):
            if r < block.header_rows:
                properties = table.rows[r]._tr.get_or_add_trPr()
                properties.append(OxmlElement("w:tblHeader"))
            for c, text in enumerate(row):
                if text in ("<", "^"):
                    continue
                right = next((k for k in range(c + 1, columns) if row[k] != "<"), columns) - 1
                below = next((k for k in range(r + 1, rows) if block.rows[k][c] != "^"), rows) - 1
                cell = table.cell(r, c)
                if (right, below) != (c, r):
                    cell = cell.merge(table.cell(below, right))
                paragraph = cell.paragraphs[0]
                self._text(paragraph, text)
                heading = r < block.header_rows or (c == 0 and not block.header_rows)
                for run in paragraph.runs:
                    run.bold = heading or None
        self.document.add_paragraph()

    # -- footnotes --------------------------------------------------------------------------------------------------

    def _attach_footnotes(self) -> None:
        if not self.notes:
            return
        separators = "".join(
            f'<w:footnote w:type="{kind}" w:id="{number}"><w:p><w:r><w:{mark}/></w:r></w:p></w:footnote>'
            for number, kind, mark in (
                (-1, "separator", "separator"),
                (0, "continuationSeparator", "continuationSeparator"),
            )
        )
        notes = "".join(
            f'<w:footnote w:id="{number}"><w:p><w:pPr><w:pStyle w:val="{self._style_id("footnote text")}"/></w:pPr>'
            f'<w:r><w:rPr><w:rStyle w:val="{self._style_id("footnote reference")}"/></w:rPr><w:footnoteRef/></w:r>'
            f'<w:r><w:t xml:space="preserve"> {_escaped(note)}</w:t></w:r></w:p></w:footnote>'
            for number, note in enumerate(self.notes, start=1)
        )
        xml = (
            '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
            f"<w:footnotes {nsdecls('w')}>{separators}{notes}</w:footnotes>"
        )
        part = Part(PackURI("/word/footnotes.xml"), _FOOTNOTES_TYPE, xml.encode(), self.document.part.package)
        self.document.part.relate_to(part, _FOOTNOTES_RELATION)

    def _style_id(self, name: str) -> str:
        return str(self.document.styles[name].style_id)


def _bookmark(number: int) -> str:
    return f"_Toc{100000 + number}"


def _plain(block: Block) -> str:
    return " ".join(cell for row in block.rows for cell in row) if isinstance(block, Table) else block.text


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _field(paragraph: Any, instruction: str, cached: str) -> None:
    _field_begin(paragraph, instruction)
    paragraph.add_run(cached)
    _field_char(paragraph, "end")


def _field_begin(paragraph: Any, instruction: str) -> None:
    _field_char(paragraph, "begin")
    text = OxmlElement("w:instrText")
    text.set(qn("xml:space"), "preserve")
    text.text = instruction
    paragraph.add_run()._r.append(text)
    _field_char(paragraph, "separate")


def _field_char(paragraph: Any, kind: str) -> None:
    char = OxmlElement("w:fldChar")
    char.set(qn("w:fldCharType"), kind)
    paragraph.add_run()._r.append(char)


def _abstract_numbering(number: int, levels: list[tuple[str, str]], *, indent: bool) -> Any:
    body = "".join(
        f'<w:lvl w:ilvl="{level}"><w:start w:val="1"/><w:numFmt w:val="{form}"/><w:lvlText w:val="{text}"/>'
        f'<w:lvlJc w:val="left"/><w:pPr><w:ind w:left="{(360 * (level + 1)) if indent else 576}" '
        f'w:hanging="{360 if indent else 576}"/></w:pPr></w:lvl>'
        for level, (form, text) in enumerate(levels)
    )
    return parse_xml(
        f'<w:abstractNum {nsdecls("w")} w:abstractNumId="{number}"><w:multiLevelType w:val="multilevel"/>{body}'
        "</w:abstractNum>"
    )


def _numbering(number: int, abstract: int, *, restart: bool) -> Any:
    override = '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="1"/></w:lvlOverride>' if restart else ""
    return parse_xml(
        f'<w:num {nsdecls("w")} w:numId="{number}"><w:abstractNumId w:val="{abstract}"/>{override}</w:num>'
    )


def _text_box(text: str) -> Any:
    """A run with a text box as Word saves it: the drawing, and the same text again for readers of before 2010."""
    inner = f"<w:txbxContent><w:p><w:r><w:t>{_escaped(text)}</w:t></w:r></w:p></w:txbxContent>"
    width, height = 5760000, 720000  # English Metric Units: 16 by 2 centimetres
    return parse_xml(
        f'<w:r {nsdecls("w", "wp", "a")} xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006" '
        'xmlns:wps="http://schemas.microsoft.com/office/word/2010/wordprocessingShape" '
        'xmlns:v="urn:schemas-microsoft-com:vml"><mc:AlternateContent><mc:Choice Requires="wps"><w:drawing>'
        f'<wp:inline distT="0" distB="0" distL="0" distR="0"><wp:extent cx="{width}" cy="{height}"/>'
        '<wp:docPr id="1" name="Text box 1"/><wp:cNvGraphicFramePr/><a:graphic>'
        '<a:graphicData uri="http://schemas.microsoft.com/office/word/2010/wordprocessingShape"><wps:wsp>'
        f'<wps:cNvSpPr txBox="1"/><wps:spPr><a:xfrm><a:off x="0" y="0"/><a:ext cx="{width}" cy="{height}"/></a:xfrm>'
        '<a:prstGeom prst="rect"><a:avLst/></a:prstGeom><a:ln w="9525"><a:solidFill><a:srgbClr val="808080"/>'
        f"</a:solidFill></a:ln></wps:spPr><wps:txbx>{inner}</wps:txbx><wps:bodyPr/></wps:wsp></a:graphicData>"
        "</a:graphic></wp:inline></w:drawing></mc:Choice><mc:Fallback><w:pict>"
        f'<v:rect style="width:454pt;height:57pt"><v:textbox>{inner}</v:textbox></v:rect>'
        "</w:pict></mc:Fallback></mc:AlternateContent></w:r>"
    )


def _without_clock(package: bytes) -> bytes:
    """The same zip with sorted entries, one date and no trace of the system that wrote it."""
    out = BytesIO()
    with zipfile.ZipFile(BytesIO(package)) as old, zipfile.ZipFile(out, "w") as new:
        # Readers look for the content types first.
        for name in sorted(old.namelist(), key=lambda entry: (entry != "[Content_Types].xml", entry)):
            info = zipfile.ZipInfo(name, _ZIP_TIME)
            info.create_system, info.compress_type = 0, zipfile.ZIP_DEFLATED
            new.writestr(info, old.read(name), compresslevel=9)
    return out.getvalue()
