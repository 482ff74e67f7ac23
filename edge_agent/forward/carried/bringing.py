"""This module brings files into an agent, exactly once, through the session that agents have.

Whose numbering a file is of is the name of the source at the hub:
``AGENT/UPSTREAM/LOG/file-EPOCH`` of the agent that wrote it. The hub knows how far it has come
(``hello`` without a number takes that up), so that files which come a second time, from another
machine or after a cut in the middle add nothing.

The numbers go up, so files are brought in in order, and one that is missing is told before anything
behind it is sent: it could not be brought in afterwards. A file that a person ordered to be written
again by itself (``again-N``) is outside that order and has a source of its own, as have those that
were written by one order to send a time once more (``resent-N``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import trio

from edge_agent.config import Upstream
from edge_agent.errors import ForeignFile, SinkUnavailable
from edge_agent.forward.carried.reading import clock_notes, read_file, segments
from edge_agent.forward.credentials import Credentials
from edge_agent.forward.sinks.agent.connection import AgentConnection, ForwardHello
from edge_agent.forward.sinks.agent.messages import Message, Packer
from edge_agent.forward.sinks.file.names import FileName
from edge_agent.net.dial import Dial, dial_tcp
from edge_agent.system.clock import Clock
from edge_agent.wire import FORWARD_MESSAGE_BYTES, Segment, encode_segments

Files = Sequence[tuple[Path, FileName]]


@dataclass(slots=True)
class BroughtIn:
    """What came of it: records that are new there, those that were there already, how many were
    refused for good with the last reason, and numbers that are in no file.
    """

    files: int = 0
    records: int = 0
    known: int = 0
    refused: int = 0
    refusal: str = ""
    missing: list[str] = field(default_factory=list)


class Bringing:
    """Brings files in; one use.

    Args:
        upstream: the agent that gets them.
        credentials: how it is asked.
        with_gaps: go on where a file is missing.
        tell: called after each file.
    """

    def __init__(
        self,
        upstream: Upstream,
        credentials: Credentials,
        clock: Clock,
        *,
        with_gaps: bool = False,
        dial: Dial = dial_tcp,
        tell: Callable[[BroughtIn], None] = lambda _: None,
    ) -> None:
        self._upstream, self._credentials = upstream, credentials
        self._clock, self._dial, self._with_gaps, self._tell = clock, dial, with_gaps, tell
        self.done = BroughtIn()

    async def run(self, files: Files) -> BroughtIn:
        """All of them, in the order of their numbers, until the agent there has them.

        Raises:
            ForeignFile: a file is broken or missing; those before it are there.
            SinkUnavailable: the agent is not there, or does not take them now.
        """
        ordered = sorted(files, key=lambda one: (source_of(one[1]), one[1].first, one[1].last))
        for source, group in groupby(ordered, key=lambda one: source_of(one[1])):
            link = AgentConnection(self._upstream, self._dial, self._clock, self._credentials)
            async with trio.open_nursery() as nursery:
                named = list(group)
                try:
                    resume = await nursery.start(link.run, ForwardHello(source, None, None))
                except SinkUnavailable as error:
                    # It takes none of its own, and no later try would change that.
                    if error.code != "forbidden_origin":
                        raise
                    told = f"{named[0][0]}: these are records of this very agent"
                    raise ForeignFile(told) from error
                await self._send(link, named, resume.next)
                await link.aclose()
        return self.done

    async def _send(self, link: AgentConnection, files: Files, begin: int) -> None:
        packer = Packer(link.message_bytes or FORWARD_MESSAGE_BYTES)
        packer.fit(link.window)
        at, failure = begin, None
        for path, name in files:
            self.done.files += 1
            if name.last < at:
                self.done.known += name.records
                continue
            try:
                gap = self._gap(path, name, at)
                # Judged as a whole before anything of it is sent.
                file = await trio.to_thread.run_sync(read_file, path, name)
            except ForeignFile as error:
                # What stands before it is brought in all the same.
                failure = error
                break
            if notes := clock_notes(file):
                told = encode_segments((), notes)
                await link.transmit(Message(link.handed + 1, link.handed, 0, told))
            start = max(at, name.first)
            known = sum(line.record.seq < start for line in file.lines)
            for message in packer.add([*gap, *segments(file, start)]):
                await link.transmit(message)
            at = name.last + 1
            self.done.records += len(file.lines) - known
            self.done.known += known
            self._tell(self.done)
        await self._settle(link, packer, at - 1)
        if failure is not None:
            raise failure

    def _gap(self, path: Path, name: FileName, at: int) -> list[Segment]:
        """What to say of the numbers before a file that are in none."""
        if name.first <= at:
            return []
        if _out_of_order(name):
            return [Segment(at, name.first - 1, "filtered")]
        missing = f"records {at} to {name.first - 1} of {name.store}"
        if not self._with_gaps:
            raise ForeignFile(
                f"{path}: {missing} are neither in these files nor there yet. Bring them in first,"
                " as they cannot follow later; or give them up with --with-gaps"
            )
        self.done.missing.append(missing)
        return [Segment(at, name.first - 1, "trimmed")]

    async def _settle(self, link: AgentConnection, packer: Packer, last: int) -> None:
        """Wait until everything is there. Where a file ends without a record that takes some
        seconds: a hub commits such numbers with what comes next.
        """
        if (message := packer.flush()) is not None:
            await link.transmit(message)
        while link.acked < last:
            await link.wait_past(link.acked)
            self._count(link)
        self._count(link)

    def _count(self, link: AgentConnection) -> None:
        said = link.take()
        self.done.refused += said.refused
        self.done.refusal = said.refusal or self.done.refusal


def source_of(name: FileName) -> str:
    """The source at the hub that a file is of."""
    again = "".join(f"-{part}" for part in _out_of_order(name))
    return f"{name.agent}/{name.upstream}/{name.log}/file-{name.epoch}{again}"


def _out_of_order(name: FileName) -> list[str]:
    """What of its name says that a file is outside of the order of its log."""
    return [part for part in name.variant.split("/") if part.startswith(("again", "resent"))]
