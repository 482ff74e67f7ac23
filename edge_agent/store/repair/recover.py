"""This module takes the sound values of a damaged store into the new one, each once.

A node is sound if its value has the right checksum under its key, or under a key that is one bit
away. Blocks are taken where their log has none yet: between the seq below which all has been
trimmed for sure and the last one that any header of it tells of (`log_ends`). Of other values found
twice, the one that is further counts.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import lmdb
import msgspec

from edge_agent.errors import StoreDamaged
from edge_agent.seal import is_sealed, key_id
from edge_agent.store.commit.stamp import writing
from edge_agent.store.format import keys
from edge_agent.store.format.block import VALUE_BYTES_MAX, Block, decode_block
from edge_agent.store.format.values import (
    ClockValue,
    LogHeader,
    PositionValue,
    QuarantineHeader,
    QuarantineValue,
    SourceValue,
    StoreHeader,
    checked_body,
    decode,
    with_checksum,
)
from edge_agent.store.lmdb_file.pages import Node, PageFile
from edge_agent.store.repair.log_ends import Ends, LogEnds
from edge_agent.store.settings import SHARES_MAX

#: Holes in one log that are remembered, each of which a block may fill.
_HOLES_MAX = 50_000
_END = 2**63


class Holes:
    """The seqs of one log that no block has been found for. Only from ``first`` to ``last`` is one
    looked for. ``forgotten``: seqs in holes that were too many to be remembered.
    """

    def __init__(self, first: int) -> None:
        self.first, self.last = first, _END
        self.forgotten = 0
        self._begins = [1]
        self._ends = [_END]

    def fill(self, first: int, last: int) -> bool:
        """Whether a block from ``first`` to ``last`` belongs there; then it is there."""
        at = bisect_right(self._begins, first) - 1
        if at < 0 or last > self._ends[at] or first < self.first or last > self.last:
            return False
        begin, end = self._begins[at], self._ends[at]
        rest = [(b, e) for b, e in ((begin, first - 1), (last + 1, end)) if b <= e]
        self._begins[at : at + 1] = [b for b, _ in rest]
        self._ends[at : at + 1] = [e for _, e in rest]
        if len(self._begins) > _HOLES_MAX:
            # The first of all is what was trimmed; the next one lies between blocks.
            self.forgotten += self._ends.pop(1) - self._begins.pop(1) + 1
        return True

    def lacks(self, seq: int) -> bool:
        """Whether no block has been found that holds ``seq``."""
        at = bisect_right(self._begins, seq) - 1
        return at >= 0 and self.first <= seq <= min(self._ends[at], self.last)

    def missing(self, first: int, last: int) -> int:
        """How many of the seqs from ``first`` to ``last`` are in no block."""
        pairs = zip(self._begins, self._ends, strict=True)
        return sum(max(min(e, last) - max(b, first) + 1, 0) for b, e in pairs)


#: Bytes copied in one transaction.
_COPY_BYTES = 4 * 1024 * 1024
_KINDS: dict[bytes, type[msgspec.Struct]] = {
    keys.LOG: LogHeader,
    keys.POSITION: PositionValue,
    keys.SOURCE: SourceValue,
    keys.CLOCK: ClockValue,
}


@dataclass(frozen=True, slots=True)
class Lost:
    """What was not found of a log that had seqs from ``first`` to ``last``.

    Attributes:
        missing: records that were surely stored.
        possible: records of which nobody can tell whether they are lost, or were trimmed before, or
            never acked.
    """

    first: int
    last: int
    missing: int
    possible: int


class Copy:
    """Takes nodes of a damaged file into the environment of a new one."""

    def __init__(self, env: lmdb.Environment, map_size: int) -> None:
        #: The commits whose roots are in the damaged file: see `LogEnds`.
        self.roots: frozenset[int] = frozenset()
        self.header: StoreHeader | None = None
        self.logs: dict[str, LogHeader] = {}
        #: By a log's id: what was copied of it, and what was not found.
        self.copied: dict[int, LogHeader] = {}
        self.holes: dict[int, Holes] = {}
        self.floors: dict[str, int] = {}
        self.quarantine = QuarantineHeader()
        self.blocks = self.records = 0
        self.complete = True
        #: Ids of the keys that values are sealed with.
        self.seals: set[bytes] = set()
        self._env = env
        self._room = SHARES_MAX * map_size
        self._page_bytes: int = env.stat()["psize"]
        self._held: dict[bytes, int] = {}
        self._sure: frozenset[bytes] = frozenset()
        self._elsewhere = False
        #: By a log's id: its headers, and the last seq of sound blocks behind all that they say.
        self._headers: dict[int, LogEnds] = {}
        self._behind: dict[int, int] = {}
        self._newest_known = False
        self._latest = 0
        self._quarantined = 0
        self._quarantine: range | None = None
        #: Whether entries may be missed that are newer than the header of quarantine we know.
        self._newer = False
        self._pending: list[tuple[bytes, bytes]] = []
        self._pending_bytes = 0

    def take(self, pages: PageFile, node: Node, commit: int = 0) -> None:
        """Copy one node of a page that ``commit`` wrote, 0 where that is not known. Raises
        StoreDamaged where it is not sound.
        """
        if node.key in (keys.STAMP, keys.SALVAGED):
            return
        if self._elsewhere and not self._wanted(node.key):
            if self._is_behind(node.key):
                sound(pages, node, turn=False)
                self._behind[node.key[1]] = keys.block_first(node.key)
            return
        key, value = sound(pages, node, turn=not self._elsewhere)
        if key == keys.STORE:
            self.header = self.header or decode(key, value, StoreHeader)
        elif key[:1] == keys.BLOCK:
            self._take_block(key, value)
        elif key[:1] in _KINDS or key[:1] == keys.QUARANTINE:
            self._take_small(key, value, commit)
        else:
            raise StoreDamaged(f"key {key[:20].hex()} is none of ours")

    def newest_read(self, *, newest_known: bool, latest: int) -> None:
        """All that was taken so far is of the newest tree that could be followed, which is surely
        that of the newest commit with ``newest_known``. ``latest``: see `LogEnds`.
        """
        self._newest_known = newest_known
        self._latest = latest
        if newest_known:
            for log in self.logs.values():
                self._headers[log.id].newest = (log.first, log.last)

    def look_elsewhere(self) -> None:
        """From now on nodes come from where old ones lie among those that are missed. With the
        newest root known, what its tree holds is sure, and others do not take its place.
        """
        self._elsewhere = True
        self._newer = not self._newest_known or self._quarantine is None
        self.bound()
        if self._newest_known:
            self._sure = frozenset(self._held)

    def bound(self) -> None:
        """Let old blocks fill holes only where a log had any: what is below was trimmed, what is
        above was never committed.
        """
        for log in self.logs.values():
            ends = self.ends(log.id)
            holes = self.holes.setdefault(log.id, Holes(ends.low))
            holes.first = ends.low
            holes.last = ends.sure if self._newest_known else ends.last
        for log_id in self.holes.keys() - {log.id for log in self.logs.values()}:
            if log_id in self.copied:
                self.holes[log_id].first = 1

    def ends(self, log_id: int) -> Ends:
        """Where a log begins and ends, as far as its headers say."""
        headers = self._headers.get(log_id) or LogEnds()
        return headers.ends(self._latest, self.roots)

    def _is_behind(self, key: bytes) -> bool:
        """Whether a block lies behind all that is known of its log, though the newest commit is
        not known.
        """
        if self._newest_known or len(key) != 10 or key[:1] != keys.BLOCK:
            return False
        holes = self.holes.get(key[1])
        first = keys.block_first(key)
        return holes is not None and first > max(holes.last, self._behind.get(key[1], 0))

    def _wanted(self, key: bytes) -> bool:
        if key[:1] == keys.LOG:
            return True
        if key == keys.QUARANTINE:
            return self._quarantine is None
        if key[:1] == keys.QUARANTINE:
            # Older entries were dropped or taken out: the header says which may be missed; without
            # it only those of a commit that was missed, which are newer.
            if self._quarantine is not None:
                return key not in self._held
            return int.from_bytes(key[1:], "big") > self._quarantined
        if key[:1] != keys.BLOCK:
            return key not in self._sure
        holes = self.holes.get(key[1]) if len(key) == 10 else None
        return holes is None or holes.lacks(keys.block_first(key))

    def write(self) -> None:
        """Commit what has been taken."""
        if not self._pending:
            return
        with writing(self._env) as txn:
            for key, value in self._pending:
                txn.put(key, value)
        self._pending.clear()
        self._pending_bytes = 0

    def lost(self, name: str, log: LogHeader) -> Lost:
        """What was not found of a log."""
        ends, copied = self.ends(log.id), self.copied.get(log.id, LogHeader(log.id))
        holes = self.holes.get(log.id) or Holes(1)
        # What a consumer has acknowledged was committed.
        sure = max(ends.sure, 0 if self._newest_known else self.floors.get(name, 0))
        last = max(sure, ends.last, copied.last, self._behind.get(log.id, 0))
        first = ends.first
        if not ends.last:
            # Without any header nobody knows how much was trimmed.
            sure = max(sure, copied.last)
            first = copied.first if copied.records else sure + 1
        given = partial(_given, holes, log.passed)
        missing = given(first, sure) + holes.forgotten
        possible = given(ends.low, first - 1) + given(sure + 1, last)
        return Lost(min(ends.low, first), last, missing, possible)

    def any_missing(self) -> bool:
        """Whether a log's header tells of records that have not been found."""
        return any(self.lost(name, log).missing for name, log in self.logs.items())

    def _take_small(self, key: bytes, value: bytes, commit: int) -> None:
        if key == keys.QUARANTINE:
            header = decode(key, value, QuarantineHeader)
            self._quarantine = self._quarantine or range(header.first, header.last + 1)
            return
        if key[:1] == keys.QUARANTINE:
            self._take_entry(key, value)
            return
        found = decode(key, value, _KINDS[key[:1]])
        further = 0
        if isinstance(found, LogHeader):
            name = key[1:].decode()
            self._headers.setdefault(found.id, LogEnds()).see(commit, found.first, found.last)
            if commit in self.roots:
                # A page number with a bit turned may lead to an old page, with blocks that this
                # commit, which was made, had trimmed. Headers come before blocks in each tree.
                holes = self.holes.setdefault(found.id, Holes(1))
                holes.first = max(holes.first, found.first)
            held = self.logs.get(name)
            further = held is None or (held.last, held.first) < (found.last, found.first)
            if further and self._headers[found.id].newest is None:
                self.logs[name] = found
            return
        if isinstance(found, PositionValue):
            further = found.floor
            if found.state is not None and found.sealed:
                self.seals.add(key_id(found.state))
            log = key[1:].decode().rpartition("\x00")[2]
            self.floors[log] = max(self.floors.get(log, 0), further)
        elif isinstance(found, SourceValue):
            further = found.next
        elif isinstance(found, ClockValue):
            further = found.boot_ns
        if self._held.get(key, -1) >= further:
            return
        self._held[key] = further
        self._put(key, value)

    def _take_entry(self, key: bytes, value: bytes) -> None:
        body = bytes(checked_body(key, value))
        if is_sealed(body):
            self.seals.add(key_id(body))
        else:
            decode(key, value, QuarantineValue)
        old, known = int.from_bytes(key[1:], "big"), self._quarantine
        if key in self._held:
            return
        if known and old not in known and not (self._newer and old >= known.stop):
            return  # An old page has what was dropped long ago.
        # Without a hole, whatever is missing: that is how its header counts.
        self._held[key] = 0
        self._quarantined = max(self._quarantined, old)
        number = self.quarantine.last + 1 if self.quarantine.last else old
        if not self.quarantine.last:
            self.quarantine = QuarantineHeader(number, number)
        key = keys.quarantine_key(number)
        value = with_checksum(key, body)
        size = self.quarantine.bytes + keys.stored_bytes(len(value), self._page_bytes)
        self.quarantine = QuarantineHeader(self.quarantine.first, number, size)
        self._put(key, value)

    def _take_block(self, key: bytes, value: bytes) -> None:
        log_id = key[1]
        block = _block(key, value)
        if log_id not in self.holes:
            self.holes[log_id] = Holes(1)
        size = keys.stored_bytes(len(value), self._page_bytes)
        if size > self._room:
            self.complete = False
            return
        if not self.holes[log_id].fill(block.first, block.last):
            raise StoreDamaged(f"block {block.first} of log #{log_id} overlaps another, or is old")
        self._room -= size
        held = self.copied.get(log_id) or LogHeader(log_id, block.first)
        self.copied[log_id] = LogHeader(
            log_id,
            min(held.first, block.first),
            max(held.last, block.last),
            held.records + block.count,
            held.bytes + size,
        )
        if block.sealed:
            self.seals.add(key_id(block.payload))
        self.blocks += 1
        self.records += block.count
        self._put(key, value)

    def _put(self, key: bytes, value: bytes) -> None:
        self._pending.append((key, value))
        self._pending_bytes += len(value)
        if self._pending_bytes >= _COPY_BYTES:
            self.write()


