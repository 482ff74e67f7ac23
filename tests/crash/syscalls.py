"""Reads a strace log of the agent and judges whether an ack ever left before its records were safe.

The log comes from ``strace -f -s BIG -o FILE``: one line per system call, in the order in which
strace saw it begin; a call that another thread interrupted appears as ``<unfinished ...>`` and,
later, as ``<... NAME resumed>``. So every call has two places in the order, its begin and its end.

A commit of LMDB at its default flags is: data pages written through one descriptor, ``fdatasync``
of it, then 120 bytes of meta page through a second descriptor opened with ``O_DSYNC``, whose write
returns only when they are on the device. A record is *durable* at the end of such a meta write
that began after the end of an fdatasync that began after the end of the write that held it.

Records carry a token ``rec-NNNNNN`` in which N is the source's number; sources use disjoint
numbers, so that an ack's ``next`` tells by itself which records it speaks of.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

NUMBERS_PER_SOURCE = 100_000

_CALL = re.compile(r"(?P<name>\w+)\((?P<args>.*)\)\s+=\s+(?P<result>-?\d+|\?)", re.DOTALL)
#: How the line of a call ends that another thread interrupted, and how its other line begins.
_UNFINISHED = " <unfinished ...>"
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_TOKEN = re.compile(rb"rec-(\d{6})")
_ACK = re.compile(rb'"type":\s*"ack"[^}]*?"next":\s*(\d+)|"next":\s*(\d+)[^}]*?"type":\s*"ack"')


@dataclass(frozen=True, slots=True)
class Call:
    """One system call; ``begin`` and ``end`` are line numbers of the log."""

    begin: int
    end: int
    name: str
    args: str
    result: int

    @property
    def descriptor(self) -> int:
        """The first argument, for calls on a descriptor."""
        return int(self.args.split(",", 1)[0])

    def data(self) -> bytes:
        """All quoted bytes among the arguments, unescaped and joined."""
        parts = _QUOTED.findall(self.args)
        return b"".join(codecs.escape_decode(part.encode("latin-1"))[0] for part in parts)


@dataclass(slots=True)
class Verdict:
    """What the log shows. ``early`` has one sentence per number acked before it was durable."""

    acks: int = 0
    numbers_acked: int = 0
    commits: int = 0
    early: list[str] = field(default_factory=list)


def read_calls(path: Path) -> Iterator[Call]:
    """The successful calls of the log, by their end."""
    open_calls: dict[str, tuple[int, str]] = {}
    with path.open(encoding="latin-1") as lines:
        for number, line in enumerate(lines):
            # Lines are up to a megabyte long: nothing here may search them for what ends them.
            pid, _, rest = line.rstrip("\n").partition(" ")
            begin, text = number, rest.lstrip()
            if text.endswith(_UNFINISHED):
                open_calls[pid] = (number, text.removesuffix(_UNFINISHED))
                continue
            if resumed := _RESUMED.match(text):
                if pid not in open_calls:
                    continue
                begin, head = open_calls.pop(pid)
                text = head + text[resumed.end() :]
            call = _CALL.match(text)
            if call is None or call["result"] == "?" or int(call["result"]) < 0:
                continue
            yield Call(begin, number, call["name"], call["args"], int(call["result"]))


def judge(path: Path) -> Verdict:
    """Follow every record from its write to its ack."""
    calls = list(read_calls(path))
    written, syncs, metas = _disk(calls)
    verdict = Verdict(commits=len(metas))
    durable = {number: _durable_at(position, syncs, metas) for number, position in written.items()}
    acked: set[int] = set()
    for call in calls:
        if call.name not in ("sendto", "sendmsg", "write", "writev"):
            continue
        for match in _ACK.finditer(call.data()):
            verdict.acks += 1
            upto = int(match[1] or match[2])
            first = (upto // NUMBERS_PER_SOURCE) * NUMBERS_PER_SOURCE
            # A source's own first number is one above; a page that was overwritten in part may
            # still look as if it held this one.
            for number in range(first + 1, upto):
                if number in acked:
                    continue
                acked.add(number)
                safe = durable.get(number)
                if safe is None or safe >= call.begin:
                    verdict.early.append(
                        f"number {number}: acked at line {call.begin}, durable at line {safe}"
                    )
    verdict.numbers_acked = len(acked)
    return verdict


def _disk(
    calls: list[Call],
) -> tuple[dict[int, int], list[tuple[int, int]], list[tuple[int, int]]]:
    """Per number the end of the first write that holds it; the spans of syncs and meta writes."""
    data_files: set[int] = set()
    synced_files: set[int] = set()
    written: dict[int, int] = {}
    syncs: list[tuple[int, int]] = []
    metas: list[tuple[int, int]] = []
    for call in sorted(calls, key=lambda call: call.end):
        if call.name == "openat":
            data_files.discard(call.result)
            synced_files.discard(call.result)
            if "data.mdb" in call.args and "O_RDONLY" not in call.args:
                (synced_files if "O_DSYNC" in call.args else data_files).add(call.result)
        elif call.name in ("pwrite64", "pwritev", "writev", "write"):
            if call.descriptor in synced_files:
                metas.append((call.begin, call.end))
            elif call.descriptor in data_files:
                for token in _TOKEN.findall(call.data()):
                    written.setdefault(int(token), call.end)
        elif call.name in ("fdatasync", "fsync") and call.descriptor in data_files:
            syncs.append((call.begin, call.end))
    return written, syncs, metas


def _durable_at(
    written: int, syncs: list[tuple[int, int]], metas: list[tuple[int, int]]
) -> int | None:
    synced = next((end for begin, end in syncs if begin > written), None)
    if synced is None:
        return None
    return next((end for begin, end in metas if begin > synced), None)
