"""This module says who a store is, whose board it is on, and how a copy becomes another one.

``store_id`` names the file, ``epoch`` the meaning of the numbers in it (renewed whenever it is
made anew or salvaged), ``agent_id`` this agent towards others. The agent id is bound to the
board: a card that is copied into a second board becomes a second agent there, with an epoch of
its own, so that the two never pass for one another.

A copy on the same board (an older image put back, a folder copied beside the first) would give
numbers a second time that others know already. Once that is noticed it gets a new store id, a new
epoch, and a ``lane`` of its own, under which other agents keep its numbers apart from the
original's, which may be alive. The agent id stays, and so does the ``numbering``, the epoch that
its own sources are told: what a copy has of them is so much and no more, and who finds it behind
sends it what it lacks. It is noticed

- here, when it is opened: another machine id, or another `copy_signs` than at the opening before;
- by whoever it resumes with, from its **openings**. Each opening has a random id, and the store
  remembers the newest and where its logs ended when the next one followed. Who took records from
  us keeps the opening that sent the last of them. If that is one of ours, and did not get further
  than it did here, all that was taken comes from this very history; two histories that have parted
  have been opened separately, so that neither knows the other's opening, or, where a copy was made
  of a store in use, ends it earlier. This costs an id for each opening and nothing for a record,
  and does not depend on what a record holds: thinning, erasing, filters and trimming change
  nothing about it. Not noticed is a machine whose memory was copied too (a snapshot of a virtual
  machine that is resumed twice): no opening lies between the two.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import structs

from edge_agent.store.copy_signs import Medium
from edge_agent.store.format.values import (
    OPEN_FORMAT,
    CopyNote,
    LogHeader,
    OpeningValue,
    StoreHeader,
)

logger = logging.getLogger(__name__)

Entropy = Callable[[int], bytes]

#: The serial number of a Raspberry Pi and most other boards; else the installation's id.
_MACHINE_ID = Path("/etc/machine-id")
_SOURCES = (Path("/proc/device-tree/serial-number"), _MACHINE_ID)
#: Openings that are remembered. Who has not heard of us for longer is told where we think it is,
#: and if that is where it is, nothing is in doubt.
OPENINGS_MAX = 32


@dataclass(frozen=True, slots=True)
class Identity:
    """Hex ids: ``store_id`` of 32 characters, ``epoch`` of 16, ``agent_id`` of 12.

    ``numbering`` is the epoch of the numbers of its sources. ``lane`` is "" but for copies;
    ``opening`` is this one's id of 16 characters, ``ends`` are the ids of earlier ones, oldest
    first, with each log's last seq at its end. ``copied`` tells of the last time that this was
    found to be a copy; ``salvaged_from`` is the epoch of what it was read back of, or "".
    """

    store_id: str
    epoch: str
    agent_id: str
    created_ns: int
    numbering: str = ""
    lane: str = ""
    opening: str = field(default="", compare=False)
    ends: Mapping[str, tuple[tuple[str, int], ...]] = field(default_factory=dict, compare=False)
    copied: CopyNote | None = field(default=None, compare=False)
    salvaged_from: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Here:
    """Where a store is being opened, each "" or empty where it cannot be told.

    ``running``: the opening that this process already is, b"" at its first. ``ran``: those that
    ran in this folder last. ``wall_ns``: now.
    """

    board: str = ""
    machine: str = ""
    medium: Medium = ()
    running: bytes = b""
    ran: tuple[bytes, ...] = ()
    wall_ns: int = 0


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


def machine_fingerprint(source: Path = _MACHINE_ID) -> str:
    """The same of the installation's id alone: it differs between cards that were made apart."""
    return board_fingerprint((source,))


def new_header(
    board: str, wall_ns: int, entropy: Entropy, agent_id: str = "", lane: str = ""
) -> StoreHeader:
    """The header of a store made now; ``agent_id`` and ``lane`` where the agent is an older one."""
    return StoreHeader(
        OPEN_FORMAT,
        entropy(16).hex(),
        entropy(8).hex(),
        agent_id or entropy(6).hex(),
        board,
        wall_ns,
        0,
        lane=lane,
    )


