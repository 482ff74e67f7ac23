"""Sees a process's calls before the kernel does them, and may fail one: seccomp's notifications.

strace injects errors too, but counts each thread's calls on their own, so that "the fifth" may be
several, and it cannot make a write short: it leaves the call out and only claims a result. Here one
place sees the calls of all threads in one order. What it lets pass, the kernel does itself; what it
fails, nobody does; and of a short write the first part is really written, by the same open file.

Linux only, x86-64 and ARM64, no root. `install` is called in the process that is to be seen, before
it has threads; `Interceptor` runs in a thread of an ancestor, and answers.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import select
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_MACHINES = {
    "x86_64": (0xC000003E, {
        "write": 1, "open": 2, "pwrite64": 18, "writev": 20, "fsync": 74, "fdatasync": 75,
        "ftruncate": 77, "rename": 82, "openat": 257, "renameat": 264, "fallocate": 285,
        "pwritev": 296, "renameat2": 316, "seccomp": 317, "pidfd_open": 434, "pidfd_getfd": 438,
    }),
    "aarch64": (0xC00000B7, {
        "renameat": 38, "ftruncate": 46, "fallocate": 47, "openat": 56, "write": 64, "writev": 66,
        "pwrite64": 68, "pwritev": 70, "fsync": 82, "fdatasync": 83, "renameat2": 276,
        "seccomp": 277, "pidfd_open": 434, "pidfd_getfd": 438,
    }),
}  # fmt: skip
_ARCH, NUMBERS = _MACHINES.get(platform.machine(), (0, {}))
#: Calls that are looked at, in the words of this machine.
SEEN = tuple(name for name in NUMBERS if name not in ("seccomp", "pidfd_open", "pidfd_getfd"))
_NAMES = {NUMBERS[name]: name for name in SEEN}
WRITES = ("write", "pwrite64", "writev", "pwritev")
RENAMES = ("rename", "renameat", "renameat2")
OPENS = ("open", "openat")

_RECV, _SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_ANSWER = struct.Struct("=QqiI")
_AT_FDCWD = 0xFFFFFF9C
_libc = ctypes.CDLL(None, use_errno=True)


def install() -> int:
    """From now on this process's calls in `SEEN` wait for an answer; the descriptor to give it by.

    It has to be handed to the one who answers; the calls needed for that must not be seen.
    """
    program = _program()
    code = ctypes.create_string_buffer(program)
    header = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    if _libc.prctl(38, 1, 0, 0, 0) != 0:  # PR_SET_NO_NEW_PRIVS
        raise OSError(ctypes.get_errno(), "prctl")
    # SECCOMP_SET_MODE_FILTER with SECCOMP_FILTER_FLAG_NEW_LISTENER
    listener: int = _libc.syscall(NUMBERS["seccomp"], 1, 8, ctypes.c_char_p(header))
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return listener


def _program() -> bytes:
    """A filter: calls of this architecture in `SEEN` ask, all others pass."""

    def step(code: int, yes: int, no: int, value: int) -> bytes:
        return struct.pack("=HBBI", code, yes, no, value)

    load, equal, give = 0x20, 0x15, 0x06
    numbers = [NUMBERS[name] for name in SEEN]
    lines = [step(load, 0, 0, 4), step(equal, 1, 0, _ARCH), step(give, 0, 0, 0x7FFF0000)]
    lines.append(step(load, 0, 0, 0))
    for index, number in enumerate(numbers):
        lines.append(step(equal, len(numbers) - index, 0, number))
    lines.append(step(give, 0, 0, 0x7FFF0000))
    lines.append(step(give, 0, 0, 0x7FC00000))
    return b"".join(lines)


@dataclass(frozen=True, slots=True)
class Seen:
    """A call on a file, about to be made.

    ``path`` is the file, or for a rename its old name; ``inode`` names an open file. ``data`` is
    what a write will write, ``offset`` where; ``synced`` whether the file was opened with O_DSYNC;
    ``reading`` whether an open is for reading alone.
    """

    name: str
    path: str
    inode: tuple[int, int] | None = None
    data: bytes = b""
    offset: int = 0
    synced: bool = False
    reading: bool = False


@dataclass(frozen=True, slots=True)
class Fail:
    """Answer the call with an ``errno`` or, where that is 0, with the result ``claimed``. The first
    ``written`` bytes of a write are really written, through the process's own open file.
    """

    number: int
    written: int = 0
    claimed: int = 0


class Interceptor:
    """Answers for one process until it ends. ``judge`` is told of each call on a file whose path
    ``concerns``, and says whether to let it pass (None) or how to fail it.
    """

    def __init__(
        self, listener: int, concerns: Callable[[str], bool], judge: Callable[[Seen], Fail | None]
    ) -> None:
        self._listener, self._concerns, self._judge = listener, concerns, judge

    def run(self) -> None:
        """In a thread; returns when the process has ended."""
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        try:
            while True:
                (_, events), *_ = poll.poll()
                if not events & select.POLLIN:
                    return
                self._one()
        finally:
            # Whatever still waits is answered ENOSYS by the kernel, so that nothing hangs.
            os.close(self._listener)

    def _one(self) -> None:
        buffer = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(self._listener, _RECV, buffer)
        except OSError:
            return  # It was killed meanwhile.
        number, pid, _, call, _, _, *arguments = _NOTIFICATION.unpack(buffer)
        value, error, flags = 0, 0, _CONTINUE
        try:
            seen = _look(pid, _NAMES[call], arguments, self._concerns)
            verdict = None if seen is None else self._judge(seen)
            if seen is not None and verdict is not None:
                flags, error = 0, -verdict.number
                value = 0 if error else verdict.claimed
                if verdict.written:
                    _write_part(pid, seen, arguments[0], verdict.written)
        except OSError as failure:
            if failure.errno not in (errno.ESRCH, errno.ENOENT, errno.EBADF):
                raise
        try:
            fcntl.ioctl(self._listener, _SEND, _ANSWER.pack(number, value, error, flags))
        except OSError:
            pass  # It was killed meanwhile.


def _look(
    pid: int, name: str, arguments: list[int], concerns: Callable[[str], bool]
) -> Seen | None:
    if name in OPENS or name in RENAMES:
        at = name not in ("open", "rename")
        path = _path(pid, arguments[0] if at else _AT_FDCWD, arguments[1 if at else 0])
        reading = name in OPENS and arguments[2 if at else 1] & os.O_ACCMODE == os.O_RDONLY
        return Seen(name, path, reading=reading) if concerns(path) else None
    fd = arguments[0] & 0xFFFFFFFF
    path = str(Path(f"/proc/{pid}/fd/{fd}").readlink())
    if not concerns(path):
        return None
    status = Path(f"/proc/{pid}/fd/{fd}").stat()
    inode = (status.st_dev, status.st_ino)
    if name not in WRITES:
        return Seen(name, path, inode)
    info = dict(
        line.split(":", 1)
        for line in Path(f"/proc/{pid}/fdinfo/{fd}").read_text().splitlines()
        if ":" in line
    )
    synced = bool(int(info["flags"], 8) & os.O_DSYNC)
    offset = arguments[3] if name in ("pwrite64", "pwritev") else int(info["pos"])
    return Seen(name, path, inode, _written(pid, name, arguments), offset, synced)


def _written(pid: int, name: str, arguments: list[int]) -> bytes:
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        if name in ("write", "pwrite64"):
            return os.pread(memory.fileno(), arguments[2], arguments[1])
        vector = os.pread(memory.fileno(), 16 * arguments[2], arguments[1])
        pieces = struct.iter_unpack("=QQ", vector)
        return b"".join(os.pread(memory.fileno(), size, address) for address, size in pieces)


def _path(pid: int, folder: int, address: int) -> str:
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        raw = b""
        while b"\0" not in raw and len(raw) < 4096:
            # Up to the end of the page: the next one may not be there.
            raw += os.pread(memory.fileno(), 4096 - (address + len(raw)) % 4096, address + len(raw))
    path = os.fsdecode(raw.partition(b"\0")[0])
    if not path.startswith("/") and folder & 0xFFFFFFFF != _AT_FDCWD:
        path = str(Path(f"/proc/{pid}/fd/{folder}").readlink() / path)
    return path


def _write_part(pid: int, seen: Seen, fd: int, count: int) -> None:
    """Do the first part of a write for the process, through its own open file."""
    process = os.pidfd_open(_leader(pid))
    try:
        ours: int = _libc.syscall(NUMBERS["pidfd_getfd"], process, ctypes.c_int(fd), 0)
    finally:
        os.close(process)
    if ours < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    try:
        data = seen.data[:count]
        if seen.name in ("pwrite64", "pwritev"):
            os.pwrite(ours, data, seen.offset)
        else:
            os.write(ours, data)
    finally:
        os.close(ours)


def _leader(tid: int) -> int:
    """The process of a thread."""
    for line in Path(f"/proc/{tid}/status").read_text().splitlines():
        if line.startswith("Tgid:"):
            return int(line.split()[1])
    raise ProcessLookupError(errno.ESRCH, "no such thread")
