"""Every metric: name, kind, unit, help, in one table; and the counters behind it.

Names follow Prometheus: base units, ``_total`` on counters. A name that is not in the table
cannot be counted, so the table is complete. Values live in one process and one thread (Trio's);
`Metrics` is therefore a plain dict, and adding costs 0.1 µs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of the table; ``labels`` are the label names in order."""

    name: str
    kind: Kind
    unit: str
    help: str
    labels: tuple[str, ...] = ()


# fmt: off
TABLE: tuple[Metric, ...] = (  # one metric a line, to be read as a table
    # Coming in.
    Metric("connections", "gauge", "connections", "Open sensor connections."),
    Metric("connections_total", "counter", "connections", "Connections accepted."),
    Metric("connections_refused_total", "counter", "connections", "Refused before the upgrade, by reason.", ("reason",)),
    Metric("connection_faults_total", "counter", "connections", "Ended in an error of ours that the guard caught."),
    Metric("takeovers_total", "counter", "connections", "Sessions that a newer hello took over."),
    Metric("messages_received_total", "counter", "messages", "WebSocket messages with records."),
    Metric("records_received_total", "counter", "records", "Records received, good or bad."),
    Metric("received_bytes_total", "counter", "bytes", "Bytes of messages with records."),
    Metric("records_nacked_total", "counter", "records", "Records refused for their content, by code.", ("code",)),
    Metric("records_dropped_total", "counter", "records", "Records that a rule left out, by rule.", ("rule",)),
    Metric("hook_calls_slow_total", "counter", "calls", "Calls of a rule's hook that took longer than its budget, by rule.", ("rule",)),
    Metric("records_duplicate_total", "counter", "records", "Records that a source sent again; stored once."),
    Metric("source_gaps_total", "counter", "records", "Numbers that a source skipped when it resumed."),
    Metric("source_restarts_total", "counter", "restarts", "Sources whose numbering started anew."),
    Metric("sources_copied_total", "counter", "sources", "Times a source came back as a copy of its store: with another history."),
    Metric("sources_forgotten_total", "counter", "sources", "Sources not seen for the configured time."),
    Metric("received_thinned_total", "counter", "records", "Thinned by another agent before they came: aggregates of them did, or nothing."),
    Metric("stops_total", "counter", "stops", "Times a peer was told 'not now', by code.", ("code",)),
    # Keeping.
    Metric("commits_total", "counter", "commits", "Synced transactions."),
    Metric("commit_seconds_total", "counter", "seconds", "Time spent in synced transactions."),
    Metric("records_committed_total", "counter", "records", "Records made durable, by log.", ("log",)),
    Metric("committed_bytes_total", "counter", "bytes", "Encoded bytes of records made durable, by log.", ("log",)),
    Metric("block_bytes_total", "counter", "bytes", "Bytes of blocks as stored, by log.", ("log",)),
    Metric("records_trimmed_total", "counter", "records", "Removed after every consumer had them, by log.", ("log",)),
    Metric("records_discarded_total", "counter", "records", "Removed before an upstream had them: loss, by log.", ("log",)),
    Metric("records_thinned_total", "counter", "records", "Replaced by per-minute aggregates before an upstream had them, by log.", ("log",)),
    Metric("thinned_aggregates_total", "counter", "records", "Aggregates that stand for thinned records, by log.", ("log",)),
    Metric("records_damaged_total", "counter", "records", "Records in blocks that failed their CRC, by log.", ("log",)),
    Metric("records_refused_total", "counter", "records", "Not accepted because a log was full, by log.", ("log",)),
    Metric("store_failures_total", "counter", "failures", "Times the disk refused a transaction."),
    Metric("quarantined_total", "counter", "entries", "Entries put in quarantine, by code.", ("code",)),
    Metric("store_bytes", "gauge", "bytes", "Size reserved for the store."),
    Metric("store_used_bytes", "gauge", "bytes", "Pages in use."),
    Metric("log_bytes", "gauge", "bytes", "Stored bytes, by log.", ("log",)),
    Metric("log_records", "gauge", "records", "Stored records, by log.", ("log",)),
    Metric("log_last_seq", "gauge", "seq", "Newest durable position, by log.", ("log",)),
    Metric("log_first_seq", "gauge", "seq", "Oldest position still stored, by log.", ("log",)),
    Metric("in_flight_bytes", "gauge", "bytes", "Accepted and not yet committed."),
    # Wear and room.
    Metric("device_written_bytes_total", "counter", "bytes", "Written to the device: by the agent since its start, by everybody since boot.", ("by",)),
    Metric("wear_bytes_per_day", "gauge", "bytes", "Written to the device, at the last hour's rate.", ("by",)),
    Metric("write_amplification", "gauge", "ratio", "Bytes written by the agent for each byte of records made durable, last hour; NaN where unknown."),
    Metric("wear_life_seconds", "gauge", "seconds", "How long the stated endurance lasts at the last day's rate; NaN where unknown."),
    Metric("commit_interval_factor", "gauge", "ratio", "By which commits are spread to keep wear.bytes_per_day_max; 1 as configured."),
    Metric("log_seconds_until_loss", "gauge", "seconds", "Until a log loses or thins the oldest undelivered record, or refuses; +Inf: not in sight.", ("log",)),
    Metric("upstream_drain_seconds", "gauge", "seconds", "Until the backlog has drained at this link; +Inf: it does not.", ("upstream",)),
    # Going out.
    Metric("forwarded_records_total", "counter", "records", "Records that an upstream acknowledged.", ("upstream",)),
    Metric("forwarded_bytes_total", "counter", "bytes", "Bytes sent and acknowledged.", ("upstream",)),
    Metric("forward_batches_total", "counter", "batches", "Batches acknowledged.", ("upstream",)),
    Metric("forward_failures_total", "counter", "failures", "Sends that failed, by kind.", ("upstream", "kind")),
    Metric("forward_refused_total", "counter", "records", "Records an upstream refused for good; in quarantine.", ("upstream",)),
    Metric("forward_rewinds_total", "counter", "rewinds", "Times an upstream had lost data and was sent it again.", ("upstream",)),
    Metric("forward_gap_records_total", "counter", "records", "Of what an upstream had lost: no longer held here either.", ("upstream",)),
    Metric("forward_expired_total", "counter", "records", "Not sent because they are older than max_age.", ("upstream",)),
    Metric("forward_withheld_total", "counter", "records", "Thinned while an upstream had a part of them, so that the rest was not sent: loss.", ("upstream",)),
    Metric("forward_backlog_records", "gauge", "records", "Not yet acknowledged by an upstream.", ("upstream",)),
    Metric("forward_connected", "gauge", "bool", "1 while the last attempt succeeded.", ("upstream",)),
    # Asking and processing.
    Metric("queries_total", "counter", "queries", "Queries answered."),
    Metric("query_seconds_total", "counter", "seconds", "Time spent answering queries; Q = queries / seconds."),
    Metric("history_records_total", "counter", "records", "Records written to history."),
    Metric("history_written_bytes_total", "counter", "bytes", "Bytes of segments and roll-ups written to history."),
    Metric("history_lag_records", "gauge", "records", "Durable and not yet digested by history."),
    Metric("history_missed_records", "gauge", "records", "Trimmed or damaged before history had digested them, or of a stream too many."),
    Metric("history_used_bytes", "gauge", "bytes", "Pages of history's file in use."),
    Metric("subscriptions", "gauge", "subscriptions", "Open live views."),
    Metric("subscription_missed_total", "counter", "records", "Records that slow readers missed."),
    Metric("windows_closed_total", "counter", "windows", "Windows written, by rule.", ("rule",)),
    Metric("windows_closed_early_total", "counter", "windows", "Windows closed before their time for want of room, by rule.", ("rule",)),
    Metric("windows_open", "gauge", "windows", "Windows open, by rule.", ("rule",)),
    Metric("records_late_total", "counter", "records", "Records behind the watermark, left out, by rule.", ("rule",)),
    Metric("alarm_active", "gauge", "streams", "Streams whose alarm is on, by rule.", ("rule",)),
    Metric("alarm_records_left_out_total", "counter", "records", "Records of streams for which a rule with an alarm had no room, by rule.", ("rule",)),
    # What streams said last, where http.expose says so.
    Metric("stream_value", "gauge", "value", "Number fields of the newest record of the streams in http.expose.", ("stream", "field")),
    Metric("stream_age_seconds", "gauge", "seconds", "Since that record was stored.", ("stream",)),
    Metric("stream_series_left_out", "gauge", "series", "Series of http.expose beyond the 1,000 that are shown."),
    # Ourselves.
    Metric("start_time_seconds", "gauge", "seconds", "When the agent started, since 1970."),
    Metric("cpu_seconds_total", "counter", "seconds", "CPU of all threads, user and system; E = records / seconds."),
    Metric("own_mistakes_total", "counter", "failures", "Times a task failed on a mistake of the agent's own and was run again, by task.", ("task",)),
    Metric("task_resting", "gauge", "bool", "1 while a task that failed on a mistake of the agent's own waits to be run again, by task.", ("task",)),
    Metric("clock_synced", "gauge", "bool", "1 while the wall clock is known to be set."),
)
# fmt: on

