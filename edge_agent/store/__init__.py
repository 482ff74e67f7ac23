"""The store keeps what is acknowledged, in one LMDB file. This text is its specification.

Promise
-------
When `Engine.commit` returns, every entry that it answered with `Stored` survives a power cut:
its records, its source's next number, consumers' positions and quarantine, all together. An entry
answered with `StoreFull` left nothing. After a power cut at any moment the store opens by itself
and holds a prefix, commit by commit, of what was committed, and all of what was answered.
Assumed: a sector of 512 bytes is written whole, and the card does not lie about flushes. A file
that is damaged all the same is set aside and salvaged; never does anybody have to delete one.

Files
-----
::

    PATH/lock             flock, holds the owner's pid; a second agent is refused
    PATH/store/data.mdb   LMDB 0.9 format, reserved to its full size when it is made
    PATH/store/lock.mdb   LMDB's own
    PATH/store/closed     number of the last commit when the store was closed (`close_marker.py`)
    PATH/opened-…         empty; its name is the opening that ran here last (`copy_signs.py`)
    PATH/damaged-N        stores that were set aside, the newest two
    PATH/replaced-N       stores that a person replaced by a restored one
    PATH/store.rebuilding, .rebuilt, .replaced, .restored  compaction, erasing, restoring:
                          see `replace.py`
    PATH/store.new, .salvaging, .salvaged     steps that a power cut interrupted; tidied at start

A store is built in ``store.new``, synced and renamed; a salvaged one replaces its predecessor
only when it is complete. LMDB runs with its default flags: a commit is data pages, fdatasync, one
synced meta page. ``lib_version=0``; one environment, once per process, never after a fork, never
on a network file system.

Keys
----
One database; all integers big-endian. Values are msgpack arrays, except blocks, each followed by
the CRC-32 of its key and the array (`values.py`). An array may grow at its end.

======================== =====================================================================
``00``                   store: format (2 where something is sealed, else 1), store id, epoch, agent
                         id, board, created, openings, boot id of the last opening; lane, machine,
                         medium, the newest openings (id, last seq of each log), found to be a copy,
                         numbering (`identity.py`), seals: ids of the keys that are needed; the
                         epoch of what this was read back of
``00 01``                stamp: number of the transaction that wrote this tree (`stamp.py`)
``00 02``                salvage: when, why, moved to, blocks, records, missing, complete?;
                         possibly lost, all known? (absent before they were told)
``01`` name              log: id, first, last, records, bytes, trimmed, discarded; looked,
                         looked_bytes, thinned, aggregates (`thinning`; absent before it);
                         seqs that were passed over (absent before they were noted)
``02`` consumer 00 log   position: floor, state, paused, skipped, span, is the state sealed?; the
                         agent's own note of bytes written is the state of ``$wear``, a name that no
                         consumer has
``03`` source            numbering: next, last seen (ns), by a synced clock?, owner, the sender's
                         opening that sent what is before next
``04``                   quarantine: first, last, bytes, dropped, released
``04`` number u64        quarantined: code, reason, stream, source, number, arrival, body; consumer,
                         log, seq of what an upstream refused (absent before it); or all of it
                         sealed
``05`` boot 16s agent    clock note: number, offset, boot clock, hops, needed?, noted (ns),
                         owner
``f0`` log id u8 seq u64 block: header, origin, payload (`block.py`, `payload.py`)
======================== =====================================================================

Log ids are 1 to 255, never reused; ``main`` is 1. A block's key holds the seq of its first
record. Seqs count from 1 in each log and have no holes as written. A foreign block keeps its
payload, with the names and offsets its origin gave; only its key, clocks and checksum are ours. It
goes to the log that has the name of the log it comes from, or to ``main``.

Invariants
----------
- A log's blocks cover ``first`` to ``last`` without a hole (unless salvaged), and its ``records``
  and ``bytes`` are the sums over them. `check.py` verifies this and more by its own eyes.
- A position's floor never exceeds its log's ``last`` and goes down only by ``rewind``. A person
  may pause a consumer, move its floor and forget it: an `Entry` with a `Position` whose ``order``
  says so, so that what the consumer itself said before is committed before.
- Quarantine's numbers have holes only where a person took an entry out (``released`` counts them):
  dropped, or read again, with the records that came of it, in one entry.
- A source's ``next`` goes down only by ``restart``; everything below it is durable, was left out
  by a rule, or is in quarantine.
- A source belongs to one identity (`Numbering.owner`) from the commit that first numbers it for
  one; until a person moves it, an entry of another is refused whole, but where `Binding` says that
  the owner it had gives way. Without tokens nothing changes owners (`sources.py`).
- A source's opening is that of the newest entry with a number; who resumes with another history
  than it stands for is told so (`edge_agent.session.has_forked`).
- A store that was copied takes a new epoch before it tells anything or gives a seq
  (`identity.py`).
- After every opening and reopening one marker transaction is committed before anything is told.
  Where the disk refuses it, what is stored is open for reading alone (`read_only.py`): records up
  to the last synced commit are read, no source is told its ``next``, nothing is committed, and at a
  start positions are told only of what an earlier boot wrote.
- Each write transaction puts its own number under ``00 01``. What the file's roots say counts only
  where the trees below them say the same (`meta_pages.py`), so that no flipped bit takes a commit
  back.
- Two roots that do not follow one another, or pages of commits behind both of them, are damage: the
  card did not write a root that it said it had written. What a salvage does not find is counted, as
  missing or, where nobody can tell it from what was trimmed or never acked, as possibly lost.
- LMDB opens only a file whose structure is sound (`preflight.py`): it would crash on another.
- Nothing is committed to a file that was deleted or replaced under the running agent.
- Only a log's oldest blocks are ever removed, whole. Only under ``thin-oldest`` are blocks
  replaced: adjoining ones by one that has the first one's key and covers all their seqs.
- A thinned block's records stand for all that it covers, each for itself or, as an aggregate, for
  its ``records``; so counts and records make up what was stored, but for what was discarded
  (`edge_agent.store.thinning`).
- ``looked_bytes`` is the sum over blocks up to ``looked``.
- Records that a person erases leave their places behind, as empty records of the stream ``$erased``
  (`erase.py`): no seq ever moves.
- Every block is read under its checksum; a wrong one becomes a `Gap`, and reading goes on.
- Order is seq, never time. Boot clocks rise from block to block within a boot; stored times never
  fall among the blocks that a set clock dated, unless it went back by more than a day.

Time
----
A block keeps the clocks of its commit as they were: wall clock, boot clock, boot, set or not.
Nothing stored is ever rewritten. Once a boot's wall clock is set, the difference between the two is
noted under the boot (key ``05``; ``agent`` is empty for boots of ours), in the transaction of the
next commit, and again when the clock is stepped; `timekeeper.py` says when a clock is believed.
From then on what that boot stored while its clock was not set is corrected as it is read
(`correction.py`): arrivals, ages told by sensors, stored times; never a time that a sensor's own
clock gave. A boot that was never set stays as it is. Notes of other agents come in entries
(`Entry.clocks`), and blocks that they stored first are corrected alike.

Sealing
-------
With keys (`StoreSettings.keys`, `edge_agent.seal`) the payloads of blocks, the entries of
quarantine and the states of consumers are encrypted; all else lies open. Checksums are over what
lies in the file, so that whoever checks, salvages or copies it needs no key. The header names a key
(``seals``) before anything is sealed with it, and a store that needs one which is not given is
refused with `StoreSealed` before anything is touched; it is never taken for damaged. What was
stored before a key was given, or with another, stays as it is until the store is written anew
(`tools.compact_store`).

Judging duplicates
------------------
Within the transaction, for an entry with numbers [first, next) of a source whose stored next is
``n`` (1 for a source never seen): numbers below ``n`` are left out and counted; ``first > n`` is
answered `StoreFull`, because an earlier record was refused and order must stay; ``restart`` sets
``n`` to ``first`` before. A restart that was refused holds back what the source sent behind it
until it is welcomed again (`Engine.next_of`). So commit a restart *before* telling the source its
``next``: an entry without records, ``Numbering(source, first, first, restart=True)``, needs no
room in any log. Records numbered 0 are never judged. The stored ``n`` of sources heard lately is
kept in memory, as of the last synced commit (`state.py`).

Limits
------
============================= ============== ===================================================
file                          ``size``       reserved; all logs' shares together at most 80 % of it
block, before compression     ``block_bytes`` 256 KiB, at most 1 MiB; one larger record stays whole
log                           ``share``      of ``size``, in LMDB's pages
quarantine                    2 % of size    4 KiB an entry, oldest dropped, counted
consumer's state              256 KiB        rewritten whole when it changes
sources                       10,000         forgotten when unseen for 90 days; at an identity's
                                             share its oldest unused give way, else `StoreFull`
clock notes                   256 and 2,048  boots of ours and of others, of these 256 told by one
                                             identity; the oldest forgotten
names                         500 bytes      LMDB's keys have 511
one trim transaction          256 blocks
one step of thinning          512 KiB        before compression, or 512 blocks; between two commits
one look at a start           4,096 leaves   all branch pages, 1,024 headers of blocks, 128 pages
                                             that come next (`look`)
one step of the scrub         256 KiB        in a read transaction of its own
============================= ============== ===================================================

Space: a group that would exceed a log's share first trims what all configured consumers have
acknowledged, however young. Then, under ``discard-oldest``, the oldest go, counted as discarded;
under ``thin-oldest`` only when all but the newest quarter is thinned.
Under ``refuse`` the entry is answered `StoreFull` whole. Entries are judged one by one, and only
where the group as a whole, before compression, might not fit. Age: `policy.py`.

Threads: each method is one whole transaction, begun and ended in the thread that calls it. Reads
run beside a commit; `Engine.reopen` waits for them.
"""

