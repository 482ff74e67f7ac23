"""Nested messages, taken apart."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest

from edge_agent.rules.nested import flattened
from tests.rules.support import apply, kept, reasons, rule

MESSAGE = {
    "params": {"switch:0": {"apower": 8.9, "aenergy": {"total": 3.5}}, "list": [4, {"a": 5}]}
}


def test_fields_are_picked_by_paths() -> None:
    paths = {"apower": 'params."switch:0".apower', "second": "params.list.1.a", "none": "params.x"}
    assert kept([rule(pick=paths)], MESSAGE) == [{"apower": 8.9, "second": 5}]


def test_everything_within_maps_becomes_a_field() -> None:
    assert kept([rule(flatten="_")], {"a": {"b": {"c": 1}, "d": [1]}, "e": {}, "f": 2}) == [
        {"a_b_c": 1, "a_d": [1], "f": 2}
    ]


def test_a_time_that_is_a_map_is_none_to_be_flattened() -> None:
    record = {"time": {"historic": 5}, "a": 1}
    assert kept([rule(flatten="_")], record, record | {"b": {"c": 1}}) == [
        record,
        record | {"b_c": 1},
    ]


def test_names_are_joined() -> None:
    assert flattened({"a": {"b": 1}, 2: 3}, ".", 1000, "x.") == {"x.a.b": 1, "x.2": 3}


def _names_of(*, chain: int) -> dict[str, object]:
    """A long name above many values, or above many maps of one value each."""
    below = {f"{n}": {"a": 1} if chain else 1 for n in range(3000)}
    return {"x" * 30_000: below}


@pytest.mark.parametrize("chain", [0, 1])
@pytest.mark.parametrize(
    "how, around",
    [
        ({"flatten": "_"}, "{}"),
        ({"profile": "esphome"}, "{}"),
        ({"profile": "zigbee2mqtt"}, "{}"),
        ({"profile": "tasmota"}, '{"UptimeSec": 1, "s": %s}'),
        ({"profile": "tasmota"}, '{"Time": "now", "s": %s}'),
        ({"profile": "shelly-gen2"}, '{"method": "NotifyStatus", "params": {"s": %s}}'),
    ],
)
def test_long_names_above_many_values_are_not_joined(
    how: dict[str, Any], around: str, chain: int
) -> None:
    text = json.dumps(_names_of(chain=chain))
    record = json.loads(around % text if "%s" in around else text)
    tracemalloc.start()
    ruled = apply([rule(**how)], record)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [(code, "65536 bytes" in reason) for _, code, reason in reasons(ruled)] == [
        ("too_big", True)
    ]
    assert peak < 8_000_000
