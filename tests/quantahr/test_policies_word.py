"""A Word document becomes the sections that a reader would see in it."""

import datetime
from collections.abc import Callable
from pathlib import Path

import docx
import pytest

from quantahr.policies import Document, load_document
from quantahr.policies.numbering import format_number

DocxOf = Callable[..., Path]
W_NS = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def p(text: str, style: str = "", properties: str = "", run: str = "") -> str:
    style_xml = f'<w:pStyle w:val="{style}"/>' if style else ""
    look = f"<w:rPr>{run}</w:rPr>" if run else ""
    return f'<w:p><w:pPr>{style_xml}{properties}</w:pPr><w:r>{look}<w:t xml:space="preserve">{text}</w:t></w:r></w:p>'


def item(text: str, num: int, level: int = 0) -> str:
    return p(text, properties=f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{num}"/></w:numPr>')


def cell(text: str, properties: str = "", run: str = "") -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{p(text, run=run)}</w:tc>"


def table(*rows: str) -> str:
    return "<w:tbl>" + "".join(f"<w:tr>{row}</w:tr>" for row in rows) + "</w:tbl>"


def texts(document: Document) -> dict[tuple[str, ...], str]:
    return {section.heading_path: section.text for section in document.sections}


def kinds(document: Document) -> list[str]:
    return [finding.kind for finding in document.findings]


def test_headings_become_paths_and_the_opening_stands_under_the_title(docx_of: DocxOf) -> None:
    body = p("Leave", "Title") + p("Please read.") + p("Annual leave", "Heading1") + p("You get 25 days.")
    body += p("Carrying over", "Heading2") + p("Five days.") + p("Sickness", "Heading1") + p("Ring us.")
    document = load_document(docx_of(body))
    assert document.title == "Leave"
    assert texts(document) == {
        ("Leave",): "Please read.",
        ("Annual leave",): "You get 25 days.",
        ("Annual leave", "Carrying over"): "Five days.",
        ("Sickness",): "Ring us.",
    }
    assert [section.order for section in document.sections] == [0, 1, 2, 3]
    assert document.sections[1].id == f"leave:{document.sections[1].content_hash[:12]}"


def test_a_style_of_the_companys_own_based_on_a_localised_heading_is_a_heading(docx_of: DocxOf) -> None:
    styles = (
        '<w:style w:type="paragraph" w:styleId="berschrift1"><w:name w:val="Überschrift 1"/></w:style>'
        '<w:style w:type="paragraph" w:styleId="Firma"><w:name w:val="Firma"/>'
        '<w:basedOn w:val="berschrift1"/></w:style>'
    )
    body = p("Urlaub", "Firma") + p("28 Tage.") + p("Krank", properties='<w:outlineLvl w:val="1"/>') + p("Anrufen.")
    assert texts(load_document(docx_of(body, styles=styles))) == {
        ("Urlaub",): "28 Tage.",
        ("Urlaub", "Krank"): "Anrufen.",
    }


def test_list_labels_are_counted_as_word_counts_them(docx_of: DocxOf) -> None:
    levels = "".join(
        f'<w:lvl w:ilvl="{i}"><w:start w:val="1"/><w:numFmt w:val="{form}"/><w:lvlText w:val="{text}"/></w:lvl>'
        for i, (form, text) in enumerate([("decimal", "%1."), ("lowerLetter", "%2)"), ("lowerRoman", "%3.")])
    )
    bullets = '<w:lvl w:ilvl="0"><w:numFmt w:val="bullet"/><w:lvlText w:val="·"/></w:lvl>'
    numbering = (
        f'<w:abstractNum w:abstractNumId="1">{levels}</w:abstractNum>'
        f'<w:abstractNum w:abstractNumId="2">{bullets}</w:abstractNum>'
        '<w:num w:numId="1"><w:abstractNumId w:val="1"/></w:num><w:num w:numId="2"><w:abstractNumId w:val="2"/></w:num>'
        '<w:num w:numId="3"><w:abstractNumId w:val="1"/>'
        '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="1"/></w:lvlOverride></w:num>'
    )
    body = (
        p("Steps", "Heading1") + item("Ask", 1) + item("first you", 1, 1) + item("today", 1, 2) + item("then us", 1, 1)
    )
    body += item("Wait", 1) + item("tea", 2) + p("Again:") + item("Ask anew", 3)
    assert texts(load_document(docx_of(body, numbering=numbering)))[("Steps",)].split("\n") == [
        "1. Ask",
        "  a) first you",
        "    i. today",
        "  b) then us",
        "2. Wait",
        "- tea",
        "Again:",
        "1. Ask anew",
    ]


@pytest.mark.parametrize(
    ("number", "form", "written"),
    [
        (4, "lowerRoman", "iv"),
        (27, "lowerLetter", "aa"),
        (3, "upperLetter", "C"),
        (7, "decimalZero", "07"),
        (9, "x", "9"),
    ],
)
def test_numbers_are_written_in_words_formats(number: int, form: str, written: str) -> None:
    assert format_number(number, form) == written


def test_bold_lines_are_headings_where_no_style_is_used(docx_of: DocxOf) -> None:
    bold, large = "<w:b/>", '<w:b/><w:sz w:val="32"/>'
    body = p("Sick leave policy", run=large) + p("For everyone.") + p("Telling us:", run=bold) + p("Ring by nine.")
    body += p("Note:", run=bold) + p("Be brief.") + p("Coming back", run=bold) + p("We talk.")
    document = load_document(docx_of(body))
    assert document.title == "Sick leave policy"
    assert texts(document) == {
        ("Sick leave policy",): "For everyone.",
        ("Telling us",): "Ring by nine.\nNote:\nBe brief.",
        ("Coming back",): "We talk.",
    }


def test_typed_numbers_give_the_levels_of_bold_headings(docx_of: DocxOf) -> None:
    bold = "<w:b/>"
    body = p("1 Leave", run=bold) + p("1.1 Holidays", run=bold) + p("25 days.") + p("2 Pay", run=bold) + p("Monthly.")
    assert texts(load_document(docx_of(body))) == {("1 Leave", "1.1 Holidays"): "25 days.", ("2 Pay",): "Monthly."}


def test_a_caption_in_bold_is_no_heading(docx_of: DocxOf) -> None:
    body = (
        p("Leave", "Heading1")
        + p("Table 1. Days", run="<w:b/>")
        + table(cell("Grade") + cell("Days"), cell("3") + cell("30"))
    )
    assert texts(load_document(docx_of(body))) == {("Leave",): "Table 1. Days\nGrade: 3; Days: 30"}


def test_a_table_reads_as_rows_with_their_keys(docx_of: DocxOf) -> None:
    body = p("Days", "Heading1") + table(
        cell("Grade", run="<w:b/>") + cell("Country", run="<w:b/>") + cell("Days", run="<w:b/>"),
        cell("3", '<w:vMerge w:val="restart"/>') + cell("Germany") + cell("30"),
        cell("", "<w:vMerge/>") + cell("Spain") + cell("26"),
        cell("All grades have the same pay.", '<w:gridSpan w:val="3"/>'),
    )
    assert texts(load_document(docx_of(body)))[("Days",)].split("\n") == [
        "Grade: 3; Country: Germany; Days: 30",
        "Grade: 3; Country: Spain; Days: 26",
        "All grades have the same pay.",
    ]


def test_grouped_header_rows_are_joined(docx_of: DocxOf) -> None:
    bold = "<w:b/>"
    body = p("Days", "Heading1") + table(
        cell("Country", '<w:vMerge w:val="restart"/>', bold) + cell("Days", '<w:gridSpan w:val="2"/>', bold),
        cell("", "<w:vMerge/>", bold) + cell("Grade 1", run=bold) + cell("Grade 2", run=bold),
        cell("Spain") + cell("24") + cell("26"),
    )
    expected = "Country: Spain; Days – Grade 1: 24; Days – Grade 2: 26"
    assert texts(load_document(docx_of(body)))[("Days",)] == expected


def test_two_columns_without_a_header_are_key_and_value(docx_of: DocxOf) -> None:
    body = p("Contacts", "Heading1") + table(
        cell("PeopleDesk:", run="<w:b/>") + cell("extension 4400"), cell("Nurse", run="<w:b/>") + cell("extension 12")
    )
    assert texts(load_document(docx_of(body)))[("Contacts",)] == "PeopleDesk: extension 4400\nNurse: extension 12"


def test_a_table_on_its_side_is_read_by_columns(docx_of: DocxOf) -> None:
    body = p("Days", "Heading1") + table(
        cell("Country", run="<w:b/>") + cell("Spain") + cell("Ireland"),
        cell("Days", run="<w:b/>") + cell("24") + cell("25"),
    )
    assert texts(load_document(docx_of(body)))[("Days",)] == "Country: Spain; Days: 24\nCountry: Ireland; Days: 25"


def test_a_table_inside_a_cell_is_kept_with_it(docx_of: DocxOf) -> None:
    inner = table(cell("Adult") + cell("25"), cell("Trainee") + cell("28"))
    body = p("Days", "Heading1") + table(
        cell("Site") + cell("Days"), cell("Cork") + f"<w:tc><w:tcPr/>{p('By age:')}{inner}{p('')}</w:tc>"
    )
    assert texts(load_document(docx_of(body)))[("Days",)] == "Site: Cork; Days: By age: (Adult: 25), (Trainee: 28)"


def test_footnotes_follow_their_sentence_in_brackets(docx_of: DocxOf) -> None:
    reference = '<w:r><w:footnoteReference w:id="2"/></w:r>'
    sentence = (
        f"<w:r><w:t>You get 25 days</w:t></w:r>{reference}<w:r><w:t>. Ask early, e.g. in May. Then wait.</w:t></w:r>"
    )
    notes = f'<w:footnotes xmlns:w="{W_NS}"><w:footnote w:type="separator" w:id="0"><w:p/></w:footnote>'
    notes += (
        '<w:footnote w:id="2"><w:p><w:r><w:t>Pro rata for part-timers.</w:t></w:r></w:p></w:footnote></w:footnotes>'
    )
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.footnotes+xml"
    path = docx_of(
        p("Leave", "Heading1") + f"<w:p>{sentence}</w:p>",
        parts={"word/footnotes.xml": notes},
        relations=f'<Relationship Id="rIdF" Type="{office}/footnotes" Target="footnotes.xml"/>',
        types=f'<Override PartName="/word/footnotes.xml" ContentType="{kind}"/>',
    )
    expected = "You get 25 days. [Pro rata for part-timers.] Ask early, e.g. in May. Then wait."
    assert texts(load_document(path))[("Leave",)] == expected


def test_tracked_changes_are_read_as_accepted_and_reported(docx_of: DocxOf) -> None:
    body = p("Leave", "Heading1") + (
        "<w:p><w:r><w:t xml:space='preserve'>You get </w:t></w:r><w:del><w:r><w:delText>20</w:delText></w:r></w:del>"
        "<w:ins><w:r><w:t>25</w:t></w:r></w:ins><w:r><w:t xml:space='preserve'> days.</w:t></w:r></w:p>"
        "<w:p><w:pPr><w:rPr><w:del/></w:rPr></w:pPr><w:r><w:t xml:space='preserve'>One line </w:t></w:r></w:p>"
    )
    document = load_document(docx_of(body + p("made of two.")))
    assert texts(document)[("Leave",)] == "You get 25 days.\nOne line made of two."
    assert kinds(document) == ["tracked_changes"]


def test_hidden_text_is_left_out_and_reported(docx_of: DocxOf) -> None:
    styles = (
        '<w:style w:type="character" w:styleId="Secret"><w:name w:val="Secret"/><w:rPr><w:vanish/></w:rPr></w:style>'
    )
    body = (
        p("Pay", "Heading1")
        + p("Seen.")
        + p("Unseen.", run="<w:vanish/>")
        + p("Neither.", run='<w:rStyle w:val="Secret"/>')
    )
    document = load_document(docx_of(body, styles=styles))
    assert texts(document)[("Pay",)] == "Seen."
    assert kinds(document) == ["hidden_text"]


def test_text_boxes_controls_links_and_breaks_are_read_once(docx_of: DocxOf) -> None:
    box = f"<w:txbxContent>{p('Hotline 4400.')}</w:txbxContent>"
    shape = f"<w:drawing><wps:wsp><wps:txbx>{box}</wps:txbx></wps:wsp></w:drawing>"
    both = f"<mc:AlternateContent><mc:Choice Requires='wps'>{shape}</mc:Choice>"
    both += f"<mc:Fallback><w:pict><v:textbox>{box}</v:textbox></w:pict></mc:Fallback></mc:AlternateContent>"
    body = p("Help", "Heading1") + f"<w:p><w:r><w:t>Ring us.</w:t></w:r><w:r>{both}</w:r></w:p>"
    body += f"<w:sdt><w:sdtContent>{p('In a control.')}</w:sdtContent></w:sdt>"
    body += (
        "<w:p><w:hyperlink><w:r><w:t>See Harbour</w:t></w:r></w:hyperlink>"
        "<w:r><w:tab/><w:t>now.</w:t><w:br/><w:t>Thanks.</w:t></w:r></w:p>"
    )
    expected = "Ring us.\nHotline 4400.\nIn a control.\nSee Harbour now.\nThanks."
    assert texts(load_document(docx_of(body)))[("Help",)] == expected


def test_a_picture_is_reported_only_where_nothing_else_stands(docx_of: DocxOf) -> None:
    picture = "<w:p><w:r><w:drawing><a:blip/></w:drawing></w:r></w:p>"
    body = p("Map", "Heading1") + picture + p("Fire", "Heading1") + picture + p("Go out.") + p("Empty", "Heading1")
    document = load_document(docx_of(body))
    assert [(finding.kind, finding.where) for finding in document.findings] == [
        ("image_only", "Map"),
        ("empty_section", "Empty"),
    ]


def test_a_right_to_left_document_is_read_in_logical_order(docx_of: DocxOf) -> None:
    body = p("الإجازة السنوية", "Heading1", "<w:bidi/>") + p(
        "لديك 25 يوما. أخبر مديرك.", properties="<w:bidi/>", run="<w:rtl/>"
    )
    assert texts(load_document(docx_of(body))) == {("الإجازة السنوية",): "لديك 25 يوما. أخبر مديرك."}


def test_a_document_without_headings_is_served_under_its_title_with_a_finding(docx_of: DocxOf) -> None:
    document = load_document(docx_of(p("You get 25 days.") + p("Ask early."), name="Sick_leave-rules.docx"))
    assert texts(document) == {("Sick leave rules",): "You get 25 days.\nAsk early."}
    assert kinds(document) == ["no_headings"]


@pytest.mark.parametrize(
    ("said", "date"),
    [
        ("Effective from 1 March 2026.", datetime.date(2026, 3, 1)),
        ("Valid from: 2026-03-01", datetime.date(2026, 3, 1)),
        ("In force since 01.03.2026", datetime.date(2026, 3, 1)),
        ("Effective date: March 1st, 2026", datetime.date(2026, 3, 1)),
        ("This takes effect on 13/03/2026.", datetime.date(2026, 3, 13)),
        ("Approved on 1 March 2026.", None),
        ("Effective from 31 February 2026.", None),
    ],
)
def test_the_date_from_which_a_document_holds_is_found(docx_of: DocxOf, said: str, date: datetime.date | None) -> None:
    document = load_document(docx_of(p(said) + p("Leave", "Heading1") + p("25 days.")))
    assert [section.effective_date for section in document.sections] == [date, date]


def test_a_section_can_hold_from_a_date_of_its_own(docx_of: DocxOf) -> None:
    body = (
        p("Effective from 1 March 2026.")
        + p("A", "Heading1")
        + p("Valid from 1 May 2027, 30 days.")
        + p("B", "Heading1")
        + p("Yes.")
    )
    dates = [section.effective_date for section in load_document(docx_of(body)).sections]
    assert dates == [datetime.date(2026, 3, 1), datetime.date(2027, 5, 1), datetime.date(2026, 3, 1)]


@pytest.mark.parametrize(
    ("name", "keywords", "said", "audience"),
    [
        ("Leave.docx", "", "", ("employee",)),
        ("Leave.docx", "leave; audience: Managers, HR", "", ("hr", "manager")),
        ("managers/Pay.docx", "", "", ("manager",)),
        ("hr/Files.docx", "audience: manager, hr", "", ("hr",)),
        ("hr/Files.docx", "audience: everyone", "", ("hr",)),
        ("Guide.docx", "", "Audience: People managers only.", ("manager",)),
    ],
)
def test_who_may_see_a_document(
    docx_of: DocxOf, tmp_path: Path, name: str, keywords: str, said: str, audience: tuple[str, ...]
) -> None:
    path = docx_of(p(said) + p("Pay", "Heading1") + p("Monthly."), name=name, keywords=keywords)
    document = load_document(path, root=tmp_path)
    assert document.name == name
    assert {section.audience for section in document.sections} == {audience}


def test_a_role_that_nobody_has_is_reported(docx_of: DocxOf) -> None:
    document = load_document(docx_of(p("Pay", "Heading1") + p("Monthly."), keywords="audience: directors"))
    assert document.sections[0].audience == ("director",)
    assert kinds(document) == ["audience"]


def test_a_document_made_with_word_features_of_python_docx_is_read(tmp_path: Path) -> None:
    document = docx.Document()
    document.add_heading("Leave", 0)
    document.add_heading("Annual leave", 1)
    document.add_paragraph("Ask", style="List Number")
    document.add_paragraph("tea", style="List Bullet 2")
    document.sections[0].header.paragraphs[0].text = "Confidential header"
    document.save(str(tmp_path / "a.docx"))
    assert texts(load_document(tmp_path / "a.docx")) == {("Annual leave",): "1. Ask\n- tea"}


def test_spaces_between_runs_survive(docx_of: DocxOf) -> None:
    runs = "".join(f'<w:r><w:t xml:space="preserve">{part}</w:t></w:r>' for part in ("25", " ", "days"))
    assert texts(load_document(docx_of(p("Leave", "Heading1") + f"<w:p>{runs}</w:p>")))[("Leave",)] == "25 days"
