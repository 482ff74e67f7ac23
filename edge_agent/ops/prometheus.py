"""``/metrics``: our table of metrics in Prometheus' text format.

prometheus-client renders; the values stay in `edge_agent.metrics.Metrics`, where counting costs
next to nothing. Gauges that nobody counts along the way (fill, positions, backlog) are set from
the picture of the agent at the moment somebody asks, so that they cost nothing at rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as Family

from edge_agent.metrics import TABLE, Metric, Metrics
from edge_agent.ops.status import Status, UpstreamStatus
from edge_agent.output.printable import printable_lines

Sample = tuple[str, tuple[str, ...], float]
"""Name of a metric in the table, its labels, its value."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "edge_agent_"


class Collector:
    """The table, as prometheus-client wants to see it."""

    def __init__(self, metrics: Metrics, exposed: Iterable[Sample]) -> None:
        self._metrics = metrics
        self._exposed = exposed

    def collect(self) -> Iterator[Family]:
        """One family for each line of the table, also where nothing was counted yet."""
        values: dict[str, list[tuple[tuple[str, ...], float]]] = {}
        for metric, labels, value in self._metrics.samples():
            values.setdefault(metric.name, []).append((labels, value))
        for name, labels, value in self._exposed:
            if labels:
                values.setdefault(name, []).append((labels, value))
            else:
                values[name] = [(labels, value)]
        for metric in TABLE:
            family = _family(metric)
            for labels, value in values.get(metric.name, []):
                family.add_metric([printable_lines(label) for label in labels], value)
            yield family


def render(metrics: Metrics, status: Status, exposed: Iterable[Sample] = ()) -> bytes:
    """The whole answer, last values of streams included as far as they are ``exposed`` to whoever
    asks. Sets gauges from ``status`` first.
    """
    set_gauges(metrics, status)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector(metrics, exposed))
    return generate_latest(registry)


def set_gauges(metrics: Metrics, status: Status) -> None:
    """What is known only when it is looked at."""
    metrics.set("store_bytes", status.store.size_bytes)
    metrics.set("store_used_bytes", status.store.used_bytes)
    for log in status.logs:
        metrics.set("log_bytes", log.bytes, log.name)
        metrics.set("log_records", log.records, log.name)
        metrics.set("log_first_seq", log.first_seq, log.name)
        metrics.set("log_last_seq", log.last_seq, log.name)
    for upstream in status.upstreams:
        metrics.set("forward_backlog_records", upstream.backlog_records, upstream.name)
        metrics.set("forward_connected", float(upstream.connected), upstream.name)
    if status.history is not None:
        metrics.set("history_lag_records", status.history.lag)
        metrics.set("history_missed_records", status.history.missed)
        metrics.set("history_used_bytes", status.history.used_bytes)
    _set_outlook(metrics, status)
    metrics.set("connections", status.connections_open)
    metrics.set("clock_synced", float(status.agent.clock_synced))


#: Phases in which nothing is sent, and nothing is wrong.
_RESTING = ("paused", "waiting")


def _set_outlook(metrics: Metrics, status: Status) -> None:
    # What is not known is NaN, what is not in sight infinitely far: no alarm of "less than" fires.
    wear = status.wear
    for by, per_day in (
        ("agent", wear.hour.written_per_day),
        ("everybody", wear.hour.card_per_day),
    ):
        if per_day is not None:
            metrics.set("wear_bytes_per_day", per_day, by)
    amplification = wear.hour.amplification
    metrics.set("write_amplification", math.nan if amplification is None else amplification)
    metrics.set("wear_life_seconds", math.nan if wear.life_s is None else wear.life_s)
    metrics.set("commit_interval_factor", 1.0 if wear.budget is None else wear.budget.factor)
    for log in status.logs:
        seconds = math.inf if log.loss_in_s is None else log.loss_in_s
        metrics.set("log_seconds_until_loss", seconds, log.name)
    for upstream in status.upstreams:
        metrics.set("upstream_drain_seconds", _drain_s(upstream), upstream.name)


def _drain_s(upstream: UpstreamStatus) -> float:
    if upstream.drains_in_s is not None:
        return upstream.drains_in_s
    stays = upstream.outlook or not upstream.connected or upstream.phase in _RESTING
    return math.inf if stays and upstream.backlog_records else 0.0


def _family(metric: Metric) -> CounterMetricFamily | GaugeMetricFamily:
    name = _PREFIX + metric.name
    if metric.kind == "counter":
        # The client adds "_total" itself.
        return CounterMetricFamily(name.removesuffix("_total"), metric.help, labels=metric.labels)
    return GaugeMetricFamily(name, metric.help, labels=metric.labels)
