"""What a power cut may leave of a disk: what is surely there, and a part of what is pending."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from hashlib import blake2b

from tests.crash.inodes import UNIT, WIDE, Folder, Inode, Pending, apply_entry, unit_of, unit_print

#: LMDB maps it, nothing in it outlives the process that did: the next one begins it anew.
LOCK_FILE = "lock.mdb"


@dataclass(frozen=True, slots=True)
class Image:
    """A disk after a power cut: paths to contents and sizes, None for a folder; and its hash."""

    files: dict[str, tuple[bytes, int] | None]
    hash: bytes


def image_of(root: Folder, chosen: Collection[Pending]) -> Image:
    """The disk below ``root`` with what is surely there and, of what is pending, ``chosen``."""
    order = sorted(chosen, key=lambda item: item.number)
    folders = _folders([item for item in order if item.what == "entry"])
    files: dict[str, tuple[bytes, int] | None] = {}
    prints: list[tuple[str, int, int]] = []
    _walk(root, "", folders, order, files, prints)
    return Image(files, blake2b(repr(prints).encode(), digest_size=16).digest())


def _walk(
    folder: Folder,
    prefix: str,
    folders: dict[int, dict[str, Inode | Folder]],
    order: list[Pending],
    files: dict[str, tuple[bytes, int] | None],
    prints: list[tuple[str, int, int]],
) -> None:
    for name, target in sorted(folders.get(folder.number, folder.durable).items()):
        path = prefix + name
        if isinstance(target, Folder):
            files[path] = None
            prints.append((path, -1, -1))
            _walk(target, f"{path}/", folders, order, files, prints)
        else:
            content, size, found = _content(target, order)
            files[path] = (content, size)
            if name != LOCK_FILE:
                prints.append((path, size, found))


def _folders(order: Iterable[Pending]) -> dict[int, dict[str, Inode | Folder]]:
    found: dict[int, dict[str, Inode | Folder]] = {}
    for item in order:
        folder = item.owner
        assert isinstance(folder, Folder)
        apply_entry(item, found.setdefault(folder.number, dict(folder.durable)))
    return found


def _content(inode: Inode, order: list[Pending]) -> tuple[bytes, int, int]:
    """Bytes, size and print of a file with what was chosen of its own."""
    content, size, found = bytearray(inode.durable), inode.durable_size, inode.print
    for item in order:
        if item.owner is not inode:
            continue
        if item.what == "size":
            size = item.index
            if size == 0:
                content.clear()
                found = 0
            continue
        begin = item.index * UNIT
        if len(content) < begin + UNIT:
            content.extend(bytes(begin + UNIT - len(content)))
        before = unit_print(item.index, bytes(content[begin : begin + UNIT]))
        content[begin : begin + UNIT] = item.data
        found = (found - before + item.print) % WIDE
    if size < len(content):
        for index in range(size // UNIT, len(content) // UNIT):
            found -= unit_print(index, bytes(content[index * UNIT : index * UNIT + UNIT]))
        del content[size:]
        found += unit_print(size // UNIT, unit_of(content, size // UNIT)) if size % UNIT else 0
    return bytes(content), size, found % WIDE
