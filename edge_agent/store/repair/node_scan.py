"""This module finds nodes in a damaged file, from the surest place to the last resort.

1. The tree of the newest root whose trees say which commit it is of. A damaged page is mended where
   one turned bit makes its structure right again; otherwise what hangs below it is out of reach
   there.
2. The tree of the other root, as far as its pages are others: LMDB never writes over the page that
   it changes, so most of what changed lately is there in an older version.
3. Every leaf page of the file that neither has reached. Their blocks count only if their checksum
   is right under their key, and only where one is missing (`recover`): old pages hold blocks that
   were trimmed, and a power cut leaves some of a commit that never was.

The last two are asked where the first had to leave something out, or where it is not surely the
newest: small values first, which say what is missing, then blocks. Pages are not trusted to be of
the tree that leads to them: the pages of a root that the card did not replace in time have been
used again by commits that are newer. The stamp in a page says of which.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress

from edge_agent.errors import StoreDamaged
from edge_agent.store.commit.stamp import decode_stamp
from edge_agent.store.format import keys
from edge_agent.store.lmdb_file.btree import leaf
from edge_agent.store.lmdb_file.meta_pages import follow_roots
from edge_agent.store.lmdb_file.pages import (
    BRANCH,
    LEAF,
    NOWHERE,
    NUMBER_BYTES,
    Meta,
    Node,
    PageFile,
    child_of,
    page_kind,
)

logger = logging.getLogger(__name__)

#: Leaf pages that are mended bit by bit: a second of work for each where all is tried.
MENDED_MAX = 16
#: Bytes read at one time by the search through the whole file.
_SWEEP_BYTES = 1024 * 1024

Judge = Callable[[Node], bool]
"""Whether a node's value has the right checksum under its key."""


def leaf_pages(pages: PageFile, unread: Callable[[str], None]) -> Iterator[tuple[int, int]]:
    """Every leaf page of the file, also where no tree leads to it, and the commit that wrote it
    where it says so, else 0. ``unread`` is told of what cannot be read.
    """
    step = _SWEEP_BYTES // pages.page_bytes
    end = pages.size // pages.page_bytes
    for begin in range(2, end, step):
        count = min(step, end - begin)
        try:
            raw = pages.read(begin * pages.page_bytes, count * pages.page_bytes)
        except StoreDamaged as error:
            unread(str(error))
            continue
        for number in range(begin, begin + count):
            at = (number - begin) * pages.page_bytes
            if page_kind(raw, at) == (number, LEAF):
                yield number, commit_of(pages, number, raw[at : at + pages.page_bytes])


def commit_of(pages: PageFile, number: int, page: bytes = b"") -> int:
    """The commit that wrote a page, where it is the first of a tree; 0 for any other. ``page``
    where it has been read already.
    """
    try:
        page, flags, places = pages.tree_page(number, page)
    except StoreDamaged:
        return 0
    return _stamp_in(pages, page, places) if flags == LEAF else 0


def _stamp_in(pages: PageFile, page: bytes, places: tuple[int, ...]) -> int:
    for place in places[:2]:
        with suppress(StoreDamaged):
            node = pages.node(page, place, inside=False)
            if node.key == keys.STAMP and node.inline is not None:
                return decode_stamp(node.inline)
    return 0


