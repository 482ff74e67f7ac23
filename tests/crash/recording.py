"""What a process did to its files and its connections, in one order, read from a strace log.

The log comes from ``strace -f --seccomp-bpf -qq -xx -yy -s MUCH -e trace=TRACED``: every string in
hexadecimal, so that no data can look like strace's own words, and every descriptor with its path
or its two ends. Calls overlap: each has a line at which it began and one at which it ended, and
``Op.begin`` and ``Op.end`` are places in that one order.

Nothing that touches the recorded folder may pass unseen. A call that names it and is none of those
that the model of the disk knows ends the reading with `UnknownCall`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.crash.syscalls import Call, read_calls

#: Everything that can change a file or a folder, or carry bytes over a connection. What is traced
#: and not understood is refused below, so the list is rather too long.
TRACED: Final = (
    "open,openat,openat2,creat,close,dup,dup2,dup3,fcntl,lseek,write,writev,pwrite64,pwritev,pwritev2,"
    "ftruncate,truncate,fallocate,fsync,fdatasync,sync,syncfs,sync_file_range,msync,mmap,"
    "rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,link,linkat,symlink,symlinkat,"
    "copy_file_range,sendfile,splice,sendto,sendmsg,recvfrom,recvmsg,read,readv"
)
STRACE: Final = (
    "strace", "-f", "--seccomp-bpf", "-qq", "-xx", "-yy", "-s", "1100000",
    "-e", f"trace={TRACED}",
)  # fmt: skip

_DESCRIPTOR = re.compile(r"(?P<fd>\d+|AT_FDCWD)(?:<(?P<what>[^>]*(?:->[^>]*)?)>)?")
_STRING = re.compile(r'"([^"]*)"(\.\.\.)?')
_NAME = re.compile(r"(?:\\x[0-9a-f]{2})+")
_TCP = re.compile(r"TCP(?:v6)?:\[(?P<ours>.*:\d+)->(?P<theirs>.*:\d+)\]")
_TALKS: Final = frozenset(
    ("sendto", "sendmsg", "recvfrom", "recvmsg", "write", "writev", "read", "readv")
)


class UnknownCall(Exception):
    """The process did something to its files that the model of the disk does not know."""


@dataclass(frozen=True, slots=True)
class Op:
    """One thing done. ``begin`` and ``end`` are places in the order of all.

    Attributes:
        kind: ``open``, ``write``, ``resize``, ``sync``, ``seek``, ``dup``, ``close``, ``mkdir``,
            ``rmdir``, ``unlink``, ``rename``, ``map``; ``say`` and ``hear`` for what went
            over a connection; ``mark`` for what a test wrote into the log.
        path: below the recorded folder, "" for itself; for connections, the two ends.
        other: the new path of a rename.
        fd: the descriptor of a file.
        offset: of a write, None where the file's own position counts; where a seek leads; the new
            size of a resize; the new descriptor of a dup.
        data: what was written, said or heard.
        flags: as strace names them.
    """

    begin: int
    end: int
    kind: str
    path: str
    other: str = ""
    fd: int = -1
    offset: int | None = None
    data: bytes = field(default=b"", repr=False)
    flags: str = ""


def read_ops(log: Path, root: Path, marks: Path | None = None) -> list[Op]:
    """Every operation on files below ``root`` and on TCP connections, by the order of their ends.

    What was written to the file ``marks`` becomes a ``mark``.

    Raises:
        UnknownCall: something was done below ``root`` that is not known here.
    """
    reader = _Reader(str(root), None if marks is None else str(marks))
    return list(reader.read(read_calls(log)))


class _Reader:
    def __init__(self, root: str, marks: str | None) -> None:
        self._root = root
        named = "".join(f"\\x{byte:02x}" for byte in root.encode())
        # As a descriptor's path or as a name, itself or something in it; not within data.
        self._named = re.compile(rf"[<\"]{re.escape(named)}(?:\\x2f|[>\"])")
        self._marks = marks

    def read(self, calls: Iterable[Call]) -> Iterator[Op]:
        for call in calls:
            op = self._op(call)
            if op is not None:
                yield op
            elif self._concerns_us(call):
                raise UnknownCall(f"line {call.begin}: {call.name}({call.args[:300]})")

    def _op(self, call: Call) -> Op | None:
        name, args = call.name, call.args
        if name in _TALKS and (talk := self._talk(call)) is not None:
            return talk
        if name in ("write", "writev", "pwrite64", "pwritev"):
            return self._write(call)
        if name in (
            "fsync",
            "fdatasync",
            "ftruncate",
            "fallocate",
            "close",
            "mmap",
            "lseek",
            "fcntl",
        ):
            return self._on_descriptor(call)
        if name in ("openat", "mkdirat", "unlinkat"):
            path = self._within(self._at(args))
            if path is None:
                return None
            if name == "openat":
                return Op(call.begin, call.end, "open", path, fd=call.result, flags=args)
            kind = "mkdir" if name == "mkdirat" else "unlink"
            kind = "rmdir" if "AT_REMOVEDIR" in args else kind
            return Op(call.begin, call.end, kind, path)
        if name in ("mkdir", "rmdir", "unlink", "rename"):
            paths = [self._within(_text(found)) for found in _STRING.findall(args)]
            if None in paths:
                return None
            return Op(call.begin, call.end, name, paths[0] or "", paths[-1] or "")
        return None

    def _talk(self, call: Call) -> Op | None:
        match = _TCP.search(call.args.split(">,", 1)[0])
        if match is None or call.result <= 0:
            return None
        kind = "say" if call.name.startswith(("send", "write")) else "hear"
        ends = f"{match['ours']}->{match['theirs']}"
        return Op(call.begin, call.end, kind, ends, data=_bytes(call)[: call.result])

    def _write(self, call: Call) -> Op | None:
        fd, what = _descriptor(call)
        if what == self._marks:
            return Op(call.begin, call.end, "mark", "", data=_bytes(call))
        path = self._within(what)
        if path is None:
            return None
        offset = int(call.args.rsplit(",", 1)[1]) if call.name.startswith("p") else None
        data = _bytes(call)[: call.result]
        if len(data) != call.result:
            raise UnknownCall(f"line {call.begin}: the log holds {len(data)} of {call.result}")
        return Op(call.begin, call.end, "write", path, fd=fd, offset=offset, data=data)

    def _on_descriptor(self, call: Call) -> Op | None:
        name = call.name
        found = call.args if name != "mmap" else call.args.split(",", 4)[4].strip()
        match = _DESCRIPTOR.match(found)
        if match is None or (path := self._within(_path(match["what"] or ""))) is None:
            return None
        place = (call.begin, call.end)
        fd = int(match["fd"])
        if name == "close":
            return Op(*place, "close", path, fd=fd)
        if name == "mmap":
            writes = "MAP_SHARED" in call.args and "PROT_WRITE" in call.args
            return Op(*place, "map", path, fd=fd, flags="write" if writes else "read")
        if name == "fcntl":
            copied = "F_DUPFD" in call.args
            return Op(*place, "dup", path, fd=fd, offset=call.result) if copied else None
        if name == "lseek":
            return Op(*place, "seek", path, fd=fd, offset=call.result)
        if name in ("fsync", "fdatasync"):
            return Op(*place, "sync", path, fd=fd)
        numbers = [part.strip() for part in call.args.split(",")[1:]]
        if name == "ftruncate":
            return Op(*place, "resize", path, fd=fd, offset=int(numbers[0]), flags="truncate")
        mode, begin, size = numbers
        if mode != "0":
            return None
        return Op(*place, "resize", path, fd=fd, offset=int(begin) + int(size), flags="extend")

    def _at(self, args: str) -> str:
        match = _DESCRIPTOR.match(args)
        name = _STRING.search(args)
        assert match is not None and name is not None, args[:200]
        path = bytes.fromhex(name[1].replace("\\x", "")).decode()
        return path if path.startswith("/") else f"{_path(match['what'] or '')}/{path}"

    def _within(self, path: str) -> str | None:
        if path == self._root:
            return ""
        return path[len(self._root) + 1 :] if path.startswith(self._root + "/") else None

    def _concerns_us(self, call: Call) -> bool:
        if call.name in ("read", "readv", "fcntl"):
            return False
        return call.name in ("sync", "syncfs") or self._named.search(call.args) is not None


def _descriptor(call: Call) -> tuple[int, str]:
    match = _DESCRIPTOR.match(call.args)
    assert match is not None, call.args[:200]
    return int(match["fd"]), _path(match["what"] or "")


def _path(what: str) -> str:
    """The path that strace shows behind a descriptor, which is in hexadecimal too."""
    # What strace adds to a file without a name, "(deleted)", it does not turn into hexadecimal.
    match = _NAME.match(what)
    return what if match is None else bytes.fromhex(match[0].replace("\\x", "")).decode()


def _text(found: tuple[str, str]) -> str:
    return bytes.fromhex(found[0].replace("\\x", "")).decode(errors="replace")


def _bytes(call: Call) -> bytes:
    parts = _STRING.findall(call.args)
    if any(cut for _, cut in parts):
        raise UnknownCall(f"line {call.begin}: strace has cut what was written short")
    return b"".join(bytes.fromhex(part.replace("\\x", "")) for part, _ in parts)
