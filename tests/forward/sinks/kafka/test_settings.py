from __future__ import annotations

from typing import Any

import confluent_kafka
import pytest

from edge_agent.config import KafkaTable
from edge_agent.forward.sinks.kafka.settings import settings_of
from tests.forward.support import upstream


def settings(url: str, password: str | None = None, **more: Any) -> dict[str, Any]:
    return settings_of(upstream(url, **more), KafkaTable(sasl="scram-sha-256"), password)


def test_nothing_counts_that_is_not_with_all_replicas() -> None:
    found = settings("kafka://one,two:9093,[::1]")
    assert found["bootstrap.servers"] == "one:9092,two:9093,[::1]:9092"
    assert (found["acks"], found["enable.idempotence"]) == ("all", True)
    assert found["security.protocol"] == "plaintext"


def test_who_we_are_and_whom_we_trust() -> None:
    found = settings("kafka+tls://one", "geheim", user="pi", ca_file="/ca.pem")
    assert found["security.protocol"] == "sasl_ssl"
    assert (found["sasl.mechanism"], found["sasl.username"]) == ("SCRAM-SHA-256", "pi")
    assert (found["sasl.password"], found["ssl.ca.location"]) == ("geheim", "/ca.pem")
    assert "ssl.key.location" not in found


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("url", ["kafka://127.0.0.1:1", "kafka+tls://127.0.0.1:1"])
def test_librdkafka_knows_every_setting(url: str, compression: str) -> None:
    more = {"user": "pi", "password_file": "/x"} if "tls" in url else {}
    confluent_kafka.Producer(settings(url, "p", compression=compression, **more))
