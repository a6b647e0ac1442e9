"""A Markdown handbook gives the same sections as a Word one."""

import datetime
from pathlib import Path

from quantahr.policies import load_document

HANDBOOK = """---
title: Time off
audience: managers
effective: 2026-03-01
---
Read *this* first.

# Annual leave

You get **25 days**[^1]. See [Sick leave](sick.md) and `Harbour`.
Ask <people@a.example> early.

- ask
    1. your manager
    2. us
- wait

Carrying over
-------------

| Country | Days |
|---------|------|
| Spain   | 24   |
| Ireland | 25   |

> Five days, {Insert date}. They expire.

<!-- hidden from readers -->
![map](map.png)

[^1]: Pro rata.
"""


def test_a_markdown_handbook_becomes_sections(tmp_path: Path) -> None:
    path = tmp_path / "off.md"
    path.write_text(HANDBOOK, encoding="utf-8")
    document = load_document(path)
    assert {section.heading_path: section.text for section in document.sections} == {
        ("Time off",): "Read this first.",
        ("Annual leave",): (
            "You get 25 days [Pro rata.]. See Sick leave and Harbour. Ask people@a.example early.\n"
            "- ask\n  1. your manager\n  2. us\n- wait"
        ),
        ("Annual leave", "Carrying over"): "Country: Spain; Days: 24\nCountry: Ireland; Days: 25\nThey expire.",
    }
    section = document.sections[0]
    assert (section.title, section.audience, section.effective_date) == (
        "Time off",
        ("manager",),
        datetime.date(2026, 3, 1),
    )
    assert section.id.startswith("off-md:")
    assert [finding.kind for finding in document.findings] == ["placeholder"]


def test_hash_signs_in_a_code_fence_or_without_space_are_no_headings(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("# Pay\n\n#1 rule: ask.\n\n```\n# not a heading\n```\nYes.\n")
    assert [section.text for section in load_document(path).sections] == ["#1 rule: ask.\n# not a heading\nYes."]
