"""Nested messages, taken apart."""

from __future__ import annotations

from edge_agent.rules.nested import flattened
from tests.rules.support import kept, rule

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
    assert flattened({"a": {"b": 1}, 2: 3}, ".", "x.") == {"x.a.b": 1, "x.2": 3}
