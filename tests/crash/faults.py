"""Every call on the store's files fails once: what does the agent do, and is every ack still true?

A run without a fault (`faulty`) tells how many calls of each name there are; then there is one run
for each position of each name and each way to fail. The calls fail in the kernel's place
(`intercept`). The agent has to go on, or to end with an exit code and start again, and to say
something of it; nothing acked may be missing, nothing may arrive twice.

Replay one: ``python -m tests.crash.faults fdatasync 17 EIO``.
"""

from __future__ import annotations

import multiprocessing
import random
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import trio

from benchmarks.ports import free_port
from tests.crash.faulty import Came, Fault, run_once
from tests.crash.intercept import OPENS, WRITES, Seen
from tests.crash.proof import Outcome, Scale

WAYS = ("EIO", "ENOSPC", "EROFS", "outage")
#: Runs beside one another in a process; each mostly waits.
TOGETHER = 4
#: Two runs do not group their commits alike, so the last positions are not reached every time.
AGAIN_MAX = 3


def every_fault(calls: Counter[str]) -> list[Fault]:
    """All positions, all ways."""
    return [
        Fault(call, position, way)
        for call, count in sorted(calls.items())
        for position in range(1, count + 1)
        for way in (*WAYS, *(("short", "late") if call in WRITES else ()))
    ]


async def _run_all(faults: list[Fault | None]) -> list[Came]:
    found: list[Came] = []
    waiting = list(faults)

    async def work() -> None:
        ports = [free_port() for _ in range(4)]
        while waiting:
            fault = waiting.pop(0)
            came = await run_once(ports, fault)
            for _ in range(AGAIN_MAX):
                if fault is None or came.struck is not None or came.wrong:
                    break
                came = await run_once(ports, fault)
            found.append(came)

    async with trio.open_nursery() as nursery:
        for _ in range(TOGETHER):
            nursery.start_soon(work)
    return found


def run_faults(faults: list[Fault | None]) -> list[Came]:
    """Runs beside one another, in this process."""
    return trio.run(_run_all, faults)


def prove(scale: Scale, seed: int) -> Outcome:
    """``scale.tries`` faults of all, drawn with ``seed``; 0: every one."""
    (plain,) = run_faults([None])
    faults: list[Fault | None] = [*every_fault(plain.calls)]
    total = len(faults)
    random.Random(seed).shuffle(faults)
    chosen = faults[: scale.tries or total]
    shares = [chosen[start :: scale.processes] for start in range(scale.processes)]
    if scale.processes == 1:
        came = run_faults(chosen)
    else:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(scale.processes, mp_context=spawn) as pool:
            came = [one for share in pool.map(run_faults, shares) for one in share]
    return _outcome(plain, came, total, seed)


def _outcome(plain: Came, came: list[Came], total: int, seed: int) -> Outcome:
    table: dict[tuple[str, str], Counter[str]] = {}
    for one in came:
        assert one.fault is not None
        table.setdefault((one.fault.call, one.fault.way), Counter())[one.outcome] += 1
    lines = [
        f"{call} {way}: " + ", ".join(f"{count} {what}" for what, count in sorted(row.items()))
        for (call, way), row in sorted(table.items())
    ]
    struck = [one for one in came if one.struck is not None]
    lines.append(
        f"{len(struck)} calls failed of {total} (call, position, way), {len(came) - len(struck)}"
        f" not reached; wrong acks {sum(one.wrong_acks for one in came)},"
        f" lost {sum(one.lost for one in came)}, duplicates {sum(one.doubled for one in came)},"
        f" seed {seed}"
    )
    failures = [f"without a fault: {text}" for text in plain.wrong]
    for one in came:
        replay = f"replay: python -m tests.crash.faults {one.fault}"
        failures += [f"{one.fault}: {text} ({replay})" for text in _complaints(one)]
    return Outcome(tuple(lines), tuple(failures))


def _complaints(one: Came) -> list[str]:
    found = list(one.wrong)
    if one.struck is not None:
        if not one.word and not _harmless(one.struck):
            found.append(f"not a word about {one.struck.name} on {one.struck.path}")
        found += [f"ended with {code}" for code in one.ended if code <= 0]
    return found


def _harmless(seen: Seen) -> bool:
    """LMDB's binding has a look at the file before it opens it, and does without. The lock holds
    on a file that could be opened for reading only, and its pid is written a moment later.
    """
    return seen.reading or (seen.name in OPENS and seen.path.endswith("/lock"))


def main() -> int:
    """Replay one fault, and say what came of it."""
    call, position, way = sys.argv[1:]
    (one,) = run_faults([Fault(call, int(position), way)])
    print(one.outcome, one.struck and (one.struck.name, one.struck.path, one.struck.offset))
    print(one.word)
    print(*_complaints(one), sep="\n")
    return 1 if _complaints(one) else 0


if __name__ == "__main__":
    sys.exit(main())
