from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks import processes
from benchmarks.processes import ROOT, Server, free_port


def children() -> list[psutil.Process]:
    return psutil.Process().children()


def test_a_server_that_never_listens_is_ended_and_its_output_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "READY_TIMEOUT_S", 0.5)
    before = children()
    script = "print('I have other plans', flush=True); import time; time.sleep(60)"

    with pytest.raises(RuntimeError, match=r"not listening .* I have other plans"):
        Server([sys.executable, "-c", script], free_port(), tmp_path)

    assert children() == before


def test_a_server_that_ends_at_once_is_told_with_its_code(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ended with 3"):
        Server([sys.executable, "-c", "raise SystemExit(3)"], free_port(), tmp_path)


def test_a_load_whose_starter_has_gone_sends_nothing() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.load", '{"port": 1, "records": 0, "connections": 0}'],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as load:  # fmt: skip
        output, _ = load.communicate("", timeout=30)

    assert (output, load.returncode) == ("ready\n", 0)


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
