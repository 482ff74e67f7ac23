"""Processes that start in a tenth of the time: forked from one that has imported everything.

``python -m edge_agent …`` needs most of a second of CPU until it does something, and nearly all of
that are imports, which are the same each time. A `Nest` is a process that has done them. What it
forks is a process like any other: it has its own output, environment, exit code and signals, and
runs the module as ``python -m`` does. `run` and `nest` use the one nest of this process.

What a test asks of the interpreter's own start (imports, ``PYTHON…`` in the environment, another
user, a wrapper such as strace) needs a new interpreter.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import io
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self, TextIO

import trio
import trio._core._run as scheduler

from edge_agent.cli import COMMANDS, module_of
from tests.crash.intercept import install
from tests.patience import PATIENCE_S

#: What a running agent has imported at the latest once it listens, forwards and answers; all
#: commands; and what is run in their place.
MODULES = (
    "edge_agent.agent",
    "edge_agent.forward.sinks.agent.sink",
    "edge_agent.forward.sinks.http.sink",
    "edge_agent.ops.port",
    *map(module_of, COMMANDS),
)
#: The longest request: arguments and an environment.
_REQUEST_BYTES = 1 << 17
#: These are read before the first line of a module runs.
_READ_AT_START = ("PYTHON", "LD_", "MALLOC_", "LC_", "LANG")


class Forked:
    """A process of a nest, in the words of `subprocess.Popen`; ``listener`` is that of `intercept`,
    -1 where its calls are not seen.
    """

    def __init__(self, pid: int, answers: socket.socket, listener: int = -1) -> None:
        self.pid, self.listener = pid, listener
        self.returncode: int | None = None
        self._answers = answers

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._ask(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """The same, once it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not, in so many seconds.
        """
        code = self._ask(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        return code

    async def ended(self) -> int:
        """The same, for tasks."""
        while (code := self.poll()) is None:
            await trio.lowlevel.wait_readable(self._answers)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, where it still runs."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Nobody will ask for its exit code; it has ended, or somebody else ends it."""
        self._answers.close()

    def _ask(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            self._answers.settimeout(timeout)
            try:
                answer = self._answers.recv(64)
            except (BlockingIOError, TimeoutError):
                return None
            assert answer, "the preloaded process is gone"
            self._answers.close()
            self.returncode = int(answer.split()[1])
        return self.returncode


class Nest:
    """The preloaded process, for as long as this context is entered; nothing outlives it. What it
    forks has ``environment`` in addition, which may hold what is read when an interpreter starts.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = dict(environment or {})
        # Messages keep their borders, so that a pid and an exit code never run into one.
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.preloaded", str(theirs.fileno())],
                cwd=Path(__file__).parent.parent, pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                env={**os.environ, **self._environment},
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, and so whatever it forked."""
        self._control.close()
        self._process.kill()
        self._process.wait()

    def fork(
        self,
        arguments: Sequence[str],
        *,
        stdin: IO[Any] | None = None,
        stdout: IO[Any] | None = None,
        stderr: IO[Any] | None = None,
        env: Mapping[str, str] | None = None,
        intercept: bool = False,
    ) -> Forked:
        """A new process that does what ``python -m`` does with these arguments. Where no file is
        given, it is /dev/null. The first one waits for all the imports: tasks call it in a thread.
        """
        given = os.environ if env is None else env
        assert _read_at_start(given) == _read_at_start(os.environ), "needs a new interpreter"
        asked = {"arguments": list(arguments), "env": {**given, **self._environment},
                 "cwd": str(Path.cwd()), "intercept": intercept}  # fmt: skip
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, Path(os.devnull).open("r+b") as nothing:
            files = (theirs, *(file or nothing for file in (stdin, stdout, stderr)))
            fds = [file.fileno() for file in files]
            socket.send_fds(self._control, [json.dumps(asked).encode()], fds)
        try:
            ours.settimeout(4 * PATIENCE_S)
            told, fds, _, _ = socket.recv_fds(ours, 64, 1)
            assert told.startswith(b"pid "), f"{told!r}, the nest: {self._process.poll()}"
        except BaseException:
            ours.close()
            raise
        for fd in fds:
            os.set_inheritable(fd, False)
        return Forked(int(told.split()[1]), ours, fds[0] if fds else -1)

    def run(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        timeout: float = 2 * PATIENCE_S,
    ) -> subprocess.CompletedProcess[str]:
        """As `fork`, to its end, with all that it has said."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
            forked = self.fork(arguments, stdout=out, stderr=errors, env=env)
            try:
                code = forked.wait(timeout)
            finally:
                forked.kill()
            for file in (out, errors):
                file.seek(0)
            return subprocess.CompletedProcess(arguments, code, out.read(), errors.read())


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {key: environment[key] for key in environment if key.startswith(_READ_AT_START)}


_own: list[Nest] = []
_making = threading.Lock()


def nest() -> Nest:
    """The nest of this process, which ends with it."""
    with _making:
        if not _own:
            _own.append(Nest())
            atexit.register(_own[0].close)
        return _own[0]


def run(
    *arguments: str, env: Mapping[str, str] | None = None, timeout: float = 2 * PATIENCE_S
) -> subprocess.CompletedProcess[str]:
    """``edge-agent ARGUMENTS`` as a process of its own, to its end."""
    return nest().run("edge_agent", *arguments, env=env, timeout=timeout)


def main() -> None:
    """The nest itself."""
    control = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who asks, and for the forks.
    for name in MODULES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    threads = len(list(Path("/proc/self/task").iterdir()))
    assert threads == 1, f"{threads} threads: what is forked would lack them, and keep their locks"
    # Returns in each fork, and what it becomes runs as the rest of this program: the interpreter
    # ends it, with all that belongs to that.
    _become(*_fork_what_is_asked_for(control))


def _fork_what_is_asked_for(control: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Returns in each fork: what it is to be, its answers' socket and its three files."""
    running: dict[int, tuple[int, int]] = {}
    parent = os.getpid()
    changes = select.poll()
    changes.register(control, select.POLLIN)
    while True:
        for fd, _ in changes.poll():
            if fd in running:
                pid, answers = running.pop(fd)
                changes.unregister(fd)
                _, status = os.waitpid(pid, 0)
                with contextlib.suppress(OSError):  # Nobody asks any more.
                    os.write(answers, b"ended %d" % os.waitstatus_to_exitcode(status))
                os.close(answers)
                os.close(fd)
                continue
            request, fds, _, _ = socket.recv_fds(control, _REQUEST_BYTES, 4)
            if not request:
                sys.exit()  # Whoever asked has ended. The kernel ends all forks.
            pid = os.fork()
            if pid == 0:
                ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
                if os.getppid() != parent:
                    os._exit(1)
                control.detach()
                return json.loads(request), fds
            for file in fds[1:]:
                os.close(file)
            watched = os.pidfd_open(pid)
            running[watched] = pid, fds[0]
            changes.register(watched, select.POLLIN)


def _become(asked: dict[str, Any], fds: list[int]) -> None:
    for number, fd in enumerate((*fds[1:], fds[0])):
        os.dup2(fd, number)
    os.closerange(4, os.sysconf("SC_OPEN_MAX"))
    answers = socket.socket(fileno=3)
    sys.stdin, sys.stdout, sys.stderr = map(_anew, (sys.stdin, sys.stdout, sys.stderr))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    time.tzset()
    scheduler._r.seed()  # Else all forks would shuffle their tasks alike.
    listeners = [install()] if asked["intercept"] else []
    # By itself, so that nothing it does can come before that, nor its end.
    socket.send_fds(answers, [b"pid %d" % os.getpid()], listeners)
    for listener in listeners:
        os.close(listener)
    answers.close()
    module, *arguments = asked["arguments"]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _anew(stream: TextIO) -> TextIO:
    """The same on whatever its descriptor leads to now, which it may have asked before."""
    assert isinstance(stream, io.TextIOWrapper)
    size = 0 if stream.write_through else -1
    return io.TextIOWrapper(
        os.fdopen(stream.fileno(), f"{stream.mode}b", size, closefd=False), stream.encoding,
        stream.errors, line_buffering=stream.line_buffering, write_through=stream.write_through,
    )  # fmt: skip


if __name__ == "__main__":
    main()
