"""Nobody reads another country's rule."""

import pytest

from quantahr.people.countries import Places, country
from quantahr.policies import load_folder
from quantahr.retrieval.units import split_units

HOURS = "Full time is 38 hours a week in Germany, 39 hours in Ireland, 38.5 hours in Spain and 37.5 hours in the UK."
LEAVE = "Maternity leave lasts up to 42 weeks in Ireland and up to 52 weeks in the United Kingdom."


@pytest.mark.parametrize(
    ("place", "line", "kept"),
    [
        ("Germany", HOURS, "Full time is 38 hours a week in Germany."),
        ("Ireland", HOURS, "Weekly hours: 39 hours in Ireland."),
        ("United Kingdom", HOURS, "Weekly hours: 37.5 hours in the UK."),
        ("France", HOURS, None),
        ("Ireland", LEAVE, "Maternity leave lasts up to 42 weeks in Ireland."),
        ("United Kingdom", LEAVE, "Weekly hours: up to 52 weeks in the United Kingdom."),
        ("Spain", LEAVE, None),
        (
            "Ireland",
            "Probation lasts six months in Germany, Ireland and the United Kingdom.",
            "Probation lasts six months in Ireland.",
        ),
        (
            "United Kingdom",
            "It lasts six months in Germany, Ireland and the UK.",
            "It lasts six months in the United Kingdom.",
        ),
        ("Germany", "Country: Spain; Days: 23", None),
        ("Germany", "Country: Germany; Days: 28", "Country: Germany; Days: 28"),
        ("Spain", "Service: 2 years; Germany: 1 month; Spain: 15 days", "Service: 2 years; Spain: 15 days"),
        ("Spain", "The rest is deducted, except in Germany in the second half of the year.", "The rest is deducted."),
        ("Spain", "Everyone has 5 days of training.", "Everyone has 5 days of training."),
        ("Spain", "German employees bring a Mutterpass.", None),
    ],
)
def test_of_a_line_only_the_persons_own_rule_stays(place: str, line: str, kept: str | None) -> None:
    assert Places(place).keep(line, "Weekly hours") == kept


def test_another_site_of_the_company_is_foreign_too() -> None:
    places = Places("Germany", "Berlin", ("Berlin", "Munich"))
    assert places.keep("In Munich the canteen opens at 11:00.") is None
    assert places.keep("In Berlin the canteen opens at 12:00.") is not None


def test_a_country_has_one_name() -> None:
    assert {country(name) for name in ("UK", "uk", "Great Britain", "united kingdom")} == {"United Kingdom"}


def test_nothing_that_is_kept_of_the_sample_handbook_names_a_foreign_country() -> None:
    from pathlib import Path

    sections = load_folder(Path("data/hr_policies")).sections
    lines = [unit.quoted for section in sections for unit in split_units(section.text)]
    for name in ("Germany", "Ireland", "Spain", "United Kingdom"):
        places = Places(name)
        mixed = [line for line in lines if places.foreign(line)]
        kept = [text for line in mixed if (text := places.keep(line))]
        assert len(mixed) > 40
        assert kept
        foreign = [text for text in kept if places.foreign(text) and not places.own(text)]
        assert foreign == []
