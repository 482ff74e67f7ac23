"""The metrics as Prometheus' own parser reads them."""

from __future__ import annotations

from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from edge_agent.metrics import TABLE, Metrics
from edge_agent.ops.prometheus import render
from tests.ops.pictures import LOG, STATUS, STRETCH, UPSTREAM, WEAR


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
    assert 'edge_agent_wear_bytes_per_day{by="everybody"} 2.4e+09' in text
    assert "edge_agent_write_amplification 3.5" in text
    assert "edge_agent_wear_life_seconds 4.418064e+08" in text
    assert "edge_agent_commit_interval_factor 12.0" in text


def test_what_is_not_in_sight_is_infinitely_far_and_what_is_not_known_no_number() -> None:
    away = replace(UPSTREAM, name="away", connected=False, backlog_records=7)
    slow = replace(UPSTREAM, name="slow", outlook="does not drain", backlog_records=7)
    held = replace(UPSTREAM, name="held", phase="paused", backlog_records=7)
    later = replace(UPSTREAM, name="later", phase="waiting", backlog_records=7)
    fine = replace(UPSTREAM, name="fine", backlog_records=7)
    soon = replace(UPSTREAM, name="soon", outlook="drains", drains_in_s=840.0)
    alarms = replace(LOG, name="alarms", loss_in_s=219_600.0)
    wear = replace(WEAR, life_s=None, budget=None, hour=replace(STRETCH, amplification=None))
    status = replace(
        STATUS,
        upstreams=(away, slow, held, later, fine, soon),
        logs=(LOG, alarms),
        wear=wear,
        wear_outlook=(),
    )
    text = render(Metrics(), status).decode()
    expected = {
        "away": "+Inf", "slow": "+Inf", "held": "+Inf", "later": "+Inf",
        "fine": "0.0", "soon": "840.0",
    }  # fmt: skip
    for name, value in expected.items():
        assert f'edge_agent_upstream_drain_seconds{{upstream="{name}"}} {value}\n' in text
    assert 'edge_agent_log_seconds_until_loss{log="main"} +Inf\n' in text
    assert 'edge_agent_log_seconds_until_loss{log="alarms"} 219600.0\n' in text
    assert "edge_agent_wear_life_seconds NaN\n" in text
    assert "edge_agent_write_amplification NaN\n" in text
    assert "edge_agent_commit_interval_factor 1.0\n" in text
