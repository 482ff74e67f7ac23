"""A picture of an agent that never was, for tests of what is made of pictures."""

from __future__ import annotations

from dataclasses import replace

from edge_agent.ops import health
from edge_agent.ops.figures import Figures, Rate, Window
from edge_agent.ops.status import (
    AgentStatus,
    ConnectionStatus,
    LogStatus,
    Status,
    StoreStatus,
    StreamsStatus,
    UpstreamStatus,
)

WELL = health.Facts(
    store_problem=None,
    commit_waits_s=0.0,
    file_fill=0.1,
    logs=(health.LogFact("main", 0.1, "discard-oldest", 0, 0),),
    upstreams=(health.UpstreamFact("hub", True, False, 0, None),),
    quarantined=0,
    clock_synced=True,
    salvage=None,
    insecure=False,
)

WINDOW = Window(
    seconds=10.0,
    received=Rate(1234.5, 87_654.0),
    forwarded=Rate(1000.0, 70_000.0),
    queries=4,
    queries_per_s=250.0,
    cpu=0.031,
    records_per_cpu_s=98_765.0,
)

UPSTREAM = UpstreamStatus(
    name="hub",
    url="wss://hub.example:8765/forward",
    phase="sending",
    connected=True,
    misconfigured=False,
    required=True,
    backlog_records=4711,
    backlog_bytes=None,
    backlog_s=3.5,
    acknowledged_records=100_000,
    refused_records=0,
    failures=0,
    error=None,
    retry_in_s=None,
    rewinds=0,
    gap_records=0,
)

CONNECTION = ConnectionStatus(
    "pi-7/bme280", "greenhouse/2", "10.0.0.7", "ingest json", 61.0, 4214, 4211, 71
)

LOG = LogStatus(
    name="main",
    records=5000,
    bytes=123_456,
    share_bytes=1_000_000,
    fill=0.123456,
    first_seq=1,
    last_seq=5000,
    oldest="2026-11-22T10:00:00Z",
    when_full="discard-oldest",
    committed=5000,
    discarded=0,
    damaged=0,
    refused=0,
)

STATUS = Status(
    agent=AgentStatus(
        id="5f0c5f0c5f0c",
        version="0.1.0",
        store_id="s" * 16,
        epoch="e" * 16,
        started="2026-11-22T09:00:00Z",
        uptime_s=3600.0,
        time="2026-11-22T10:00:00.5Z",
        clock_synced=True,
        pid=4242,
    ),
    health=health.judge(WELL),
    figures=Figures(WINDOW, WINDOW),
    store=StoreStatus(
        path="/var/lib/edge-agent",
        size_bytes=1 << 30,
        used_bytes=1 << 27,
        fill=0.125,
        quarantine_entries=0,
        quarantine_bytes=0,
        sources=3,
        commits=77,
        commit_median_s=0.004,
        failures=0,
        healthy=True,
        problem=None,
    ),
    logs=(LOG,),
    upstreams=(UPSTREAM,),
    connections=(CONNECTION,),
    connections_open=1,
    streams=StreamsStatus(2, 0),
)


def unwell(**changes: object) -> health.Facts:
    """Facts that differ from `WELL`."""
    return replace(WELL, **changes)  # type: ignore[arg-type]  # tests name the fields themselves
