"""The watchdog and a loop that really hangs: systemd's part is played, so nothing needs root."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import trio

from edge_agent.client import Producer
from tests.end_to_end.keys import STORE
from tests.end_to_end.support import AgentProcess, agents
from tests.patience import PATIENCE_S, eventually

#: Rules before storing are applied in the event loop: a hook that sleeps stops all of it.
HOOK = """
import time
from pathlib import Path

def stall(stream, fields):
    seconds = fields.pop("stall", 0)
    if seconds > 1:
        Path(__file__).with_name("stalled").touch()
    time.sleep(seconds)
    return fields
"""
RULE = '[[rule]]\nname = "stall"\nstreams = ["**"]\nhook = "stalling:stall"\n'
#: What the unit's WatchdogSec= would say.
WATCHDOG_S = 2.0


def told(supervisor: socket.socket) -> list[bytes]:
    """What came since this was asked last."""
    found: list[bytes] = []
    while True:
        try:
            found += supervisor.recv(4096).splitlines()
        except BlockingIOError:
            return found


async def test_a_loop_that_stalls_for_a_second_is_fed_on_and_one_that_hangs_is_not(
    tmp_path: Path,
) -> None:
    (tmp_path / "stalling.py").write_text(HOOK)
    agent = AgentProcess(tmp_path, "agent", STORE + RULE, wrapper=["env"])
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as supervisor:
        supervisor.bind(str(tmp_path / "notify"))
        agent.environment = {
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6)),
            "PYTHONFAULTHANDLER": "1",
            "PYTHONPATH": os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", ""))),
        }
        async with agents(agent), trio.open_nursery() as nursery:
            process = agent.process
            assert isinstance(process, subprocess.Popen)

            def fed() -> bool:
                return b"WATCHDOG=1" in told(supervisor)

            producer = Producer(f"{agent.url}/ingest/a", source="pi", close_timeout=0.1)
            async with producer:
                await eventually(fed, "it is fed")
                await producer.send({"t": 1, "stall": 1})
                await producer.flush()
                await eventually(fed, "it is fed after a second")
                assert process.poll() is None
                await producer.send({"t": 2, "stall": 3600})
                await eventually((tmp_path / "stalled").exists, "the loop hangs")
                told(supervisor)
                await trio.sleep(WATCHDOG_S)
                assert not fed(), "systemd would not have ended it"
                # As the unit has it: it says where it stood, and what it had acked is there.
                process.send_signal(signal.SIGABRT)
                await trio.to_thread.run_sync(process.wait, PATIENCE_S)
                assert process.returncode == -signal.SIGABRT
                printed = (agent.folder / "stderr.txt").read_text(errors="replace")
                assert 'stalling.py", line 9 in stall' in printed
                (tmp_path / "stalling.py").write_text(HOOK.replace("time.sleep(seconds)", "pass"))
                await agent.start()
                await producer.flush()
            assert sorted(one["fields"]["t"] for one in await agent.records()) == [1, 2]
            nursery.cancel_scope.cancel()
