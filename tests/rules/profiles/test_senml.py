"""SenML packs, shaped as the examples of RFC 8428, section 5.1."""

from __future__ import annotations

from typing import Any

import pytest

from edge_agent.rules import CompiledRules
from tests.rules.support import by_stream, compiled, reasons, rule
from tests.waist import NOW_NS, SECOND, run_of

PROFILE = rule(profile="senml", streams=("senml",))
NOW_S = NOW_NS // SECOND
BASE = "senml/urn-dev-ow-10e2073a01080063"


def made(
    *packs: list[dict[str, Any]], rules: CompiledRules | None = None
) -> dict[str, list[dict[str, Any]]]:
    rules = rules or compiled(PROFILE)
    runs = tuple(run_of(*pack, stream="senml") for pack in packs)
    ruled = rules.apply(runs)
    assert not ruled.rejects
    return by_stream(ruled)


def test_a_single_measurement() -> None:
    pack = [{"n": "urn:dev:ow:10e2073a01080063", "u": "Cel", "v": 23.1}]
    assert made(pack) == {"senml/urn-dev-ow": [{"10e2073a01080063": 23.1, "unit": "Cel"}]}


def test_a_base_name_holds_for_the_pack() -> None:
    pack = [
        {"bn": "urn:dev:ow:10e2073a01080063:", "n": "voltage", "u": "V", "v": 120.1},
        {"n": "current", "u": "A", "v": 1.2},
    ]
    assert made(pack) == {BASE: [{"voltage": 120.1, "unit": "V"}, {"current": 1.2, "unit": "A"}]}


def test_base_time_unit_and_value_are_added() -> None:
    pack: list[dict[str, Any]] = [
        {"bn": "urn:dev:ow:10e2073a01080063:", "bt": 1780308000.5, "bu": "A", "bver": 5,
         "n": "voltage", "u": "V", "v": 120.1},
        {"n": "current", "t": -5, "v": 1.2},
        {"bv": 1, "n": "current", "t": -4, "v": 1.3},
        {"n": "current", "t": -3},
        {"bt": 1780308060, "n": "current", "v": 1.5},
    ]  # fmt: skip
    assert made(pack) == {
        BASE: [
            {"voltage": 120.1, "unit": "V", "time": 1780308000.5},
            {"current": 1.2, "unit": "A", "time": 1780307995.5},
            {"current": 2.3, "unit": "A", "time": 1780307996.5},
            {"current": 1, "unit": "A", "time": 1780307997.5},
            {"current": 2.5, "unit": "A", "time": 1780308060},
        ]
    }


def test_a_small_time_is_relative_to_now() -> None:
    pack = [
        {"bn": "a:", "n": "t", "t": -10, "v": 1},
        {"n": "t", "v": 2},
        {"n": "t", "t": 5, "v": 3},
    ]
    rules = compiled(PROFILE)
    (run,) = rules.apply((run_of(*[{**one, "x": 0} for one in pack], stream="senml"),)).runs
    assert (run.time_min_ns, run.time_max_ns) == (NOW_NS - 10 * SECOND, NOW_NS)


def test_texts_booleans_data_and_sums() -> None:
    pack: list[dict[str, Any]] = [
        {"bn": "urn:dev:ow:10e2073a01080063:", "n": "open", "vb": False},
        {"n": "label", "vs": "Machine Room"},
        {"n": "nfc-reader", "vd": "aGkgCg"},
        {"n": "energy", "u": "J", "s": 5},
        {"n": "power", "v": 2, "s": 7},
    ]
    assert made(pack) == {
        BASE: [
            {"open": False},
            {"label": "Machine Room"},
            {"nfc-reader": b"hi \n"},
            {"energy": 5, "unit": "J"},
            {"power": 2, "power_sum": 7},
        ]
    }


def test_a_pack_of_several_messages_or_reads_goes_on_and_a_new_one_begins_anew() -> None:
    rules = compiled(PROFILE)
    assert made([{"bn": "a:", "bu": "V", "n": "x", "v": 1}], rules=rules) == {
        "senml/a": [{"x": 1, "unit": "V"}]
    }
    assert made([{"n": "y", "v": 2}], rules=rules) == {"senml/a": [{"y": 2, "unit": "V"}]}
    assert made([{"bn": "b:", "n": "x", "v": 3}], rules=rules) == {"senml/b": [{"x": 3}]}


def test_a_record_that_only_says_what_follows_is_left_out() -> None:
    assert made([{"bn": "b:", "bt": 1780308000}, {"n": "x", "v": 3}]) == {
        "senml/b": [{"x": 3, "time": 1780308000}]
    }


def test_a_name_that_the_base_has_alone() -> None:
    assert made([{"bn": "urn:dev:mac:0b92569229fc9e68/rpm/", "v": 7}]) == {
        "senml": [{"urn-dev-mac-0b92569229fc9e68-rpm": 7}]
    }


@pytest.mark.parametrize(
    "record, reason",
    [
        ({"v": 1}, "n: expected a name"),
        ({"n": "time", "v": 1}, "n: expected a name, got 'time'"),
        ({"n": "x", "v": "hot"}, "expected a number, got 'hot'"),
        ({"n": "x", "t": "noon", "v": 1}, "expected a number, got 'noon'"),
        ({"n": "x", "vd": "a"}, "vd: "),
        ({"n": "x", "vd": "*a*A"}, "vd: expected base64"),
        ({"n": "x", "vd": 5}, "vd: expected text, got 5"),
        ({"n": "x", "vs": 5}, "vs: expected text, got 5"),
        ({"n": "x", "vb": "on"}, "vb: expected true or false, got 'on'"),
        ({"n": "x", "v": None}, "v: expected a number, got null"),
        ({"bn": "x" * 201, "n": "x", "v": 1}, "bn: expected text of at most 200 characters"),
        ({"bn": 7, "n": "x", "v": 1}, "bn: expected text"),
        ({"bt": "noon", "n": "x", "v": 1}, "expected a number, got 'noon'"),
    ],
)
def test_what_cannot_be_resolved_is_set_aside(record: dict[str, Any], reason: str) -> None:
    ruled = compiled(PROFILE).apply((run_of(record, stream="senml"),))
    ((_, code, told),) = reasons(ruled)
    assert code == "bad_senml" and reason in told


def test_what_is_no_senml_stays() -> None:
    assert made([{"temperature": 1}]) == {"senml": [{"temperature": 1}]}


@pytest.mark.parametrize(
    "pack, reason",
    [
        ([{"bver": 11, "n": "a", "v": 1}], "versions up to 10 are known, got 11"),
        ([{"bver": 11, "n": "a", "v": 1}, {"n": "b", "v": 1}], "versions up to 10"),
        ([{"n": "a", "v": 1, "new_": 2}], "new_: what ends with '_' has to be understood"),
        ([{"n": "a", "v": 1, "vs": "x"}], "expected one value, got v and vs"),
        ([{"n": "a", "u": "Cel"}], "'a': expected a value"),
    ],
)
def test_what_rfc_8428_forbids_to_use_is_refused_and_not_passed_over(
    pack: list[dict[str, Any]], reason: str
) -> None:
    ruled = compiled(PROFILE).apply((run_of(*pack, stream="senml"),))
    assert not by_stream(ruled)
    assert len(ruled.rejects) == len(pack) and all(reason in one[2] for one in reasons(ruled))
