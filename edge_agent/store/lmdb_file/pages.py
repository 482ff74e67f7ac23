"""This module reads LMDB's file page by page, without LMDB.

A damaged file makes LMDB raise SIGBUS or abort, and the agent with it. Plain reads cannot: here
every number in the file is checked before it is followed, and a damaged page costs only what
hangs below it. Used to look at a file before LMDB may, to salvage one that LMDB must not see,
and by the checker, which trusts nobody.

Layout (LMDB 0.9, native byte order): pages begin with their own number; the first two hold the
roots as of the last two commits; branch and leaf pages hold nodes behind an array of 16-bit
places; a long value lies on pages of its own behind one header. Little-endian machines only, as
are all boards this runs on.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from edge_agent.errors import StoreDamaged

_WORD = "Q" if struct.calcsize("P") == 8 else "I"
_PAGE = struct.Struct(f"={_WORD}HHHH")
_META = struct.Struct(f"=II2{_WORD}IHH5{_WORD}IHH5{_WORD}2{_WORD}")
_NODE = struct.Struct("=HHHH")
_NUMBER = struct.Struct(f"={_WORD}")
_MAGIC = 0xBEEFC0DE
_MAGIC_ALONE = struct.Struct("=I")
#: Version of the file format of all LMDB 0.9 releases.
DATA_VERSION = 1
NUMBER_BYTES = _NUMBER.size
#: The root of a tree without any page.
NOWHERE = 2 ** (8 * _NUMBER.size) - 1
#: Bytes of a meta page that mean something; they lie in one sector.
ROOT_BYTES = _PAGE.size + _META.size
#: Flags of the tree of free pages: its keys are integers. The main tree has none.
_INTEGER_KEYS = 8

BRANCH, LEAF, _OVERFLOW, _METAPAGE = 1, 2, 4, 8
_BIG = 1
#: A file system's own checksums fail, or what it keeps of a file makes no sense.
DAMAGED_ERRNOS = frozenset({errno.EBADMSG, errno.EUCLEAN})
#: Page sizes that LMDB 0.9 may use, from the operating system's.
_PAGE_SIZES = (4096, 8192, 16_384, 32_768)


@dataclass(frozen=True, slots=True)
class Tree:
    """One of the two trees of a commit: levels, pages of each kind, keys, and where it begins."""

    depth: int
    branches: int
    leaves: int
    overflows: int
    entries: int
    root: int


@dataclass(frozen=True, slots=True)
class Meta:
    """One of the two roots: as of the commit ``txn``, pages up to ``last`` are in use."""

    version: int
    map_size: int
    page_bytes: int
    free: Tree
    main: Tree
    last: int
    txn: int

    def encode(self, slot: int) -> bytes:
        """The bytes of this root in its slot, all of them as LMDB writes them."""
        free, main = self.free, self.main
        return _PAGE.pack(slot, 0, _METAPAGE, 0, 0) + _META.pack(
            *(_MAGIC, self.version, 0, self.map_size),
            *(self.page_bytes, _INTEGER_KEYS, free.depth),
            *(free.branches, free.leaves, free.overflows, free.entries, free.root),
            *(0, 0, main.depth),
            *(main.branches, main.leaves, main.overflows, main.entries, main.root),
            *(self.last, self.txn),
        )


def decode_meta(raw: bytes) -> Meta:
    """What a meta page says, believed in nothing."""
    _, version, _, map_size, *rest = _META.unpack_from(raw, _PAGE.size)
    page_bytes, _, *free = rest[:8]
    _, _, *main = rest[8:16]
    return Meta(version, map_size, page_bytes, Tree(*free), Tree(*main), rest[16], rest[17])


def empty_file(map_size: int, page_bytes: int) -> bytes:
    """A file as LMDB makes it, with pages of that size: two roots that lead nowhere. LMDB itself
    makes files only with the kernel's page size, and opens those of any.
    """
    nothing = Tree(0, 0, 0, 0, 0, NOWHERE)
    meta = Meta(DATA_VERSION, map_size, page_bytes, nothing, nothing, 1, 0)
    return b"".join(meta.encode(slot).ljust(page_bytes, b"\0") for slot in (0, 1))


@dataclass(frozen=True, slots=True)
class Node:
    """A key and where its value is: within the leaf, or on the pages from ``overflow``."""

    key: bytes
    size: int
    inline: bytes | None
    overflow: int


class PageFile:
    """An LMDB file opened for reading. Close it, or use ``with``, before LMDB opens the file."""

    def __init__(self, data: Path) -> None:
        """Raises OSError; StoreDamaged where the file system has lost what it knew of the file.
        What is wrong inside shows in ``metas`` and in walking.
        """
        try:
            self._fd = os.open(data, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in DAMAGED_ERRNOS:
                raise StoreDamaged(f"{data} cannot be opened: {error.strerror}") from error
            raise
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(self._fd)
            raise StoreDamaged(f"{data} is no plain file")
        self.size = found.st_size
        self.page_bytes = self._find_page_bytes()
        self.metas = [self._meta(number) for number in (0, 1)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    @property
    def meta(self) -> Meta:
        """The root of the newest commit whose root can be read. Raises StoreDamaged."""
        found = [meta for meta in self.metas if meta is not None]
        if not found:
            raise StoreDamaged("neither of the file's roots can be read")
        return max(found, key=lambda meta: meta.txn)

    def root_bytes(self, slot: int) -> bytes:
        """A meta page as it lies there. Raises StoreDamaged where the file is shorter."""
        return self.read(slot * self.page_bytes, ROOT_BYTES)

    def nodes(self, root: int, damaged: Callable[[str], None]) -> Iterator[Node]:
        """Every node below ``root`` in the order of keys.

        ``damaged`` is told of each page and node that cannot be used; the walk goes on beside it.
        """
        seen: set[int] = set()
        waiting = [] if root == NOWHERE else [root]
        while waiting:
            number = waiting.pop()
            if number in seen:
                damaged(f"page {number} is reached twice")
                continue
            seen.add(number)
            try:
                page, flags, places = self.tree_page(number)
            except StoreDamaged as error:
                damaged(str(error))
                continue
            if flags == BRANCH:
                waiting.extend(reversed([child_of(page, place) for place in places]))
                continue
            for place in places:
                try:
                    node = self.node(page, place)
                except StoreDamaged as error:
                    damaged(str(error))
                else:
                    yield node

    def value(self, node: Node) -> bytes:
        """A node's value. Raises StoreDamaged."""
        if node.inline is None and self.long_pages(node.overflow) < self.pages_of(node.size):
            raise StoreDamaged(f"page {node.overflow} is not the long value it should be")
        return self.bytes_of(node)

    def bytes_of(self, node: Node) -> bytes:
        """A node's value, whatever the page says before which it lies. Raises StoreDamaged."""
        if node.inline is not None:
            return node.inline
        return self.read(node.overflow * self.page_bytes + _PAGE.size, node.size)

    def long_pages(self, number: int) -> int:
        """Pages that a long value has, as the header before it says. Raises StoreDamaged."""
        own, _, flags, low, high = _PAGE.unpack(self.read(number * self.page_bytes, _PAGE.size))
        if own != number or flags != _OVERFLOW:
            raise StoreDamaged(f"page {number} is not the long value it should be")
        pages: int = low | high << 16
        return pages

    def _find_page_bytes(self) -> int:
        # The first root names the page size; where it is damaged, the second one is looked for
        # at the places where it may be.
        for page_bytes in _PAGE_SIZES:
            for number in (0, 1):
                meta = self._meta_at(number * page_bytes, number)
                if meta is not None and meta.page_bytes == page_bytes:
                    return page_bytes
        return os.sysconf("SC_PAGE_SIZE")

    def _meta(self, number: int) -> Meta | None:
        meta = self._meta_at(number * self.page_bytes, number)
        return meta if meta is not None and meta.page_bytes == self.page_bytes else None

    def _meta_at(self, place: int, expected: int) -> Meta | None:
        try:
            raw = self.read(place, ROOT_BYTES)
        except StoreDamaged:
            return None
        number, _, flags, _, _ = _PAGE.unpack_from(raw)
        (magic,) = _MAGIC_ALONE.unpack_from(raw, _PAGE.size)
        if magic != _MAGIC or number != expected or flags != _METAPAGE:
            return None
        return decode_meta(raw)

    def tree_page(self, number: int, page: bytes = b"") -> tuple[bytes, int, tuple[int, ...]]:
        """A branch or leaf page, its flags, and the places of its nodes; ``page`` where it has
        been read already. Raises StoreDamaged.
        """
        page = page or self.read(number * self.page_bytes, self.page_bytes)
        own, _, flags, lower, upper = _PAGE.unpack_from(page)
        if own != number or flags not in (BRANCH, LEAF):
            raise StoreDamaged(f"page {number} is not the page it should be")
        if not _PAGE.size <= lower <= upper <= self.page_bytes or lower % 2:
            raise StoreDamaged(f"page {number} has an impossible header")
        count = (lower - _PAGE.size) // 2
        places = struct.unpack_from(f"={count}H", page, _PAGE.size)
        if count == 0 or min(places) < upper or max(places) + _NODE.size > self.page_bytes:
            raise StoreDamaged(f"page {number} has nodes outside itself")
        return page, flags, places

    def node(self, page: bytes, place: int, *, inside: bool = True) -> Node:
        """The node at a place of a leaf page; a long value has to be ``inside`` the file.

        Raises StoreDamaged.
        """
        low, high, flags, key_bytes = _NODE.unpack_from(page, place)
        size = low | high << 16
        start = place + _NODE.size
        data = start + key_bytes
        if flags & ~_BIG or data + (_NUMBER.size if flags else size) > len(page):
            raise StoreDamaged(f"page {_PAGE.unpack_from(page)[0]} has a node that is cut short")
        key = page[start:data]
        if not flags:
            return Node(key, size, page[data : data + size], 0)
        overflow = _NUMBER.unpack_from(page, data)[0]
        if inside and (
            overflow < 2 or (overflow + self.pages_of(size)) * self.page_bytes > self.size
        ):
            raise StoreDamaged(f"key {key[:20].hex()} points outside the file")
        return Node(key, size, None, overflow)

    def pages_of(self, size: int) -> int:
        """Pages of a long value of ``size`` bytes."""
        return -(-(size + _PAGE.size) // self.page_bytes)

    def read(self, place: int, size: int) -> bytes:
        """Bytes of the file. Raises StoreDamaged where they are not there or cannot be read."""
        if place < 0 or place + size > self.size:
            raise StoreDamaged(f"the file ends before byte {place + size}")
        try:
            raw = os.pread(self._fd, size, place)
        except OSError as error:
            raise StoreDamaged(f"byte {place} cannot be read: {error.strerror}") from error
        if len(raw) != size:
            raise StoreDamaged(f"bytes {place} to {place + size} cannot be read")
        return raw


def lmdb_version(pages: PageFile, slot: int) -> int | None:
    """LMDB's own version in a meta page, None where there is none. A newer version's pages may
    have a longer header, so the magic number is looked for.
    """
    try:
        raw = pages.read(slot * pages.page_bytes, ROOT_BYTES)
    except StoreDamaged:
        return None
    at = raw.find(_MAGIC_ALONE.pack(_MAGIC), 0, 64)
    return None if at < 0 else int.from_bytes(raw[at + 4 : at + 8], "little")


def page_kind(raw: bytes, at: int) -> tuple[int, int]:
    """The own number and the flags of the page that begins ``at`` that byte."""
    number, _, flags, _, _ = _PAGE.unpack_from(raw, at)
    return number, flags


def child_of(page: bytes, place: int) -> int:
    """The page that a node of a branch page leads to."""
    low, high, flags, _ = _NODE.unpack_from(page, place)
    # A branch node has no flags; on 64-bit machines the page number goes on there.
    number: int = low | high << 16 | (flags << 32 if _WORD == "Q" else 0)
    return number