def _given(holes: Holes, passed: Sequence[tuple[int, int]], first: int, last: int) -> int:
    """How many of the seqs from ``first`` to ``last`` were given, and are in no block."""
    never = sum(max(min(end, last) - max(begin, first) + 1, 0) for begin, end in passed)
    return max(holes.missing(first, last) - never, 0)


def sound(pages: PageFile, node: Node, *, turn: bool = True) -> tuple[bytes, bytes]:
    """Key and value of a node; with ``turn``, a bit that flipped in the key, or in what leads to
    the value, is turned back.

    Raises StoreDamaged.
    """
    for near in (node, *(_one_bit_away(pages, node) if turn else ())):
        with suppress(StoreDamaged):
            return _checked(near.key, pages.bytes_of(near))
    if turn:
        value = pages.bytes_of(node)
        for key in _keys_one_bit_away(node.key):
            with suppress(StoreDamaged):
                return _checked(key, value)
    what = "block " + str(keys.block_first(node.key)) if node.key[:1] == keys.BLOCK else "key"
    raise StoreDamaged(f"{what} {node.key[:20].hex()} fails its checksum")


def _checked(key: bytes, value: bytes) -> tuple[bytes, bytes]:
    if key[:1] == keys.BLOCK:
        _block(key, value)
    else:
        checked_body(key, value)
    return key, value


def is_sound(pages: PageFile, node: Node) -> bool:
    """Whether a node's value has the right checksum."""
    try:
        sound(pages, node, turn=False)
    except StoreDamaged:
        return False
    return True


def _block(key: bytes, value: bytes) -> Block:
    if len(key) != 10 or key[1] == 0:
        raise StoreDamaged(f"key {key.hex()} is no block's")
    first = keys.block_first(key)
    return decode_block(f"#{key[1]}", first, key, memoryview(value))


def _keys_one_bit_away(key: bytes) -> Iterator[bytes]:
    for bit in range(8 * len(key)):
        turned = bytearray(key)
        turned[bit >> 3] ^= 1 << (bit & 7)
        yield bytes(turned)


def _one_bit_away(pages: PageFile, node: Node) -> Iterator[Node]:
    """Nodes with another page number, or another size, for a value that lies elsewhere."""
    if node.inline is not None:
        return
    for bit in range(64):
        number, size = node.overflow ^ 1 << bit, node.size ^ 1 << bit
        if 2 <= number < pages.size // pages.page_bytes:
            yield Node(node.key, node.size, None, number)
        if size < VALUE_BYTES_MAX:
            yield Node(node.key, size, None, node.overflow)
