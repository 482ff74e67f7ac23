"""The negative controls: the product with one promise broken, by patching it from outside.

Whoever looks for lost records and finds none has shown something only if it finds those that are
lost on purpose. The product has no switch for any of this. A control is in force where its
function was called: in the recorded agent (`patched_agent`), and in the processes that start on
the images, since a store is read by the same software that wrote it.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import lmdb
import msgspec
import trio

from edge_agent.commit.gather import PendingEntries, Ticket
from edge_agent.errors import StoreFull
from edge_agent.log import Log
from edge_agent.seal import KeyRing
from edge_agent.store import create
from edge_agent.store.commit import positions
from edge_agent.store.commit.group import Group
from edge_agent.store.commit.stamp import writing
from edge_agent.store.commit.transaction import Writer
from edge_agent.store.engine import Engine
from edge_agent.store.format import block as block_format
from edge_agent.store.format import keys
from edge_agent.store.reader import Questions
from edge_agent.store.retention.policy import Floors, HeldBlock, floors_of
from edge_agent.store.retention.trim import Trimmer
from edge_agent.store.thinning import thinner
from edge_agent.store.types import Entry, Position, Stored


def sync_off() -> None:
    """Commits return before anything is on the device."""
    _force(sync=False)


def metasync_off() -> None:
    """The data are synced, the page that makes them reachable is not."""
    _force(metasync=False)


def ack_before_commit() -> None:
    """Entries are answered when they are handed in instead of after the commit."""
    real_offer = PendingEntries.offer

    def offer(self: PendingEntries, entry: Entry, patience: float) -> Ticket | None:
        ticket = real_offer(self, entry, patience)
        if ticket is not None and entry.runs and entry.numbering is not None:
            # Soon, not now: whoever offers has yet to say who watches.
            soon = trio.lowlevel.current_trio_token().run_sync_soon
            soon(ticket.settle, Stored({}, entry.numbering.next, 0))
        return ticket

    _break(PendingEntries, "offer", offer)


def trim_early() -> None:
    """What the hub has acknowledged is trimmed at once, its position made durable some time."""
    told: dict[tuple[str, str], int] = {}
    real_acknowledge = Log.acknowledge

    async def acknowledge(self: Log, position: Position, **options: Any) -> None:
        key = (position.consumer, position.log)
        told[key] = max(told.get(key, 0), position.floor)
        await real_acknowledge(self, position, **options)

    _break(Log, "acknowledge", acknowledge)
    real_commit = Writer.commit

    def commit(self: Writer, entries: Sequence[Entry]) -> list[Stored | StoreFull]:
        for log, header in list(self._state.logs.items()):
            self._trimmer._free(log, header.bytes, discard=False)
        return real_commit(self, entries)

    _break(Writer, "commit", commit)
    _floors_from(lambda consumer, log: told.get((consumer, log), 0))


def positions_elsewhere() -> None:
    """Positions are in a file of their own, which no commit syncs."""
    folders: list[Path] = []
    real_open = Engine.open.__func__  # type: ignore[attr-defined]  # a class method is a descriptor

    def opened(kind: type[Engine], path: Path, *rest: Any, **options: Any) -> Engine:
        folders[:] = [path]
        engine: Engine = real_open(kind, path, *rest, **options)
        return engine

    def read() -> dict[str, tuple[int, bytes | None]]:
        try:
            text = (folders[0] / "positions").read_bytes().strip(b"\0")
            found: dict[str, tuple[int, bytes | None]] = msgspec.msgpack.decode(text)
        except (OSError, ValueError):
            return {}
        return found

    def put(_: object, position: Position, __: object, end: int, ___: object) -> int:
        held, state = read().get(f"{position.consumer} {position.log}", (0, None))
        floor = max(held, min(position.floor, end))
        now = {f"{position.consumer} {position.log}": (floor, position.state or state)}
        (folders[0] / "positions").write_bytes(msgspec.msgpack.encode({**read(), **now}))
        return 0

    def stored(_: Questions, consumer: str, log: str) -> tuple[int, bytes | None]:
        floor, state = read().get(f"{consumer} {log}", (0, None))
        return floor, state

    _break(Engine, "open", classmethod(opened))
    _break_everywhere(positions.put_position, put)
    _break(Questions, "position", stored)
    _floors_from(lambda consumer, log: read().get(f"{consumer} {log}", (0, None))[0])


def no_directory_sync() -> None:
    """The names of the store's files are left to chance."""
    _break_everywhere(create.sync_folder, lambda _: None)


