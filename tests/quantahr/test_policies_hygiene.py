"""What is no policy stays out of the index and is shown to HR; what is one stays in."""

from collections.abc import Callable
from pathlib import Path

import pytest

from quantahr.policies import Document, load_document, summarise
from quantahr.policies.blocks import sentences
from quantahr.policies.hygiene import gaps, without_gaps, without_guidance

DocxOf = Callable[..., Path]


def p(text: str, style: str = "", run: str = "") -> str:
    look = f"<w:rPr>{run}</w:rPr>" if run else ""
    style_xml = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    parts = "<w:tab/>".join(f'<w:t xml:space="preserve">{part}</w:t>' for part in text.split("\t"))
    return f"<w:p>{style_xml}<w:r>{look}{parts}</w:r></w:p>"


def field(kind: str) -> str:
    return f'<w:r><w:fldChar w:fldCharType="{kind}"/></w:r>'


def words(document: Document) -> str:
    return "\n".join(f"{' > '.join(section.heading_path)}: {section.text}" for section in document.sections)


@pytest.mark.parametrize(
    "text",
    [
        "Write to {Insert e-mail address}.",
        "Welcome to [Company name].",
        "It holds from <insert date>.",
        "You get XX days.",
        "You get [25] days.",
        "You get [25 days] off.",
        "Pay is £XX a month.",
        "It starts on XX/XX/20XX.",
        "Signed: ____",
        "The date is TBC.",
        "The amount is to be confirmed.",
        "Hotline (to be confirmed).",
        "Name: {{first_name}}",
        "Click or tap here to enter text",
        "Rate: [●]",
        "Ask your <<manager name>>.",
    ],
)
def test_an_unfilled_gap_is_found(text: str) -> None:
    assert len(gaps(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "Sickness has to be confirmed by a doctor.",
        "Your request needs to be confirmed.",
        "The change is to be confirmed in writing.",
        "See Article XX of the agreement.",
        "This is settled law [1].",
        "Read [the sick leave policy](sick.docx) first.",
        "Write to <people@tessaline.example>.",
        "If x < 5 and y > 3 you get 2 days.",
        "Size XXL is available.",
        "Ask now... or later.",
        "Take the form SAB-1 [see Sabbatical, page 4].",
    ],
)
def test_ordinary_text_is_no_gap(text: str) -> None:
    assert gaps(text) == []


def test_only_the_sentence_with_the_gap_is_dropped() -> None:
    assert without_gaps("You get 25 days. Ask {Insert name}, e.g. by phone. Then wait.") == (
        "You get 25 days. Then wait.",
        ["{Insert name}"],
    )


def test_sentences_end_where_a_reader_stops() -> None:
    text = 'Ask Dr. Meyer, e.g. on Monday. "Yes," she says. Art. 5 holds. You have 3.5 days! Why? See no. 7.'
    assert sentences(text) == [
        "Ask Dr. Meyer, e.g. on Monday.",
        '"Yes," she says.',
        "Art. 5 holds.",
        "You have 3.5 days!",
        "Why?",
        "See no. 7.",
    ]
    assert " ".join(sentences(text)) == text


def test_guidance_inside_a_paragraph_is_taken_out_alone() -> None:
    kept, taken = without_guidance("Leave is 25 days. [Note to HR: check this.] Amend as appropriate. Ask early.")
    assert kept == "Leave is 25 days. Ask early."
    assert taken == ["[Note to HR: check this.]", "Amend as appropriate."]


def test_delete_in_a_policy_is_not_guidance() -> None:
    for text in (
        "Delete personal data after six months.",
        "Remove your badge before you leave.",
        "Remove rings before use.",
        "Delete names before publishing photographs.",
        "Note: ring by nine.",
    ):
        assert without_guidance(text) == (text, [])


def test_guidance_is_left_out_in_every_form_templates_give_it(docx_of: DocxOf) -> None:
    styles = '<w:style w:type="paragraph" w:styleId="G"><w:name w:val="Template Guidance"/></w:style>'
    body = p("Leave", "Heading1") + p("Kept one.")
    body += p("[Guidance: choose a number") + p("between 20 and 30,") + p("then delete.]")
    body += (
        p("Note to HR: ask the lawyer.") + p("Pick one.", "G") + p("Write here.", run='<w:i/><w:color w:val="808080"/>')
    )
    body += p("[Note to editor, delete before publishing.]") + p("Kept two.", run='<w:color w:val="808080"/>')
    body += p("How to use this template", "Heading1") + p("Read it.") + p("Steps", "Heading2") + p("Do it.")
    body += p("Pay", "Heading1") + p("Kept three.")
    document = load_document(docx_of(body, styles=styles))
    assert words(document) == "Leave: Kept one.\nKept two.\nPay: Kept three."
    assert {finding.kind for finding in document.findings} == {"guidance"}
    assert len(document.findings) == 11