_BY_NAME = {metric.name: metric for metric in TABLE}


class Counter:
    """Counts by plain addition to ``value``; see `Metrics.counter`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Metrics:
    """The values. ``add`` for counters, ``set`` for gauges; labels in the table's order."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, tuple[str, ...]], float] = {}
        self._counters: dict[str, Counter] = {}

    def counter(self, name: str) -> Counter:
        """A counter without labels, for code that counts thousands of times a second."""
        assert _BY_NAME[name].kind == "counter" and not _BY_NAME[name].labels
        return self._counters.setdefault(name, Counter())

    def add(self, name: str, amount: float = 1, *labels: str) -> None:
        """Count ``amount`` more."""
        assert _BY_NAME[name].kind == "counter" and len(_BY_NAME[name].labels) == len(labels)
        key = (name, labels)
        self._values[key] = self._values.get(key, 0) + amount

    def set(self, name: str, value: float, *labels: str) -> None:
        """A gauge's value now."""
        assert len(_BY_NAME[name].labels) == len(labels)
        self._values[(name, labels)] = value

    def get(self, name: str, *labels: str) -> float:
        """The value now, 0 where nothing was counted yet."""
        assert name in _BY_NAME
        self._collect()
        return self._values.get((name, labels), 0)

    def total(self, name: str) -> float:
        """Sum over all labels."""
        assert name in _BY_NAME
        self._collect()
        return sum(value for (key, _), value in self._values.items() if key == name)

    def samples(self) -> Iterator[tuple[Metric, tuple[str, ...], float]]:
        """Every value, in the table's order; metrics without labels appear even at 0."""
        self._collect()
        for metric in TABLE:
            found = self.labelled(metric.name)
            if not found and not metric.labels:
                found = [((), 0.0)]
            for labels, value in found:
                yield metric, labels, value

    def labelled(self, name: str) -> list[tuple[tuple[str, ...], float]]:
        """Every value of one metric, with its labels, in their order."""
        return sorted((labels, v) for (key, labels), v in self._values.items() if key == name)

    def _collect(self) -> None:
        for name, counter in self._counters.items():
            count, counter.value = counter.value, 0
            self.add(name, count)
