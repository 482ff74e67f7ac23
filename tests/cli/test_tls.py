"""`edge-agent tls init`: what it makes is trusted by whoever trusts ca.pem."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

from click.testing import CliRunner

from edge_agent.cli.tls import command
from edge_agent.config import parse


def test_a_client_that_trusts_the_authority_gets_through_by_the_given_name(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    done = CliRunner().invoke(command, ["init", str(folder), "--name", "hub.example"])
    assert done.exit_code == 0, done.output
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.pem", folder / "server-key.pem")
    client = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    for name in ("hub.example", "localhost", "127.0.0.1"):
        here, there = socket.socketpair()

        def answer(end: socket.socket = there) -> None:
            with server.wrap_socket(end, server_side=True) as wrapped:
                wrapped.recv(1)

        thread = threading.Thread(target=answer)
        thread.start()
        with client.wrap_socket(here, server_hostname=name) as wrapped:
            wrapped.send(b"x")
        thread.join()


def test_what_it_prints_can_be_pasted_into_a_configuration(tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["init", str(tmp_path / "tls")])
    lines = [line[4:] for line in done.output.splitlines() if line.startswith("    ")]
    config = parse("\n".join(lines), "printed")
    assert config.listen.tls_certificate == str((tmp_path / "tls" / "server.pem").resolve())


def test_an_authority_that_exists_is_not_replaced(tmp_path: Path) -> None:
    CliRunner().invoke(command, ["init", str(tmp_path)])
    before = (tmp_path / "ca.pem").read_bytes()
    done = CliRunner().invoke(command, ["init", str(tmp_path)])
    assert done.exit_code != 0 and (tmp_path / "ca.pem").read_bytes() == before
