"""The engine is one open store: its transactions, and which log takes a stream's records.

Each method is one transaction, in the thread that calls it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from edge_agent.errors import StoreDamaged, StoreFailed, StoreFull
from edge_agent.store.close_marker import note_closed
from edge_agent.store.commit.state import Counts
from edge_agent.store.commit.transaction import Tools, Writer
from edge_agent.store.create import DATA, STORE, prepare_folder
from edge_agent.store.format.codec import Compressor
from edge_agent.store.identity import Entropy, Identity, identity
from edge_agent.store.lmdb_errors import TROUBLE, translated, why_refused
from edge_agent.store.lmdb_file.pages import PageFile
from edge_agent.store.opening import OpenStore, rename_store
from edge_agent.store.process_lock import LOCK, StoreLock
from edge_agent.store.read.scrub_step import ScrubStep, scrub_step
from edge_agent.store.read_only import open_or_read
from edge_agent.store.reader import Questions
from edge_agent.store.settings import MAIN, ConsumerSettings, StoreClock, StoreSettings
from edge_agent.store.types import CommitResult, Entry, Stored
from edge_agent.values.stream_names import compile_patterns


class Gate:
    """Many may be inside `shared`, or one inside `alone`: closing the environment under a reader
    would unmap what it is reading, so every call passes here. Calls are short (one transaction), so
    waiting has no deadline; nobody waits inside for anything else than the disk.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._closing = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Beside others of this kind. Not to be nested: `alone` would wait for ever."""
        with self._changed:
            while self._closing:
                self._changed.wait()
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """With nobody else inside; newcomers wait meanwhile."""
        with self._changed:
            while self._closing:
                self._changed.wait()
            self._closing = True
            while self._inside:
                self._changed.wait()
        try:
            yield
        finally:
            with self._changed:
                self._closing = False
                self._changed.notify_all()


_Answer = TypeVar("_Answer")


class Engine(Questions):
    """One open store. Reads may run beside a commit and beside one another, from any thread.

    Made by `open`. ``identity`` says who the store is; ``salvage_report`` what was read back from
    a damaged one, now or at an earlier opening whose damaged folder is still there, or None.
    """

    def __init__(
        self,
        path: Path,
        settings: StoreSettings,
        clock: StoreClock,
        entropy: Entropy,
        lock: StoreLock,
        opened: OpenStore,
    ) -> None:
        self._matchers = [(log.name, compile_patterns(log.patterns)) for log in settings.logs]
        # Names come from peers, so what is remembered of them is bounded.
        self.route = lru_cache(maxsize=4096)(self._route)
        compressor = Compressor(settings.compression_level)
        tools = Tools(settings, self.route, compressor, opened.page_bytes)
        super().__init__(path, settings, clock, tools, opened)
        self.salvage_report: dict[str, Any] | None = None
        self._entropy = entropy
        self._lock = lock
        self._gate = Gate()
        self._writing = threading.Lock()
        self._damaged: str | None = None
        self._closed = False
        self.identity: Identity = identity(opened.header, opened.state.logs)
        self._adopt(opened)

    @classmethod
    def open(
        cls, path: Path, settings: StoreSettings, *, clock: StoreClock, entropy: Entropy
    ) -> Engine:
        """Open the store below ``path``, making it where there is none. Where the disk refuses,
        one that can be read is open for that alone (`read_only`), and ``refusal`` says why.

        Args:
            path: the agent's folder; the store is a folder within, the lock a file beside it.
            settings: what the configuration says.
            clock: the time.
            entropy: random bytes for ids, e.g. ``os.urandom``.

        Raises:
            StoreLocked: another agent has it.
            StoreTooNew: a newer version wrote it; nothing was changed.
            StoreFailed: there is none that could be read, and the disk refuses or has too little
                space; the text says what fits.
        """
        prepare_folder(path)
        lock = StoreLock(path / LOCK)
        try:
            opened, report = open_or_read(path, settings, clock, entropy)
        except BaseException:
            lock.release()
            raise
        engine = cls(path, settings, clock, entropy, lock, opened)
        engine.salvage_report = report
        return engine

    @property
    def refusal(self) -> str | None:
        """Why nothing is written at present, until `reopen`; None where all is well."""
        return self._failed

    # Writing.

    def commit(self, entries: Sequence[Entry]) -> CommitResult:
        """Store entries in one synced transaction; on return what is answered `Stored` is durable.

        Each entry gets one answer, in order: `Stored`, or `StoreFull` where nothing of it was
        stored. Duplicates are judged here, by the number expected of each source.

        Raises:
            StoreFailed: the disk refused. Whether the transaction survived is unknown until
                `reopen`; then commit the same entries again, numbering leaves out what is there.
        """
        return self._write("committing", lambda writer: writer.commit(entries))

    def trim(self) -> CommitResult:
        """One pass of retention: what is too old goes, as does what exceeds a log's share.

        Returns a `CommitResult` without answers. Raises as `commit`.
        """
        return self._write("trimming", Writer.trim)

    def note_handed(self, consumer: str, log: str, seq: int, *, alone: bool = False) -> None:
        """A consumer was handed everything up to ``seq``, and may be done with it before it says
        so: what lies between its position and there is not thinned. ``alone``: it was handed that
        record out of turn. May be called at any time.
        """
        self._tools.handed.note(consumer, log, seq, alone=alone)

    def keep_for(self, consumers: Sequence[ConsumerSettings]) -> None:
        """Let retention consider these consumers from the next commit on. May be called at any
        time.
        """
        self.settings = self._tools.settings = replace(self.settings, consumers=tuple(consumers))

    def note_connected(self, in_use: Callable[[str], bool]) -> None:
        """``in_use`` says whether a source is connected: it is not forgotten then. It is called
        in the thread that commits.
        """
        self._tools.in_use = in_use

    def scrub(self, after: bytes, limit_bytes: int) -> ScrubStep:
        """One step of a pass over the file, from behind the key ``after``, b"" to begin.

        A store found damaged beyond a block is salvaged, and the pass begins anew.
        """
        logs = {header.id: (name, header.last) for name, header in self._state.logs.items()}

        def question(txn: lmdb.Transaction[memoryview]) -> ScrubStep:
            with PageFile(self.path / STORE / DATA) as pages:
                meta = pages.metas[txn.id() & 1]
                if meta is None or meta.txn != txn.id():
                    # Two commits came in between: this root is gone. Try again.
                    return ScrubStep(after, 0, 0, ())
                return scrub_step(pages, meta, logs, after, limit_bytes)

        return self._ask(question)

    def become_another(self, reason: str, epoch: str) -> None:
        """Take a new identity, durably: an upstream has shown that this is a copy, for ``reason``.
        Nothing happens where ``epoch`` is no longer this store's.

        Raises as `commit`.
        """
        with self._writing, self._gate.shared():
            if self._failed is not None or self._env is None:
                raise StoreFailed(self._failed or "the store is closed")
            if self.identity.epoch != epoch:
                return
            wall_ns = self._clock.read().wall_ns
            try:
                self._place.check()
                header = rename_store(
                    self._env, self.path, self.settings, wall_ns, self._entropy, reason
                )
            except (*TROUBLE, StoreDamaged) as error:
                raise self._fail(error, "taking a new identity") from error
            self.identity = identity(header, self._state.logs)

    def reopen(self) -> None:
        """Close and open again after `StoreFailed`; commits the marker.

        A file found damaged is salvaged: ``identity`` then has a new epoch, ``salvage_report``
        says what came back.

        Raises:
            StoreFailed: the disk still refuses; try again later. What can be read is open for that.
        """
        with self._writing, self._gate.alone():
            if self._closed:
                raise StoreFailed("the store is closed")
            self._reopen()

    def close(self) -> None:
        """Close and unlock; calls still running finish first. Later ones raise StoreFailed."""
        with self._writing, self._gate.alone():
            if self._env is not None and self._failed is None:
                note_closed(self.path / STORE, self._env.info()["last_txnid"])
            self._close()
            self._closed = True
            self._failed = "the store is closed"
            self._lock.release()

    # Within.

    def _adopt(self, opened: OpenStore) -> None:
        self._env: lmdb.Environment | None = opened.env
        self._place = opened.place
        self._tools.page_bytes = opened.page_bytes
        self._failed = opened.refusal
        if opened.refusal is None:
            # Whoever waits to be welcomed again waits for it behind a reopening, too.
            opened.state.stopped |= self._state.stopped
            self._state, self._certain = opened.state, False
            self.identity = identity(opened.header, opened.state.logs)

    def _route(self, stream: str) -> str:
        """The log that takes records of a stream."""
        for log, matches in self._matchers:
            if matches(stream):
                return log
        return MAIN

    def _write(
        self, doing: str, work: Callable[[Writer], Sequence[Stored | StoreFull]]
    ) -> CommitResult:
        with self._writing, self._gate.shared():
            if self._failed is not None or self._env is None:
                raise StoreFailed(self._failed or "the store is closed")
            moment = self._clock.read()
            keeper, state, counts = self._keeper, self._state, Counts()
            keeper.note(moment)
            trusted = keeper.trusted(moment)
            dating = keeper.dating(moment, state.clocks, state.newest_ns, state.unset_boots)
            writer = Writer(
                self._env, state, self._tools, moment, counts, dating, clock_trusted=trusted
            )
            try:
                self._place.check()
                answers = work(writer)
            except (*TROUBLE, StoreDamaged) as error:
                raise self._fail(error, doing) from error
            return counts.result(answers, state)

    def _ask(self, question: Callable[[lmdb.Transaction[memoryview]], _Answer]) -> _Answer:
        """One read transaction; a second one in the salvaged store where the first met damage."""
        try:
            with self._reading() as txn:
                return question(txn)
        except StoreDamaged as error:
            self._damaged = str(error)
        with self._writing, self._gate.alone():
            # Another reader may have met the same damage and mended it meanwhile.
            if not self._closed and self._damaged is not None:
                self._reopen()
        with self._reading() as txn:
            return question(txn)

    @contextmanager
    def _reading(self) -> Iterator[lmdb.Transaction[memoryview]]:
        with self._gate.shared():
            if self._env is None:
                raise StoreFailed(self._failed or "the store is closed")
            try:
                with self._env.begin(buffers=True) as txn:
                    yield txn
            except TROUBLE as error:
                raise translated(error, "reading") from error

    def _fail(self, error: BaseException, doing: str) -> StoreFailed:
        """Nothing more is written until `reopen`: after a failed sync LMDB's own view of what
        is durable cannot be trusted.
        """
        known = error if isinstance(error, StoreDamaged) else translated(error, doing)
        if isinstance(known, StoreDamaged):
            self._damaged = str(known)
        text = f"{doing}: {error}"
        damaged = isinstance(known, StoreDamaged)
        self._failed = text if damaged else why_refused(self.path, text)
        return StoreFailed(self._failed)

    def _reopen(self) -> None:
        self._close()
        # Whoever asks meanwhile is told what made it necessary.
        self._failed = self._failed or "the store is being opened again"
        self._lock.renew()
        try:
            opened, report = open_or_read(
                self.path,
                self.settings,
                self._clock,
                self._entropy,
                self._damaged,
                bytes.fromhex(self.identity.opening),
            )
        except StoreFailed as error:
            self._failed = str(error)
            raise
        self.salvage_report = report or self.salvage_report
        self._adopt(opened)
        if opened.refusal is not None:
            raise StoreFailed(opened.refusal)
        self._damaged = None

    def _close(self) -> None:
        if self._env is not None:
            self._env.close()
            self._env = None
