"""What a sensor's messages mean: records, rejects, the name it may use."""

from __future__ import annotations

from pathlib import Path

from edge_agent.server.admission import Grant, Peer
from edge_agent.server.context import Visitor
from edge_agent.server.sensor_session import arrival_of
from edge_agent.wire import parse_target
from tests.patience import eventually
from tests.server.support import serving, session


async def test_good_and_bad_records_of_a_list_become_parts_of_one_entry(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, session(port) as sensor:
        await sensor.hello("pi")
        port.held.hold()
        messages = ['{"t": 1}', '[{"t": 2}, {"time": "noon"}]', '{"t": 4}']
        for message in messages:
            await sensor.socket.send_message(message)
        await eventually(lambda: port.metrics.get("messages_received_total") == 3, "read")
        port.held.let_go()
        assert (await sensor.receive())["type"] in ("nack", "ack")
        await eventually(lambda: port.held.returned == port.held.began >= 1, "committed")
        await eventually(
            lambda: sum(entry.count for entry in port.held.committed if entry.runs) == 3,
            "all of it",
        )
        entries = [entry for entry in port.held.committed if entry.runs]
        rejected = [item for entry in entries for item in entry.quarantine]
        assert [(item.code, item.number, item.source) for item in rejected] == [
            ("bad_time", 3, "pi")
        ]


async def test_arrival_tells_the_time_and_whether_it_can_be_believed(tmp_path: Path) -> None:
    async with serving(tmp_path) as port:
        port.clock.step_wall(1234, synced=False)
        visitor = Visitor(Peer("", True), Grant("local"), parse_target("/ingest/a"), "json", 0)
        arrival = arrival_of(port.server._parts, visitor, "pi")
        assert (arrival.wall_ns, arrival.synced, arrival.stream) == (1234, False, "a")
