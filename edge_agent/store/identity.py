"""Who a store is, and which board it belongs to.

``store_id`` names the file, ``epoch`` the meaning of the numbers in it (renewed whenever it is
made anew or salvaged), ``agent_id`` this agent towards others. The agent id is bound to the
board: a card that is copied into a second board becomes a second agent there, with an epoch of
its own, so that the two never pass for one another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_agent.store.values import FORMAT, StoreHeader

Entropy = Callable[[int], bytes]

#: The serial number of a Raspberry Pi and most other boards; else the installation's id.
_SOURCES = (Path("/proc/device-tree/serial-number"), Path("/etc/machine-id"))


@dataclass(frozen=True, slots=True)
class Identity:
    """Hex ids: ``store_id`` of 32 characters, ``epoch`` of 16, ``agent_id`` of 12."""

    store_id: str
    epoch: str
    agent_id: str
    created_ns: int


def board_fingerprint(sources: tuple[Path, ...] = _SOURCES) -> str:
    """16 hex characters that stay the same on one board, "" where nothing tells boards apart.

    Only what every user may read is asked, so that the answer does not depend on who runs it.
    The serial number itself is not stored.
    """
    for source in sources:
        try:
            raw = source.read_bytes().strip(b"\x00\n ")
        except OSError:
            continue
        if raw:
            return hashlib.sha256(source.name.encode() + b"\x00" + raw).hexdigest()[:16]
    return ""


def new_header(board: str, wall_ns: int, entropy: Entropy, agent_id: str = "") -> StoreHeader:
    """The header of a store made now; ``agent_id`` where the agent is an older one."""
    return StoreHeader(
        FORMAT,
        entropy(16).hex(),
        entropy(8).hex(),
        agent_id or entropy(6).hex(),
        board,
        wall_ns,
        0,
    )


def opened_header(header: StoreHeader, board: str, entropy: Entropy) -> StoreHeader:
    """The header to commit at an opening on ``board``."""
    opened = header.opened + 1
    if board and header.board and board != header.board:
        anew = new_header(board, header.created_ns, entropy)
        return StoreHeader(
            FORMAT, anew.store_id, anew.epoch, anew.agent_id, board, header.created_ns, opened
        )
    return StoreHeader(
        header.format,
        header.store_id,
        header.epoch,
        header.agent_id,
        header.board or board,
        header.created_ns,
        opened,
    )


def identity(header: StoreHeader) -> Identity:
    """What others are told."""
    return Identity(header.store_id, header.epoch, header.agent_id, header.created_ns)
