"""What connections share: limits, counters, rules."""

from __future__ import annotations

from pathlib import Path

import msgspec
import trio

from edge_agent.assembly.wiring import connection_status
from edge_agent.config.quantities import Size
from edge_agent.config.shape import Limits, Rule, Schema
from edge_agent.server.admission import Grant, Peer
from edge_agent.server.context import Parts, Visitor
from edge_agent.store import Quarantined
from edge_agent.values.record import Run
from edge_agent.wire import parse_target
from tests.server.support import serving

RUN = Run("a", "pi", 1, 0, True, 1, b"\x80", 0, 0)


async def parts_of(folder: Path, limits: Limits | None = None) -> Parts:
    async with serving(folder, limits=limits) as port:
        await trio.lowlevel.checkpoint()
        return port.server._parts


async def test_limits_for_the_wire_are_plain_numbers(tmp_path: Path) -> None:
    # msgspec does not encode subclasses of int, and these numbers go into the welcome.
    limits = (await parts_of(tmp_path, Limits(message_bytes=Size(77)))).wire_limits
    assert limits.message_bytes == 77
    assert type(limits.message_bytes) is int
    assert type(limits.record_bytes) is int


async def test_everything_received_is_counted(tmp_path: Path) -> None:
    parts = await parts_of(tmp_path)
    bad = Quarantined("bad_time", "", "a", "pi", 1, 0, b"")
    parts.count(2, 30, 400, [bad, bad])
    assert parts.metrics.get("messages_received_total") == 2
    assert parts.metrics.get("records_received_total") == 30
    assert parts.metrics.get("received_bytes_total") == 400
    assert parts.metrics.get("records_nacked_total", "bad_time") == 2


async def test_rules_may_leave_runs_out_and_set_records_aside(tmp_path: Path) -> None:
    parts = await parts_of(tmp_path)
    assert parts.apply_rules((RUN, RUN)) == ((RUN, RUN), ())
    drop = Rule(name="drop", streams=("a",), drop="record")
    strict = Rule(name="strict", streams=("b",), schema=Schema(types={"t": "number"}))
    async with serving(tmp_path, rules=[drop, strict]) as port:
        other = msgspec.structs.replace(RUN, stream="b")
        runs, (reject,) = port.server._parts.apply_rules((RUN, other))
        assert (runs, reject.code) == ((), "bad_schema")
        assert port.metrics.get("records_dropped_total", "drop") == 1
        assert port.metrics.get("records_nacked_total", "bad_schema") == 1


def test_a_visitor_can_be_seen() -> None:
    target = parse_target("/ingest/a/b?ack=1")
    visitor = Visitor(Peer("192.0.2.1", False), Grant("token"), target, "plain", 5)
    visitor.source, visitor.next, visitor.acked = "pi", 9, 8
    view = connection_status(visitor, 5)
    assert (view.mode, view.stream, view.peer) == ("ingest plain", "a/b", "192.0.2.1")
    assert (view.source, view.connected_s) == ("pi", 0)
    assert (view.next, view.acked, view.in_flight_bytes) == (9, 8, 0)
