"""This module finds the newest commit, whatever a flipped bit says, and mends roots.

LMDB keeps two roots: commit N writes its own into slot ``N & 1``, over that of N - 2, when its
pages are durable. Neither commit N nor what a power cut leaves of N + 1 writes over a page that
the trees of N and N - 1 use: pages that N gave back can be used again by N + 2 first. So both
trees are whole at any moment, and each says twice which commit it is: by our stamp in the main
tree (`stamp`), and by the last key of the tree of free pages, under which N put the pages that it
gave back (it always gives some back: the leaf that held the stamp before).

A root is sound if both say what it says. A number that one bit does not make right is no flip: an
old root, which the card did not write over when it said so, leads to pages that later commits have
used again. What else it says (the page size, flags, levels) is known
or can be counted. So a root of which a bit flipped is written anew, one sector, and nothing is
lost: its number by what its trees say; a page number by trying each bit, of which one alone leads
to a tree with the right number. The damage is one that cannot be mended this way where the pages
themselves are unreadable, or both roots are wrong: then the store is salvaged.

What is told in each case, for roots of commits N and N - 1:

- cut before the root of N + 1 is written: both sound, an ordinary start; N + 1 was not acked.
- any one bit of either root flipped: "mended", N stays the newest.
- N's number says N - 2, which LMDB itself writes back when writing the root of N failed: mended
  to N, whose pages are durable; it was not acked, and its entries are committed once more.
- a root torn or overwritten beyond one bit in its page numbers: damaged. Which commit it led to
  cannot be known; the salvage looks for it in all pages of the file.
- N - 3 in the place of N - 1, or N - 4 in the place of N, because the card lost writes: damaged,
  as they do not follow one another. The old one's trees may have been written over. The salvage
  looks for a newer commit than either in all pages of the file.
- both roots of another version of LMDB: too new, nothing is touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from edge_agent.errors import StoreDamaged
from edge_agent.store.commit.stamp import decode_stamp
from edge_agent.store.format import keys
from edge_agent.store.lmdb_file.pages import (
    BRANCH,
    DATA_VERSION,
    NOWHERE,
    NUMBER_BYTES,
    Meta,
    PageFile,
    Tree,
    child_of,
    decode_meta,
)

_LEVELS_MAX = 32
_EMPTY = Tree(0, 0, 0, 0, 0, NOWHERE)


@dataclass(frozen=True, slots=True)
class Root:
    """The root in one slot as it should be. ``mended``: what was wrong with it, "" if nothing.
    ``renumbered``: its number was, so that it may be an old one by its own word.
    """

    slot: int
    meta: Meta
    mended: str = ""
    renumbered: bool = False


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What the two trees of a root say: levels, and the commit that wrote them."""

    main_depth: int
    free_depth: int
    txn: int


def sound_roots(pages: PageFile) -> list[Root]:
    """Both roots, the newest first, mended where that can be.

    Raises:
        StoreDamaged: a root is not what it should be, and cannot be mended.
    """
    sound: list[Root] = []
    broken: list[int] = []
    problem = ""
    for slot in (0, 1):
        try:
            sound.append(_judged(pages, slot, decode_meta(pages.root_bytes(slot))))
        except StoreDamaged as error:
            broken.append(slot)
            problem = str(error)
    if len(broken) == 1 and sound:
        sound.append(_searched(pages, broken[0], sound[0].meta, problem))
    elif broken:
        raise StoreDamaged(f"neither of the file's roots can be read: {problem}")
    newest, older = sorted(sound, key=lambda root: -root.meta.txn)
    if newest.meta.txn > 1 and not older.meta.txn:
        raise StoreDamaged("one of the file's two roots cannot be read: it is empty")
    if newest.meta.txn != older.meta.txn + 1:
        raise StoreDamaged(
            f"the file's roots are of the commits {older.meta.txn} and {newest.meta.txn},"
            " which do not follow one another"
        )
    return [newest, older]


