"""A hub, an agent that is started again whenever it ends, and sensors: what faults and kills share.

The agent is kept as systemd keeps it: when it ends by itself, it is started again, and what it said
and its exit code are remembered. In the end what was sent is compared with what has arrived.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio

from edge_agent.store import Engine, StoreSettings
from edge_agent.system.clock import SystemClock
from tests.crash.intercept import Fail, Interceptor, Seen
from tests.patience import PATIENCE_S
from tests.preloaded import Forked, nest

SIZE = 16 * 1024 * 1024
HUB = '[store]\nsize = "16MiB"\n[log.main]\ncommit_interval = "5ms"\n'
AGENT = """
drain_timeout = "5s"
[store]
size = "16MiB"
compression_level = 0
reopen_after = "20ms"
[log.main]
commit_interval = "5ms"
share = "{share}"
when_full = "refuse"
[[upstream]]
name = "hub"
url = "ws://127.0.0.1:{port}/forward"
batch_age = "0s"
backoff_base = "20ms"
backoff_max = "100ms"
"""
#: Nobody who is told to start again needs longer.
READY_S = 2 * PATIENCE_S


@dataclass
class Kept:
    """An agent's process, whoever ends it.

    ``judge`` sees its calls on files below ``data``; None where nobody looks. Ports are used again
    by the next one in the same place: thousands of runs would otherwise meet one another's.
    """

    folder: Path
    name: str
    config: str
    ports: tuple[int, int]
    judge: Callable[[Seen], Fail | None] | None = None
    starts_max: int = 20
    ended: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.port, self.http_port = self.ports
        self.data = self.folder / self.name
        self.output_path = self.folder / f"{self.name}.txt"
        self._settings = self.folder / f"{self.name}.toml"
        self._settings.write_text(self.config)
        #: The process there is now.
        self.present: Forked | None = None
        self._wanted = False
        self._gone, self._news = trio.Event(), trio.Event()
        #: Whether the present process was seen to listen.
        self.listening = False

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        return self.output_path.read_text(errors="replace") if self.output_path.exists() else ""

    async def keep(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start it, and again whenever it ends, until `stop`; started once it answers."""
        self._wanted, self._gone = True, trio.Event()
        told = False
        for _ in range(self.starts_max):
            forked = self.present = await self._fork()
            self._news.set()
            try:
                self.listening = await self._answers(forked)
                if self.listening and not told:
                    told = True
                    task_status.started()
                code = await forked.ended()
            except trio.Cancelled:
                # The run has failed; the ports are the next one's.
                forked.kill()
                forked.close()
                raise
            self.present, self.listening = None, False
            if self._news.is_set():
                self._news = trio.Event()
            if not self._wanted:
                self.ended.append(code)
                self._gone.set()
                return
            self.ended.append(code)
            await trio.sleep(0.02)
        raise AssertionError(f"{self.name} ended {self.starts_max} times:\n{self.output[-3000:]}")

    async def stop(self) -> int:
        """SIGTERM, and no new start: its exit code."""
        self._wanted = False
        if self.present is not None:
            self.present.terminate()
        await self._gone.wait()
        return self.ended.pop()

    async def forked(self) -> None:
        """Wait until there is a process, and not one that was killed already."""
        await self._news.wait()

    def kill(self) -> None:
        """SIGKILL; it is started again."""
        if self.present is not None:
            self._news, self.listening = trio.Event(), False
            self.present.kill()

    async def get(self, path: str) -> Any:
        """GET on the people's port; None where nobody answers there now."""
        try:
            async with await trio.open_tcp_stream("127.0.0.1", self.http_port) as stream:
                host = f"127.0.0.1:{self.http_port}"
                request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
                await stream.send_all(request.encode())
                answer = b"".join([piece async for piece in stream])
            return json.loads(answer.partition(b"\r\n\r\n")[2])
        except (OSError, ValueError, trio.BrokenResourceError):
            return None

    async def delivered(self) -> None:
        """Wait until everything it holds has arrived upstream."""
        while True:
            status = await self.get("/api/status")
            if status is not None and all(
                one["connected"] and not one["backlog_records"] for one in status["upstreams"]
            ):
                return
            await trio.sleep(0.02)

    async def _fork(self) -> Forked:
        arguments = [
            "edge_agent", "run", "--config", str(self._settings), "--data", str(self.data),
            "--listen", f"127.0.0.1:{self.port}", "--http", f"127.0.0.1:{self.http_port}",
        ]  # fmt: skip
        with self.output_path.open("ab") as output:
            fork = partial(nest().fork, arguments, stdout=output, stderr=output)
            forked = await trio.to_thread.run_sync(partial(fork, intercept=self.judge is not None))
        if self.judge is not None:
            below = str(self.data)
            seer = Interceptor(forked.listener, partial(_lies_in, below), self.judge)
            threading.Thread(target=seer.run, daemon=True).start()
        return forked

    async def _answers(self, forked: Forked) -> bool:
        with trio.move_on_after(READY_S):
            while forked.poll() is None:
                try:
                    stream = await trio.open_tcp_stream("127.0.0.1", self.port)
                except OSError:
                    await trio.sleep(0.01)
                else:
                    await stream.aclose()
                    return True
        return False


def _lies_in(folder: str, path: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def numbers_in(folder: Path) -> dict[str, list[int]]:
    """What a store holds: of each stream the field ``n`` of its records, in order.

    The store is opened as the agent opens it, so it must not be in use.
    """
    found: dict[str, list[int]] = {}
    engine = Engine.open(
        folder, StoreSettings(size=SIZE), clock=SystemClock(), entropy=lambda n: b"\1" * n
    )
    try:
        after = 0
        while items := engine.read("main", after, 1 << 20):
            for item in items:
                if hasattr(item, "records"):
                    for record in item.records(lambda stream: True):
                        stream = record.stream.rpartition("/ingest/")[2]
                        found.setdefault(stream, []).append(record.fields["n"])
            after = items[-1].last
    finally:
        engine.close()
    return found


def compare(sent: dict[str, int], arrived: dict[str, list[int]]) -> tuple[int, int, list[str]]:
    """Records lost and doubled on the way to the hub, and a sentence for each stream where any
    were, or where order was not kept.
    """
    lost = doubled = 0
    wrong: list[str] = []
    for stream, last in sent.items():
        there = Counter(arrived.get(stream, []))
        missing = [n for n in range(1, last + 1) if n not in there]
        twice = [n for n, count in there.items() if count > 1]
        lost, doubled = lost + len(missing), doubled + len(twice)
        if missing or twice:
            wrong.append(f"{stream}: lost {missing[:9]}, doubled {twice[:9]}")
        elif arrived[stream] != [*range(1, last + 1)]:
            wrong.append(f"{stream}: out of order, or never sent: {arrived[stream][:20]}")
    return lost, doubled, wrong
