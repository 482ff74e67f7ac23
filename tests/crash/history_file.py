"""Power cuts of history's file: flushes of a real `HistoryWriter` are recorded, and cut everywhere.

After any cut the file opens, sound; its positions are those of a flush that was begun, and not
older than the last that was done; every record up to them is there, once and as it was, and none
behind them; and the minutes are those of these records. Then the next flush is written. Half of the
flushes are sealed: the key is given in the middle. Days are joined into months on the way, and what
comes late for one is joined with it.

``python -m tests.crash.history_file MARKS FOLDER BROKEN`` is what is recorded. What is BROKEN on
purpose (`CONTROLS`) the explorer has to find.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from edge_agent.digest import HistoryFile, HistoryOwner, HistoryWriter, months
from edge_agent.digest.file import Flush, Puts
from edge_agent.history import (
    all_cells_of,
    decode_rollup,
    encode_rollup,
    keys,
    records_in,
    within,
)
from edge_agent.seal import KeyRing
from edge_agent.store import Block, encode_runs
from edge_agent.values.record import Record, Run
from tests.crash.choices import Plan
from tests.crash.conversations import Fact
from tests.crash.explorer import Tally, Try, explore
from tests.crash.history import AGENT, History, Moment
from tests.crash.images import Image
from tests.crash.proof import Outcome, Scale
from tests.crash.recording import STRACE, read_ops
from tests.crash.verdict import Verdict
from tests.digest.support import DAY, FOREVER, expected_figures, figures, kept, made

CONTROLS: Final = ("segment", "minutes", "early", "hour", "apart")
LIMIT: Final = 1024 * 1024
FLUSHES: Final = 8
STREAMS: Final = 4
_EACH: Final = 30
KEYS: Final = KeyRing((bytes(32),), os.urandom)
#: Images among which a control has to be noticed.
CONTROL_TRIES: Final = 300
#: When each flush has its records, in hours: far enough from one to the next that hours and days
#: are closed, and a month; then late ones, for that month; and the one behind the last.
_HOURS: Final = (5, 10, 31, 1700, 1705, 33, 34, 1710, 1730)


def _begin_ns(number: int) -> int:
    return DAY + _HOURS[number - 1] * keys.HOUR_NS


def blocks(number: int) -> list[Block]:
    """What comes before the flush ``number``, from 1 on."""
    now, first = _begin_ns(number), 1 + (number - 1) * STREAMS * _EACH
    runs = []
    for stream in range(STREAMS):
        bodies = [
            msgspec.msgpack.encode({"time": (now + i * keys.MINUTE_NS) / 1e9, "t": i * number / 8})
            for i in range(_EACH)
        ]
        body = b"".join(bodies)
        runs.append(Run(f"s/{stream}", "pi", 0, now, True, _EACH, body, now, now))
    payload = encode_runs(runs)
    clocks = (bytes(16), 1, now, True)
    return [Block("main", first, STREAMS * _EACH, 0, len(payload), payload, *clocks, now, now)]


def records(last: int) -> list[Record]:
    """All that was sent, up to a seq."""
    found = [
        record
        for number in range(1, last // (STREAMS * _EACH) + 1)
        for block in blocks(number)
        for record in block.records()
    ]
    return found[:last]


def flush_one(history: HistoryWriter, number: int) -> Flush:
    for _ in history.take(blocks(number), DAY):
        pass
    return made(history, max(map(_begin_ns, range(1, number + 1))) + keys.HOUR_NS)


def _record(marks: int, path: Path, broken: str) -> None:
    file, _ = HistoryFile.open(path, LIMIT, HistoryOwner("store", "epoch"))
    history = HistoryWriter(file, FOREVER)
    for number in range(1, FLUSHES + 1):
        if number == FLUSHES // 2 + 1:
            file.close()
            file, _ = HistoryFile.open(path, LIMIT, HistoryOwner("store", "epoch", KEYS))
            history = HistoryWriter(file, FOREVER)
        flush = flush_one(history, number)
        last = flush.header.positions["main"]
        os.write(marks, b"greeted %d" % last)
        _write(file, flush, broken)
        os.write(marks, b"acked %d" % last)
        history.flushed()
    file.close()


def _write(file: HistoryFile, flush: Flush, broken: str) -> None:
    level = {"segment": keys.RAW, "minutes": keys.MINUTES}.get(broken)
    if level is not None:
        flush.puts.pop(max(key for key in flush.puts if key[0] == level))
    if broken == "early":
        file.write(Flush(flush.header))
    for key in [key for key in flush.puts if key[0] == keys.MONTHS]:
        if broken == "apart":
            # The month before its days go.
            file.write(Flush(file.header, Puts({key: flush.puts[key]})))
        if broken == "hour":
            flush.puts[key] = _without_an_hour(flush.puts[key])
    file.write(flush)


def _without_an_hour(raw: bytes) -> bytes:
    rollup = decode_rollup(raw)
    records = records_in(rollup)
    rest = (records.starts[1], 2**63)
    fields = [(path, within(cells, *rest)) for path, cells in all_cells_of(rollup)]
    return encode_rollup(keys.HOUR_NS, within(records, *rest), fields)


def recorded(broken: str = "none") -> History:
    """The recorded run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # The agent's own folder was made durable long before.
        (folder / "disk" / AGENT).mkdir(parents=True)
        trace, marks = folder / "trace", folder / "marks"
        arguments = (str(marks), str(folder / "disk" / AGENT), broken)
        command = [*STRACE, "-o", str(trace), sys.executable, "-m", __name__, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        ops = read_ops(trace, folder / "disk", marks)
    facts = []
    for op in ops:
        if op.kind == "mark":
            kind, last = op.data.split()
            # Said once it was done, or before it was begun.
            facts.append(Fact(op.begin, kind.decode(), "main", int(last)))
    of_disk = [op for op in ops if op.kind not in ("mark", "say", "hear")]
    return History([of_disk], facts, files={AGENT: None})


def judged(history: History, bench: Path) -> Try:
    """What `explore` calls for each image."""

    def attempt(moment: Moment, _: Image) -> Verdict:
        acked, begun = (told.get("main", 0) for told in (moment.known.acked, moment.known.greeted))
        file, told = HistoryFile.open(bench / AGENT, LIMIT, HistoryOwner("store", "epoch", KEYS))
        try:
            verdict = Verdict(_problems(file, told, acked, begun), checked=acked)
        finally:
            file.close()
        return verdict

    assert history.starts
    return attempt


def _problems(file: HistoryFile, told: str, acked: int, begun: int) -> list[str]:
    if told:
        return [told]
    last = file.header.positions.get("main", 0)
    if not acked <= last <= begun:
        return [f"history is at {last}; {acked} was flushed, {begun} begun"]
    problems = _differences(file, last)
    number = last // (STREAMS * _EACH) + 1
    history = HistoryWriter(file, FOREVER)
    file.write(flush_one(history, number))
    return problems or _differences(file, last + STREAMS * _EACH)


def _differences(file: HistoryFile, last: int) -> list[str]:
    sent = records(last)
    problems = []
    if _told(kept(file)) != _told(sent):
        problems.append(f"up to {last} the records are not those that were sent")
    if figures(file, keys.MINUTES) != expected_figures(sent, keys.MINUTE_NS):
        problems.append(f"up to {last} the minutes are not those of the records")
    over = (file.header.hours_until + 1) * keys.DAY_NS
    if figures(file, keys.HOURS) != expected_figures(sent, keys.HOUR_NS, until=over):
        problems.append(f"up to {last} the hours are not those of the records")
    return problems


def _told(found: Sequence[Record]) -> list[Any]:
    return [(one.seq, one.stream, one.time_ns, one.fields) for one in found]


def tried(history: History, tries: int, seed: int, *, until_failure: bool = False) -> Tally:
    """So many images of the run."""
    plan = Plan.of(history, tries, seed)
    return explore(history, plan, judged, until_failure=until_failure)


def prove(scale: Scale, seed: int) -> Outcome:
    """``scale.tries`` images of the whole run, and those among which each control has to be found.

    One process: what takes long is opening the file, which is quick.
    """
    tally = tried(recorded(), scale.tries, seed)
    failures = [f"{one.phase}, moment {one.moment}: {one.problems[0]}" for one in tally.failures]
    missed = [
        name
        for name in CONTROLS
        if not tried(recorded(name), CONTROL_TRIES, seed, until_failure=True).failures
    ]
    failures += [f"the control {name} was not noticed" for name in missed]
    caught = len(CONTROLS) - len(missed)
    line = (
        f"{tally.states} states of history's file, {tally.checked} flushed records checked,"
        f" {len(tally.failures)} wrong, {caught} of {len(CONTROLS)} controls caught, seed {seed}"
    )
    return Outcome((line,), tuple(failures))


if __name__ == "__main__":
    # Two days suffice here: eight would take as many flushes.
    months.JOIN_FROM = 2
    _record(
        os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        Path(sys.argv[2]),
        sys.argv[3],
    )
