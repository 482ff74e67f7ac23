from __future__ import annotations

import pytest

from edge_agent.errors import ProtocolError
from edge_agent.forward.consumer_orders import LogRange
from edge_agent.ops.orders.targets import MoveTarget, target_of

LINES = LogRange(first=11, last=90)


@pytest.mark.parametrize("text, seq", [("start", 11), ("end", 91), ("47", 47)])
def test_where_to_is_a_seq_or_an_end(text: str, seq: int) -> None:
    assert target_of(text, LINES, 10**18) == MoveTarget(seq)


def test_an_age_is_a_time_and_nonsense_is_refused_with_what_was_expected() -> None:
    assert target_of("-1h", LINES, 7200 * 10**9) == MoveTarget(None, 3600 * 10**9)
    assert target_of("1970-01-01T00:00:05Z", LINES, 0) == MoveTarget(None, 5 * 10**9)
    with pytest.raises(ProtocolError, match="noon"):
        target_of("noon", LINES, 0)
