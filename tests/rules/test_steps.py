"""Times as rules see them."""

from __future__ import annotations

import msgpack
import pytest

from edge_agent.errors import ProtocolError
from edge_agent.rules.steps import Spot, time_of

MOMENT = msgpack.Timestamp(1_795_341_600, 250_000_999)


def test_a_time_is_what_readers_will_find() -> None:
    assert time_of(None, 7) == 7
    # To the microsecond, as everywhere.
    assert time_of(MOMENT, 7) == 1_795_341_600_250_000_000
    assert time_of({"historic": msgpack.Timestamp(5, 0)}, 7) == 5_000_000_000
    assert time_of("2026-11-22T10:00:00Z", 7) == 1_795_341_600_000_000_000
    with pytest.raises(ProtocolError, match="time"):
        time_of("noon", 7)


def test_a_spot_knows_its_records_time() -> None:
    spot = Spot("a", "pi", 5_000_000_000, 1, again=False)
    assert (spot.time_ns(), spot.seq) == (5_000_000_000, 0)
    spot.fields = {"time": -1}
    assert spot.time_ns() == 4_000_000_000
