"""A draft as a Word file."""

import io
import re


def write_word(text: str) -> bytes:
    """A .docx of a draft: "# " and "## " are headings, "- " items, "  - " nested ones. Needs python-docx."""
    from docx import Document

    document = Document()
    for paragraph in text.split("\n"):
        line = paragraph.rstrip()
        if not line:
            continue
        if heading := re.match(r"^(#{1,3}) (.*)$", line):
            document.add_heading(heading[2], level=len(heading[1]))
        elif item := re.match(r"^(\s*)- (.*)$", line):
            document.add_paragraph(item[2], style="List Bullet 2" if item[1] else "List Bullet")
        else:
            document.add_paragraph(line)
    written = io.BytesIO()
    document.save(written)
    return written.getvalue()
