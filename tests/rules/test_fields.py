"""Steps that change fields."""

from __future__ import annotations

import hashlib
import hmac
import math
from pathlib import Path
from typing import Any

import pytest

from edge_agent.config import Calibration, Conversion
from edge_agent.rules.fields import REDACTED
from tests.rules.support import kept, rule


def test_fields_are_renamed_dropped_and_redacted() -> None:
    rules = [rule(rename={"temp": "t"}), rule(drop=("debug",)), rule(redact=("owner",))]
    changed = kept(rules, {"temp": 1, "debug": 2, "owner": "Ada", "h": 3}, {"h": 4})
    assert changed == [{"t": 1, "owner": REDACTED, "h": 3}, {"h": 4}]


@pytest.mark.parametrize("record", [{"a": 1, "b": 2}, {"b": 2, "a": 1}])
def test_a_renamed_field_wins_over_one_of_that_name(record: dict[str, Any]) -> None:
    assert kept([rule(rename={"a": "b"})], record) == [{"b": 1}]


def test_names_can_be_exchanged() -> None:
    assert kept([rule(rename={"a": "b", "b": "a"})], {"a": 1, "b": 2}) == [{"b": 1, "a": 2}]


def test_units_are_converted_in_place_or_beside() -> None:
    beside = Conversion(units="psi->bar", into="bar")
    rules = [rule(convert={"t": "F->C", "p": beside})]
    (changed,) = kept(rules, {"t": 212, "p": 32.0})
    assert changed == {"t": 100.0, "p": 32.0, "bar": pytest.approx(2.20632, abs=1e-5)}


def test_scale_and_offset_are_meant_as_they_are_written() -> None:
    rules = [rule(convert={"a": Conversion(scale=0.1), "b": Conversion(scale=0.1, offset=-40)})]
    assert kept(rules, {"a": 3, "b": 615}) == [{"a": 0.3, "b": 21.5}]


@pytest.mark.parametrize("value", ["21", True, None, [1], {"a": 1}, b"1"])
def test_what_is_no_number_is_not_converted(value: object) -> None:
    rules = [rule(convert={"t": "F->C"}), rule(calibrate={"t": Calibration(polynomial=(1.0,))})]
    assert kept(rules, {"t": value}) == [{"t": value}]


@pytest.mark.parametrize(
    "shown, right", [(4.0, 4.0), (7.0, 7.1), (5.5, 5.55), (10.0, 10.0), (3.0, 2.9666), (12, 11.933)]
)
def test_a_table_is_straight_from_point_to_point_and_beyond(shown: float, right: float) -> None:
    table = ((4.0, 4.0), (7.0, 7.1), (10.0, 10.0))
    (changed,) = kept([rule(calibrate={"ph": Calibration(table=table)})], {"ph": shown})
    assert changed["ph"] == pytest.approx(right, abs=1e-3)


def test_a_polynomial_begins_with_the_coefficient_that_stands_alone() -> None:
    how = Calibration(polynomial=(1.0, 2.0, 3.0), into="y")
    assert kept([rule(calibrate={"x": how})], {"x": 2}) == [{"x": 2, "y": 17.0}]


def test_numbers_that_are_none_and_infinities_harm_nobody() -> None:
    rules = [
        rule(convert={"t": "F->C"}),
        rule(calibrate={"t": Calibration(table=((0.0, 0.0), (1.0, 1.1)))}),
        rule(truncate={"t": 2}),
    ]
    for value in (math.nan, math.inf, -math.inf, 2**64 - 1, 1e308):
        (changed,) = kept(rules, {"t": value})
        assert isinstance(changed["t"], float)


def test_texts_and_numbers_are_cut() -> None:
    rules = [rule(truncate={"note": 3, "t": 1, "n": 0, "at": 2, "flag": 1})]
    record = {"note": "abcdef", "t": 21.5678, "n": 7, "flag": True}
    record["at"] = {"lat": 52.51634, "lon": [13.37771], "name": "Tor"}
    (changed,) = kept(rules, record)
    assert changed == {
        "note": "abc", "t": 21.6, "n": 7, "flag": True,
        "at": {"lat": 52.52, "lon": [13.38], "name": "To"},
    }  # fmt: skip


def test_a_pseudonym_is_a_keyed_hash_of_the_value(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("0123456789abcdef0123456789abcdef\n")
    rules = [rule(pseudonymise=("card", "pin"), key_file=str(key))]
    changed = kept(rules, {"card": "04:a2", "pin": "04:a2"}, {"card": 4}, {"card": "4"}, {"x": 1})
    told = hmac.new(key.read_bytes().strip(), b"04:a2", hashlib.sha256).hexdigest()[:32]
    assert changed[0] == {"card": told, "pin": told}
    assert changed[1] != changed[2] and changed[3] == {"x": 1}
