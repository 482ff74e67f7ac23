"""The tables of the configuration for queues: NATS JetStream and Kafka."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal

from msgspec import Struct

from edge_agent.config.quantities import Duration, Size

#: What JetStream allows in the name of a stream, and Kafka in that of a topic.
_STREAM: Final = re.compile(r"[A-Za-z0-9_-]{1,200}")
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_SUBJECT: Final = re.compile(r"[A-Za-z0-9_{}-]+(\.[A-Za-z0-9_{}-]+)*")

#: For the page of all keys, each with the upstream that it belongs to.
NATS_EXAMPLE: Final = """\
[[upstream]]
name = "jetstream"
url = "nats+tls://one.example:4222,two.example:4222,three.example:4222"
user = "edge"
password_file = "/etc/edge-agent/nats-password"
[upstream.nats]
stream = "PLANT"
subject = "plant.{agent}.{log}.{stream}"
replicas = 3
max_bytes = "100GiB"
max_age = "30d\""""
KAFKA_EXAMPLE: Final = """\
[[upstream]]
name = "kafka"
url = "kafka+tls://one.example:9093,two.example:9093"
[upstream.kafka]
topic = "plant"
key = "source\""""


class NatsTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """JetStream: which stream, under which subjects, and how it is made where it is missing.

    ``{agent}`` and ``{log}`` have to be in the subject, as what the stream has of each log is asked
    by its subject; ``{stream}``, where it is given, comes last. A stream that is there stays as it
    is: replicas, storage, max_bytes and max_age are for one that is made.
    """

    stream: str = "EDGE"  # JetStream's name of it
    subject: str = "edge.{agent}.{log}"  # {agent} {log}, and at the end {stream}
    create: bool = True  # make the stream where it is missing
    replicas: int = 1  # of a stream that is made: 1, 3 or 5
    storage: Literal["file", "memory"] = "file"  # of a stream that is made
    max_bytes: Size | None = None  # of a stream that is made; the oldest go then
    max_age: Duration | None = None  # the same, by age
    message_bytes: Size = Size(64 * 1024)  # records in one message, at most
    message_records: int = 100  # the same


class KafkaTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Kafka: the topic, and what decides the partition of a record."""

    topic: str = "edge"  # it has to exist, or the broker makes topics by itself
    key: Literal["stream", "source"] = "stream"  # records of one key stay in order
    sasl: Literal["plain", "scram-sha-256", "scram-sha-512"] = "scram-sha-512"  # where user is set


def nats_mistakes(table: NatsTable) -> Iterator[tuple[str, str, str]]:
    """What does not fit of a table: the key, what was expected, what was found."""
    if not _STREAM.fullmatch(table.stream):
        yield "stream", "1 to 200 of A-Z a-z 0-9 _ -", f'"{table.stream}"'
    if table.replicas not in (1, 3, 5):
        yield "replicas", "1, 3 or 5", str(table.replicas)
    parts = table.subject.split(".")
    known = {"{agent}", "{log}", "{stream}"}
    plain = all(part in known or ("{" not in part and "}" not in part) for part in parts)
    counts = [parts.count(one) for one in ("{agent}", "{log}")]
    at_end = "{stream}" not in parts[:-1]
    if not (_SUBJECT.fullmatch(table.subject) and plain and counts == [1, 1] and at_end):
        expected = 'parts joined by dots with {agent} and {log}, such as "edge.{agent}.{log}"'
        yield "subject", f"{expected}; {{stream}} comes last", f'"{table.subject}"'


def kafka_mistakes(table: KafkaTable) -> Iterator[tuple[str, str, str]]:
    """What does not fit of a table: the key, what was expected, what was found."""
    if not _TOPIC.fullmatch(table.topic) or table.topic in (".", ".."):
        yield "topic", "1 to 249 of A-Z a-z 0-9 . _ -", f'"{table.topic}"'
