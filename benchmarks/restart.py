"""A restart under a fleet: ``python -m benchmarks.restart [--sensors 500] [--kill]``.

Plays systemd's part without needing root: it keeps the sockets that the agent hands over, ends the
agent, and starts the next one with them. The fleet (`tests/systemd/fleet.py`) prints what it met:
connections refused, seconds until every session was back, records sent and stored. The same with a
real systemd, and an upgrade of the package in place of the restart: ``make deb-test``.
"""

from __future__ import annotations

import argparse
import array
import os
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

import trio

from edge_agent.net.kept_sockets import FD_FIRST
from edge_agent.security.tokens import add_token

FLEET = Path(__file__).parent.parent / "tests/systemd/fleet.py"
CONFIG = """\
[store]
path = "{folder}/store"
size = "256MiB"
[listen]
address = "127.0.0.1:{sensors}"
tokens = "{folder}/tokens"
connections = {connections}
[http]
address = "127.0.0.1:{people}"
"""


class Supervisor:
    """What systemd does of it: a socket to be told by, a store of descriptors, one agent."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[str, int] = {}
        self._ready = trio.Event()
        self.agent: trio.Process

    async def listen(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Be told, until cancelled."""
        with trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            await told.bind(str(self._folder / "notify"))
            task_status.started()
            while True:
                room = socket.CMSG_SPACE(16 * array.array("i").itemsize)
                text, ancillary, _, _ = await told.recvmsg(4096, room)
                given = array.array("i")
                for _, _, data in ancillary:
                    given.frombytes(data[: len(data) - len(data) % given.itemsize])
                self._obey(dict(line.split("=", 1) for line in text.decode().splitlines()), given)

    def _obey(self, told: dict[str, str], given: array.array[int]) -> None:
        if "READY" in told:
            self._ready.set()
        elif "FDSTORE" in told:
            self._kept[told["FDNAME"]] = given[0]
        else:
            for descriptor in given:
                os.close(descriptor)

    async def start(self) -> None:
        """Start an agent, and wait until it is ready."""
        self._ready = trio.Event()
        kept = list(self._kept.values())
        moves = " ".join(f"{FD_FIRST + n}<&{one}" for n, one in enumerate(kept))
        shell = f'export LISTEN_PID=$$; exec {moves}; exec "$@"'
        told = {"LISTEN_FDS": str(len(kept)), "LISTEN_FDNAMES": ":".join(self._kept)}
        config = ["--config", str(self._folder / "edge-agent.toml")]
        self.agent = await trio.lowlevel.open_process(
            ["/bin/bash", "-c", shell, "bash", sys.executable, "-m", "edge_agent", "run", *config],
            env={**os.environ, **told, "NOTIFY_SOCKET": str(self._folder / "notify")},
            pass_fds=kept,
            stderr=(self._folder / "journal").open("ab"),
        )
        await self._ready.wait()

    async def restart(self, how: signal.Signals) -> None:
        """End the agent, and start the next one."""
        began = time.monotonic()
        self.agent.send_signal(how)
        await self.agent.wait()
        ended = time.monotonic()
        await self.start()
        ready = time.monotonic() - ended
        print(f"ended in {ended - began:.2f} s, ready {ready:.2f} s later ({self.cpu_s:.2f} s CPU)")

    @property
    def cpu_s(self) -> float:
        """What the agent has used so far."""
        stat = Path(f"/proc/{self.agent.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


async def run(sensors: int, how: signal.Signals, folder: Path) -> str:
    """What the fleet printed."""
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            ports.append(probe.getsockname()[1])
    text = CONFIG.format(
        folder=folder, sensors=ports[0], people=ports[1], connections=sensors + 100
    )
    (folder / "edge-agent.toml").write_text(text)
    everything = ("**",)
    secret = add_token(
        folder / "tokens", "fleet", write=everything, read=everything, sources=everything,
        created_ns=time.time_ns(),
    )  # fmt: skip
    supervisor = Supervisor(folder)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.listen)
        await supervisor.start()
        with trio.open_signal_receiver(signal.SIGUSR1) as asked:

            async def obey() -> None:
                async for _ in asked:
                    await supervisor.restart(how)

            nursery.start_soon(obey)
            done = await trio.run_process(
                [sys.executable, str(FLEET), "--name", "restart", "--sensors", str(sensors),
                 "--port", str(ports[0]), "--http", str(ports[1]), "--token", secret,
                 "kill", "-USR1", str(os.getpid())],
                capture_stdout=True,
            )  # fmt: skip
        print(f"the second agent: {supervisor.cpu_s:.2f} s CPU, all sessions back and {sensors}/s")
        supervisor.agent.terminate()
        await supervisor.agent.wait()
        nursery.cancel_scope.cancel()
    return done.stdout.decode()


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.restart", description=__doc__)
    parser.add_argument("--sensors", type=int, default=500)
    parser.add_argument("--kill", action="store_true", help="SIGKILL in place of SIGTERM")
    parser.add_argument("--folder", type=Path, help="where the store is made (not a tmpfs)")
    options = parser.parse_args()
    how = signal.SIGKILL if options.kill else signal.SIGTERM
    with tempfile.TemporaryDirectory(dir=options.folder or "/var/tmp") as folder:
        print(trio.run(run, options.sensors, how, Path(folder)), end="")


if __name__ == "__main__":
    main()
