"""Second power cuts: into the recovery from the first one, and into what was acked after it.

Images of a recorded run are given to a process (``python -m tests.crash.again FOLDER …``) that
opens the store of each as the agent does, commits some records, says when each commit has returned,
and lets retention remove what is old. It is recorded like the agent was, and the images that a
second power cut may leave of every one of its moments are tried. First starts that are killed at
each of their syncs, and followed by another start, belong here as well: what a killed process left
unsynced looks durable to the next.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from edge_agent.store import Engine, Entry, Numbering, Stored
from edge_agent.values.record import Run
from tests.crash.bench import make_bench, put
from tests.crash.choices import Plan, choices
from tests.crash.conversations import Fact
from tests.crash.history import AGENT, RECOVERY, History, Known
from tests.crash.images import Image, image_of
from tests.crash.recording import STRACE, Op, read_ops
from tests.crash.verdict import AGAIN, CLOCK, settings
from tests.manual_clock import ManualClock

#: Records that are acked after a recovery, one commit each.
RECORDS: Final = 2
MARKS: Final = "marks"
#: Syncs of a first start: of the folder above, the new store's file and folder, and its name.
KILLED_AT: Final = range(1, 7)
Files = dict[str, tuple[bytes, int] | None]


def second_cuts(history: History, count: int, seed: int) -> Iterator[History]:
    """Recoveries from ``count`` images of ``history``, each a history of its own."""
    chosen = list(_first_cuts(history, count, seed))
    bench = make_bench()
    try:
        for number, (image, _) in enumerate(chosen):
            (bench / str(number)).mkdir()
            put(image, bench / str(number))
        trace = bench / "trace"
        folders = [str(bench / str(number)) for number in range(len(chosen))]
        _start(trace, bench / MARKS, folders)
        for number, (image, known) in enumerate(chosen):
            ops = read_ops(trace, bench / str(number), bench / MARKS)
            yield _history(history, known, image.files, [ops], str(number))
    finally:
        shutil.rmtree(bench)


def killed_starts(history: History, every: int = 1) -> Iterator[History]:
    """First starts that were killed at every ``every``-th of their syncs, and the start after."""
    for at in KILLED_AT[every - 1 :: every]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "0").mkdir()
            marks = folder / MARKS
            kill = f"fsync:signal=SIGKILL:when={at}"
            _start(folder / "first", marks, [str(folder / "0")], kill)
            _start(folder / "second", marks, [str(folder / "0")])
            first = read_ops(folder / "first", folder / "0", marks)
            second = read_ops(folder / "second", folder / "0", marks)
            place = max((op.end for op in first), default=0) + 1
            moved = [replace(op, begin=op.begin + place, end=op.end + place) for op in second]
            yield _history(history, Known(phase=RECOVERY), {}, [first, moved], "0")


def _first_cuts(history: History, count: int, seed: int) -> Iterator[tuple[Image, Known]]:
    """Images from all over the run, those of its first start more densely: they differ most."""
    plan = Plan(seed, 0.02, 0.02)
    moments = sum(1 for _ in history.moments())
    dice = random.Random(seed)
    wanted = {dice.randrange(moments) for _ in range(count - count // 4)}
    wanted |= {dice.randrange(70) for _ in range(count // 4)}
    for moment in history.moments():
        if moment.index in wanted:
            parts = list(choices(moment, plan))
            chosen = parts[-1] if len(parts) < 3 else dice.choice(parts[2:])
            yield image_of(moment.disk.root, chosen), moment.known


def _history(
    history: History, known: Known, files: Files, starts: list[list[Op]], name: str
) -> History:
    facts = [
        Fact(op.begin, "again", AGAIN, int(op.data.split()[1]))
        for ops in starts
        for op in ops
        if op.kind == "mark" and op.data.split()[0].decode() == name
    ]
    return History(
        [[op for op in ops if op.kind not in ("mark", "say", "hear")] for ops in starts],
        facts,
        history.order,
        history.messages,
        files,
        msgspec.structs.replace(known, phase=RECOVERY),
    )


def _start(trace: Path, marks: Path, folders: list[str], kill: str | None = None) -> None:
    strace = [*STRACE]
    if kill is not None:
        # Strace does not tamper with calls that it lets seccomp choose.
        strace.remove("--seccomp-bpf")
        strace += ["-e", f"inject={kill}"]
    command = [
        *strace, "-o", str(trace),
        sys.executable, "-m", "tests.crash.again", str(marks), *folders,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    # Strace ends as what it traced did.
    assert done.returncode == (0 if kill is None else -signal.SIGKILL), done.stderr


def _recover(folder: Path, marks: int) -> None:
    """Open, commit, say so, let retention work: what is recorded."""
    clock = ManualClock(CLOCK.read().wall_ns)
    path = folder / AGENT
    engine = Engine.open(path, settings(path), clock=clock, entropy=os.urandom)
    try:
        first = max(engine.next_of(AGAIN), 1)
        for number in range(first, first + RECORDS):
            now_ns = clock.read().wall_ns
            body = msgspec.msgpack.encode({"token": f"{AGAIN}:{number}"})
            run = Run("telemetry/again", AGAIN, number, now_ns, True, 1, body, now_ns, now_ns)
            entry = Entry((run,), numbering=Numbering(AGAIN, number, number + 1))
            (answer,) = engine.commit((entry,)).answers
            assert isinstance(answer, Stored)
            os.write(marks, f"{folder.name} {answer.next}\n".encode())
        # The wall clock is trusted a while after the start, and everything is old by then.
        clock.advance(1200)
        engine.commit(())
        clock.advance(1200)
        engine.trim()
    finally:
        engine.close()


def main(arguments: list[str]) -> None:
    marks = os.open(arguments[0], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for folder in arguments[1:]:
        _recover(Path(folder), marks)


if __name__ == "__main__":
    main(sys.argv[1:])
