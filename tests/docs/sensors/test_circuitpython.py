"""The program of docs/sensors/circuitpython.md, with Adafruit's own libraries on this Python.

CircuitPython itself is for boards alone. What is a board's here is ``wifi`` and ``socketpool``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import trio

from tests.docs.examples import examples_of
from tests.docs.sensors.sensors import (
    behind_a_relay,
    filled_in,
    more_than,
    running,
    said,
    values,
)
from tests.end_to_end.keys import Keys
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.needs("adafruit_requests")
SOCKETPOOL = """
import socket
class SocketPool:
    SOCK_STREAM, AF_INET = socket.SOCK_STREAM, socket.AF_INET
    def __init__(self, radio): assert radio == "radio"
    def getaddrinfo(self, host, port, *_): return socket.getaddrinfo(host, port, socket.AF_INET)
    def socket(self, *_): return socket.socket()
"""


async def test_with_a_key_nothing_is_lost_or_there_twice(tmp_path: Path, keys: Keys) -> None:
    async with behind_a_relay(tmp_path, keys) as (agent, relay):
        (example,) = examples_of("sensors/circuitpython.md", "python")
        code = filled_in(example.code, relay.port, keys)
        for slow, quick in {
            "EVERY_S, POST_S = 10, 60": "EVERY_S, POST_S = 0.02, 0.1\nmade = []",
            'return {"t": 21.5}': 'made.append(1)\n    return {"t": len(made)}',
        }.items():
            assert slow in code
            code = code.replace(slow, quick)
        (tmp_path / "ca.pem").write_text(keys.ca.read_text())
        (tmp_path / "code.py").write_text(code)
        (tmp_path / "wifi.py").write_text('radio = "radio"\n')
        (tmp_path / "socketpool.py").write_text(SOCKETPOOL)
        command = [sys.executable, "code.py"]
        with running(command, tmp_path, AGENT_TOKEN=keys.secrets["sensor"]):
            for _ in range(3):
                await more_than(agent, await agent.count(), tmp_path)
                relay.cut()
                await trio.sleep(0.15)
                relay.restore()
            await agent.kill()
            await agent.start()
            await more_than(agent, await agent.count() + 20, tmp_path)
        found = await values(agent)
        assert found == list(range(1, 1 + len(found)))
        with (
            running(command, tmp_path, AGENT_TOKEN=keys.secrets["reader"]),
            trio.fail_after(PATIENCE_S),
        ):
            while "403 " not in said(tmp_path):
                await trio.sleep(0.05)
