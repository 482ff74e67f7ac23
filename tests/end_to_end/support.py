"""Real agents as real processes, for tests that treat them as a stranger would.

Everything is on loopback, on ports that nobody else is given, in a folder of the
test's own; a process is ended by the id under which it was started.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from benchmarks.ports import free_port
from benchmarks.processes import Process
from edge_agent.client import Producer
from tests.patience import PATIENCE_S
from tests.preloaded import Forked, nest, run

#: A sensor that waits for its last acks for as long as tests wait for anything.
producer_to = partial(Producer, close_timeout=PATIENCE_S)


class AgentProcess:
    """One agent with its own folder and fixed ports, so that it can be killed and come back."""

    def __init__(
        self, folder: Path, name: str, config: str = "", *, wrapper: Sequence[str] = ()
    ) -> None:
        self.folder = folder / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.store = self.folder / "data"
        self.name = name
        #: Where both ports are.
        self.host = "127.0.0.1"
        self.port = free_port()
        self.http_port = free_port()
        self.config = config
        self.wrapper = tuple(wrapper)
        self.module: tuple[str, ...] = ("edge_agent",)
        self.environment: dict[str, str] = {}
        #: Where it is forked, unless there is a wrapper, which needs a new interpreter.
        self.nest = nest
        self.process: Process | None = None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def write_config(self) -> Path:
        path = self.folder / "edge-agent.toml"
        path.write_text(self.config)
        return path

    async def start(self, *, wait: bool = True) -> None:
        """Start the process; with ``wait``, return once both ports are open."""
        command = [
            *self.module, "run", "--config", str(self.write_config()), "--data", str(self.store),
            "--listen", f"{self.host}:{self.port}", "--http", f"{self.host}:{self.http_port}",
        ]  # fmt: skip
        environment = {**os.environ, **self.environment}
        with (self.folder / "stderr.txt").open("ab") as errors:
            if self.wrapper:
                self.process = subprocess.Popen(
                    [*self.wrapper, sys.executable, "-m", *command],
                    stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, env=environment,
                )  # fmt: skip
            else:
                self.process = await trio.to_thread.run_sync(
                    partial(
                        self.nest().fork, command, stdout=errors, stderr=errors, env=environment
                    )
                )
        if wait:
            await self.wait_ready()

    async def wait_ready(self) -> None:
        with trio.move_on_after(2 * PATIENCE_S):
            while True:
                assert self.process is not None
                if self.process.poll() is not None:
                    raise AssertionError(f"{self.name} ended:\n{self.output()}")
                try:
                    await self._get("/healthz", {}, any_status=True)
                except OSError:
                    await trio.sleep(0.01)
                else:
                    if self._listens():
                        return
                    await trio.sleep(0.003)
        raise AssertionError(f"{self.name} did not answer in {2 * PATIENCE_S} s:\n{self.output()}")

    def _listens(self) -> bool:
        """Whether sensors can connect, which is a little later than people can. To try it would be
        a connection that tests count.
        """
        assert self.process is not None
        tables = [Path(f"/proc/{self.process.pid}/net/{name}") for name in ("tcp", "tcp6")]
        sockets = [line.split() for one in tables for line in one.read_text().splitlines()[1:]]
        port = f":{self.port:04X}"
        return any(address.endswith(port) and state == "0A" for _, address, _, state, *_ in sockets)

    def output(self) -> str:
        """What the process has printed so far."""
        return (self.folder / "stderr.txt").read_text(errors="replace")[-6000:]

    async def get(self, path: str, **query: object) -> Any:
        """GET on the people's port; JSON decoded."""
        return await self._get(path, query, any_status=False)

    async def _get(self, path: str, query: Mapping[str, object], *, any_status: bool) -> Any:
        text = urllib.parse.urlencode({key: str(value) for key, value in query.items()})
        url = f"http://127.0.0.1:{self.http_port}{path}" + (f"?{text}" if text else "")
        return await trio.to_thread.run_sync(_get_json, url, any_status)

    async def records(self, stream: str = "**", **query: object) -> list[dict[str, Any]]:
        """Every record of the pattern, read page by page."""
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            if cursor:
                query["next"] = cursor
            answer = await self.get("/api/query", stream=stream, limit=20_000, **query)
            found += answer["records"]
            cursor = answer.get("next")
            if not cursor or not answer.get("truncated", bool(cursor)):
                return found

    async def count(self, stream: str = "**") -> int:
        return len(await self.records(stream))

    async def kill(self) -> None:
        """SIGKILL, as a power button does for processes."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        return await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        if process.poll() is None:
            if self.wrapper:
                os.kill(_child_of(process.pid), number)
            else:
                process.send_signal(number)
        with trio.move_on_after(PATIENCE_S, shield=True):
            if isinstance(process, Forked):
                await process.ended()
            while process.poll() is None:
                await trio.sleep(0.02)
        if process.poll() is None:
            process.kill()
            process.wait()
            raise AssertionError(f"{self.name} ignored {number.name}:\n{self.output()}")
        return process.wait()


@asynccontextmanager
async def agents(*processes: AgentProcess) -> AsyncIterator[None]:
    """Start them in order; at the end, whatever happened, none is left."""
    try:
        for process in processes:
            await process.start()
        yield
    finally:
        for process in reversed(processes):
            if process.process is not None and process.process.poll() is None:
                with trio.CancelScope(shield=True):
                    await process.kill()


async def eventually(
    check: Callable[[], Any], *, timeout: float = 2 * PATIENCE_S, describe: str = ""
) -> Any:
    """Ask ``check`` (async) until it returns something true; its last answer on failure.

    What is true in a moment is found in a moment, and what takes long is asked for seldom: each
    question is work for the agent.
    """
    answer: Any = None
    with trio.move_on_after(timeout):
        for attempt in itertools.count(1):
            try:
                answer = await check()
            except (OSError, urllib.error.URLError) as error:
                answer = error
            else:
                if answer:
                    return answer
            await trio.sleep(min(attempt * 0.005, 0.05))
    raise AssertionError(f"not within {timeout} s: {describe or check}; last answer {answer!r}")


async def run_command(*arguments: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    """``edge-agent ARGUMENTS`` as a process of its own, to its end."""
    return await trio.to_thread.run_sync(partial(run, *arguments, timeout=timeout))


def _child_of(pid: int) -> int:
    # A wrapper such as strace passes no signals on that the test means for the agent.
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else pid


def _get_json(url: str, any_status: bool) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if not any_status:
            raise AssertionError(f"{url}: {error.code} {error.read()[:500]!r}") from error
        return json.loads(error.read() or b"null")
