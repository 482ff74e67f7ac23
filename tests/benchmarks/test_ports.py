from __future__ import annotations

import socket
from pathlib import Path

from benchmarks.ports import free_port


def test_a_free_port_is_given_once_and_is_none_that_a_client_may_get() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    first_of_clients = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert max(ports) < first_of_clients


def test_a_port_that_is_in_use_is_not_given() -> None:
    with socket.socket() as taken:
        port = free_port()
        taken.bind(("127.0.0.1", port + 1))
        taken.listen()
        assert free_port() not in (port, port + 1)
