from __future__ import annotations

import re

import pytest

from edge_agent.metrics import TABLE, Metrics


def test_names_are_unique_and_follow_prometheus() -> None:
    names = [metric.name for metric in TABLE]
    assert len(set(names)) == len(names)
    for metric in TABLE:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert metric.help.endswith("."), metric.name


def test_counters_add_up_by_label_and_in_total() -> None:
    metrics = Metrics()
    metrics.add("records_committed_total", 3, "main")
    metrics.add("records_committed_total", 4, "main")
    metrics.add("records_committed_total", 5, "alarms")
    assert metrics.get("records_committed_total", "main") == 7
    assert metrics.get("records_committed_total", "never") == 0
    assert metrics.total("records_committed_total") == 12


def test_gauges_show_the_last_value() -> None:
    metrics = Metrics()
    metrics.set("connections", 3)
    metrics.set("connections", 2)
    assert metrics.get("connections") == 2


def test_what_is_not_in_the_table_cannot_be_counted() -> None:
    metrics = Metrics()
    with pytest.raises(KeyError):
        metrics.add("inventions_total")
    with pytest.raises(KeyError):
        metrics.set("inventions", 1)
    with pytest.raises(AssertionError):
        metrics.get("inventions")
    with pytest.raises(AssertionError):
        metrics.total("inventions")


def test_labels_must_be_as_many_as_in_the_table() -> None:
    metrics = Metrics()
    with pytest.raises(AssertionError):
        metrics.add("records_committed_total", 1)
    with pytest.raises(AssertionError):
        metrics.set("connections", 1, "main")


def test_a_gauge_cannot_be_added_to() -> None:
    with pytest.raises(AssertionError):
        Metrics().add("connections", 1)


def test_samples_come_in_table_order_and_show_zeros_where_there_are_no_labels() -> None:
    metrics = Metrics()
    metrics.add("stops_total", 1, "rate")
    metrics.add("stops_total", 2, "closing")
    samples = [(metric.name, labels, value) for metric, labels, value in metrics.samples()]
    assert ("commits_total", (), 0.0) in samples
    stops = [sample for sample in samples if sample[0] == "stops_total"]
    assert stops == [("stops_total", ("closing",), 2), ("stops_total", ("rate",), 1)]
    shown = [name for name, _, _ in samples]
    table = [metric.name for metric in TABLE]
    assert shown == sorted(shown, key=table.index)
    assert "records_nacked_total" not in shown
