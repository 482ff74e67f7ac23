"""This module checks, page by page, that trees have exactly the structure that LMDB relies on.

LMDB trusts what it reads. A wrong size in a node makes it move memory beyond a page or return a
value beyond the map; a wrong page number makes it give back pages of others. So the check is exact
where LMDB is: the nodes of a page fill it from their lowest place to its end without a hole or an
overlap, keys are in order, and within what the branch above says of them; every page in use is
used once, and every page that is not is in a list of free ones. `Account` keeps those books.

What a flipped bit does not change by this measure, LMDB does not look at: unused bytes of a page,
and fields that only other kinds of pages use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edge_agent.errors import StoreDamaged
from edge_agent.store.format import keys
from edge_agent.store.lmdb_file.pages import (
    BRANCH,
    LEAF,
    NOWHERE,
    NUMBER_BYTES,
    PageFile,
    Tree,
    child_of,
)

#: LMDB's own cursors are no deeper.
_DEPTH_MAX = 32
_PAGE_HEAD, _NODE_HEAD = 16, 8


class Account:
    """Which pages are spoken for; each may be only once."""

    def __init__(self, last: int) -> None:
        self.last = last
        self._used = bytearray(last + 1)
        self._used[:2] = b"\1\1"
        #: Pages spoken for, without the roots'.
        self.taken = 0

    def take(self, number: int, count: int = 1) -> None:
        """Raises StoreDamaged where another has one of these pages, or it does not exist."""
        end = number + count
        if number < 2 or count < 1 or end > self.last + 1:
            raise StoreDamaged(f"page {number} does not exist in this tree")
        if self._used.find(1, number, end) >= 0:
            raise StoreDamaged(f"page {number} is used twice")
        self._used[number:end] = b"\1" * count
        self.taken += count

    @property
    def end(self) -> int:
        """The highest page that is spoken for, and one."""
        return self._used.rfind(1) + 1


@dataclass(slots=True)
class Leaf:
    """A leaf page whose structure is sound; ``longs``: key, first page and size of long values."""

    first: bytes
    last: bytes
    entries: int
    longs: list[tuple[bytes, int, int]]


@dataclass(slots=True)
class Span:
    """A leaf page by its place in the tree: its keys are at least ``low``, below the next's."""

    number: int
    low: bytes


def order_of(key: bytes) -> bytes:
    """Keys of the main tree are in the order of their bytes."""
    return key


def order_of_free(key: bytes) -> bytes:
    """Keys of the tree of free pages are integers of the machine: the order of those."""
    if key and len(key) != NUMBER_BYTES:
        raise StoreDamaged("a list of free pages has an impossible key")
    return key[::-1]


def spans(
    pages: PageFile, tree: Tree, account: Account, order: Callable[[bytes], bytes] = order_of
) -> list[Span]:
    """Every leaf page below ``tree``, in order; all branch pages are read and taken into account,
    no leaf is.

    Raises:
        StoreDamaged: a branch page is not as it should be.
    """
    found: list[Span] = []
    if tree.root == NOWHERE:
        return found
    if not 0 < tree.depth <= _DEPTH_MAX:
        raise StoreDamaged(f"a tree of {tree.depth} levels")
    waiting = [(tree.root, 1, b"")]
    while waiting:
        number, level, low = waiting.pop()
        if level == tree.depth:
            found.append(Span(number, low))
            continue
        account.take(number)
        below = branch(pages, number, low, order)
        waiting.extend((child, level + 1, begin) for begin, child in reversed(below))
    return found


def leaves_from(
    pages: PageFile, tree: Tree, key: bytes, order: Callable[[bytes], bytes] = order_of
) -> Iterator[Span]:
    """The leaf pages of ``tree`` from the one that holds ``key``, or would, in order.

    Raises:
        StoreDamaged: a branch page on the way is not as it should be.
    """
    waiting = [] if tree.root == NOWHERE else [(tree.root, 1, b"", b"")]
    while waiting:
        number, level, low, high = waiting.pop()
        if high and high <= key:
            continue
        if level == tree.depth:
            yield Span(number, low)
            continue
        below = branch(pages, number, low, order)
        ends = [*(begin for begin, _ in below[1:]), high]
        waiting.extend(
            (child, level + 1, begin, end)
            for (begin, child), end in zip(reversed(below), reversed(ends), strict=True)
        )