def opened_header(
    header: StoreHeader, here: Here, entropy: Entropy, logs: Mapping[str, LogHeader] | None = None
) -> StoreHeader:
    """The header to commit at an opening; ``logs`` are as they are found."""
    opened = header.opened + 1
    if here.board and header.board and here.board != header.board:
        anew = new_header(here.board, header.created_ns, entropy)
        note = _noted(header, here.wall_ns, "it is on another board")
        header = structs.replace(anew, copied=note).with_seals(header.seals)
    elif reason := why_a_copy(header, here):
        header = as_a_copy(header, here.wall_ns, entropy, reason)
    return structs.replace(
        header,
        board=header.board or here.board,
        opened=opened,
        machine=here.machine or header.machine,
        medium=here.medium or header.medium,
        openings=_opened(header, here, entropy, logs or {}),
    )


def why_a_copy(header: StoreHeader, here: Here) -> str:
    """What shows that the store was opened elsewhere last, as a clause; "" where nothing does."""
    if header.machine and here.machine and header.machine != here.machine:
        return "the machine id is another one"
    if not is_same_medium(header.medium, here.medium):
        return "its file was copied, moved to another card, or put back"
    known = {each.id for each in header.openings}
    if known and not known.issuperset(here.ran):
        return "what ran here last is not in its file: an older one was put in its place"
    return ""


def is_same_medium(before: Medium, now: Medium) -> bool:
    """Whether nothing that can be read of both differs."""
    return all(old == new for old, new in zip(before, now, strict=False) if old and new)


def as_a_copy(header: StoreHeader, wall_ns: int, entropy: Entropy, reason: str) -> StoreHeader:
    """The header of a store that has turned out to be a copy, before its first opening as such."""
    epoch = entropy(8).hex()
    return structs.replace(
        header,
        store_id=entropy(16).hex(),
        epoch=epoch,
        numbering=header.numbering or header.epoch,
        lane=epoch[:8],
        openings=(),
        copied=_noted(header, wall_ns, reason),
    )


def salvaged_header(old: StoreHeader, made: StoreHeader, here: Here) -> StoreHeader:
    """The header ``made`` for what was read back of a store that said ``old`` of itself. Where it
    is, its new file is; but what was a copy is one, and becomes another store at others, too.
    """
    reason = why_a_copy(old, here)
    if not reason:
        known = {"machine": old.machine, "copied": old.copied}
        return structs.replace(made, salvaged_from=old.epoch, **known)
    copied = _noted(old, made.created_ns, reason)
    header = structs.replace(made, lane=made.epoch[:8], copied=copied, salvaged_from=old.epoch)
    tell_copied(header)
    return header


def identity(header: StoreHeader, logs: Mapping[str, LogHeader] | None = None) -> Identity:
    """What others are told; ``logs`` for where earlier openings ended."""
    earlier = header.openings[:-1]
    return Identity(
        header.store_id,
        header.epoch,
        header.agent_id,
        header.created_ns,
        header.numbering or header.epoch,
        header.lane,
        header.openings[-1].id.hex() if header.openings else "",
        {
            name: tuple((each.id.hex(), dict(each.last).get(log.id, 0)) for each in earlier)
            for name, log in (logs or {}).items()
        },
        header.copied,
        header.salvaged_from,
    )


def tell_copied(header: StoreHeader) -> None:
    """For the journal: ``header``, of a copy, is about to be committed."""
    assert header.copied is not None
    logger.warning(
        "this store is a copy (%s): what it holds and was not acknowledged is sent under the new"
        " epoch %s, some of it maybe for the second time",
        header.copied.reason,
        header.epoch,
    )


def _noted(header: StoreHeader, wall_ns: int, reason: str) -> CopyNote:
    times = 1 if header.copied is None else header.copied.times + 1
    return CopyNote(times, wall_ns, reason, header.epoch)


def _opened(
    header: StoreHeader, here: Here, entropy: Entropy, logs: Mapping[str, LogHeader]
) -> tuple[OpeningValue, ...]:
    openings = header.openings
    if openings and here.running == openings[-1].id:
        return openings
    if openings:
        ended = tuple((log.id, log.last) for log in logs.values())
        openings = (*openings[:-1], structs.replace(openings[-1], last=ended))
    return (*openings, OpeningValue(entropy(8)))[-OPENINGS_MAX:]
