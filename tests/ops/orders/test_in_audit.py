from __future__ import annotations

import pytest

from edge_agent.ops.orders.in_audit import in_audit, outcome_of
from edge_agent.ops.orders.orders import ConsumerOrder, QuarantineOrder
from edge_agent.ops.orders.source_orders import SourceMove


@pytest.mark.parametrize(
    "given, told",
    [
        (ConsumerOrder("pause", "hub"), ("consumer pause", "hub")),
        (
            ConsumerOrder("rewind", "hub", "main", "start"),
            ("consumer rewind", "hub in log main to start"),
        ),
        (SourceMove("move", "oven", "b"), ("source move", "oven to b")),
        (SourceMove("move", "oven", "b", True), ("source move", "oven to b keeping numbers")),
        (SourceMove("forget", "oven"), ("source forget", "oven")),
        (QuarantineOrder("drop", (1, 2)), ("quarantine drop", "entries 1, 2")),
        (QuarantineOrder("replay"), ("quarantine replay", "entries all")),
    ],
)
def test_an_order_is_told_by_its_commands_name_and_what_it_is_about(
    given: ConsumerOrder | QuarantineOrder | SourceMove, told: tuple[str, str]
) -> None:
    assert in_audit(given) == told


def test_what_was_not_settled_is_counted() -> None:
    assert outcome_of([{"done": True}, {"done": False}, {"done": True}]) == "2 of 3 done"
    assert outcome_of([{"consumer": "hub"}]) == outcome_of([]) == "done"
