"""The file sink writes one file for each batch into a folder, and acknowledges it once it is there.

A batch's range is durable before its first file is begun (``batches/plan.py``), the file's name
says the range (``names.py``) and its bytes depend on nothing but the records. So whatever is cut,
the same file is written again over itself, and nothing is in the folder twice. Once file and folder
are synced, the batch is acknowledged (``folder.py``).

NDJSON files say of every range what is in it, also where that is nothing, so that ``edge-agent
import`` sees when one is missing. Of CSV and Parquet there is none without a record.

Files stay until somebody takes them away, unless ``keep_bytes`` is set.

A disk that does not answer (a stick that is being pulled out, a server behind the folder) keeps a
thread and nobody else: after ``timeout`` the attempt ends, and no other begins while it hangs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import trio

from edge_agent.config import FileTable, Upstream
from edge_agent.errors import ConfigError, NotColumnar, SinkRefused, SinkUnavailable
from edge_agent.extras import library_needed
from edge_agent.forward.keyed_sink import KeyedSink
from edge_agent.forward.probing import ProbeStep
from edge_agent.forward.sink import Acknowledged, Batch, LaneResume, Resumed, SinkParts
from edge_agent.forward.sinks.file.folder import opened_folder, remove_oldest, write_whole
from edge_agent.forward.sinks.file.forms import encode_file, packed_suffix
from edge_agent.forward.sinks.file.lines import carried
from edge_agent.forward.sinks.file.names import FileName, parse_name
from edge_agent.output.columnar import needed

T = TypeVar("T")
_LOOK_S = 0.05
_PROBE = "edge-agent-probe"


class FileSink(KeyedSink):
    """One log's files in one folder; see the module's docstring."""

    def __init__(self, parts: SinkParts) -> None:
        super().__init__(parts)
        self._folder = folder_of(parts.upstream)
        self._table = parts.upstream.file or FileTable()
        #: Whether a thread of ours is at the disk.
        self._busy = False

    async def open(self, nursery: trio.Nursery, resume: LaneResume) -> Resumed:
        """Look whether the folder is there, and up to where it has files of the log; go on behind
        the floor. Where that is more than the log has ever given out, this store was set back.

        Raises:
            SinkUnavailable: it is not.
        """
        resumed = await super().open(nursery, resume)
        has = await self._in_time(self._look)
        if has > resume.last and resume.part != "resend":
            return replace(resumed, forked="a folder has records that were never here")
        return resumed

    async def _send(self, batch: Batch) -> Acknowledged:
        return await self._in_time(partial(self._write, batch))

    async def try_out(self, data: bytes) -> int:
        """Write a file, sync it and remove it; bytes that are free there.

        Raises:
            SinkUnavailable: the disk does not take it.
        """

        def try_disk() -> int:
            with opened_folder(self._folder, mounted=self._table.mounted) as folder:
                write_whole(folder, _PROBE, data)
                os.unlink(_PROBE, dir_fd=folder)
                room = os.fstatvfs(folder)
                return room.f_bavail * room.f_frsize

        return await self._in_time(try_disk)

    async def _in_time(self, work: Callable[[], T]) -> T:
        """``work`` in a thread of its own, for ``timeout`` seconds; one at a time."""

        def working() -> T:
            try:
                return work()
            finally:
                self._busy = False

        timeout = float(self._upstream.timeout)
        with trio.move_on_after(timeout):
            while self._busy:  # noqa: ASYNC110 - a thread that was left behind can set no event
                await trio.sleep(_LOOK_S)
            self._busy = True
            # Once cancelled, the thread is left behind: a disk that hangs must hold nobody up.
            return await trio.to_thread.run_sync(working, abandon_on_cancel=True)
        text = f"{self._folder}: the disk has not answered for {timeout:g} s"
        raise SinkUnavailable(text, obstacle="here")

    def _look(self) -> int:
        """The highest number that a file of the log says; 0 for none."""
        ours = (self._identity.epoch, self._log)
        with (
            opened_folder(self._folder, mounted=self._table.mounted) as folder,
            os.scandir(folder) as entries,
        ):
            named = (parse_name(entry.name) for entry in entries)
            ends = (one.last for one in named if one and (one.epoch, one.log) == ours)
            return max(ends, default=0)

    def _write(self, batch: Batch) -> Acknowledged:
        upstream = self._upstream
        given = list(carried(batch, batch.records(self._matches)))
        name = FileName(
            self._identity.agent_id,
            self._identity.epoch,
            batch.log,
            upstream.name,
            batch.first,
            batch.last,
            len(given),
            upstream.format,
            packed_suffix(upstream),
            replace(batch, plain=False).variant,
        )
        if not given and (upstream.format != "ndjson" or batch.probe):
            return Acknowledged(batch.last)
        try:
            data = encode_file(given, upstream, self._identity)
        except (TypeError, ValueError, OverflowError, RecursionError, NotColumnar) as error:
            # One of them cannot be said in this format; halving finds out which.
            raise SinkRefused(f"cannot be written as {upstream.format}: {error}") from error
        with opened_folder(self._folder, mounted=self._table.mounted) as folder:
            write_whole(folder, name.text(), data)
            if batch.probe:
                # It has shown what it was to show; the record has a file of its own to come in.
                os.unlink(name.text(), dir_fd=folder)
            elif self._table.keep_bytes:
                remove_oldest(folder, int(self._table.keep_bytes), self._is_ours, name.text())
        return Acknowledged(batch.last, len(given), len(data))

    def _is_ours(self, name: str) -> bool:
        found = parse_name(name)
        return found is not None and (found.agent, found.upstream) == (
            self._identity.agent_id,
            self._upstream.name,
        )


def folder_of(upstream: Upstream) -> Path:
    """The folder that a ``file`` URL names."""
    return Path(unquote(urlsplit(upstream.url).path))


def make(parts: SinkParts) -> FileSink:
    """The sink of a ``file`` upstream.

    Raises:
        ConfigError: a library that its format needs is not installed.
    """
    if parts.upstream.format == "parquet":
        try:
            needed()
        except NotColumnar:
            at = f"upstream {parts.upstream.name}: format"
            raise ConfigError(at, library_needed("arrow"), "none") from None
    return FileSink(parts)


async def probe(parts: SinkParts, size: int) -> list[ProbeStep]:
    """Write a file of ``size`` bytes, sync it and remove it."""
    sink = make(parts)
    began = trio.current_time()
    try:
        free = await sink.try_out(bytes(size))
    except SinkUnavailable as error:
        return [ProbeStep("folder", False, str(error))]
    took, room = (trio.current_time() - began) * 1000, free / 1_000_000
    told = f"a file was written and synced in {took:.0f} ms; {room:,.0f} MB are free"
    return [ProbeStep("folder", True, told)]
