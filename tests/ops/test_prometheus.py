"""The metrics as Prometheus' own parser reads them."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from edge_agent.metrics import TABLE, Metrics
from edge_agent.ops.prometheus import render
from tests.ops.pictures import STATUS


def test_every_metric_of_the_table_is_there_with_its_help_and_kind() -> None:
    text = render(Metrics(), STATUS).decode()
    for metric in TABLE:
        name = "edge_agent_" + metric.name
        assert f"# HELP {name} {metric.help}\n# TYPE {name} {metric.kind}\n" in text
    assert text.count("# TYPE") == len(TABLE)


def test_values_keep_their_labels() -> None:
    metrics = Metrics()
    metrics.add("records_committed_total", 5, "main")
    metrics.add("forward_failures_total", 2, "hub", 'timed "out"\n')
    text = render(metrics, STATUS).decode()
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["edge_agent_records_committed_total", "main"] == 5
    assert samples["edge_agent_forward_failures_total", *sorted(("hub", 'timed "out"\n'))] == 2


def test_what_is_known_only_when_looked_at_comes_from_the_picture() -> None:
    text = render(Metrics(), STATUS).decode()
    assert 'edge_agent_log_last_seq{log="main"} 5000.0' in text
    assert 'edge_agent_forward_backlog_records{upstream="hub"} 4711.0' in text
    assert "edge_agent_store_used_bytes 1.34217728e+08" in text
    assert "edge_agent_clock_synced 1.0" in text
