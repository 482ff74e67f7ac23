"""Real databases on loopback, each started in a folder and ended by its id: for tests, too."""

from __future__ import annotations

import http.client
import json
import os
import pwd
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

_READY_S: Final = 60.0
#: Above the ports that agents are given in benchmarks; below those that the kernel gives.
_CONFIG: Final = """\
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
  query-log-enabled = false
[http]
  bind-address = "127.0.0.1:{port}"
  log-enabled = false
[monitor]
  store-enabled = false
[subscriber]
  enabled = false
[continuous_queries]
  enabled = false
[logging]
  level = "warn"
"""


class Database:
    """A server that can be killed and started again on what it has stored.

    Attributes:
        port: where it listens on loopback.
    """

    def __init__(self, command: Sequence[str], port: int, folder: Path) -> None:
        self.port, self._command, self._folder = port, list(command), folder
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def pid(self) -> int:
        """Of the server itself."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self._folder / "output.txt").open("ab") as output:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        deadline = time.monotonic() + _READY_S
        while not self.is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = (self._folder / "output.txt").read_text(errors="replace")[-2000:]
                self.stop()
                raise RuntimeError(f"{self._command[0]} did not start: {said}")
            time.sleep(0.02)

    def is_ready(self) -> bool:
        """Whether it answers."""
        raise AssertionError("each kind has its own way")

    def kill(self) -> None:
        """SIGKILL, in the midst of whatever it does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it as quickly as it likes to."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class HttpDatabase(Database):
    """InfluxDB or VictoriaMetrics."""

    def is_ready(self) -> bool:
        """Whether it answers."""
        try:
            self.get("/ping" if "influxd" in self._command[0] else "/health")
        except (OSError, http.client.HTTPException):
            return False
        return True

    def get(self, path: str, **query: str) -> bytes:
        """What it says to a question."""
        url = f"http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            found: bytes = answer.read()
        return found

    def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and words of its answer."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def influx(self, statement: str, database: str = "x") -> list[dict[str, Any]]:
        """The series that an InfluxQL statement gives."""
        body = urllib.parse.urlencode({"q": statement, "db": database, "epoch": "ns"}).encode()
        result = json.loads(self.post("/query", body)[1])["results"][0]
        if "error" in result:
            raise RuntimeError(result["error"])
        found: list[dict[str, Any]] = result.get("series", [])
        return found


@contextmanager
def influxdb(folder: Path, port: int, rpc_port: int) -> Iterator[HttpDatabase]:
    """InfluxDB 1.x with a database ``x``."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "influx.conf"
    file.write_text(_CONFIG.format(port=port, rpc=rpc_port, folder=folder))
    server = HttpDatabase(["influxd", "run", "-config", str(file)], port, folder)
    try:
        server.influx("CREATE DATABASE x")
        yield server
    finally:
        server.stop()


@contextmanager
def victoria_metrics(folder: Path, port: int, *more: str) -> Iterator[HttpDatabase]:
    """VictoriaMetrics, keeping everything for a century."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["victoria-metrics", f"-storageDataPath={folder / 'data'}", "-retentionPeriod=100y"]
    command += [f"-httpListenAddr=127.0.0.1:{port}", "-memory.allowedBytes=64MB", *more]
    server = HttpDatabase(command, port, folder)
    try:
        yield server
    finally:
        server.stop()


class Postgres(Database):
    """PostgreSQL; its user ``edge`` has the password ``secret`` and a database ``edge``.

    Attributes:
        url: for an upstream, without the password.
    """

    def __init__(self, command: Sequence[str], port: int, folder: Path) -> None:
        self.url = f"postgresql://edge@127.0.0.1:{port}/edge"
        super().__init__(command, port, folder)

    def is_ready(self) -> bool:
        """Whether it answers."""
        ready = [str(postgres_folder() / "pg_isready"), "-q", "-h", "127.0.0.1", "-p"]
        return subprocess.run([*ready, str(self.port)], check=False).returncode == 0

    def start(self) -> None:
        """Start it, once the processes of one that was killed have noticed and ended."""
        deadline = time.monotonic() + _READY_S
        while True:
            try:
                return super().start()
            except RuntimeError as error:
                if "still in use" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    def psql(self, statement: str, *, database: str = "edge", user: str = "edge") -> str:
        """What psql prints, without heads; several statements are one transaction."""
        command = [str(postgres_folder() / "psql"), "-qAtX", "-v", "ON_ERROR_STOP=1"]
        command += ["-h", "127.0.0.1", "-p", str(self.port), "-U", user, "-d", database]
        environment = os.environ | {"PGPASSWORD": "secret"}
        done = subprocess.run(
            command, input=statement, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout.strip()

    def as_root(self, statement: str) -> str:
        """The same, as the server's own user."""
        return self.psql(statement, database="postgres", user="postgres")

    def _end(self, number: signal.Signals) -> None:
        # Its own word for "at once": SIGTERM waits for whoever is connected.
        super()._end(signal.SIGINT if number == signal.SIGTERM else number)


def postgres_folder() -> Path:
    """Where Debian keeps the newest PostgreSQL's programs; a folder that is not there without."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return found[-1] if found else Path("/usr/lib/postgresql/none/bin")


@contextmanager
def postgresql(port: int, *settings: str, sync: bool = False) -> Iterator[Postgres]:
    """PostgreSQL with ``settings`` (``NAME=VALUE``); durable against power cuts with ``sync``.

    Its folder is where other users may pass: root may not run it.
    """
    with tempfile.TemporaryDirectory(prefix="edge-agent-pg-", dir="/var/tmp") as name:
        folder, before = Path(name), list[str]()
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
            # It becomes what it starts, whose id is then the server's.
            before = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}"]
            before.append("--clear-groups")
        data = _made(folder / "pg", before, sync=sync)
        given = [f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories="]
        given += ["shared_buffers=64MB", f"fsync={'on' if sync else 'off'}", *settings]
        options = [part for one in given for part in ("-c", one)]
        command = [*before, str(postgres_folder() / "postgres"), "-D", str(data), *options]
        server = Postgres(command, port, folder)
        try:
            server.as_root("CREATE ROLE edge LOGIN PASSWORD 'secret'")
            server.as_root("CREATE DATABASE edge OWNER edge")
            yield server
        finally:
            server.stop()


def _made(data: Path, before: Sequence[str], *, sync: bool) -> Path:
    initdb = [str(postgres_folder() / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust"]
    initdb += ["-E", "UTF8", "--locale=C.UTF-8", *([] if sync else ["--no-sync"])]
    made = subprocess.run([*before, *initdb], capture_output=True, text=True, check=False)
    if made.returncode:
        raise RuntimeError(f"initdb: {made.stderr[-2000:]}")
    with (data / "pg_hba.conf").open("r+") as file:
        file.write(
            "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        )
        file.truncate()
    return data
