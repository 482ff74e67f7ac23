"""Where in a store's file which bit lies, and what it means there."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from edge_agent.store.create import DATA
from edge_agent.store.lmdb_file.meta_pages import sound_roots
from edge_agent.store.lmdb_file.pages import BRANCH, ROOT_BYTES, PageFile, child_of

AREAS = ("meta pages", "branch and leaf pages", "block pages")
Bytes = tuple[int, int]
_META_FIELDS = (
    (0, "page header"), (16, "magic, version"), (24, "address, map size"), (40, "free tree"),
    (88, "main tree"), (136, "last page"), (144, "commit number"), (152, "unused"),
)  # fmt: skip
_BLOCK_FIELDS = ((0, "page header"), (16, "block header"), (82, "block payload"))


@dataclass(slots=True)
class Area:
    """Pages of one kind: all their bytes, those that tell something, and names by first byte."""

    pages: list[Bytes] = field(default_factory=list)
    telling: list[Bytes] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    _firsts: list[int] = field(default_factory=list)

    def add(self, begin: int, end: int, name: str) -> None:
        """Name some bytes; those that are not named are unused."""
        if end > begin:
            self.telling.append((begin, end))
            self.names[begin] = name

    def name(self, at: int) -> str:
        """What the byte means."""
        self._firsts = self._firsts or sorted(self.names)
        first = bisect_right(self._firsts, at) - 1
        if first < 0:
            return "unused"
        begin = self._firsts[first]
        end = dict(self.telling)[begin]
        return self.names[begin] if at < end else "unused"


def place_of(area: Area, at: int) -> str:
    """What the byte ``at`` means."""
    return area.name(at)


def areas_of(path: Path) -> dict[str, Area]:
    """All pages in use of the store in ``path``."""
    meta, tree, blocks = (Area() for _ in AREAS)
    with PageFile(path / "store" / DATA) as pages:
        size = pages.page_bytes
        for slot in (0, 1):
            meta.pages.append((slot * size, slot * size + size))
            for (begin, name), (end, _) in pairwise(_META_FIELDS):
                meta.add(slot * size + begin, slot * size + min(end, ROOT_BYTES), name)
        newest = sound_roots(pages)[0].meta
        for kind, root in (("", newest.main.root), ("free: ", newest.free.root)):
            _tree(pages, root, kind, tree, blocks)
    return dict(zip(AREAS, (meta, tree, blocks), strict=True))


def _tree(pages: PageFile, root: int, kind: str, tree: Area, blocks: Area) -> None:
    size = pages.page_bytes
    waiting = [root]
    while waiting:
        number = waiting.pop()
        page, flags, places = pages.tree_page(number)
        begin = number * size
        tree.pages.append((begin, begin + size))
        level = kind + ("branch: " if flags == BRANCH else "leaf: ")
        tree.add(begin, begin + 16, level + "page header")
        tree.add(begin + 16, begin + 16 + 2 * len(places), level + "places")
        for place in places:
            at = begin + place
            tree.add(at, at + 8, level + "node header")
            key_end = at + 8 + int.from_bytes(page[place + 6 : place + 8], "little")
            tree.add(at + 8, key_end, level + "key")
            if flags == BRANCH:
                waiting.append(child_of(page, place))
                continue
            node = pages.node(page, place)
            if node.inline is not None:
                tree.add(key_end, key_end + node.size, level + "value")
                continue
            tree.add(key_end, key_end + 8, level + "page number")
            first = node.overflow * size
            count = pages.pages_of(node.size)
            blocks.pages.append((first, first + count * size))
            ends = [*(begin for begin, _ in _BLOCK_FIELDS[1:]), 16 + node.size]
            for (offset, name), end in zip(_BLOCK_FIELDS, ends, strict=True):
                blocks.add(first + offset, first + end, name)
