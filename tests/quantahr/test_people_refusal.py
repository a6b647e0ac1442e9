"""People are never judged by this assistant, and ordinary HR work is never mistaken for that."""

from pathlib import Path

import pytest

from quantahr.people.drafts import MARK, find_template, load_templates
from quantahr.people.errors import PeopleError
from quantahr.people.refusal import FEELINGS, JUDGING, refusal
from quantahr.people.word import write_word


@pytest.mark.parametrize(
    "text",
    [
        "rank these candidates", "Score the CVs please", "who should we hire, Ana or Ben?", "Should we promote Ana?",
        "which candidate is the best fit", "shortlist the applicants", "compare the two candidates",
        "recommend whether to dismiss him", "Is Ana likely to quit?", "evaluate all CVs", "which one should I fire",
        "predict who will leave the team", "rate my employees from 1 to 10", "give me a ranking of the applicants",
    ],
)  # fmt: skip
def test_a_judgement_is_refused(text: str) -> None:
    assert refusal(text) == JUDGING


@pytest.mark.parametrize(
    "text",
    ["analyse the sentiment of the team's messages", "how is Ben feeling", "detect stress in these emails",
     "what is the mood of the team", "read her emotions from the interview"],
)  # fmt: skip
def test_a_reading_of_emotions_is_refused(text: str) -> None:
    assert refusal(text) == FEELINGS


@pytest.mark.parametrize(
    "text",
    [
        "job advert for a data engineer", "interview questions", "rejection letter for Ana", "offer letter",
        "performance plan for Ben", "compare annual leave in Germany and Spain", "summarise the grading policy",
        "probation checklist", "reference for Mia", "return to work plan", "parental leave", "promotion rules",
        "What changed in the travel policy?", "Serves customers and rates of exchange", "Motivated to learn SQL",
    ],
)  # fmt: skip
def test_drafting_and_policies_are_not(text: str) -> None:
    assert refusal(text) is None


@pytest.mark.parametrize("name", sorted(path.stem for path in Path("config/templates/drafts").glob("*.md")))
def test_every_template_can_be_filled_and_leaves_holes_visible(name: str) -> None:
    template = load_templates(Path("config/templates/drafts"))[name]
    values = {field.name: f"- first {field.name} thing\n- second thing" for field in template.fields}
    asked: list[str] = []

    def policy(question: str) -> str:
        asked.append(question)
        return "As the policy says."

    text = template.render(values, policy)
    assert text.startswith(MARK)
    assert "{" not in text
    assert "[fill in" not in text
    assert asked == [] or "As the policy says." in text
    empty = template.render({}, lambda _: "")
    assert "[fill in: " in empty
    assert write_word(text)[:2] == b"PK"


def test_a_template_is_found_by_what_hr_calls_it() -> None:
    templates = load_templates(Path("config/templates/drafts"))
    for words, name in (
        ("Job ad", "job-advert"),
        ("offer", "offer-letter"),
        ("Interview question", "interview-questions"),
    ):
        found = find_template(templates, words)
        assert found is not None
        assert found.name == name
    assert find_template(templates, "a poem about spring") is None


def test_a_slip_in_a_template_is_named(tmp_path: Path) -> None:
    file = tmp_path / "letter.md"
    file.write_text("---\ntitle: T\nfields:\n  - {name: name, label: N}\n---\nDear {nmae}\n", encoding="utf-8")
    with pytest.raises(PeopleError, match=r"letter\.md: \{nmae\} stands for nothing"):
        load_templates(tmp_path)
