"""Files and folders on a disk that a power cut may hit: what is surely there, what is pending.

Values only; `disk` says how a run changes them, `images` what may be left of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b

UNIT = 512
WIDE = 1 << 128
_ZEROS = bytes(UNIT)


@dataclass(slots=True, eq=False)
class Inode:
    """A file: ``live`` as the process sees it, ``durable`` as far as it is surely on the disk.

    ``print`` is a sum over the durable units, so that an image's is found by adding what differs.
    """

    number: int
    live: bytearray = field(default_factory=bytearray)
    size: int = 0
    durable: bytearray = field(default_factory=bytearray)
    durable_size: int = 0
    print: int = 0


@dataclass(slots=True, eq=False)
class Folder:
    """A folder: names to what bears them, as the process sees it and as it surely is."""

    number: int
    live: dict[str, Inode | Folder] = field(default_factory=dict)
    durable: dict[str, Inode | Folder] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Pending:
    """Something that a power cut may lose; ``number`` counts them in the order of their begins.

    ``what`` is ``unit`` (its ``index``, its ``data``), ``size`` (``index`` is the size) or
    ``entry`` (a name of a folder becomes ``target``; with ``old`` it is a rename).
    """

    number: int
    what: str
    owner: Inode | Folder
    index: int = 0
    data: bytes = b""
    print: int = 0
    name: str = ""
    old: str = ""
    target: Inode | Folder | None = None
    ended: bool = False


def unit_print(index: int, data: bytes) -> int:
    """A number for this content at this place; 0 for zeros, which is what a hole reads as."""
    if data == _ZEROS:
        return 0
    digest = blake2b(data, digest_size=16, salt=index.to_bytes(16, "big")).digest()
    return int.from_bytes(digest, "big")


def unit_of(content: bytearray, index: int) -> bytes:
    """The unit at ``index``, filled up with zeros at the end of a file."""
    data = bytes(content[index * UNIT : index * UNIT + UNIT])
    return data if len(data) == UNIT else data + bytes(UNIT - len(data))


def apply_entry(item: Pending, names: dict[str, Inode | Folder]) -> None:
    """Let what became of a name become of it in ``names``."""
    if item.old and names.get(item.old) is item.target:
        del names[item.old]
    if item.target is None:
        names.pop(item.name, None)
    else:
        names[item.name] = item.target
