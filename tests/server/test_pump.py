"""What sessions and plain connections have in common."""

from __future__ import annotations

import json
from pathlib import Path

from edge_agent.config.shape import Limits
from tests.server.support import closed, connect, serving, session

LIMITS = Limits(records_per_second=1)
BATCH = [{"t": 1}] * 3


async def test_who_sends_faster_than_it_may_is_stopped_in_either_way(tmp_path: Path) -> None:
    async with serving(tmp_path, limits=LIMITS) as port:
        async with session(port) as sensor:
            await sensor.hello("pi")
            await sensor.send(BATCH)
            await sensor.acked(4)
            await sensor.send(BATCH)
            assert (await sensor.receive())["code"] == "rate"
            assert (await sensor.closed())[0] == 1013
        port.server._parts.rates._buckets.clear()
        async with connect(port, "/ingest/a?ack=1") as socket:
            await socket.send_message(json.dumps(BATCH))
            assert json.loads(await socket.get_message()) == {"ack": 1}
            await socket.send_message(json.dumps(BATCH))
            assert (await closed(socket))[0] == 1013
        assert port.metrics.get("stops_total", "rate") == 2
        assert port.log.last_seq("main") == 6
