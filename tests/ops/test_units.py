"""Units that names tell."""

from __future__ import annotations

import pytest

from edge_agent.ops.units import named


@pytest.mark.parametrize(
    "field, label, unit",
    [
        ("temp_c", "temp", "°C"),
        ("room.temperature_C", "room.temperature", "°C"),
        ("power.apower_w", "power.apower", "W"),
        ("humidity_pct", "humidity", "%"),
        ("phase_c", "phase_c", ""),
        ("node_a", "node_a", ""),
        ("current_a", "current", "A"),
        ("t", "t", ""),
        ("_c", "_c", ""),
        ("temp_", "temp_", ""),
        ("w", "w", ""),
    ],
)
def test_a_name_tells_its_unit_or_none(field: str, label: str, unit: str) -> None:
    assert named(field) == (label, unit)
