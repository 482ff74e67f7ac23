"""What was to be reached, and the table that says of each whether it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.bench_memory import FLAT_MB
from benchmarks.table import markdown, number


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure: at least ``goal``, or with ``at_most`` at most that."""

    what: str
    goal: float
    unit: str = ""
    at_most: bool = False

    def shown(self, value: float) -> str:
        """With its unit."""
        return f"{number(value)} {self.unit}".rstrip()

    def verdict(self, value: float | None) -> str:
        """Met, or by how much not."""
        if value is None:
            return "not measured"
        if value <= self.goal if self.at_most else value >= self.goal:
            return "met"
        return f"**falls short by {self.shown(abs(value - self.goal))}**"


SINGLES = "single-record messages, msgpack, durable"
SLOWEST = "the slowest of these three ÷ the best of"
#: By the name under which a section hands its figure over.
GOALS: dict[str, Goal] = {
    "singles_1": Goal(f"{SINGLES}, 1 connection", 350_000, "/s"),
    "singles_4": Goal(f"{SINGLES}, 4 connections", 350_000, "/s"),
    "singles_50": Goal(f"{SINGLES}, 50 connections", 350_000, "/s"),
    "vs_redis": Goal(f"{SLOWEST} Redis XADD, appendfsync always", 2.5, "x"),
    "vs_nats-always": Goal(f"{SLOWEST} NATS JetStream, sync_interval: always", 80, "x"),
    "vs_nats": Goal(f"{SLOWEST} NATS JetStream, default", 2, "x"),
    "vs_seed": Goal(f"{SLOWEST} the seed document's design", 150, "x"),
    "singles_json": Goal("single-record JSON text messages, durable, the slowest of 1, 4, 50",
                         200_000, "/s"),
    "batches": Goal("batches of 100, msgpack, the slower of 1, 4", 1_500_000, "records/s"),
    "batches_json": Goal("batches of 100, JSON text, the slower of 1, 4", 600_000, "records/s"),
    "post_singles": Goal("HTTP POST, single records, JSON, durable", 8_000, "/s"),
    "post_batches": Goal("HTTP POST, batches of 100, the slower of msgpack and JSON", 400_000,
                         "records/s"),
    "tls_batches": Goal("batches of 100 by TLS ÷ without, msgpack", 0.6, "x"),
    "sensors_cpu_us": Goal("500 connections, 10,000 messages/s in all, 20 ms interval: server CPU",
                           28, "us/message", at_most=True),
    "sensors_p99_ms": Goal("the same: ack p99", 40, "ms", at_most=True),
    "sensors_idle_mb": Goal("1,000 idle sessions: RssAnon", 62, "MB", at_most=True),
    "sensors_connect_s": Goal("1,000 idle sessions: all connected within", 3, "s", at_most=True),
    "client_mb": Goal("a sensor's process with the client, connected and idle: RssAnon", 22, "MB",
                      at_most=True),
    "drain": Goal("drain of 5 million records to a hub, exactly once", 2_500_000, "records/s"),
    "wear_1000": Goal("write amplification at 1000 records per commit", 1.0, "", at_most=True),
    "wear_100": Goal("write amplification at 100 records per commit", 6, "", at_most=True),
    "disk_1000": Goal("disk per byte of sensor records at 1000 per commit", 0.4, "", at_most=True),
    "flood_mb": Goal("RssAnon above idle while flooded for a minute at full speed", 40, "MB",
                     at_most=True),
    "flood_slope": Goal("flooded for three minutes: its growth over the last", FLAT_MB, "MB",
                        at_most=True),
    "churn_tasks": Goal("60,000 connections opened and closed: tasks left behind", 0, at_most=True),
    "churn_bytes": Goal("the same: growth of RssAnon per 1,000 connections", 1024, "bytes",
                        at_most=True),
    "floods": Goal("the worst ack of a canary beside any flood ÷ the worst without one", 4, "x",
                   at_most=True),
    "kinds": Goal("CPU by the byte of the dearest kind of record ÷ usual records'", 3, "x",
                  at_most=True),
    "history_raw": Goal("history: one stream's last hour, raw ÷ clustered SQLite's time", 1.0, "x",
                        at_most=True),
    "history_means": Goal("28 h of one stream by minute: clustered SQLite's time ÷ history's", 40,
                          "x"),
    "history_means_index": Goal("28 h of one stream by minute: SQLite's with an index ÷ history's",
                                200, "x"),
    "history_all": Goal("all streams' last hour by minute: clustered SQLite's time ÷ history's", 8,
                        "x"),
    "history_all_index": Goal("all streams' last hour by minute: SQLite's with an index ÷"
                              " history's", 50, "x"),
    "history_disk": Goal("bytes kept of decimals ÷ clustered SQLite's", 0.1, "x", at_most=True),
    "history_written": Goal("written by history", 10, "B/record", at_most=True),
    "history_digest_us": Goal("digesting, flushes included", 5, "us/record", at_most=True),
    "history_step_ms": Goal("the longest step on the event loop, p99", 2, "ms", at_most=True),
    "history_http_raw_ms": Goal("over HTTP: one stream's last hour, raw", 12, "ms", at_most=True),
    "history_http_means_ms": Goal("over HTTP: 28 h of one stream by minute", 5, "ms", at_most=True),
    "history_http_q": Goal("over HTTP: Q, 1,000 newest records of one stream", 400, "/s"),
    "history_ack": Goal("ack p99 at 1,000 records/s beside ten who ask all the time ÷ without", 1.2,
                        "x", at_most=True),
    "history_idle_mb": Goal("idle agent with history, before any question: RssAnon", 36, "MB",
                            at_most=True),
    "history_worker_mb": Goal("the process that answers, after these questions: RssAnon", 15, "MB",
                              at_most=True),
    "history_flat": Goal("digesting with 100 million records before ÷ with one million", 1.1, "x",
                         at_most=True),
    "history_year_ms": Goal("a year of hourly means of one stream", 5, "ms", at_most=True),
    "history_ingest_share": Goal("1,000 single records/s: history's part of a core", 0.03, "",
                                 at_most=True),
    "history_flood": Goal("flooded: fewer records/s stored with history by", 0.05, "",
                          at_most=True),
    "history_chart_ms": Goal("the page's first chart of a day in Chromium", 300, "ms",
                             at_most=True),
    "windows_core": Goal("windows over 1,000 streams of one record a second, storing included", 12,
                         "% of a core", at_most=True),
    "up_nats": Goal("drain into NATS JetStream, packed, lines of JSON", 400_000, "records/s"),
    "up_nats_msgpack": Goal("the same as msgpack", 400_000, "records/s"),
    "up_influx": Goal("drain into InfluxDB, line protocol", 120_000, "records/s"),
    "up_postgres": Goal("drain into PostgreSQL", 40_000, "records/s"),
    "up_mqtt": Goal("drain to an MQTT broker, single records", 60_000, "records/s"),
    "up_kafka": Goal("drain into Kafka", 100_000, "records/s"),
    "dead_second": Goal("a dead second upstream: less records per CPU second by", 0.03, "",
                        at_most=True),
    "ten_agents": Goal("ten agents into one hub, together", 2_000_000, "records/s"),
    "idle_upstream": Goal("an upstream with nothing to send, the largest kind: RssAnon", 5, "MB",
                          at_most=True),
    "start_ack_s": Goal("from exec to the first ack, 10 million records stored, after SIGKILL", 2,
                        "s", at_most=True),
    "idle_cpu": Goal("idle CPU, no sensors", 0.3, "% of a core", at_most=True),
}  # fmt: skip


def table(figures: Mapping[str, float]) -> str:
    """All goals, also those that were not measured in this run."""
    assert figures.keys() <= GOALS.keys(), f"no goals: {figures.keys() - GOALS.keys()}"
    rows = []
    for name, goal in GOALS.items():
        value = figures.get(name)
        bound = f"{'≤' if goal.at_most else '≥'} {goal.shown(goal.goal)}"
        found = "" if value is None else goal.shown(value)
        rows.append((goal.what, bound, found, goal.verdict(value)))
    return markdown(("what", "goal", "measured", ""), rows)
