from __future__ import annotations

import pytest

from edge_agent.field_path import MISSING, look_up, parse_path

FIELDS = {"t": 1, "a": {"b:0": {"c": 2}}, "relays": [{"on": True}]}


@pytest.mark.parametrize(
    "text, value",
    [("t", 1), ('a."b:0".c', 2), ("a.b:0.c", 2), ("relays.0.on", True), ("a.x", MISSING)],
)
def test_a_path_leads_to_a_value_or_to_nothing(text: str, value: object) -> None:
    assert look_up(FIELDS, parse_path(text)) == value


@pytest.mark.parametrize("text", ["", "a..b", "a b", ".a", 'a."b'])
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a path such as"):
        parse_path(text)
