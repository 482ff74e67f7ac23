"""How fast a backlog reaches Kafka, a message for each record; beside a bare producer.

Both go to librdkafka's own mock cluster, inside the process that produces: what is measured is what
the sink adds to librdkafka. (The one real broker in a wheel, Tansu, takes less than either.)
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from unittest.mock import patch

import confluent_kafka
import trio

from benchmarks.bench_drain import fill
from edge_agent.assembly.wiring import store_settings
from edge_agent.config import Config, KafkaTable, Upstream
from edge_agent.forward import make_sink
from edge_agent.forward.sink import Batch, LaneResume
from edge_agent.forward.sinks.kafka.settings import settings_of
from edge_agent.store import Engine
from edge_agent.system.clock import SystemClock

RECORDS = 300_000
BATCH_BYTES = 512 * 1024
MOCK = {"test.mock.num.brokers": 3}
UPSTREAM = Upstream(name="kafka", url="kafka://mock", compression="none")


def run(folder: Path, *, records: int = RECORDS) -> dict[str, object]:
    """Send a backlog into a mock cluster, then produce as many messages plainly.

    Args:
        folder: for the store; empty.
        records: how many.
    """
    fill(folder / "data", records, 100)
    settings = settings_of(UPSTREAM, KafkaTable(), None) | MOCK
    with patch("edge_agent.forward.sinks.kafka.sink.settings_of", lambda *_: settings):
        seconds, cpu, size = trio.run(_drain, folder / "data", records)
    return {
        "records": records,
        "records_per_second": records / seconds,
        "cpu_seconds": cpu,
        "peer": "a bare idempotent producer",
        "peer_records_per_second": records / _plain(settings, records, size // records),
        "version": confluent_kafka.libversion()[0],
    }


async def _drain(data: Path, records: int) -> tuple[float, float, int]:
    clock = SystemClock()
    engine = Engine.open(data, store_settings(Config()), clock=clock, entropy=os.urandom)
    sink = make_sink(
        UPSTREAM, "main", identity=engine.identity, clock=clock,
        run_blocking=trio.to_thread.run_sync,
    )  # fmt: skip
    at = size = 0
    try:
        async with trio.open_nursery() as nursery:
            await sink.open(nursery, LaneResume(0, 1, records, None))
            began, cpu = time.perf_counter(), time.process_time()
            while at < records:
                items = engine.read("main", at, BATCH_BYTES)
                sent = await sink.send(Batch("main", at + 1, items[-1].last, tuple(items)))
                at, size = sent.upto, size + sent.size
            return time.perf_counter() - began, time.process_time() - cpu, size
    finally:
        await sink.aclose()
        engine.close()


def _plain(settings: dict[str, object], records: int, size: int) -> float:
    producer = confluent_kafka.Producer(settings)
    stored = 0

    def count(problem: object, _: object) -> None:
        nonlocal stored
        assert problem is None, problem
        stored += 1

    began = time.perf_counter()
    for n in range(records):
        while True:
            try:
                producer.produce(
                    "edge", b"x" * size, "bench/0", headers={"id": f"e/main/{n}"}, on_delivery=count
                )
                break
            except BufferError:
                producer.poll(0.01)
        if n % 250 == 0:
            producer.poll(0)
    producer.flush()
    assert stored == records
    return time.perf_counter() - began