@dataclass(frozen=True, slots=True)
class Followed:
    """The roots of a damaged file that lead somewhere.

    Attributes:
        proven: those whose trees say which commit they are of, the newest first.
        others: what they say may long have been written over: a root that the card did not write
            in time leads to pages that later commits have used again.
        newest_known: whether the newest of them is of the newest commit.
        latest: pages of a commit behind this one show that there was a newer root all the same.
    """

    proven: list[Meta]
    others: list[Meta]
    newest_known: bool
    latest: int


def follow_roots(pages: PageFile) -> Followed:
    """Whatever roots can be followed in a damaged file.

    Only two roots that follow one another are surely the last two. Of others each may be an old one
    that a newer one should lie over, whose pages then are in no tree.
    """
    proven: list[Meta] = []
    others: list[Meta] = []
    for slot in (0, 1):
        try:
            meta = decode_meta(pages.root_bytes(slot))
        except StoreDamaged:
            continue
        try:
            proven.append(_judged(pages, slot, meta).meta)
        except StoreDamaged:
            if 2 <= meta.main.root < pages.size // pages.page_bytes:
                (proven if _is_proven(pages, slot, meta) else others).append(meta)
    renumbered = False
    try:
        sound = sound_roots(pages)
    except StoreDamaged:
        proven.sort(key=lambda meta: -meta.txn)
    else:
        proven, others = [root.meta for root in sound], []
        renumbered = any(root.renumbered for root in sound)
    follow = len(proven) == 2 and proven[0].txn == proven[1].txn + 1
    # A power cut leaves pages of one commit that was never made.
    latest = proven[0].txn + (not renumbered) if follow else 0
    return Followed(proven, others, follow, latest)


def _is_proven(pages: PageFile, slot: int, meta: Meta) -> bool:
    """Whether one tree of a root says the commit that it says itself, and the other says nothing
    else.
    """
    told: set[int] = set()
    for ask, root in ((_free_txn, meta.free.root), (_stamp, meta.main.root)):
        with suppress(StoreDamaged):
            told.add(ask(pages, root)[1])
    # A store of before there were stamps has none.
    return told - {-1} == {meta.txn} and meta.txn & 1 == slot


def _judged(pages: PageFile, slot: int, meta: Meta) -> Root:
    """The root that lies in ``slot``, its fields put right by what its trees say."""
    if pages.size < 2 * pages.page_bytes:
        # Each root has a page; one that leads nowhere looks sound in what is left of the first.
        raise StoreDamaged(f"the file ends within its roots, after {pages.size} bytes")
    evidence = _evidence(pages, slot, meta)
    renumbered = meta.txn not in (evidence.txn, evidence.txn - 2)
    # Where one bit of the number was turned, all else is right. An old root may lead to a leaf that
    # a newer commit has put in the place of its own first page, and both numbers be a bit apart.
    if renumbered and (
        (meta.txn ^ evidence.txn).bit_count() != 1
        or (meta.main.depth, meta.free.depth) != (evidence.main_depth, evidence.free_depth)
        or sum(1 for _ in pages.nodes(meta.main.root, _ignore)) != meta.main.entries
    ):
        raise StoreDamaged(
            f"root {slot} is of commit {meta.txn}, its pages of commit {evidence.txn}:"
            " it is an old one"
        )
    last_max = pages.size // pages.page_bytes - 1
    right = replace(
        meta,
        version=DATA_VERSION,
        page_bytes=pages.page_bytes,
        map_size=meta.map_size if meta.map_size % pages.page_bytes == 0 else pages.size,
        main=replace(meta.main, depth=evidence.main_depth),
        free=replace(meta.free, depth=evidence.free_depth),
        txn=evidence.txn,
        # Counted page by page where it is the newest root: see `look`.
        last=min(max(meta.last, 1), last_max),
    )
    wrong = _difference(pages.root_bytes(slot), right.encode(slot))
    mended = f"root {slot} of commit {evidence.txn}: {wrong}" if wrong else ""
    return Root(slot, right, mended, renumbered)


def _ignore(_: str) -> None:
    """What is wrong in a tree shows in the number of its entries."""


