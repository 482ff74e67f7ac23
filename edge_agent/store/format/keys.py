"""All keys are in one LMDB database, and their first byte tells their kinds apart.

Named databases would cost 5 KB more per commit, so everything lies in the main one. The order of
the prefixes keeps the small, often rewritten values together on the first pages, and the blocks
of the highest log id at the end, where LMDB appends without splitting pages.
"""

from __future__ import annotations

STORE = b"\x00"
#: The number of the transaction that wrote this tree: see `stamp`.
STAMP = b"\x00\x01"
#: What the last salvage saved: see `salvage`.
SALVAGED = b"\x00\x02"
LOG = b"\x01"
POSITION = b"\x02"
SOURCE = b"\x03"
QUARANTINE = b"\x04"
CLOCK = b"\x05"
BLOCK = b"\xf0"
#: First key behind all blocks.
END = b"\xf1"

#: LMDB takes keys of 511 bytes. A forwarded source's name is longer than a sensor's.
NAME_BYTES_MAX = 500


def log_key(name: str) -> bytes:
    """Where a log's header is."""
    return LOG + _name(name)


def position_key(consumer: str, log: str) -> bytes:
    """Where a consumer's position in a log is."""
    return POSITION + _name(f"{consumer}\x00{log}")


def source_key(source: str) -> bytes:
    """Where a source's numbering is."""
    # Without a call within, because this is asked for each message of a slow sensor.
    key = SOURCE + source.encode()
    return key if len(key) <= 1 + NAME_BYTES_MAX else SOURCE + _name(source)


def quarantine_key(number: int) -> bytes:
    """Where a quarantine entry is; `QUARANTINE` alone is quarantine's header."""
    return QUARANTINE + number.to_bytes(8, "big")


def clock_key(agent: str, boot_id: bytes) -> bytes:
    """Where the clock note about one boot is; ``agent`` is "" for boots of this agent."""
    return CLOCK + boot_id + _name(agent)


def clock_boot(key: bytes) -> tuple[str, bytes]:
    """The agent and the boot in a clock note's key."""
    return key[17:].decode(), key[1:17]


def block_prefix(log_id: int) -> bytes:
    """What all keys of one log's blocks begin with."""
    return BLOCK + bytes((log_id,))


def block_key(log_id: int, first: int) -> bytes:
    """Where the block is whose first record has the seq ``first``."""
    return BLOCK + bytes((log_id,)) + first.to_bytes(8, "big")


def block_first(key: bytes) -> int:
    """The seq in a block's key."""
    return int.from_bytes(key[2:], "big")


def stored_bytes(value_bytes: int, page_bytes: int) -> int:
    """What a value of ``value_bytes`` occupies in the file, as the store accounts for it.

    LMDB puts a value that is longer than half a page on pages of its own behind a 16-byte
    header. A shorter one lies in a leaf page beside its key; leaf pages are between half full
    and full, so it counts double.
    """
    if value_bytes + 24 > page_bytes // 2:
        return -(-(value_bytes + 16) // page_bytes) * page_bytes
    return 2 * (value_bytes + 24)


def _name(name: str) -> bytes:
    raw = name.encode()
    if len(raw) > NAME_BYTES_MAX:
        raise ValueError(f"a name in the store has at most {NAME_BYTES_MAX} bytes: {name[:60]}…")
    return raw
