"""R, Q and E from counters."""

from __future__ import annotations

import time

import pytest

from edge_agent.metrics import Metrics
from edge_agent.ops.figures import Rate, Ring, Sample, between, cpu_seconds, take


def sample(at_s: float, records: float = 0, cpu_s: float = 0) -> Sample:
    return Sample(at_s, records, records * 71, records / 2, records * 35.5, 0, 0, cpu_s)


def test_the_rate_is_records_over_time() -> None:
    window = between(sample(100), sample(110, records=5000, cpu_s=0.5))
    assert window.received == Rate(500.0, 35_500.0)
    assert window.forwarded == Rate(250.0, 17_750.0)
    assert window.cpu == 0.05
    assert window.records_per_cpu_s == 10_000


def test_query_performance_is_one_over_the_mean_time_of_an_answer() -> None:
    window = between(Sample(0, 0, 0, 0, 0, 2, 1.0, 0), Sample(10, 0, 0, 0, 0, 6, 1.5, 0))
    assert (window.queries, window.queries_per_s) == (4, 8.0)


def test_nothing_happened_is_zero_or_unknown_and_never_an_error() -> None:
    window = between(sample(5), sample(5))
    assert window.received == Rate(0, 0)
    assert window.queries_per_s is None and window.records_per_cpu_s is None


def test_now_looks_back_about_ten_seconds_however_often_it_is_asked() -> None:
    ring = Ring(sample(0))
    for tenth in range(1000):  # 100 s of being asked ten times a second, 100 records/s
        ring.add(sample(tenth / 10, records=tenth * 10))
    figures = ring.figures(sample(100, records=10_000))
    assert 10 <= figures.now.seconds <= 11
    assert figures.now.received.records_per_s == pytest.approx(100)
    assert figures.since_start.seconds == 100


def test_now_looks_back_to_the_last_look_where_nobody_asked_for_long() -> None:
    ring = Ring(sample(0))
    ring.add(sample(0))
    ring.add(sample(500, records=1000))
    figures = ring.figures(sample(505, records=1100))
    assert figures.now.seconds == 505  # the look at 500 is too near to stand for ten seconds
    figures = ring.figures(sample(512, records=2200))
    assert figures.now.seconds == 12
    assert figures.now.received.records_per_s == pytest.approx(100)


def test_the_memory_is_bounded() -> None:
    ring = Ring(sample(0))
    for second in range(10_000):
        ring.add(sample(second))
    assert len(ring._samples) <= 32


def test_a_sample_reads_the_table_over_all_labels() -> None:
    metrics = Metrics()
    metrics.add("records_committed_total", 5, "main")
    metrics.add("records_committed_total", 2, "alarms")
    metrics.add("forwarded_bytes_total", 9, "hub")
    metrics.add("query_seconds_total", 0.25)
    taken = take(metrics, 1.5, 0.75)
    assert taken == Sample(1.5, 7, 0, 0, 9, 0, 0.25, 0.75)


def test_cpu_counts_what_threads_use() -> None:
    import threading

    def burn() -> None:
        end = time.thread_time() + 0.03
        while time.thread_time() < end:
            pass

    before = cpu_seconds()
    thread = threading.Thread(target=burn)
    thread.start()
    thread.join()
    assert cpu_seconds() - before >= 0.02
