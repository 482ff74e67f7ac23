"""Upstreams of every kind: how fast a backlog reaches a real server, and a peer that does the same.

One row for each kind, from its module in `benchmarks.upstreams`, which says what is measured and
what the peer promises less. A kind whose server or library is not there is left out, and said so.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.section import Section
from benchmarks.table import markdown, number


class KindRow(NamedTuple):
    """What one kind did: records a second, microseconds of CPU each, and the peer's records."""

    rate: float
    cpu_us: float
    peer: float


def _influx(folder: Path, records: int) -> KindRow:
    from benchmarks.upstreams import influx

    return _of(influx.run(folder, records=records), records)


def _postgres(folder: Path, records: int) -> KindRow:
    from benchmarks.upstreams import postgres

    return _of(postgres.run(folder, records=records), records)


def _kafka(folder: Path, records: int) -> KindRow:
    from benchmarks.upstreams import kafka

    return _of(kafka.run(folder, records=records), records)


def _nats(folder: Path, records: int) -> KindRow:
    from benchmarks.upstreams import nats

    return _of(nats.run(folder, records=records), records)


def _nats_msgpack(folder: Path, records: int) -> KindRow:
    from benchmarks.upstreams import nats

    return _of(nats.run(folder, records=records, body="msgpack"), records)


def _mqtt(folder: Path, records: int) -> KindRow:
    from benchmarks.upstreams import mqtt

    found = mqtt.run(folder, records=records, versions=("3.1.1",))
    own, bridge = found["edge-agent, MQTT 3.1.1"], found["Mosquitto's bridge"]
    return KindRow(own["messages/s"], own["us CPU/message"], bridge["messages/s"])


#: What is printed, the goal's name, records, and how it is measured.
KINDS: Final[tuple[tuple[str, str, int, Callable[[Path, int], KindRow]], ...]] = (
    ("NATS JetStream, packed, once, lines of JSON (the default); peer: plain publishing",
     "up_nats", 2_000_000, _nats),
    ("NATS JetStream, the same with `format = \"msgpack\"`", "up_nats_msgpack", 2_000_000,
     _nats_msgpack),
    ("InfluxDB 1.6, line protocol; peer: prebuilt lines", "up_influx", 500_000, _influx),
    ("PostgreSQL 15, once; peer: plain COPY", "up_postgres", 300_000, _postgres),
    ("MQTT 3.1.1, single records, QoS 1; peer: Mosquitto's bridge", "up_mqtt", 500_000, _mqtt),
    ("Kafka, mock cluster; peer: a bare producer", "up_kafka", 300_000, _kafka),
)  # fmt: skip
TINY_RECORDS: Final = 2_000


def section(folder: Path, tiny: bool) -> Section:
    """The table, and the goals."""
    rows, found, lacking = [], {}, []
    for what, goal, records, run in KINDS:
        try:
            row = run(folder / goal, TINY_RECORDS if tiny else records)
        except (ModuleNotFoundError, FileNotFoundError) as error:
            lacking.append(f"{what}: not installed: {error}")
            continue
        found[goal] = row.rate
        ratio = f"{row.rate / row.peer:.2f}"
        rows.append((what, number(row.rate), f"{row.cpu_us:.1f}", number(row.peer), ratio))
    head = ("upstream", "records/s", "agent's CPU us/record", "peer's records/s", "of the peer's")
    text = "## Upstreams: a backlog drained into a real server\n\n" + markdown(head, rows)
    return Section("\n\n".join([text, *lacking]), found)


def _of(figures: dict[str, Any], records: int) -> KindRow:
    cpu = figures.get("cpu_us_per_record")
    cpu_us = figures["cpu_seconds"] / records * 1e6 if cpu is None else cpu
    return KindRow(figures["records_per_second"], cpu_us, figures["peer_records_per_second"])
