"""The settings of librdkafka for an upstream. Pure.

The producer is idempotent and waits for all replicas that are in sync, so that within its life
nothing is stored twice by its own retries, and nothing out of order. How long it tries is ours to
say, so it has no end of its own.
"""

from __future__ import annotations

from typing import Any, Final

from edge_agent.config import KafkaTable, Upstream, servers_of

PORT: Final = 9092
#: How long a topic that nobody knows may be about to be made.
_TOPIC_MS: Final = 10_000


def settings_of(upstream: Upstream, table: KafkaTable, password: str | None) -> dict[str, Any]:
    """The settings of a producer."""
    is_tls = upstream.scheme == "kafka+tls"
    settings: dict[str, Any] = {
        "bootstrap.servers": ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            for host, port in servers_of(upstream.url, PORT)
        ),
        "client.id": "edge-agent",
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": upstream.compression,
        "linger.ms": 5,
        # The sink has a deadline of its own, by progress.
        "message.timeout.ms": 0,
        "topic.metadata.propagation.max.ms": _TOPIC_MS,
        "reconnect.backoff.ms": 200,
        "reconnect.backoff.max.ms": 2000,
        "queue.buffering.max.kbytes": max(1024, int(upstream.in_flight_bytes) // 1024),
        # What it would log we are told as well, as an error.
        "log_level": 0,
    }
    protocol = "ssl" if is_tls else "plaintext"
    if upstream.user is not None:
        settings["sasl.mechanism"] = table.sasl.upper()
        settings["sasl.username"], settings["sasl.password"] = upstream.user, password or ""
        protocol = "sasl_" + protocol
    settings["security.protocol"] = protocol
    if is_tls:
        files = {
            "ssl.ca.location": upstream.ca_file,
            "ssl.certificate.location": upstream.tls_certificate,
            "ssl.key.location": upstream.tls_key,
        }
        settings |= {key: path for key, path in files.items() if path is not None}
    return settings
