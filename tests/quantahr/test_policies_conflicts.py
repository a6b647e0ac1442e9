"""Two documents that say the same thing with different numbers are shown to HR; others are not."""

from pathlib import Path

import pytest

from quantahr.policies import load_folder

FILLER = "\n".join(
    f"Rule {word} lasts {number} days." for number, word in enumerate(("kiln", "moss", "reef", "tarn"), 3)
)


def found(folder: Path, one: str, other: str, names: tuple[str, str] = ("Leave", "Travel")) -> list[str]:
    for name, text in zip(names, (one, other), strict=True):
        (folder / f"{name}.md").write_text(f"# Rules\n\n{text}\n\n{FILLER if name == names[0] else 'Ask us.'}\n")
    return [finding.kind for finding in load_folder(folder).findings]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("You may carry over up to five unused days.", "Up to 8 unused days may be carry over by you."),
        ("The home-office allowance is €300.", "You get a home-office allowance of €400 (£350)."),
    ],
)
def test_the_same_rule_with_another_number_is_found(tmp_path: Path, one: str, other: str) -> None:
    assert found(tmp_path, one, other) == ["contradiction"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("You may carry over up to five unused days.", "You may carry over up to 5 unused days."),
        ("Staff in Spain may carry over five unused days.", "Staff in Ireland may carry over six unused days."),
        ("You may carry over up to five unused days.", "A travel claim must reach finance within ten days."),
        ("You may carry over five unused days.", "You may carry over unused days for three months."),
    ],
)
def test_agreement_other_places_and_other_rules_are_not(tmp_path: Path, one: str, other: str) -> None:
    assert found(tmp_path, one, other) == []


def test_documents_for_different_countries_may_differ_and_years_may_not(tmp_path: Path) -> None:
    one, other = "You may carry over up to five unused days.", "You may carry over up to six unused days."
    (tmp_path / "c").mkdir()
    (tmp_path / "y").mkdir()
    assert found(tmp_path / "c", one, other, ("Leave Spain", "Leave Ireland")) == []
    assert found(tmp_path / "y", one, other, ("Leave 2025", "Leave 2026")) == ["contradiction"]
