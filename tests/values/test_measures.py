"""Units of measure."""

from __future__ import annotations

import math

import pytest

from edge_agent.values.measures import between, scaled


@pytest.mark.parametrize(
    "units, value, result",
    [
        ("F->C", 212, 100.0),
        ("F -> °C", -40, -40.0),
        ("C->F", 21.5, 70.7),
        ("C->K", 21.5, 294.65),
        ("K->C", 0, -273.15),
        ("psi->hPa", 14.5, 999.7397),
        ("bar->Pa", 1.013, 101300.0),
        ("hPa->bar", 1013.25, 1.01325),
        ("mph->km/h", 60, 96.56064),
        ("km/h->m/s", 90, 25.0),
        ("kn->km/h", 10, 18.52),
        ("kWh->J", 1, 3600000.0),
        ("Wmin->Wh", 90, 1.5),
        ("in->mm", 1, 25.4),
        ("mm->in", 25.4, 1.0),
        ("%->1", 45, 0.45),
        ("C->C", 3, 3.0),
    ],
)
def test_units_of_one_kind_become_one_another(units: str, value: float, result: float) -> None:
    changed = between(units)(value)
    assert (type(changed), changed) == (float, pytest.approx(result, rel=1e-6))
    one, other = units.split("->")
    assert between(f"{other}->{one}")(changed) == pytest.approx(value)


def test_results_are_rounded_once() -> None:
    # What (212 - 32) * 0.5555555555555556 is not.
    assert between("F->C")(212) == 100.0
    assert between("km/h->m/s")(90) == 25.0
    assert scaled(0.1, 0)(3) == 0.3
    assert scaled(0.1, -40)(615) == 21.5


def test_any_factor_will_do() -> None:
    assert scaled(1e-20, 0.0)(3.0) == pytest.approx(3e-20)
    assert scaled(1e300, 1.0)(1e10) == math.inf
    assert math.isnan(scaled(2.0, 1.0)(math.nan))
    assert scaled(2.0, 1.0)(2**64) == 2.0**65


@pytest.mark.parametrize(
    "units, expected",
    [
        ("F", 'two units such as "F->C"'),
        ("F->bar", "after F one of K, C, F"),
        ("x->C", "units among Pa, hPa"),
    ],
)
def test_units_that_are_none_say_what_was_expected(units: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        between(units)
