"""A flood goes round until its time is up, and then ends with an ack still to come."""

from __future__ import annotations

import time

import pytest

from benchmarks.flood_load import RATE_MAX, endless
from benchmarks.pump import Flow


def test_the_same_chunks_go_round_for_as_long_as_the_time_can_last(flow: Flow) -> None:
    flood = endless(flow, 0.001)

    assert flood.total >= 0.001 * RATE_MAX
    assert list(flood.upto[:6]) == [10, 20, 30, 40, 50, 60]
    assert len(flood.chunks) == len(flood.upto) == len(flood.ends)
    assert {id(chunk) for chunk in flood.chunks} == {id(chunk) for chunk in flow.chunks}


@pytest.mark.parametrize("acked", [0, 10, 20])
def test_past_its_time_one_chunk_more_is_sent_and_then_no_other(flow: Flow, acked: int) -> None:
    flood = endless(flow, 0.001)
    assert not flood.send() and flood.index == 2, "the window takes two chunks"

    flood.until = time.perf_counter()
    flood.acked = acked
    flood.send()

    assert flood.total == 40 > flood.acked, "an ack is still to come"
    flood.acked = 30
    flood.send()
    assert flood.index == 4 and flood.total == 40
    flood.acked = 40
    assert not flood.send() and flood.index == 4
