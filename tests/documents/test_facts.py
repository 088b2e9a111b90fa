"""Figures and dates are read as people write them in English, French and Portuguese."""

from __future__ import annotations

from decimal import Decimal

import pytest

from ecowas_lc.documents.facts import TimePoint, is_negative, is_uncertain, quantities_in, times_in


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1,200 MW", "1.2 GW"),
        ("1 200 MW", "1.2 GW"),
        ("1 200 MW", "1,2 GW"),
        ("38 500 tonnes", "38,500 tons"),
        ("0,061 maro", "0.061 maros"),
        ("84 milhões de maros", "84 million maros"),
        ("310 mil maros", "310,000 maros"),
        ("3,8 %", "3.8 per cent"),
        ("cinco lugares", "five seats"),
        ("neuf entrepôts", "nine warehouses"),
        ("25 years", "25 ans"),
        ("3.7 million cubic metres", "3,7 milhões de m³"),
        ("2 000 litres", "2 m3"),
        ("40 km²", "40 quilómetros quadrados"),
        ("24 terabits per second", "24 Tbps"),
    ],
)
def test_the_same_quantity_in_other_words(one: str, other: str) -> None:
    """Separators, units, scales and number words of the three languages don't make another figure."""
    [first], [second] = quantities_in(one), quantities_in(other)
    assert first.agrees_with(second)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("420 MW", "430 MW"),
        ("420 MW", "420 GW"),
        ("12 %", "12 km"),
        ("40 km", "40 km²"),
        ("54 GWh", "54 GW"),
        ("2.5 million", "2.5 billion"),
    ],
)
def test_another_quantity(one: str, other: str) -> None:
    """A figure with another value or unit is another figure."""
    [first], [second] = quantities_in(one), quantities_in(other)
    assert not first.agrees_with(second)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("on 8 March 2025", TimePoint(2025, 3, 8)),
        ("le 1er juillet 2023", TimePoint(2023, 7, 1)),
        ("a 19 de maio de 2026", TimePoint(2026, 5, 19)),
        ("2025-03-27", TimePoint(2025, 3, 27)),
        ("in April 2025", TimePoint(2025, 4)),
        ("au premier trimestre 2025", TimePoint(2025, part=("quarter", 1))),
        ("no primeiro trimestre de 2025", TimePoint(2025, part=("quarter", 1))),
        ("in the first half of 2024", TimePoint(2024, part=("half", 1))),
        ("em 2021", TimePoint(2021)),
        ("la panne du MAR-2 en janvier 2025", TimePoint(2025, 1)),
    ],
)
def test_dates(text: str, time: TimePoint) -> None:
    """A date is read to the precision in which it is written, and its digits are no figures."""
    [found] = times_in(text)
    assert (found.year, found.month, found.day, found.part) == (time.year, time.month, time.day, time.part)
    assert quantities_in(text) == ()


def test_a_figure_is_found_where_it_stands() -> None:
    """Positions are those of the text, so that they can be shown."""
    text = "Losses were 3.8 per cent in April 2025."
    [quantity] = quantities_in(text)
    assert text[quantity.start : quantity.end] == quantity.text == "3.8 per cent"
    assert quantity.values == {Decimal("3.8")}


def test_denial_and_plans() -> None:
    """A denied or only planned fact differs from a stated one."""
    assert is_negative("La ligne n'est pas encore financée.")
    assert is_negative("A linha ainda não foi aprovada.")
    assert not is_negative("The line is in service.")
    assert is_negative("No builder has been chosen.")
    assert not is_negative("Reunião no Porto, no Hotel Coral.")
    assert is_uncertain("Production is expected to begin in 2027.")
    assert is_uncertain("A produção deverá começar em 2027.")
    assert not is_uncertain("Production began in 2024.")
