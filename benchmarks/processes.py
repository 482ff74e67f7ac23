"""The processes of a benchmark: agents, peers and loads, started and ended by id."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from benchmarks.ports import free_port

ROOT = Path(__file__).resolve().parent.parent
READY_TIMEOUT_S = 30.0
LOAD_TIMEOUT_S = 300.0


class Process(Protocol):
    """What a server's process is asked for, in the words of `subprocess.Popen`."""

    @property
    def pid(self) -> int:
        """Its id."""

    @property
    def returncode(self) -> int | None:
        """Its exit code, as far as `poll` or `wait` have told it."""

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """The same, once it has ended."""

    def send_signal(self, number: int, /) -> None:
        """Send a signal."""

    def kill(self) -> None:
        """SIGKILL."""


def start(command: list[str], output: BinaryIO) -> Process:
    """A new process in the checkout, all that it says in a file."""
    return subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output
    )


class Server:
    """A process under measurement that listens on ``port``."""

    def __init__(self, command: list[str], port: int, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = port
        self.folder = folder
        began = time.perf_counter()
        with (folder / "output.txt").open("ab") as output:
            self.process = start(command, output)
        try:
            wait_listening(port, self.process, folder / "output.txt")
        except BaseException:
            # Nobody has this object yet, so nobody else could.
            self.process.kill()
            self.process.wait()
            raise
        self.seconds_to_listen = time.perf_counter() - began

    def cpu_seconds(self) -> float:
        """User and system time of all threads so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self, name: str = "RssAnon") -> float:
        """A memory figure of ``/proc/PID/status`` in MB (10^6 bytes)."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024 / 1e6
        return 0.0

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the process and wait for it."""
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Agent(Server):
    """``edge-agent run`` with a configuration and a store of its own."""

    def __init__(
        self,
        folder: Path,
        config: str = "",
        *,
        http: bool = True,
        port: int = 0,
        http_host: str = "127.0.0.1",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "edge-agent.toml").write_text(config)
        self.http_port = free_port() if http else 0
        port = port or free_port()
        super().__init__(
            [
                sys.executable, "-m", "edge_agent", "run",
                "--config", str(folder / "edge-agent.toml"), "--data", str(folder / "data"),
                "--listen", f"127.0.0.1:{port}",
                "--http", f"{http_host}:{self.http_port}" if http else "off",
            ],
            port, folder,
        )  # fmt: skip

    def get(self, path: str) -> Any:
        """JSON of the people's port."""
        url = f"http://127.0.0.1:{self.http_port}{path}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return json.load(answer)


class Load:
    """A load in a process of its own: prepared first, started on a word."""

    def __init__(self, port: int, *, module: str = "benchmarks.load", **options: object) -> None:
        argument = json.dumps({"host": "127.0.0.1", "port": port, **options})
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, argument],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        if self.process.stdout.readline().strip() != "ready":
            raise RuntimeError(f"the load did not start: {self.process.wait()}")

    def run(self) -> dict[str, Any]:
        """Start, wait for the end; what the load printed."""
        try:
            output, _ = self.process.communicate("go\n", timeout=LOAD_TIMEOUT_S)
        finally:
            self.process.kill()  # nothing to it where it has ended
            self.process.wait()
        if self.process.returncode:
            raise RuntimeError(f"the load failed with {self.process.returncode}")
        found: dict[str, Any] = json.loads(output)
        return found


def wait_listening(port: int, process: Process, output: Path) -> None:
    """Return once ``port`` accepts; about 2 ms late at most.

    Raises:
        RuntimeError: the process ended or did not listen in time.
    """
    deadline = time.perf_counter() + READY_TIMEOUT_S
    while time.perf_counter() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"ended with {process.returncode}: {output.read_text()[-3000:]}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.002)
        else:
            return
    raise RuntimeError(f"not listening after {READY_TIMEOUT_S} s: {output.read_text()[-3000:]}")
