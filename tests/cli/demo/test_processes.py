from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from edge_agent.cli.common import Failure
from edge_agent.cli.demo.processes import DemoProcess, free_ports
from edge_agent.config import load_config
from tests.patience import PATIENCE_S


def test_free_ports_are_different_and_free() -> None:
    ports = free_ports(5)
    # The kernel gives those from here on to whoever connects.
    assert max(ports) < 32_768
    assert len(set(ports)) == 5
    assert min(ports) > 1023


def test_the_configuration_is_one_that_the_agent_takes(tmp_path: Path) -> None:
    node = DemoProcess("agent", tmp_path, "ws://127.0.0.1:9/forward")
    config = load_config(tmp_path / "agent.toml", env={}, overrides={})
    assert config.store.path == str(tmp_path / "agent")
    assert config.listen.address == f"127.0.0.1:{node.sensor_port}"
    assert node.http_url.endswith(config.http.address)
    assert config.upstream[0].url == "ws://127.0.0.1:9/forward"
    DemoProcess("hub", tmp_path)
    assert "upstream" not in tomllib.loads((tmp_path / "hub.toml").read_text())


async def test_a_node_starts_answers_and_drains(tmp_path: Path) -> None:
    node = DemoProcess("agent", tmp_path)
    node.start()
    try:
        await node.ready()
        await node.stop()
        assert node._process is not None
        assert node._process.returncode == 0, node.log_tail()
    finally:
        node.kill()


async def test_a_node_that_cannot_start_is_told_with_its_log(tmp_path: Path) -> None:
    node = DemoProcess("agent", tmp_path)
    (tmp_path / "agent.toml").write_text("[nonsense]\n")
    node.start()
    with pytest.raises(Failure, match=r"the agent did not start:\n(.|\n)*nonsense"):
        await node.ready()


def test_nodes_end_with_a_demo_that_was_killed(tmp_path: Path) -> None:
    script = f"""
import time
from pathlib import Path
from edge_agent.cli.demo.processes import DemoProcess
node = DemoProcess("agent", Path({str(tmp_path)!r}))
node.start()
print(node._process.pid, flush=True)
time.sleep(60)
"""
    demo = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert demo.stdout is not None
    child = int(demo.stdout.readline())
    demo.send_signal(signal.SIGKILL)
    demo.wait()
    demo.stdout.close()
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and _is_running(child):
        time.sleep(0.02)
    assert not _is_running(child)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        # The new parent may take its time to reap it.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
