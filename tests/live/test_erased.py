from __future__ import annotations

import pytest

from edge_agent.config import Alarm
from edge_agent.live import state_without
from edge_agent.live.alarm_state import AlarmStates
from edge_agent.live.stored_state import pack_state
from edge_agent.live.window_state import OpenWindows
from edge_agent.system.clock import Reading
from edge_agent.values.record import Record
from edge_agent.values.stream_names import compile_pattern
from tests.waist import NOW_NS, SECOND

STREAMS = ("secret/1", "open/1", "secret/2")
SECRET = compile_pattern("secret/*")
BOOT = ("", b"b" * 16)


def record(stream: str, *, dated: bool = True) -> Record:
    quality = "sensor" if dated else "arrival"
    return Record("main", 1, stream, NOW_NS, quality, NOW_NS, dated, "s", 0, {"t": 31, "h": 5})  # type: ignore[arg-type]  # either of two literals


def windows(*streams: str, every: int = 60) -> OpenWindows:
    made = OpenWindows(window_ns=60 * SECOND, every_ns=every * SECOND, lateness_ns=5 * SECOND)
    for stream in streams:
        made.add(record(stream), NOW_NS)
        made.add(record(stream, dated=False), None, BOOT)
    return made


def alarms(*streams: str) -> AlarmStates:
    made = AlarmStates(Alarm(field="t", above=30))
    for stream in streams:
        made.add(record(stream), Reading(NOW_NS, 0, BOOT[1], synced=True))
    return made


@pytest.mark.parametrize("every", [60, 20])
def test_windows_are_as_if_the_stream_had_never_been(every: int) -> None:
    state = windows(*STREAMS, every=every).encode()
    assert state_without(state, SECRET) == windows("open/1", every=every).encode()


def test_alarms_are_as_if_the_stream_had_never_been() -> None:
    assert state_without(alarms(*STREAMS).encode(), SECRET) == alarms("open/1").encode()


def test_a_state_of_neither_kind_stays_as_it_is() -> None:
    state = pack_state(lambda: ["another", 1, 2, 3], lambda: None)
    assert state_without(state, SECRET) == state


def test_a_rule_that_was_of_the_other_kind_begins_with_nothing() -> None:
    made, states = windows(), alarms()
    assert made.decode(alarms("open/1").encode()) == 0
    states.decode(windows("open/1").encode())
    assert made.open == 0
    assert not list(states.active())
