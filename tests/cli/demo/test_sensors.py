from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import trio

from edge_agent.cli.demo.compare import fingerprint
from edge_agent.cli.demo.sensors import Sensor, make_sensors
from edge_agent.values.stream_names import stream_problem
from tests.client.stub import StubAgent


def test_the_host_and_as_many_as_asked_for_with_names_of_their_own() -> None:
    sensors = make_sensors(4)
    assert len({each.name for each in sensors}) == 5
    assert sensors[0].name == "host"
    assert [each.at_once for each in sensors].count(50) == 1
    assert all(stream_problem(each.source) is None for each in sensors)


def test_simulated_values_drift_and_are_the_same_for_the_same_seed() -> None:
    first, second = (make_sensors(1, seed=3)[1].read for _ in range(2))
    values = [first() for _ in range(50)]
    assert values == [second() for _ in range(50)]
    assert len({each["t"] for each in values}) > 25
    assert max(abs(b["t"] - a["t"]) for a, b in pairwise(values)) < 1


async def test_the_ledger_knows_what_was_sent_acked_and_refused(nursery: trio.Nursery) -> None:
    agent = StubAgent(nursery)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, agent.serve, listeners)
    values: Iterator[dict[str, Any]] = iter(
        [{"t": 1}, {"t": 2, "stream": "a//b"}, {"t": 3}, {"t": 4}]
    )
    stop = trio.Event()

    def read() -> dict[str, Any]:
        fields = next(values)
        if fields["t"] == 4:
            stop.set()
        return fields

    sensor = Sensor("x", 0.001, 2, read)
    await sensor.run(listeners[0].socket.getsockname()[1], stop)
    assert sensor.ledger.acked == 4
    assert sensor.ledger.acked_numbers() == {1, 3, 4}
    kept = [fields for _, _, fields in agent.records]
    assert [fields["n"] for fields in kept] == [1, 3, 4]
    for fields in kept:
        del fields["time"]
        assert fingerprint(fields) == sensor.ledger.sent[fields["n"] - 1]
    nursery.cancel_scope.cancel()