class Finder:
    """Finds nodes in one damaged file, each page once; ``problem`` is told what is out of reach.

    Attributes:
        newest_known: whether the root of the newest commit is among those that can be followed.
        incomplete: whether something was out of reach, so that it is worth while to look elsewhere.
        unread: whether a part of the file could not even be read.
        commit: of the page that the last node came from, as its stamp says; 0 without one.
        roots: the commits whose roots are there. latest: the highest that any page tells of.
    """

    def __init__(
        self, pages: PageFile, problem: Callable[[str], None], judge: Judge, closed: int = 0
    ) -> None:
        """``closed``: the last commit when the store was closed, as far as is known."""
        self._pages = pages
        self._problem = problem
        self._judge = judge
        self._seen = bytearray(pages.size // pages.page_bytes + 1)
        self._left = MENDED_MAX
        found = follow_roots(pages)
        self._newest, self._others = found.proven[:1], found.proven[1:] + found.others
        self.roots = frozenset(meta.txn for meta in found.proven)
        self.latest = max(self.roots, default=0)
        self.newest_known = found.newest_known and closed <= self.latest
        self._latest_sound = found.latest
        self.incomplete = not self.newest_known
        self.unread = False
        self.commit = 0
        self._strays: list[int] = []
        #: Pages of which one bit was turned back.
        self._turned: dict[int, tuple[bytes, int, tuple[int, ...]]] = {}

    def newest(self) -> Iterator[Node]:
        """The nodes of the newest tree that can be followed, in the order of their keys."""
        for number, page, places in self._leaves(self._newest, is_newest=True):
            yield from self._leaf(number, page, places)

    def sweep(self) -> None:
        """Look at every leaf page that no tree has led to, for commits that no root tells of.
        Reads the whole file.
        """
        for number, commit in leaf_pages(self._pages, self._unread):
            if not self._seen[number]:
                self._strays.append(number)
                self.latest = max(self.latest, commit)
        if self.newest_known and self.latest > self._latest_sound:
            self._problem(f"a page is of commit {self.latest}, the newest root is older")
            self.newest_known = False
            self.incomplete = True

    def _unread(self, problem: str) -> None:
        self._problem(problem)
        self.unread = True

    def elsewhere(self, rested: Callable[[], None]) -> Iterator[Node]:
        """What the other tree and, after `sweep`, all other leaf pages of the file hold: the small
        values, and then the blocks. ``rested`` is called after each of the two.
        """
        # What cannot be read here was told, or nobody misses it.
        self._problem = lambda _: None
        others = [number for number, _, _ in self._leaves(self._others, is_newest=False)]
        strays = sorted(set(self._strays) - set(others))
        for blocks in (False, True):
            for number in others + strays:
                for node in self._again(number):
                    if (node.key[:1] == keys.BLOCK) == blocks:
                        yield node
            rested()

    def _again(self, number: int) -> Iterator[Node]:
        try:
            page, _, places = self._turned.get(number) or self._pages.tree_page(number)
        except StoreDamaged:
            return
        if self._seen[number]:
            yield from self._leaf(number, page, places)
        else:
            yield from self._nodes(page, places, self._problem)

    def _leaves(
        self, roots: list[Meta], *, is_newest: bool
    ) -> Iterator[tuple[int, bytes, tuple[int, ...]]]:
        """Number, page and places of the leaf pages below ``roots``."""
        waiting = [meta.main.root for meta in roots if meta.main.root != NOWHERE]
        while waiting:
            number = waiting.pop()
            if not 2 <= number < len(self._seen):
                self._out_of_reach(f"page {number} does not exist")
                continue
            if self._seen[number]:
                # The older tree shares most pages with the newest; in one tree it is damage.
                if is_newest:
                    self._out_of_reach(f"page {number} is reached twice")
                continue
            self._seen[number] = 1
            try:
                page, flags, places = self._pages.tree_page(number)
            except StoreDamaged as error:
                page, flags, places = self._mended(number) or (b"", LEAF, ())
                if not page:
                    self._seen[number] = 0
                    self._out_of_reach(str(error))
                    continue
            if flags == BRANCH:
                waiting.extend(reversed([child_of(page, place) for place in places]))
            else:
                yield number, page, places

    def _leaf(self, number: int, page: bytes, places: tuple[int, ...]) -> Iterator[Node]:
        try:
            leaf(self._pages, number, None, page)
        except StoreDamaged as error:
            mended = self._mended(number)
            if mended is None:
                self._out_of_reach(str(error))
            else:
                page, _, places = mended
        yield from self._nodes(page, places, self._out_of_reach)

    def _nodes(
        self, page: bytes, places: tuple[int, ...], problem: Callable[[str], None]
    ) -> Iterator[Node]:
        self.commit = _stamp_in(self._pages, page, places)
        for place in places:
            try:
                yield self._pages.node(page, place, inside=False)
            except StoreDamaged as error:
                problem(str(error))

    def _out_of_reach(self, problem: str) -> None:
        self.incomplete = True
        self._problem(problem)

    def _mended(self, number: int) -> tuple[bytes, int, tuple[int, ...]] | None:
        """A leaf page with the one bit turned that makes its structure right; None where none
        does. Of several, the one whose nodes pass their checksums.
        """
        try:
            page = self._pages.read(number * self._pages.page_bytes, self._pages.page_bytes)
        except StoreDamaged:
            return None
        if self._left <= 0:
            return None
        self._left -= 1
        best, found = 0, b""
        for bit in _structural_bits(page):
            turned = bytearray(page)
            turned[bit >> 3] ^= 1 << (bit & 7)
            candidate = bytes(turned)
            try:
                leaf(self._pages, number, None, candidate)
                _, _, places = self._pages.tree_page(number, candidate)
                nodes = [self._pages.node(candidate, place) for place in places]
            except StoreDamaged:
                continue
            passed = sum(map(self._judge, nodes))
            if passed > best:
                best, found = passed, candidate
            if passed == len(nodes):
                break
        if not found:
            return None
        logger.warning("page %d: one bit turned back, %d values pass", number, best)
        self._turned[number] = self._pages.tree_page(number, found)
        return self._turned[number]


def _structural_bits(page: bytes) -> Iterator[int]:
    """The bits of a page that decide its structure, the likely ones first: header, places, the
    headers of nodes that do not end where the next begins, those of all others.
    """
    yield from range(8 * 8)
    yield from range(10 * 8, 16 * 8)
    lower = int.from_bytes(page[12:14], "little")
    lower = lower if lower <= len(page) and lower % 2 == 0 else 16
    places = [int.from_bytes(page[at : at + 2], "little") for at in range(16, lower, 2)]
    inside = sorted({place for place in places if lower <= place <= len(page) - 8})
    odd = [
        place
        for place, end in zip(inside, [*inside[1:], len(page)], strict=False)
        if place + _length(page, place) != end
    ]
    for place in odd:
        yield from range(place * 8, (place + 8) * 8)
    yield from range(16 * 8, lower * 8)
    for place in inside:
        if place not in odd:
            yield from range(place * 8, (place + 8) * 8)


def _length(page: bytes, place: int) -> int:
    """Bytes of the node that begins at ``place``, as its header says."""
    low, high, flags, key = (
        int.from_bytes(page[place + at : place + at + 2], "little") for at in (0, 2, 4, 6)
    )
    length = 8 + key + (NUMBER_BYTES if flags else low | high << 16)
    return length + (length & 1)
