"""What a sensor's messages mean: records, rejects, the name it may use."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.errors import ProtocolError
from edge_agent.server.admission import Grant, Peer
from edge_agent.server.ingest import SensorIntake, arrival_of
from edge_agent.server.parts import Visitor
from edge_agent.wire import Hello, ServerSession, Window, parse_target
from tests.server.support import serving


def visitor(grant: Grant | None = None) -> Visitor:
    return Visitor(Peer("", True), grant or Grant("local"), parse_target("/ingest/a"), "json", 0)


async def test_good_and_bad_records_of_a_list_become_parts_of_one_entry(tmp_path: Path) -> None:
    async with serving(tmp_path) as port:
        parts = port.server._parts
        session = ServerSession("json", parts.wire_limits, Window(1000, 1000))
        session.receive_hello('{"type": "hello", "source": "pi"}')
        session.welcome(10, "e", "")
        taken = await SensorIntake(parts, visitor()).take_in(
            session, "pi", ['{"t": 1}', '[{"t": 2}, {"time": "noon"}]', "{", '{"t": 9}']
        )
        assert sum(run.count for run in taken.runs) == 2
        assert [(item.code, item.number, item.source) for item in taken.quarantine] == [
            ("bad_time", 12, "pi")
        ]
        assert (taken.messages, taken.numbers) == (2, 3)
        assert session.failure is not None
        assert session.number == 13


async def test_a_token_may_restrict_the_names_of_sources(tmp_path: Path) -> None:
    async with serving(tmp_path) as port:
        grant = Grant("t", may_be=lambda name: name.startswith("pi-"))
        intake = SensorIntake(port.server._parts, visitor(grant))
        assert intake.source_of(Hello("pi-7")) == "pi-7"
        with pytest.raises(ProtocolError) as caught:
            intake.source_of(Hello("other"))
        assert (caught.value.code, caught.value.close_code) == ("forbidden_source", 1008)


async def test_arrival_tells_the_time_and_whether_it_can_be_believed(tmp_path: Path) -> None:
    async with serving(tmp_path) as port:
        port.clock.step_wall(1234, synced=False)
        arrival = arrival_of(port.server._parts, visitor(), "pi")
        assert (arrival.wall_ns, arrival.synced, arrival.stream) == (1234, False, "a")