def test_tables_of_contents_are_left_out_in_every_form(docx_of: DocxOf) -> None:
    toc_style = '<w:style w:type="paragraph" w:styleId="TOC1"><w:name w:val="toc 1"/></w:style>'
    begin = field("begin") + '<w:r><w:instrText> TOC \\o "1-3" </w:instrText></w:r>' + field("separate")
    body = f"<w:p>{begin}<w:r><w:t>Leave 1</w:t></w:r></w:p>{p('Pay 2')}<w:p>{field('end')}</w:p>"
    gallery = '<w:sdtPr><w:docPartObj><w:docPartGallery w:val="Table of Contents"/></w:docPartObj></w:sdtPr>'
    body += f"<w:sdt>{gallery}<w:sdtContent>{p('Contents')}{p('Leave')}</w:sdtContent></w:sdt>"
    body += p("Leave\t3", "TOC1") + p("Contents") + p("1. Leave\t4") + p("Pay\t5") + p("Leave ........ 6")
    body += p("Leave", "Heading1") + p("Grade 3\t25") + p("Ask us.") + p("Pay", "Heading1") + p("Monthly.")
    document = load_document(docx_of(body, styles=toc_style))
    assert words(document) == "Leave: Grade 3 25\nAsk us.\nPay: Monthly."
    assert [finding.kind for finding in document.findings] == ["table_of_contents"]


def test_a_contents_field_that_never_ends_does_not_swallow_the_document(docx_of: DocxOf) -> None:
    begin = field("begin") + "<w:r><w:instrText>TOC</w:instrText></w:r>" + field("separate")
    body = f"<w:p>{begin}<w:r><w:t>Leave 1</w:t></w:r></w:p>" + p("Leave", "Heading1") + p("25 days.")
    assert words(load_document(docx_of(body))) == "Leave: 25 days."


def test_table_rows_lose_the_gap_or_go(docx_of: DocxOf) -> None:
    def row(*cells: str) -> str:
        return "<w:tr>" + "".join(f"<w:tc><w:tcPr/>{p(cell)}</w:tc>" for cell in cells) + "</w:tr>"

    rows = row("Country", "Days", "Pay") + row("Spain", "24", "XX days") + row("Cork", "XX days", "{Insert}")
    body = p("Leave", "Heading1") + f"<w:tbl>{rows}</w:tbl>" + p("Table 2. Contacts")
    body += f"<w:tbl>{row('Site', 'Nurse', 'Room')}{row('Cork', '{Insert}', '[room number]')}</w:tbl>" + p("Ask us.")
    document = load_document(docx_of(body))
    assert words(document) == "Leave: Country: Spain; Days: 24\nAsk us."
    assert summarise(document.findings) == ["5 placeholders in Leave.docx: Leave (5)"]


def test_findings_are_summed_up_with_their_places(docx_of: DocxOf) -> None:
    body = (
        p("Leave", "Heading1")
        + p("Ask {Insert name}. Ring {Insert number}. Done.")
        + p("Pay", "Heading1")
        + p("On XX. Yes.")
    )
    document = load_document(docx_of(body))
    assert summarise(document.findings) == ["3 placeholders in Leave.docx: Leave (2), Pay"]
    assert words(document) == "Leave: Done.\nPay: Yes."


def test_an_unfilled_form_control_is_a_gap(docx_of: DocxOf) -> None:
    prompt = "<w:sdtContent><w:r><w:t>Choose a date.</w:t></w:r></w:sdtContent>"
    control = f"<w:sdt><w:sdtPr><w:showingPlcHdr/></w:sdtPr>{prompt}</w:sdt>"
    body = (
        p("Leave", "Heading1") + f"<w:p><w:r><w:t xml:space='preserve'>Ask us. It starts on </w:t></w:r>{control}</w:p>"
    )
    document = load_document(docx_of(body))
    assert words(document) == "Leave: Ask us."
    assert [finding.detail for finding in document.findings] == ["{Choose a date.}"]


def test_a_gap_in_a_heading_is_cut_out_of_it(docx_of: DocxOf) -> None:
    document = load_document(docx_of(p("Leave at [Company name]", "Heading1") + p("25 days.")))
    assert words(document) == "Leave at: 25 days."
    assert [finding.kind for finding in document.findings] == ["placeholder"]
