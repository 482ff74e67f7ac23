"""The programs of docs/sensors/micropython.md, run by a real MicroPython, its port to Unix."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import trio

from edge_agent.security.tls import make_ca
from tests.docs.examples import examples_of
from tests.docs.sensors.lives import two_lives
from tests.docs.sensors.sensors import (
    STREAM,
    behind_a_relay,
    filled_in,
    more_than,
    running,
    said,
    values,
)
from tests.end_to_end.keys import STORE, Keys
from tests.end_to_end.support import AgentProcess, agents
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.needs("micropython")
PROGRAMS = {
    example.title: example.code for example in examples_of("sensors/micropython.md", "python")
}
#: It comes as a module of CPython, which becomes MicroPython.
MICROPYTHON = (
    sys.executable,
    "-c",
    "import micropython_unix; raise SystemExit(micropython_unix.main())",
)
#: Stand-ins for what only a board has.
NETWORK = """
STA_IF = 0
class WLAN:
    def __init__(self, interface): self.tries = 0
    def active(self, on): assert on
    def connect(self, name, password): assert name and password
    def isconnected(self):
        self.tries += 1
        return self.tries > 1
"""
NTPTIME = """
tries = 0
def settime():
    global tries
    tries += 1
    if tries < 2: raise OSError(110)
"""


def prepared(title: str, port: int, keys: Keys, folder: Path, token: str = "sensor") -> Path:
    """A program of the page and its ``ca.pem``, in a folder; a hundred times as fast."""
    code = filled_in(PROGRAMS[title], port, keys, token)
    for slow, quick in {
        "EVERY_MS = 10000": "EVERY_MS = 20\nmade = []",
        'return {"t": 21.5}': 'made.append(1)\n    return {"t": len(made)}',
        "sleep_ms(5000)": "sleep_ms(100)",
        "time.sleep(": "time.sleep(0.01 * ",
    }.items():
        code = code.replace(slow, quick)
    (folder / "ca.pem").write_text(keys.ca.read_text())
    (folder / "main.py").write_text(code)
    return folder / "main.py"


async def test_with_acks_nothing_is_lost_or_there_twice(tmp_path: Path, keys: Keys) -> None:
    async with behind_a_relay(tmp_path, keys) as (agent, relay):
        program = prepared("main.py: with acks", relay.port, keys, tmp_path)
        with running([*MICROPYTHON, program], tmp_path):
            for _ in range(3):
                await more_than(agent, await agent.count(), tmp_path)
                relay.cut()
                await trio.sleep(0.1)
                relay.restore()
            await agent.kill()
            await agent.start()
            await more_than(agent, await agent.count() + 10, tmp_path)
        with running([*MICROPYTHON, program], tmp_path):
            for life in await two_lives(agent, 1, tmp_path):
                assert life == list(range(1, 1 + len(life)))
        prepared("main.py: with acks", relay.port, keys, tmp_path, token="reader")
        await until_said("refused: HTTP/1.1 403 Forbidden", program, tmp_path)
        other = make_ca(tmp_path / "other", ["localhost"])
        (tmp_path / "ca.pem").write_text(other.ca.read_text())
        await until_said("not correctly signed by the trusted CA", program, tmp_path)


async def until_said(what: str, program: Path, folder: Path) -> None:
    with running([*MICROPYTHON, program], folder), trio.move_on_after(PATIENCE_S):
        while what not in said(folder):
            await trio.sleep(0.05)
    assert what in said(folder)


async def test_boot_py_waits_for_network_and_clock(tmp_path: Path, keys: Keys) -> None:
    (tmp_path / "network.py").write_text(NETWORK)
    (tmp_path / "ntptime.py").write_text(NTPTIME)
    program = prepared("boot.py: network and clock", 1, keys, tmp_path)
    with running([*MICROPYTHON, program], tmp_path) as process:
        code = await trio.to_thread.run_sync(process.wait, PATIENCE_S)
    assert (code, said(tmp_path)) == (0, "")


async def test_by_post_it_is_stored_once(tmp_path: Path, keys: Keys) -> None:
    agent = AgentProcess(tmp_path, "agent", STORE)
    async with agents(agent):
        program = prepared("Without TLS, by POST", agent.port, keys, tmp_path)
        with running([*MICROPYTHON, program], tmp_path) as process:
            await trio.to_thread.run_sync(process.wait, PATIENCE_S)
        assert said(tmp_path).startswith('200 {"stored":2,"refused":[]}')
        assert await values(agent) == [21.5, 21.6]
        assert await agent.count(STREAM) == 2