def branch(
    pages: PageFile, number: int, low: bytes, order: Callable[[bytes], bytes]
) -> list[tuple[bytes, int]]:
    """The pages below a branch page, each with the least key that it may hold.

    Raises StoreDamaged.
    """
    page, flags, places = pages.tree_page(number)
    if flags != BRANCH:
        raise StoreDamaged(f"page {number} is no branch, as the tree's depth says")
    below: list[tuple[bytes, int]] = []
    filled = 0
    for place in places:
        key_bytes = int.from_bytes(page[place + 6 : place + 8], "little")
        start = place + _NODE_HEAD
        key = page[start : start + key_bytes]
        filled += _NODE_HEAD + key_bytes + (key_bytes & 1)
        # The first key of a branch page is not looked at by LMDB, so it may be old.
        begin = low if not below else order(key)
        if below and begin <= below[-1][0]:
            raise StoreDamaged(f"page {number} has branches out of order")
        below.append((begin, child_of(page, place)))
    _check_filled(pages, page, number, places, filled)
    return below


def leaf(
    pages: PageFile,
    number: int,
    order: Callable[[bytes], bytes] | None = order_of,
    page: bytes = b"",
) -> Leaf:
    """A leaf page, its structure checked; ``page`` where it has been read already. Without an
    ``order`` its keys may be anything.

    Raises StoreDamaged.
    """
    page, flags, places = pages.tree_page(number, page)
    if flags != LEAF:
        raise StoreDamaged(f"page {number} is no leaf, as the tree's depth says")
    half = memoryview(page).cast("H")
    longs: list[tuple[bytes, int, int]] = []
    filled = 0
    first = previous = b""
    for place in places:
        at = place >> 1
        size, kind, key_bytes = half[at] | half[at + 1] << 16, half[at + 2], half[at + 3]
        start = place + _NODE_HEAD
        data = start + key_bytes
        key = page[start:data]
        if kind == 0:
            length = _NODE_HEAD + key_bytes + size
        elif kind == 1:
            length = _NODE_HEAD + key_bytes + NUMBER_BYTES
            longs.append((key, int.from_bytes(page[data : data + NUMBER_BYTES], "little"), size))
        else:
            raise StoreDamaged(f"page {number} has a node of a kind that is none of ours")
        filled += length + (length & 1)
        if key_bytes != 10 and key[:1] == keys.BLOCK and order is not order_of_free:
            # A length that is off by one may hide in what nodes are rounded up to.
            raise StoreDamaged(f"page {number} has a key that is no block's")
        if order is not None:
            key = order(key)
            if key <= previous:
                raise StoreDamaged(f"page {number} has keys out of order")
            first = first or key
            previous = key
    _check_filled(pages, page, number, places, filled)
    return Leaf(first, previous, len(places), longs)


Booked = Callable[[bytes, int, int], int]
"""Key, first page and size of a long value to how many pages it has. Raises StoreDamaged."""


def check_leaves(
    pages: PageFile,
    found: list[Span],
    account: Account,
    booked: Booked,
    order: Callable[[bytes], bytes] = order_of,
) -> Iterator[Leaf]:
    """Each leaf page of ``found``, neighbours in the tree, once its books are kept.

    Raises StoreDamaged.
    """
    end = b""
    for span in found:
        if end and end >= span.low:
            raise StoreDamaged(f"page {span.number} begins before the one before it ends")
        checked = leaf(pages, span.number, order)
        if checked.first < span.low:
            raise StoreDamaged(f"page {span.number} holds a key of the page before it")
        for key, number, size in checked.longs:
            account.take(number, booked(key, number, size))
        end = checked.last
        yield checked


def booked_by_header(pages: PageFile) -> Booked:
    """Reads the header before each long value. More pages than needed are possible: a state that
    is written twice in one transaction keeps the pages of the longer one.
    """

    def booked(_: bytes, number: int, size: int) -> int:
        told = pages.long_pages(number)
        if told < pages.pages_of(size):
            raise StoreDamaged(f"page {number} is not the long value it should be")
        return told

    return booked


def booked_for_blocks(pages: PageFile, heads_max: int) -> Booked:
    """As `booked_by_header`, but of blocks only the first ``heads_max`` headers are read: each is a
    page read, and a block, which is written once, has exactly the pages that it needs.
    """
    careful, read = booked_by_header(pages), 0

    def booked(key: bytes, number: int, size: int) -> int:
        nonlocal read
        if key[:1] != keys.BLOCK:
            return careful(key, number, size)
        read += 1
        need = pages.pages_of(size)
        if read <= heads_max and pages.long_pages(number) != need:
            raise StoreDamaged(f"page {number} is not the long value it should be")
        return need

    return booked


def _check_filled(
    pages: PageFile, page: bytes, number: int, places: tuple[int, ...], filled: int
) -> None:
    upper = int.from_bytes(page[14:16], "little")
    if filled != pages.page_bytes - upper or min(places) != upper or any(at & 1 for at in places):
        raise StoreDamaged(f"page {number} has nodes that overlap or leave a hole")