def _searched(pages: PageFile, slot: int, other: Meta, problem: str) -> Root:
    """The root in ``slot`` with the one bit turned that makes its trees agree."""
    found: list[Root] = []
    for meta in _with_one_bit_turned(decode_meta(pages.root_bytes(slot)), pages):
        try:
            root = _judged(pages, slot, meta)
        except StoreDamaged:
            continue
        if abs(root.meta.txn - other.txn) == 1:
            found.append(root)
    if len(found) != 1:
        raise StoreDamaged(f"one of the file's two roots cannot be read: {problem}")
    return replace(found[0], mended=f"root {slot} of commit {found[0].meta.txn}: a page number")


def _with_one_bit_turned(meta: Meta, pages: PageFile) -> Iterator[Meta]:
    end = pages.size // pages.page_bytes
    for bit in range(8 * NUMBER_BYTES):
        main, free = meta.main.root ^ 1 << bit, meta.free.root ^ 1 << bit
        if main < end or main == NOWHERE:
            yield replace(meta, main=replace(meta.main, root=main))
        if free < end or free == NOWHERE:
            yield replace(meta, free=replace(meta.free, root=free))


def _evidence(pages: PageFile, slot: int, meta: Meta) -> _Evidence:
    if meta.main.root == meta.free.root == NOWHERE:
        return _Evidence(0, 0, 0)
    main_depth, stamp = _stamp(pages, meta.main.root)
    free_depth, freed = _free_txn(pages, meta.free.root)
    # The first commit of all has nothing to give back. A store without stamps is one of a version
    # before them: its first commit here is stamped.
    txn = stamp if stamp >= 0 else freed
    if freed != txn and (freed, txn) != (0, 1):
        raise StoreDamaged(f"a root leads to trees of the commits {txn} and {freed}")
    if txn & 1 != slot:
        raise StoreDamaged(f"the root of commit {txn} lies where the other one should")
    return _Evidence(main_depth, free_depth, txn)


def _stamp(pages: PageFile, root: int) -> tuple[int, int]:
    """Levels of the main tree and its stamp, -1 for one without."""
    depth, page, places, number = _descend(pages, root, 0)
    for place in places[:2]:
        node = pages.node(page, place)
        if node.key == keys.STAMP:
            return depth, decode_stamp(pages.value(node))
    if pages.node(page, places[0]).key != keys.STORE:
        raise StoreDamaged(f"page {number} is not the first of a store")
    return depth, -1


def _free_txn(pages: PageFile, root: int) -> tuple[int, int]:
    """Levels of the tree of free pages, and the commit that last gave some back."""
    if root == NOWHERE:
        return 0, 0
    depth, page, places, number = _descend(pages, root, -1)
    key = pages.node(page, places[-1]).key
    if len(key) != NUMBER_BYTES:
        raise StoreDamaged(f"page {number} is not the last of the free pages")
    return depth, int.from_bytes(key, "little")


def _descend(pages: PageFile, root: int, side: int) -> tuple[int, bytes, tuple[int, ...], int]:
    """To the first leaf (``side`` 0) or the last (-1): levels, page, places of its nodes."""
    number = root
    for depth in range(1, _LEVELS_MAX):
        page, flags, places = pages.tree_page(number)
        if flags != BRANCH:
            return depth, page, places, number
        number = child_of(page, places[side])
    raise StoreDamaged("a tree without an end")


def _difference(found: bytes, right: bytes) -> str:
    """What is wrong, for people; "" where nothing that matters is."""
    # The page's pad and bounds, and the address, mean nothing here; a map's size is LMDB's to say.
    parts = {
        "page header": slice(0, 8),
        "page flags": slice(10, 12),
        "magic": slice(16, 20),
        "version": slice(20, 24),
        "size of the map": slice(32, 40),
        "free pages": slice(40, 88),
        "main tree": slice(88, 136),
        "last page": slice(136, 144),
        "number of the commit": slice(144, 152),
    }
    return ", ".join(name for name, part in parts.items() if found[part] != right[part])
