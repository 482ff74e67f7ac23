from __future__ import annotations

import pytest

from edge_agent.config import KafkaTable, NatsTable, Size
from edge_agent.config.queue_tables import kafka_mistakes, nats_mistakes


@pytest.mark.parametrize(
    "subject",
    ["edge.{agent}.{log}", "{log}.x.{agent}", "plant_7.{agent}.{log}.{stream}"],
)
def test_a_subject_tells_agents_and_logs_apart(subject: str) -> None:
    assert not list(nats_mistakes(NatsTable(subject=subject)))


@pytest.mark.parametrize(
    "subject",
    [
        "edge", "edge.{agent}", "edge.{log}", "edge.{agent}.{log}.{stream}.x", "edge.{agent}{log}",
        "edge..{agent}.{log}", "edge.*.{agent}.{log}", "{agent}.{log}.>", "a b.{agent}.{log}",
        "{agent}.{log}.{topic}", "{agent}.{agent}.{log}", "",
    ],
)  # fmt: skip
def test_a_subject_that_does_not_is_told_with_an_example(subject: str) -> None:
    ((key, expected, found),) = nats_mistakes(NatsTable(subject=subject))
    assert (key, found) == ("subject", f'"{subject}"') and "edge.{agent}.{log}" in expected


def test_what_jetstream_and_kafka_would_refuse_is_refused_here() -> None:
    table = NatsTable(stream="a.b", replicas=2, message_bytes=Size(1024))
    assert [key for key, *_ in nats_mistakes(table)] == ["stream", "replicas"]
    assert not list(kafka_mistakes(KafkaTable(topic="a.b_c-1")))
    assert [one[0] for topic in ("", "..", "a b") for one in kafka_mistakes(KafkaTable(topic=topic))] == [
        "topic", "topic", "topic",
    ]  # fmt: skip
