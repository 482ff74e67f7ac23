"""This module reads files back: from lines to the blocks that another agent is sent. Pure but for
the reading.

A file is read as a whole before anything of it is used. Its name says what has to be in it
(``names.py``), each line what numbering it is of; what does not fit is told with file and line.

A record becomes what it was: its time stands where its quality says (``sensor``: in the record;
else it is the arrival), its clock, source and place in the log where they were stored first in the
block's origin. Records follow one another in one block as long as they share that origin.

A time of our clock that was put right since (``corrected``) is right as it stands. It stays
recognizable: its block claims to be of a boot whose clock was off by nothing (`STOOD_RIGHT`), and
the clock note that says so is sent first.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from edge_agent.errors import ForeignFile
from edge_agent.forward.sinks.agent.messages import PATH_MAX, compressed_payload
from edge_agent.forward.sinks.file.lines import CarriedRecord
from edge_agent.forward.sinks.file.names import FileName, parse_name
from edge_agent.output.printable import why
from edge_agent.store import encode_runs
from edge_agent.system.files import refuse_pipes
from edge_agent.values.clock_note import ClockNote
from edge_agent.values.record import ForeignBlock, Origin, Run, as_sent
from edge_agent.values.stream_names import stream_problem
from edge_agent.wire import Segment
from edge_agent.zstd import zstd

#: More in one file is none of ours: batches are cut at a MiB as stored.
FILE_BYTES_MAX: Final = 256 * 1024 * 1024
_BLOCK_BYTES: Final = 128 * 1024
#: About what a run takes beside its records and names.
_RUN_BYTES: Final = 32
_STOOD_RIGHT_BOOT: Final = blake2b(b"edge-agent file", digest_size=16).digest()
#: How far times of one block lie apart whose clock was put right: `Correction` believes as much.
_SPREAD_NS: Final = 3_500 * 1_000_000_000
_TIME_NS_MAX: Final = 2**63 - 1

_decode = msgspec.json.Decoder(CarriedRecord).decode
_pack = msgspec.msgpack.Encoder().encode


class ReadLine(NamedTuple):
    """A line that fits, and what was read out of it: what records of one block have in common, its
    number where it was stored first, and itself as its sender could have sent it.
    """

    record: CarriedRecord
    origin: tuple[object, ...]
    number: int
    body: bytes


@dataclass(frozen=True, slots=True)
class CarriedFile:
    """A file that is whole, and what stands in it."""

    path: Path
    name: FileName
    lines: list[ReadLine]


def find_files(given: Iterable[Path]) -> list[tuple[Path, FileName]]:
    """The files to bring in: those given, and of folders those that an upstream wrote.

    Raises:
        ForeignFile: a file that was given has another name.
        OSError: a folder cannot be read.
    """
    found: dict[Path, FileName] = {}
    for path in given:
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        for one in inside:
            name = parse_name(one.name)
            if name is not None and name.form == "ndjson":
                found[one] = name
            elif one == path:
                raise ForeignFile(
                    f"{path}: this is no NDJSON file of a file upstream, as its name does not say"
                    " agent, log and range; take it as it was named"
                )
    return sorted(found.items(), key=lambda one: (one[1], one[0]))


def read_file(path: Path, name: FileName) -> CarriedFile:
    """The file, looked at as a whole.

    Raises:
        ForeignFile: it is not what its name says, with the line.
    """
    try:
        refuse_pipes(path)
        text = _unpacked(path, name.packed)
    except (OSError, EOFError, zlib.error, zstd.ZstdError, ValueError) as error:
        raise ForeignFile(f"{path}: it cannot be read whole: {why(error)}") from error
    if text and not text.endswith(b"\n"):
        last = text.count(b"\n") + 1
        raise ForeignFile(f"{path}, line {last}: the file ends in the middle of this line")
    lines: list[ReadLine] = []
    before = name.first - 1
    for number, line in enumerate(text.splitlines(), 1):
        try:
            record = _decode(line)
            lines.append(_checked(record, name, before))
        except (ValueError, RecursionError) as error:
            # msgspec's errors of decoding are ValueErrors.
            raise ForeignFile(f"{path}, line {number}: {error}") from error
        before = record.seq
    if len(lines) != name.records:
        raise ForeignFile(
            f"{path}, line {len(lines)}: the file ends here, with {len(lines)} of the"
            f" {name.records} records that its name says"
        )
    return CarriedFile(path, name, lines)


def segments(file: CarriedFile, begin: int) -> Iterator[Segment]:
    """What a hub is sent of the file, from number ``begin`` on, without a hole."""
    at = begin
    for group in _groups([one for one in file.lines if one.record.seq >= begin]):
        first, last = group[0].record.seq, group[-1].record.seq
        if first > at:
            yield Segment(at, first - 1, "filtered")
        path = (*group[0].record.path, file.name.agent)
        if len(path) > PATH_MAX or file.name.agent in path[:-1]:
            yield Segment(first, last, "loop")
        else:
            yield Segment.of(_block(group, path))
        at = last + 1
    if at <= file.name.last:
        yield Segment(at, file.name.last, "filtered")


def clock_notes(file: CarriedFile) -> list[ClockNote]:
    """What has to be known of clocks before the blocks come."""
    agents = {line.record.agent for line in file.lines if line.record.corrected}
    return [ClockNote(agent, _STOOD_RIGHT_BOOT, 0, 0) for agent in sorted(agents)]


def _unpacked(path: Path, packed: str) -> bytes:
    data = path.read_bytes() if path.stat().st_size <= FILE_BYTES_MAX else None
    if data is not None and packed == ".gz":
        with gzip.open(path) as file:
            data = file.read(FILE_BYTES_MAX + 1)
    elif data is not None and packed == ".zst":
        with zstd.open(path) as file:
            data = file.read(FILE_BYTES_MAX + 1)
    if data is None or len(data) > FILE_BYTES_MAX:
        raise ValueError(f"it has more than {FILE_BYTES_MAX} bytes")
    return data


def _checked(record: CarriedRecord, name: FileName, before: int) -> ReadLine:
    """A line of its file. Raises ValueError."""
    if record.store != name.store:
        raise ValueError(f"store: expected {name.store}, found {record.store}")
    if not before < record.seq <= name.last:
        raise ValueError(f"seq: expected {before + 1} to {name.last}, found {record.seq}")
    problem = stream_problem(record.stream.removeprefix("$"))
    if problem is not None:
        raise ValueError(problem)
    if abs(record.time_ns) > _TIME_NS_MAX or not 0 <= record.stored_ns <= _TIME_NS_MAX:
        raise ValueError("time_ns or stored_ns: a time that no clock shows")
    if record.source_seq < 0 or len(record.source) > 200:
        raise ValueError("source_seq or source: out of bounds")
    if (record.path or (name.agent,))[0] != record.agent:
        raise ValueError("path: expected to begin with agent")
    epoch, log, number = _place(record)
    if record.boot:
        _boot(record)
    clock = (record.synced, record.corrected, record.boot)
    # Where its clock was not set, times are put right by what it showed at the commit.
    stored = 0 if record.synced or record.corrected else record.stored_ns
    origin = (record.agent, epoch, log, record.path, *clock, stored)
    return ReadLine(record, origin, number, _body(record))


def _groups(lines: Sequence[ReadLine]) -> Iterator[list[ReadLine]]:
    """What goes into one block each."""
    group: list[ReadLine] = []
    size = low = high = 0
    for line in lines:
        record = line.record
        more = _RUN_BYTES + len(record.stream) + len(record.source) + len(line.body)
        lower, higher = min(low, record.time_ns), max(high, record.time_ns)
        if group and (
            line.origin != group[-1].origin
            or line.number <= group[-1].number
            or size + more > _BLOCK_BYTES
            or (record.corrected and higher - lower > _SPREAD_NS)
        ):
            yield group
            group = []
        if not group:
            size, lower, higher = 0, record.time_ns, record.time_ns
        group.append(line)
        size, low, high = size + more, lower, higher
    if group:
        yield group


def _place(record: CarriedRecord) -> tuple[str, str, int]:
    """Epoch, log and number where it was stored first. Raises ValueError."""
    parts = record.id.split("/")
    epoch, log, number = parts[:3] if len(parts) >= 3 else ("", "", "")
    if not epoch or not log or not number.isascii() or not number.isdigit() or int(number) < 1:
        raise ValueError(f"id: expected EPOCH/LOG/NUMBER, found {record.id[:80]!r}")
    return epoch, log, int(number)


def _boot(record: CarriedRecord) -> tuple[bytes, int]:
    """Which boot stored it first, and what its boot clock showed. Raises ValueError."""
    boot_id, _, boot_ns = record.boot.partition("/")
    found = (bytes.fromhex(boot_id), int(boot_ns)) if record.boot else (bytes(16), 0)
    if len(found[0]) != 16 or not 0 <= found[1] <= _TIME_NS_MAX:
        raise ValueError(f"boot: expected ID/NANOSECONDS, found {record.boot[:80]!r}")
    return found


def _body(record: CarriedRecord) -> bytes:
    """The record as its sender could have sent it. Raises ValueError."""
    fields: dict[str, Any] = dict(record.all_fields)
    if "time" in fields or "stream" in fields:
        raise ValueError("fields: time and stream are none")
    if record.quality == "sensor":
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=record.time_ns // 1000)
        if record.time_ns % 1000:
            raise ValueError(f"time_ns: a sensor tells microseconds, found {record.time_ns}")
        fields["time"] = as_sent(record.time_ns, moment)
    elif record.quality == "relative":
        # An age of nothing before the arrival that it then has; before 1970, an age before that.
        fields["time"] = min(record.time_ns, 0) / 1e9
    elif record.quality == "unset":
        fields["time"] = 1
    return _pack(fields)


def _run(line: ReadLine) -> Run:
    record = line.record
    arrival_ns = record.stored_ns if record.quality == "sensor" else max(record.time_ns, 0)
    times = (record.time_ns, record.time_ns)
    numbered = (record.source_seq, arrival_ns, record.synced)
    return Run(record.stream, record.source, *numbered, 1, line.body, *times)


def _block(members: Sequence[ReadLine], path: tuple[str, ...]) -> ForeignBlock:
    head, first = members[0].record, members[0].number
    epoch, log, _ = _place(head)
    times = [line.record.time_ns for line in members]
    boot_id, boot_ns = _boot(head)
    stored_ns = head.stored_ns
    if head.corrected:
        boot_id, boot_ns, stored_ns = _STOOD_RIGHT_BOOT, max(0, *times), max(0, *times)
    runs: list[Run] = []
    bodies: list[list[bytes]] = []
    offsets: list[int] = []
    for line in members:
        run, offset = _run(line), line.number - first
        if runs and _follows(runs[-1], len(bodies[-1]), offsets[-1], run, offset):
            bodies[-1].append(run.body)
        else:
            runs.append(run)
            bodies.append([run.body])
            offsets.append(offset)
    joined = [
        msgspec.structs.replace(run, count=len(parts), body=b"".join(parts))
        for run, parts in zip(runs, bodies, strict=True)
    ]
    raw = encode_runs(joined, offsets)
    codec, payload = compressed_payload(raw)
    return ForeignBlock(
        first=head.seq,
        last=members[-1].record.seq,
        count=len(members),
        codec=codec,
        raw_len=len(raw),
        payload=payload,
        time_min_ns=min(times),
        time_max_ns=max(times),
        origin=Origin(
            head.agent, epoch, log, first, boot_id, boot_ns, stored_ns, head.synced, path
        ),
    )


def _follows(run: Run, count: int, at: int, other: Run, offset: int) -> bool:
    """Whether ``other`` goes on where ``run``, of ``count`` records by now, ends."""
    numbered = run.source_seq + count if run.source_seq else 0
    return (
        offset == at + count
        and (run.stream, run.source, run.arrival_ns, run.synced)
        == (other.stream, other.source, other.arrival_ns, other.synced)
        and other.source_seq == numbered
    )