def next_in_memory() -> None:
    """What is expected next of a source is known until the agent ends."""
    real_next_of = Questions.next_of

    def next_of(self: Questions, source: str) -> int:
        return self._state.expected.get(source) or real_next_of(self, source)

    _break(Group, "_put_sources", lambda _: None)
    _break(Questions, "next_of", next_of)


def crc_off() -> None:
    """Blocks are read whatever their checksums say."""
    real_decode = block_format.decode_block

    def decode(
        log: str, first: int, key: bytes, value: memoryview, seals: KeyRing | None = None
    ) -> block_format.Block:
        # Made right, so that all else is as it is.
        whole = bytearray(value)
        place = slice(block_format.HEADER_BYTES - 4, block_format.HEADER_BYTES)
        whole[place] = bytes(4)
        whole[place] = zlib.crc32(whole, zlib.crc32(key)).to_bytes(4, "big")
        return real_decode(log, first, key, memoryview(whole), seals)

    _break_everywhere(real_decode, decode)


def aggregate_later() -> None:
    """What gives way to aggregates is removed in one transaction, they are written in the next."""
    _thin_in_two(removed_first=True)


def removed_later() -> None:
    """Aggregates are written in one transaction, what they stand for is removed in the next."""
    _thin_in_two(removed_first=False)


def _thin_in_two(*, removed_first: bool) -> None:
    @contextmanager
    def in_two(env: lmdb.Environment) -> Iterator[Any]:
        second: list[Callable[[Any], object]] = []
        with writing(env) as txn:
            yield _TwoParts(txn, second, removed_first)
        if second:
            with writing(env) as txn:
                for change in second:
                    change(txn)

    _break(thinner, "writing", in_two)


class _TwoParts:
    """A transaction that leaves a part of what it is told to ``second``."""

    def __init__(self, txn: Any, second: list[Callable[[Any], object]], removed_first: bool):
        self._txn, self._second, self._removed_first = txn, second, removed_first

    def delete(self, key: bytes) -> None:
        if self._removed_first:
            self._txn.delete(key)
        else:
            self._second.append(lambda txn: txn.delete(key))

    def put(self, key: bytes, value: bytes) -> None:
        if self._removed_first and key.startswith(keys.BLOCK):
            self._txn.delete(key)
            self._second.append(lambda txn: txn.put(key, value))
        else:
            self._txn.put(key, value)


def _break(owner: object, name: str, broken: object) -> None:
    """Put what is broken in the place of what is right."""
    assert hasattr(owner, name), f"{owner} has no {name}: what it was is elsewhere by now"
    setattr(owner, name, broken)


def _break_everywhere(right: object, broken: object) -> None:
    """Put ``broken`` in the place of the function ``right`` in every module that calls it."""
    for name, module in list(sys.modules.items()):
        if name.startswith("edge_agent"):
            for known in [known for known, value in vars(module).items() if value is right]:
                setattr(module, known, broken)


def _force(**flags: bool) -> None:
    real = lmdb.open

    def patched(*arguments: Any, **options: Any) -> lmdb.Environment:
        return real(*arguments, **{**options, **flags})

    _break(lmdb, "open", patched)


def _floors_from(floor: Callable[[str, str], int]) -> None:
    """Let retention go by other positions, too, than those of the store."""
    real_look = Trimmer._look

    def look(self: Trimmer, log: str) -> tuple[list[HeldBlock], Floors]:
        held, floors = real_look(self, log)
        consumers = self._settings.consumers
        names = [consumer.name for consumer in consumers if consumer.log == log]
        # Without a floor a consumer has nothing, and a backlog does not exist.
        known = {name: found for name in names if (found := floor(name, log))}
        told = floors_of(log, consumers, known)
        return held, Floors(
            *(max(one or 0, two or 0) for one, two in ((floors.required, told.required),
                                                       (floors.all, told.all)))
        )  # fmt: skip

    _break(Trimmer, "_look", look)


#: Every way to break it that the explorer of power cuts has to notice.
BREAKS: Final[dict[str, Callable[[], None]]] = {
    "sync-off": sync_off,
    "metasync-off": metasync_off,
    "ack-before-commit": ack_before_commit,
    "trim-early": trim_early,
    "positions-elsewhere": positions_elsewhere,
    "no-directory-sync": no_directory_sync,
    "next-in-memory": next_in_memory,
    "crc-off": crc_off,
    "aggregate-later": aggregate_later,
    "removed-later": removed_later,
}
CONTROLS: Final[dict[str, Callable[[], None]]] = {"none": lambda: None, **BREAKS}