from edge_agent.store.clock.correction import Boot, Correction, Offsets
from edge_agent.store.commit.positions import ConsumerView
from edge_agent.store.commit.sources import (
    AGENT_PREFIX,
    FORBIDDEN_RETRY_S,
    LANE_PREFIX,
    POSTED_PREFIX,
    SourceView,
    share_of,
)
from edge_agent.store.commit.stamp import writing
from edge_agent.store.copy_signs import LookAtMedium, medium_of, nowhere
from edge_agent.store.create import (
    DATA,
    STORE,
    UNPACKING,
    damaged_folders,
    next_aside,
    open_environment,
    open_to_read,
    prepare_folder,
    rename,
    sync_folder,
    tidy,
)
from edge_agent.store.engine import Engine
from edge_agent.store.format.block import Block, Gap, filter_payload
from edge_agent.store.format.even_maps import EvenMaps, even_maps
from edge_agent.store.format.foreign import check_payload, foreign_stream, without_runs
from edge_agent.store.format.held import HeldRanges
from edge_agent.store.format.payload import (
    RunView,
    cut_payload,
    encode_runs,
    slice_indexes,
    slice_payload,
    slices_of,
    streams_of,
)
from edge_agent.store.format.record_maps import (
    LEAN_FROM_BYTES,
    array_slices,
    decode_maps,
    lean_maps,
    time_of,
)
from edge_agent.store.format.values import SalvageNote
from edge_agent.store.identity import (
    OPENINGS_MAX,
    Identity,
    board_fingerprint,
    machine_fingerprint,
    new_header,
)
from edge_agent.store.lmdb_file.pages import PageFile
from edge_agent.store.lmdb_file.preflight import (
    preflight,
    preflight_pages,
    refuse_newer,
    refuse_sealed,
)
from edge_agent.store.process_lock import LOCK, StoreLock, is_held
from edge_agent.store.read.scrub_step import DamagedBlock, ScrubStep
from edge_agent.store.read.statistics import LogStatistics, StoreStatistics
from edge_agent.store.repair.salvage import loss_in_words
from edge_agent.store.settings import SHARES_MAX, ConsumerSettings, LogSettings, StoreSettings
from edge_agent.store.types import (
    BACKLOG,
    ENTRY_BYTES,
    OLDER,
    PART_BYTES,
    QUARANTINE_BYTES_MAX,
    QUARANTINE_WEIGHT,
    RESEND,
    STATE_BYTES_MAX,
    Binding,
    CommitResult,
    Entry,
    Numbering,
    Position,
    Quarantined,
    SourceOrder,
    Stored,
    is_backlog,
    whole_consumer,
)
from edge_agent.values.record import ERASED

