"""Agents that start in a tenth of a second: forked from a process that has imported everything.

``python -m tests.crash.preloaded SOCKET`` listens there. Each connection asks for one agent: its
command line and where its output goes, as JSON. It is sent the pid with the listener of `intercept`
(where calls are to be seen), later the exit code. The agent is the real command; of its start only
the import of its modules is left out, which is the same whatever the disk does.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import trio

from tests.crash.intercept import install
from tests.patience import PATIENCE_S

#: What a running agent has imported at the latest once it listens, forwards and answers.
MODULES = (
    "edge_agent.agent",
    "edge_agent.cli.run",
    "edge_agent.forward.sinks.agent.sink",
    "edge_agent.forward.sinks.http.sink",
    "edge_agent.ops.port",
)


def main() -> None:
    _end_with_parent()
    for name in MODULES:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(sys.argv[1])
        server.listen()
        while True:
            connection, _ = server.accept()
            if os.fork() == 0:
                server.close()
                _attend(connection)
            connection.close()


def _attend(connection: socket.socket) -> None:
    """One agent, from its fork to its exit code."""
    _end_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    asked = json.loads(connection.recv(65536))
    child = os.fork()
    if child == 0:
        _become_agent(connection, asked)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(OSError):
        connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _become_agent(connection: socket.socket, asked: dict[str, Any]) -> None:
    code = 1
    _end_with_parent()
    try:
        output = os.open(asked["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        listeners = [install()] if asked["intercept"] else []
        socket.send_fds(connection, [b"%d\n" % os.getpid()], listeners)
        for fd in listeners:
            os.close(fd)
        connection.close()
        from edge_agent.cli import main as edge_agent

        edge_agent(asked["arguments"], prog_name="edge-agent")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter would
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _end_with_parent() -> None:
    """Whoever ends the preloaded process ends all agents of it: a run that failed leaves none."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


@dataclass(slots=True)
class Forked:
    """A running agent; ``listener`` is -1 where its calls are not seen."""

    pid: int
    listener: int
    _connection: trio.SocketStream

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, where it still runs."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def abandon(self) -> None:
        """Kill it; nobody will ask for its exit code."""
        self.signal(signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """Nobody will ask; it has ended, or somebody else ends it."""
        self._connection.socket.close()

    async def wait(self) -> int:
        """Its exit code, negative for a signal."""
        answer = b""
        while not answer.endswith(b"\n"):
            piece = await self._connection.receive_some()
            assert piece, "the preloaded process is gone"
            answer += piece
        await self._connection.aclose()
        return int(answer)


class Nest:
    """The preloaded process, for as long as this context is entered."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "nest"
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        command = [sys.executable, "-m", "tests.crash.preloaded", str(self._path)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        with trio.fail_after(PATIENCE_S):
            while not self._path.exists():
                assert self._process.poll() is None, "the preloaded process did not start"
                await trio.sleep(0.02)
        return self

    async def __aexit__(self, *failure: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    async def fork(self, arguments: list[str], output: Path, *, intercept: bool) -> Forked:
        """A new agent with these arguments."""
        stream = await trio.open_unix_socket(str(self._path))
        asked = {"arguments": arguments, "output": str(output), "intercept": intercept}
        await stream.send_all(json.dumps(asked).encode())
        await trio.lowlevel.wait_readable(stream.socket)
        raw = socket.fromfd(stream.socket.fileno(), socket.AF_UNIX, socket.SOCK_STREAM)
        with raw:
            message, fds, _, _ = socket.recv_fds(raw, 64, 1)
        pid = int(message)
        for fd in fds:
            os.set_inheritable(fd, False)
        return Forked(pid, fds[0] if fds else -1, stream)


if __name__ == "__main__":
    main()
