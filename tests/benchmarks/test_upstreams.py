"""The benchmarks of queues and of the fleet run on tiny input; their figures mean nothing here."""

from __future__ import annotations

from pathlib import Path

from benchmarks import fleet
from benchmarks.upstreams import kafka, nats


def test_a_backlog_reaches_jetstream_and_kafka_beside_a_peer(tmp_path: Path) -> None:
    for name, found in (
        ("nats", nats.run(tmp_path / "nats", records=2000)),
        ("kafka", kafka.run(tmp_path / "kafka", records=2000)),
    ):
        assert found["records"] == 2000 and found["version"], name
        for key in ("records_per_second", "peer_records_per_second"):
            assert isinstance(found[key], float) and found[key], name


def test_a_fleet_comes_back_and_everything_arrives_once(tmp_path: Path) -> None:
    found = fleet.run(tmp_path, agents=5, real=1, records=20, outages=1)
    assert found["records"] == 200 and found["stream_bytes_per_record"] > 100
