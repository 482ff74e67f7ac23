"""One tree of exceptions, sorted by what the caller can do.

::

    EdgeAgentError
    ├── ConfigError         fix the file; names the key                         exit code 78
    ├── ForeignFile         another file; it is not what an upstream wrote          exit code 65
    ├── NotColumnar         install pyarrow, or ask for CSV; records cannot be Parquet or Arrow
    ├── ProtocolError       the peer broke the protocol: nack or close, serve the others
    ├── StoreError
    │   ├── StoreFull       refuse or trim by policy; go on reading and forwarding
    │   ├── StoreLocked     another process holds the store; says which         exit code 75
    │   ├── StoreTooNew     written by a newer version; left untouched          exit code 78
    │   ├── StoreSealed     its key is not here; left untouched                 exit code 78
    │   ├── StoreDamaged    salvage, go on
    │   └── StoreFailed     the disk refused a read or write; reopen, then answer again
    └── SinkError
        ├── SinkUnavailable back off, then the same batch again
        └── SinkRefused     halve the batch; set a single record aside, count it

Foreign exceptions are translated once, at the border: ``lmdb.*`` only in ``store/``, socket and
HTTP errors only in a sink. ``assert`` is for our own mistakes. No class carries a "retryable"
flag: which class it is says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

Obstacle = Literal["here", "between", "there"]
"""Where what is in the way of forwarding lies: with us (a file, the disk, the clock), on the way to
the upstream, or with the upstream, which has answered."""
StoreFullCode = Literal["store_full", "too_many_sources", "forbidden_source"]


class EdgeAgentError(Exception):
    """Base of everything that edge_agent raises on purpose; never raised itself."""

    exit_code: ClassVar[int] = 1
    obstacle: Obstacle = "here"


class ConfigError(EdgeAgentError):
    """The configuration cannot be used.

    Args:
        where: file and key, or command line option, e.g. ``edge-agent.toml: log.main.keep``.
        expected: what would have been right, with an example.
        found: what was there, as text.
    """

    exit_code = 78  # EX_CONFIG of sysexits.h: systemd must not restart into the same mistake.

    def __init__(self, where: str, expected: str, found: str) -> None:
        super().__init__(f"{where}: expected {expected}, found {found}")
        self.where = where
        self.expected = expected
        self.found = found

    @classmethod
    def of(cls, errors: Sequence[ConfigError]) -> ConfigError:
        """One error that tells all of ``errors``, a line each, with the attributes of the first."""
        first = errors[0]
        together = cls(first.where, first.expected, first.found)
        together.args = ("\n".join(dict.fromkeys(map(str, errors))),)
        return together


class ForeignFile(EdgeAgentError):
    """A file that was to be brought in is broken, or not what an upstream wrote."""

    exit_code = 65  # EX_DATAERR of sysexits.h.


class NotColumnar(EdgeAgentError):
    """Records cannot become Parquet or Arrow: the library is missing, or their types changed."""


class ProtocolError(EdgeAgentError):
    """The peer said something that the protocol does not allow.

    Args:
        code: a word of docs/protocol.md, e.g. ``bad_time``; stable, for programs.
        message: one sentence for people: what, where, what was expected.
        close_code: WebSocket close code (RFC 6455 section 7.4), or None where the
            connection stays.
    """

    def __init__(self, code: str, message: str, close_code: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.close_code = close_code


class StoreError(EdgeAgentError):
    """Base of what can go wrong with the store."""


class StoreFull(StoreError):
    """A log is at its share and its policy is to refuse; nothing of the entry was stored.

    ``retry_after`` is in seconds, a hint. ``code`` is the word for the peer: there is no room for
    the records, no place for one more source, or the source is somebody else's.
    """

    def __init__(
        self, message: str, retry_after: float = 10.0, code: StoreFullCode = "store_full"
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.code: StoreFullCode = code


class StoreLocked(StoreError):
    """Another process has the store open. ``pid`` is 0 where it could not be told."""

    exit_code = 75  # EX_TEMPFAIL: the other one may be about to stop.

    def __init__(self, message: str, pid: int) -> None:
        super().__init__(message)
        self.pid = pid


class StoreTooNew(StoreError):
    """The store was written by a newer version; it was not touched. Install that version."""

    exit_code = 78


class StoreSealed(StoreError):
    """What is stored is sealed with a key that is not here; it was not touched. Give the key."""

    exit_code = 78


class StoreDamaged(StoreError):
    """The store cannot be opened or read as a whole. Move it aside and salvage what passes."""


class StoreFailed(StoreError):
    """The operating system refused a read or a write (EIO, EROFS, ENOSPC outside the file)."""


class SinkError(EdgeAgentError):
    """Base of what a sink raises.

    Attributes:
        status: of the answer, 0 where there was none.
        sent_bytes: size of what was being sent, 0 where nothing was.
        about_batch: the answer keeps everything, but may be about this very batch.
    """

    obstacle: Obstacle = "between"
    status: int = 0
    sent_bytes: int = 0
    about_batch: bool = False


class SinkUnavailable(SinkError):
    """The upstream cannot take anything now. Back off, then send the same batch again.

    Args:
        message: what happened, one sentence.
        retry_after: seconds that the upstream asked for, or None.
        slow: the upstream answered and will keep refusing until a person changes something
            (401, 404 …): keep everything, retry at the slowest pace, show it in status.
        until_clock_set: it failed only because our clock is not set; try again once it is.
        halve: this batch as a whole does not get through; a smaller one may.
        cut: the connection broke, or nothing moved any more, while the batch was on its way: where
            that repeats itself, a smaller one may get through.
        obstacle: see `Obstacle`.
        code: what a hub's stop says, such as ``forbidden_origin``; "" of anything else.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        slow: bool = False,
        until_clock_set: bool = False,
        halve: bool = False,
        cut: bool = False,
        obstacle: Obstacle = "between",
        code: str = "",
    ) -> None:
        super().__init__(message)
        self.obstacle = obstacle
        self.code = code
        self.retry_after = retry_after
        self.slow = slow
        self.until_clock_set = until_clock_set
        self.halve = halve
        self.cut = cut


class SinkRefused(SinkError):
    """The upstream refuses this batch for its content. Halve it; a single record is set aside.

    Args:
        message: its reason, one sentence.
        code: ``too_big`` or ``refused``.
        records: where the answer named them, the seqs of the records that it refuses, each with
            its reason. All others of the batch were taken then, and nothing is left to halve.
    """

    def __init__(
        self, message: str, code: str = "refused", records: Mapping[int, str] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.records: Mapping[int, str] = records or {}
