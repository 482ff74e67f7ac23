"""A picture of an agent that never was, for tests of what is made of pictures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edge_agent.ops import health
from edge_agent.ops.figures import Figures, FigureWindow, Rate
from edge_agent.ops.status import (
    AgentStatus,
    ConnectionStatus,
    LogStatus,
    Status,
    StoreStatus,
    StreamsStatus,
    UpstreamStatus,
)
from edge_agent.wear import Budget, Stretch, Wear

WINDOW = FigureWindow(
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

STRETCH = Stretch(
    seconds=3600.0,
    written_bytes=80_000_000,
    written_per_day=1.92e9,
    card_bytes=100_000_000,
    card_per_day=2.4e9,
    commits=3000,
    bytes_per_commit=26_666.7,
    amplification=3.5,
    block_amplification=0.37,
)

WEAR = Wear(
    counted_by="counted by the kernel for this process, without the journal",
    card_counted_by="counted by mmcblk0, everything on it included",
    hour=STRETCH,
    day=STRETCH,
    since_start=STRETCH,
    total_bytes=10**12,
    total_card_bytes=2 * 10**12,
    total_since="2026-01-01T00:00:00Z",
    endurance_bytes=30 * 10**12,
    life_s=14 * 365.25 * 86_400,
    budget=Budget(2_000_000_000, 12.0, 12.0, at_bound=False, kept=True),
)

STORE = StoreStatus(
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
    readable=True,
    problem=None,
)

WELL = health.Facts(
    store=STORE,
    logs=(LOG,),
    upstreams=(UPSTREAM,),
    commit_waits_s=0.0,
    clock_synced=True,
    salvage=None,
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
    store=STORE,
    logs=(LOG,),
    upstreams=(UPSTREAM,),
    connections=(CONNECTION,),
    connections_open=1,
    streams=StreamsStatus(2, 0),
    wear=WEAR,
    wear_outlook=(
        "the 30 TB that the card is made for last about 14 years at today's rate",
        "commits are spread to 12 s to keep 2 GB a day",
    ),
)


def unwell(**changes: Any) -> health.Facts:
    """Facts that differ from `WELL`, themselves or in those of the store."""
    of_store = {name: changes.pop(name) for name in [*changes] if hasattr(STORE, name)}
    return replace(WELL, store=replace(STORE, **of_store), **changes)
