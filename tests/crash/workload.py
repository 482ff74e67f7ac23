"""The run that is recorded: the real agent under strace, from its first start to its second stop.

Several sensors, three logs, a hub; each phase begins with a mark in the trace. The logs' shares are
so small that the store wraps: what the hub has acknowledged is trimmed, and while the hub is away
the oldest is discarded in one log, and gives way to aggregates in another. Among the sensors is a
stranger, whose token is as good as theirs and who says their names; it has to be told that they are
not its own. The second start is given a key, so that from there on what is stored is sealed: power
cuts fall before, while and after that is turned on. ``broken`` names the promise that is broken in
the agent (`controls`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from benchmarks.ports import free_port
from edge_agent.security.tokens import add_token
from tests.crash.aggregates import Aggregate
from tests.crash.hub import FakeHub
from tests.crash.recording import STRACE
from tests.crash.sensor import KINDS, Sensor, Stranger
from tests.patience import PATIENCE_S

#: Phases in the order in which the run goes through them.
PHASES: Final = (
    "first start", "append", "forward", "trim", "thin", "stop", "second start", "last stop",
)  # fmt: skip
LOGS: Final = ("main", "alarms", "depth")
SIZE: Final = 16 * 1024 * 1024
CONFIG: Final = """
drain_timeout = "3s"
[listen]
address = "127.0.0.1:{port}"
[http]
address = "off"
[store]
path = "{path}"
size = "16MiB"
compression_level = 0
[log.alarms]
streams = ["alarms/**"]
commit_interval = "3ms"
share = "1%"
[log.main]
commit_interval = "12ms"
share = "2%"
[log.depth]
streams = ["depth/**"]
commit_interval = "3ms"
share = "1%"
when_full = "thin-oldest"
[[upstream]]
name = "hub"
url = "ws://127.0.0.1:{hub_port}/forward"
backoff_base = "20ms"
backoff_max = "50ms"
batch_age = "5ms"
"""
START_S: Final = 2 * PATIENCE_S
#: What the second start seals with.
SECRET: Final = bytes(range(32))
#: The sensors whose log thins.
DEEP: Final = ("deep/5", "deep/6", "rare/7")
#: What a mark's request begins with.
MARK: Final = "/mark-"


def with_key(config: str, file: Path) -> str:
    """A configuration whose store is sealed, its key in ``file``, which is written."""
    file.touch(mode=0o600)
    file.write_text(SECRET.hex())
    return config.replace("[store]\n", f'[store]\nkey_file = "{file}"\n')


class Run:
    """One recorded run in ``folder``; `record` leaves the traces there."""

    def __init__(self, folder: Path, broken: str, *, short: bool) -> None:
        self.folder, self.broken, self.short = folder, broken, short
        self.port, self.hub_port = free_port(), free_port()
        self.hub = FakeHub()
        self.sensors = {name: Sensor(kind) for name, kind in KINDS.items()}
        #: One log of strace for each start of the agent.
        self.traces: list[Path] = []
        self._sessions: trio.Nursery | None = None
        tokens = folder / "tokens.json"
        folder.mkdir(parents=True, exist_ok=True)
        self._token = add_token(tokens, "sensors", write=["**"], sources=["**"])
        self._stranger = Stranger(
            add_token(tokens, "stranger", write=["**"], sources=["**"], forward=True)
        )
        self._listen = f'[listen]\ntokens = "{tokens}"\n'

    @property
    def store(self) -> Path:
        """The agent's folder lies within one that is surely there: its own name may be lost."""
        return self.folder / "disk" / "agent"

    async def record(self) -> None:
        """Run it all."""
        (self.folder / "disk").mkdir(parents=True)
        text = CONFIG.format(port=self.port, path=self.store, hub_port=self.hub_port)
        text = text.replace("[listen]\n", self._listen)
        file = self.folder / "edge-agent.toml"
        file.write_text(text)
        with trio.fail_after(180):
            await self._running(self._first_life)
            file.write_text(with_key(text, self.folder / "store.key"))
            await self._running(self._second_life)
        # Who breaks promises on purpose may tell its hub nonsense, too.
        assert self.broken != "none" or not self.hub.problems, self.hub.problems
        found = list(filter(None, map(Aggregate.of_token, self.hub.lanes["depth"].tokens)))
        assert self.broken != "none" or len(found) > 2, f"the hub was given {found}"

    async def _first_life(self, hub: trio.Nursery) -> None:
        rounds = 3 if self.short else 8
        await self._mark("append")
        self.sensors["mixed/4"].epoch = "fedcba9876543210"
        await self._connect("mixed/4", first=1001)
        for name in ("json/1", "pack/2", "alarm/3", "plain", *DEEP):
            await self._connect(name)
        await self._strange()
        await self._all(rounds)
        await self._mark("forward")
        serving = await hub.start(self._serve)
        await self._all(rounds)
        await self._forwarded()
        await self._mark("trim")
        await self._bulk(10 if self.short else 14)
        await self._forwarded()
        if not self.short:
            # The hub takes and does not answer; then it is away, until the oldest is discarded.
            self.hub.hold = True
            await self._bulk(4)
            serving.cancel()
            self.hub.release()
            await self._bulk(14)
            # A sensor that lost some of its records on the way.
            await self.sensors["mixed/4"].leave()
            await self._connect("mixed/4", first=2001)
            serving = await hub.start(self._serve)
            await self._all(2)
            await self._forwarded()
        await self._mark("thin")
        # The hub is away until the log that may thin has done so more than once.
        serving.cancel()
        await self._deep(30 if self.short else 45)
        await hub.start(self._serve)
        await self._forwarded()

    async def _second_life(self, hub: trio.Nursery) -> None:
        if self.broken == "none":
            # Who forgets its sources on purpose has forgotten whose they are, too.
            await self._strange()
        for name in ("json/1", "pack/2", "alarm/3", "mixed/4", *DEEP):
            await self._connect(name)
        await hub.start(self._serve)
        await self._all(2)
        await self._forwarded()

    async def _running(self, life: Callable[[trio.Nursery], Awaitable[None]]) -> None:
        """The agent for as long as ``life`` lasts, and its clean stop."""
        process = self._start()
        try:
            await self._wait_listening(process)
            async with trio.open_nursery() as nursery:
                self._sessions = nursery
                await life(nursery)
                await self._mark("last stop" if len(self.traces) > 1 else "stop")
                os.kill(_child_of(process.pid), signal.SIGTERM)
                with trio.move_on_after(PATIENCE_S):
                    while process.poll() is None:
                        await trio.sleep(0.02)
                nursery.cancel_scope.cancel()
        finally:
            if process.poll() is None:
                with suppress(OSError, IndexError):
                    os.kill(_child_of(process.pid), signal.SIGKILL)
                process.wait(PATIENCE_S)
        assert process.returncode == 0, self._output()

    def _start(self) -> subprocess.Popen[bytes]:
        trace = self.folder / f"calls-{len(self.traces)}.txt"
        self.traces.append(trace)
        module: tuple[str, ...] = ("-m", "edge_agent")
        if self.broken != "none":
            module = ("-m", "tests.crash.patched_agent", self.broken)
        command = [
            *STRACE, "-o", str(trace), sys.executable, *module,
            "run", "--config", str(self.folder / "edge-agent.toml"),
        ]  # fmt: skip
        with (self.folder / "output.txt").open("ab") as output:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    async def _wait_listening(self, process: subprocess.Popen[bytes]) -> None:
        with trio.fail_after(START_S):
            while True:
                assert process.poll() is None, self._output()
                try:
                    stream = await trio.open_tcp_stream("127.0.0.1", self.port)
                except OSError:
                    await trio.sleep(0.03)
                else:
                    await stream.aclose()
                    return

    async def _mark(self, phase: str) -> None:
        """A request that the agent refuses, but that stands in the trace."""
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            await stream.send_all(f"GET {MARK}{phase.replace(' ', '-')} HTTP/1.0\r\n\r\n".encode())
            await stream.receive_some()

    async def _connect(self, name: str, *, first: int | None = None) -> None:
        assert self._sessions is not None
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        await self.sensors[name].connect(self._sessions, stream, first=first, token=self._token)

    async def _strange(self) -> None:
        """Somebody says the name of each source that has numbers, live or not."""
        for name, kind in KINDS.items():
            if kind.mode != "plain":
                async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
                    assert await self._stranger.tries(stream, name) == "forbidden_source"

    async def _all(self, rounds: int) -> None:
        """Every connected sensor sends some singles and some batches, all at the same time."""
        async with trio.open_nursery() as nursery:
            for number, sensor in enumerate(self.sensors.values()):
                if sensor.is_connected:
                    nursery.start_soon(self._some, sensor, rounds, number)

    async def _some(self, sensor: Sensor, rounds: int, number: int) -> None:
        for turn in range(rounds):
            plain = sensor.kind.mode == "plain"
            await sensor.send(
                2 if plain else 1 + (turn + number) % 4, batch=turn % 2 == 1 and not plain
            )
            await trio.sleep(0.004 * (1 + (turn * 7 + number) % 5))
        await sensor.settled()

    async def _bulk(self, rounds: int) -> None:
        """What fills a log's share: batches of the sensor with the large records."""
        sensor = self.sensors["pack/2"]
        for turn in range(rounds):
            await sensor.send(60)
            await self.sensors["alarm/3"].send(8)
            await self.sensors["json/1"].send(1 + turn % 2)
            await sensor.settled()

    async def _deep(self, rounds: int) -> None:
        """What fills the log that thins. One of its sensors has seldom two records in a minute."""
        for turn in range(rounds):
            await self.sensors["deep/5"].send(12)
            await self.sensors["deep/6"].send(1 + turn % 5)
            if turn % 18 == 5:
                await self.sensors["rare/7"].send(1)
            for name in DEEP:
                await self.sensors[name].settled()

    async def _forwarded(self) -> None:
        """Wait until the hub has everything, or has been told that it is no longer there."""
        for log in LOGS:
            last = sum(sensor.stored_in(log) for sensor in self.sensors.values())
            with trio.fail_after(PATIENCE_S):
                while log not in self.hub.lanes or self.hub.lanes[log].next <= last:
                    await trio.sleep(0.01)

    async def _serve(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        """The hub, reachable until the scope that is reported is cancelled."""
        with trio.CancelScope() as scope:
            listeners = await trio.open_tcp_listeners(self.hub_port, host="127.0.0.1")
            task_status.started(scope)
            await trio.serve_listeners(self.hub.serve, listeners)

    def _output(self) -> str:
        return (self.folder / "output.txt").read_text()[-4000:]


def _child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
