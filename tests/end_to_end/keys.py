"""What a person makes with ``edge-agent tls`` and ``token``, and who comes with it."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from edge_agent.client import Backoff, Producer, Trouble, Unacked
from tests.end_to_end.support import AgentProcess, producer_to
from tests.patience import PATIENCE_S
from tests.preloaded import run

STORE = '[store]\nsize = "16MiB"\n[log.main]\ncommit_interval = "10ms"\n'
UPSTREAM = """
[[upstream]]
name = "hub"
url = "wss://127.0.0.1:{port}/forward"
ca_file = "{ca}"
token_file = "{token}"
batch_age = "20ms"
backoff_base = "50ms"
backoff_max = "400ms"
"""
#: A sensor that comes back quickly.
QUICK = Backoff(base=0.05, maximum=0.1, slow=0.1)


def edge_agent(*arguments: str) -> subprocess.CompletedProcess[str]:
    """``edge-agent ARGUMENTS``, which must succeed."""
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    return done


@dataclass
class Keys:
    """A folder with an authority, a tokens file, and one file per secret."""

    folder: Path
    secrets: dict[str, str] = field(default_factory=dict)

    @property
    def ca(self) -> Path:
        return self.folder / "tls" / "ca.pem"

    @property
    def tokens(self) -> Path:
        return self.folder / "tokens.json"

    @classmethod
    def make(cls, folder: Path) -> Keys:
        """A new authority, and no token yet."""
        edge_agent("tls", "init", str(folder / "tls"))
        return cls(folder)

    def add(self, name: str, *scopes: str) -> str:
        """A new token; its secret, which is also in `secret_file`."""
        done = edge_agent("token", "add", name, *scopes, "--file", str(self.tokens))
        self.secret_file(name).write_text(done.stdout)
        self.secrets[name] = done.stdout.strip()
        return self.secrets[name]

    def secret_file(self, name: str) -> Path:
        return self.folder / f"{name}.token"

    @property
    def listen(self) -> str:
        """The ``[listen]`` table of an agent with this certificate and these tokens."""
        return (
            "[listen]\n"
            f'tls_certificate = "{self.folder / "tls" / "server.pem"}"\n'
            f'tls_key = "{self.folder / "tls" / "server-key.pem"}"\n'
            f'tokens = "{self.tokens}"\n'
        )

    @property
    def context(self) -> ssl.SSLContext:
        """Trust in the authority."""
        return ssl.create_default_context(cafile=str(self.ca))


def ask_people(
    port: int, path: str, *, context: ssl.SSLContext | None = None, token: str | None = None
) -> tuple[int, str]:
    """Status and text of what a people's port answers; with TLS where there is a context."""
    scheme = "http" if context is None else "https"
    request = urllib.request.Request(f"{scheme}://127.0.0.1:{port}{path}")
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S, context=context) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def serial_shown(port: int, keys: Keys) -> str:
    """The serial number of the certificate that is shown to who connects now, and trusts it."""
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE_S) as plain,
        keys.context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        shown = secured.getpeercert()
    assert shown is not None
    return str(shown["serialNumber"])


def serial_of(certificate: Path) -> str:
    """The same number of a certificate's file."""
    from cryptography import x509

    number = f"{x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number:X}"
    return number if len(number) % 2 == 0 else f"0{number}"


def sentence(text: str) -> str:
    """The sentence of an error in JSON."""
    message: str = json.loads(text)["error"]["message"]
    return message


def files_that_hold(secret: str, folder: Path) -> list[Path]:
    """Every file below ``folder`` in which the secret stands."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and secret.encode() in path.read_bytes()
    ]


def wss(agent: AgentProcess, stream: str = "greenhouse/1") -> str:
    """Where a sensor sends."""
    return f"wss://127.0.0.1:{agent.port}/ingest/{stream}"


def upstream(hub: AgentProcess, ca: Path, token: Path) -> str:
    """An ``[[upstream]]`` with two files."""
    return UPSTREAM.format(port=hub.port, ca=ca, token=token)


@asynccontextmanager
async def sensor(
    target: str, keys: Keys, token: str = "sensor", source: str = "pi/1"
) -> AsyncIterator[tuple[Producer, list[Trouble]]]:
    """A producer, and what it is told."""
    told: list[Trouble] = []
    async with producer_to(
        target, source=source, token=keys.secrets[token], ca_file=str(keys.ca), backoff=QUICK,
        on_error=told.append,
    ) as producer:  # fmt: skip
        yield producer, told


async def first_trouble(target: str, ca: Path, token: str | None, source: str = "pi/1") -> Trouble:
    """What a producer that cannot deliver is told first."""
    told: list[Trouble] = []

    async def deliver() -> None:
        async with Producer(
            target, source=source, token=token, ca_file=str(ca), backoff=QUICK,
            on_error=told.append, close_timeout=0.05,
        ) as producer:  # fmt: skip
            await producer.send({"n": 1})
            with trio.move_on_after(PATIENCE_S):
                while not told:
                    await trio.sleep(0.01)

    with pytest.raises(Unacked):
        await deliver()
    assert told, "neither delivered nor told anything"
    return told[0]


async def holds(agent: AgentProcess, count: int) -> bool:
    """Whether the agent has so many records."""
    return await agent.count() >= count


async def numbers(agent: AgentProcess, stream: str = "**") -> list[int]:
    """The field n of every record, in order of arrival."""
    return [record["fields"]["n"] for record in await agent.records(stream)]


async def upstream_status(agent: AgentProcess) -> dict[str, Any]:
    status: dict[str, Any] = (await agent.get("/api/status"))["upstreams"][0]
    return status
