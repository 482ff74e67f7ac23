"""An upstream is away for hours, the store is small, and two sensors measure ten times a second:
what is old arrives as aggregates, what is new as it was measured, and the sum is what was sent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_agent.client import Producer
from tests.end_to_end.relay import uplink
from tests.end_to_end.support import AgentProcess, agents, eventually, producer_to
from tests.end_to_end.talking import metric
from tests.patience import PATIENCE_S

HUB = '[store]\nsize = "64MiB"\n[log.main]\ncommit_interval = "20ms"\n'
#: Room for 0.8 MB, some 20 000 records; in an hour and a half there are five times as many.
AGENT = """
[store]
size = "16MiB"
compression_level = 0
[log.main]
commit_interval = "20ms"
share = "5%"
when_full = "thin-oldest"
[[upstream]]
name = "hub"
url = "ws://127.0.0.1:{port}/forward"
batch_age = "20ms"
backoff_base = "50ms"
backoff_max = "200ms"
"""
SENSORS, MINUTES, HERTZ = 2, 90, 10
BEGIN_S = 1_795_341_600
PER_MINUTE = 60 * HERTZ
SENT = SENSORS * MINUTES * PER_MINUTE


async def measure(producers: list[Producer], minute: int) -> None:
    """One minute of each sensor, sent as fast as it goes."""
    for half in range(2):
        first = minute * PER_MINUTE + half * PER_MINUTE // 2
        for producer in producers:
            await producer.send(
                [
                    {"n": n, "t": n % 7, "time": BEGIN_S + n / HERTZ}
                    for n in range(first, first + PER_MINUTE // 2)
                ]
            )
        for producer in producers:
            await producer.flush(PATIENCE_S)


def stand_for(records: list[dict[str, Any]]) -> int:
    return sum(
        record["fields"]["records"] if record["source"].startswith("$thin/") else 1
        for record in records
    )


async def test_counts_and_records_at_the_hub_are_all_that_was_sent_less_what_was_discarded(
    tmp_path: Path,
) -> None:
    hub = AgentProcess(tmp_path, "hub", HUB)
    async with agents(hub), uplink(hub.port) as relay:
        agent = AgentProcess(tmp_path, "agent", AGENT.format(port=relay.port))
        async with (
            agents(agent),
            producer_to(f"{agent.url}/ingest/a/0", source="pi-0") as first,
            producer_to(f"{agent.url}/ingest/a/1", source="pi-1") as second,
        ):
            producers = [first, second]
            await measure(producers, 0)

            async def caught_up() -> bool:
                return len(await hub.records("a/*")) == SENSORS * PER_MINUTE

            await eventually(caught_up, describe="the first minute at the hub")
            relay.cut()
            for minute in range(1, MINUTES):
                await measure(producers, minute)
            assert await metric(agent, "records_thinned_total") > SENT / 3
            assert 0 < await metric(agent, "thinned_aggregates_total") < SENT / 50
            (log,) = (await agent.get("/api/status"))["logs"]
            assert log["thinned"] == await metric(agent, "records_thinned_total")
            warnings = (await agent.get("/api/status"))["health"]["warnings"]
            assert "thinned" in {warning["code"] for warning in warnings}
            assert agent.output().count("give way to per-minute aggregates") == 1
            last_seq = log["last_seq"]
            relay.restore()

            async def drained() -> bool:
                (upstream,) = (await agent.get("/api/status"))["upstreams"]
                return bool(upstream["connected"]) and upstream["backlog_records"] == 0

            await eventually(drained, describe="everything at the hub")
            lost = await metric(agent, "records_discarded_total")
            lost += await metric(agent, "forward_withheld_total")
            found = await hub.records("a/*")
            assert stand_for(found) == SENT - lost
            assert last_seq == SENT
            assert await metric(hub, "received_thinned_total") > 0
    for number in range(SENSORS):
        as_measured(found, f"pi-{number}")


def as_measured(found: list[dict[str, Any]], source: str) -> None:
    """Aggregates say what their records said, and the newest quarter of an hour is complete."""
    records = [one["fields"]["n"] for one in found if one["source"] == source]
    assert len(set(records)) == len(records)
    assert set(records) >= set(range(SENT // SENSORS - 5 * PER_MINUTE, SENT // SENSORS))
    aggregates = [one["fields"] for one in found if one["source"] == f"$thin/{source}"]
    assert aggregates
    for fields in aggregates:
        assert fields["records"] == fields["n_count"] == fields["n_max"] - fields["n_min"] + 1
        assert fields["n_mean"] == (fields["n_min"] + fields["n_max"]) / 2
        covered = range(fields["n_min"], fields["n_max"] + 1)
        assert not set(covered) & set(records)
        assert fields["t_min"] >= 0 and fields["t_max"] <= 6
