"""What rules would make of messages."""

from __future__ import annotations

from edge_agent.rules import Trial, stream_for
from edge_agent.wire import Arrival, WireLimits
from tests.rules.support import compiled, rule
from tests.waist import NOW_NS

ARRIVAL = Arrival("greenhouse/1", "trial", NOW_NS, synced=True)


def test_each_record_of_a_message_is_told_of_by_itself() -> None:
    noise = rule("noise", where="odd", drop="record")
    trial = Trial(compiled(noise), WireLimits())
    message = (
        '[{"t": 1, "time": 1795341000}, {"odd": 1}, {"t": 2, "stream": "b"}, {"time": "noon"}]'
    )
    bad, first, odd, other = trial.try_message(message, ARRIVAL)
    assert [code for code, _ in bad.set_aside] == ["bad_time"] and bad.sent is None
    (stored,) = first.stored
    assert (stored.stream, stored.time, stored.fields) == (
        "greenhouse/1", "2026-11-22T09:50:00Z", {"t": 1},
    )  # fmt: skip
    assert odd.left_out == [("noise", "drop")] and not odd.stored
    assert (other.stream, other.sent) == ("b", {"t": 2})


def test_a_message_that_cannot_be_read_is_told_of() -> None:
    (told,) = Trial(compiled(), WireLimits()).try_message("{", ARRIVAL)
    assert told.set_aside[0][0] == "undecodable"


def test_a_stream_is_found_for_whoever_names_none() -> None:
    assert stream_for([rule(streams=("shelly/*/x/**",))]) == "shelly/1/x/1"
    assert stream_for([]) == "trial"
