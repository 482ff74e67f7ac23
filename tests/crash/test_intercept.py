"""The one who makes calls fail: what a process meets is what was decided."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.crash.intercept import Fail, Interceptor, Seen
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.needs("seccomp")

#: Writes four bytes, twice, and syncs; prints what came of each.
CHILD = """
import os, socket, sys
from tests.crash.intercept import install
parent = socket.socket(fileno=int(sys.argv[1]))
said = []
listener = install()
socket.send_fds(parent, [b"x"], [listener])
os.close(listener)
fd = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT)
for call in (lambda: os.pwrite(fd, b"abcd", 0), lambda: os.write(fd, b"efgh"),
             lambda: os.fdatasync(fd)):
    try:
        said.append(str(call()))
    except OSError as error:
        said.append(os.strerror(error.errno))
os.write(1, ", ".join(said).encode())
"""


def run(file: Path, fail: dict[str, Fail]) -> tuple[str, list[Seen]]:
    seen: list[Seen] = []

    def judge(call: Seen) -> Fail | None:
        seen.append(call)
        return fail.get(call.name)

    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(theirs.fileno()), str(file)],
            pass_fds=[theirs.fileno()], stdout=subprocess.PIPE,
        )  # fmt: skip
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    seer = threading.Thread(target=Interceptor(fds[0], str(file).__eq__, judge).run)
    seer.start()
    output, _ = child.communicate(timeout=PATIENCE_S)
    seer.join(PATIENCE_S)
    assert not seer.is_alive()
    return output.decode(), seen


def test_what_is_let_pass_is_done_and_was_seen_before(tmp_path: Path) -> None:
    said, seen = run(tmp_path / "file", {})
    assert said == "4, 4, None"
    assert (tmp_path / "file").read_bytes() == b"efgh"
    told = [(call.name, call.data, call.offset) for call in seen]
    assert told == [
        ("openat", b"", 0), ("pwrite64", b"abcd", 0), ("write", b"efgh", 0), ("fdatasync", b"", 0),
    ]  # fmt: skip


def test_an_error_is_met_and_nothing_is_done(tmp_path: Path) -> None:
    fail = {"pwrite64": Fail(errno.EIO), "write": Fail(errno.ENOSPC), "fdatasync": Fail(errno.EIO)}
    said, _ = run(tmp_path / "file", fail)
    assert said == "Input/output error, No space left on device, Input/output error"
    assert (tmp_path / "file").read_bytes() == b""


def test_a_short_write_has_really_written_its_part(tmp_path: Path) -> None:
    fail = {"pwrite64": Fail(errno.EIO, 4), "write": Fail(0, 2, 2)}
    said, _ = run(tmp_path / "file", fail)
    assert said == "Input/output error, 2, None"
    assert (tmp_path / "file").read_bytes() == b"efcd"