__all__ = [
    "AGENT_PREFIX",
    "BACKLOG",
    "DATA",
    "ENTRY_BYTES",
    "ERASED",
    "FORBIDDEN_RETRY_S",
    "LANE_PREFIX",
    "LEAN_FROM_BYTES",
    "LOCK",
    "OLDER",
    "OPENINGS_MAX",
    "PART_BYTES",
    "POSTED_PREFIX",
    "QUARANTINE_BYTES_MAX",
    "QUARANTINE_WEIGHT",
    "RESEND",
    "SHARES_MAX",
    "STATE_BYTES_MAX",
    "STORE",
    "UNPACKING",
    "Binding",
    "Block",
    "Boot",
    "CommitResult",
    "ConsumerSettings",
    "ConsumerView",
    "Correction",
    "DamagedBlock",
    "Engine",
    "Entry",
    "EvenMaps",
    "Gap",
    "HeldRanges",
    "Identity",
    "LogSettings",
    "LogStatistics",
    "LookAtMedium",
    "Numbering",
    "Offsets",
    "PageFile",
    "Position",
    "Quarantined",
    "RunView",
    "SalvageNote",
    "ScrubStep",
    "SourceOrder",
    "SourceView",
    "StoreLock",
    "StoreSettings",
    "StoreStatistics",
    "Stored",
    "array_slices",
    "board_fingerprint",
    "check_payload",
    "cut_payload",
    "damaged_folders",
    "decode_maps",
    "encode_runs",
    "even_maps",
    "filter_payload",
    "foreign_stream",
    "is_backlog",
    "is_held",
    "lean_maps",
    "loss_in_words",
    "machine_fingerprint",
    "medium_of",
    "new_header",
    "next_aside",
    "nowhere",
    "open_environment",
    "open_to_read",
    "preflight",
    "preflight_pages",
    "prepare_folder",
    "refuse_newer",
    "refuse_sealed",
    "rename",
    "share_of",
    "slice_indexes",
    "slice_payload",
    "slices_of",
    "streams_of",
    "sync_folder",
    "tidy",
    "time_of",
    "whole_consumer",
    "without_runs",
    "writing",
]
