"""One run of the real agent in which one call on its files fails, and what came of it.

First start, two sensors that send batches in several commits, a hub, trims because the log is
small, a stop, a second start, more batches. The agent is started again whenever it ends.

Ways to fail: EIO, ENOSPC, EROFS (the kernel does not see the call), ``outage`` (from this call on,
for a quarter of a second, all that would change anything are EROFS: the card has gone read-only,
and comes back), ``short`` (a write of half the bytes, really made), ``late`` (a write that is made,
and answered EIO: a device that took it and could not say so), and ``lie`` (not done, and said to be
done: no fault that the agent could notice, but one that the checks must).

What is checked: the records at the hub are those that were sent, once each and in order. What had
been acked before the agent was stopped is in the store, or was trimmed and is at the hub: in the
file as it is, and in its `shadow`, which is what a power cut at that moment would leave.
"""

from __future__ import annotations

import errno
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio

from edge_agent.client import Producer
from edge_agent.net.backoff import Backoff
from edge_agent.store.tools.check import check_store
from tests.crash.intercept import Fail, Seen
from tests.crash.shadow import Shadow
from tests.crash.world import AGENT, HUB, Kept, compare, numbers_in
from tests.patience import PATIENCE_S

RUN_S = 4 * PATIENCE_S
OUTAGE_S = 0.25
#: Of each sensor, in each part of a session, and records in each.
BATCHES, BATCH = 3, 8
_PAD = "x" * 3000
_WORD = re.compile(r"^.* (WARNING|ERROR) .*|^Error: .*", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Fault:
    """The ``position``-th call of this name, from 1, fails in this way."""

    call: str
    position: int
    way: str

    def __str__(self) -> str:
        return f"{self.call} {self.position} {self.way}"


@dataclass(slots=True)
class Came:
    """What came of one run. ``word``: the first that the agent said of trouble."""

    fault: Fault | None
    calls: Counter[str] = field(default_factory=Counter)
    struck: Seen | None = None
    ended: list[int] = field(default_factory=list)
    word: str = ""
    wrong_acks: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def outcome(self) -> str:
        """In a word or two."""
        if self.struck is None:
            return "not reached"
        if self.ended:
            return "ended, said why, started again"
        return "said so, went on" if self.word else "went on, nothing to say"


class Judge:
    """Counts calls, fails the one, and keeps the shadow."""

    def __init__(self, fault: Fault | None) -> None:
        self.fault = fault
        self.calls: Counter[str] = Counter()
        self.struck: Seen | None = None
        self.shadow = Shadow()
        self._until = 0.0

    def __call__(self, seen: Seen) -> Fail | None:
        """See `intercept.Interceptor`."""
        self.calls[seen.name] += 1
        fault = self.fault
        if time.monotonic() < self._until and not seen.reading:
            self.shadow.failed(seen)
            return Fail(errno.EROFS)
        if fault is None or (fault.call, fault.position) != (seen.name, self.calls[seen.name]):
            self.shadow.passed(seen)
            return None
        self.struck = seen
        way = fault.way
        if way == "outage":
            way, self._until = "EROFS", time.monotonic() + OUTAGE_S
        done = {"short": seen.data[: len(seen.data) // 2], "late": seen.data}.get(way, b"")
        self.shadow.failed(seen, done)
        if way == "late":
            return Fail(errno.EIO, len(seen.data))
        if way == "lie":
            return Fail(0, claimed=len(seen.data))
        return Fail(0, len(done), len(done)) if way == "short" else Fail(getattr(errno, way))


async def run_once(ports: Sequence[int], fault: Fault | None) -> Came:
    """One run with one fault, or none."""
    judge = Judge(fault)
    came = Came(fault, judge.calls)
    folder = Path(tempfile.mkdtemp(prefix="faults-", dir=scratch()))
    try:
        with trio.fail_after(RUN_S):
            await _play(ports, folder, judge, came)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this fault's doing
        came.wrong.append(f"{type(error).__name__}: {error} {_tail(folder)}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    came.struck = judge.struck
    return came


async def _play(ports: Sequence[int], folder: Path, judge: Judge, came: Came) -> None:
    hub = Kept(folder, "hub", HUB, (ports[0], ports[1]))
    config = AGENT.format(share="2%", port=hub.port)
    agent = Kept(folder, "agent", config, (ports[2], ports[3]), judge)
    sent: dict[str, int] = {"a": 0, "b": 0}
    acked: list[dict[str, int]] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.keep)
        for session, parts in enumerate((3, 1)):
            await nursery.start(agent.keep)
            acked.append(await _send(agent, sent, parts))
            _take(judge, agent, folder / f"cut-{session}")
            if code := await agent.stop():
                agent.ended.append(code)
            await trio.to_thread.run_sync(
                shutil.copytree, agent.data, folder / f"stopped-{session}"
            )
        await hub.stop()
    came.ended = agent.ended
    word = _WORD.search(agent.output)
    came.word = word[0] if word else ""
    await trio.to_thread.run_sync(_judge, folder, sent, acked, came)


async def _send(agent: Kept, sent: dict[str, int], parts: int) -> dict[str, int]:
    """One session of each sensor; what is sent is added to ``sent``, what is acked returned."""
    before, pace = dict(sent), Backoff(0.02, 0.1, slow=0.1)
    async with (
        Producer(f"{agent.url}/ingest/a", source="a", backoff=pace) as a,
        Producer(f"{agent.url}/ingest/b", source="b", backoff=pace) as b,
    ):
        for _ in range(parts):
            for _ in range(BATCHES):
                for name, producer in (("a", a), ("b", b)):
                    first, sent[name] = sent[name] + 1, sent[name] + BATCH
                    await producer.send(
                        [{"n": n, "pad": _PAD} for n in range(first, first + BATCH)]
                    )
                    await trio.sleep(0.002)
                await a.flush(RUN_S)
                await b.flush(RUN_S)
            # So that the next part finds room by trimming what has been delivered.
            await agent.delivered()
        return {"a": before["a"] + a.acked, "b": before["b"] + b.acked}


def _take(judge: Judge, agent: Kept, into: Path) -> None:
    (into / "store").mkdir(parents=True)
    judge.shadow.image(agent.data / "store" / "data.mdb", into / "store" / "data.mdb")


def _judge(folder: Path, sent: dict[str, int], acked: list[dict[str, int]], came: Came) -> None:
    """Compare everything with everything."""
    arrived = numbers_in(folder / "hub")
    came.lost, came.doubled, wrong = compare(sent, arrived)
    came.wrong += wrong
    for session, told in enumerate(acked):
        for kind in ("cut", "stopped"):
            place = folder / f"{kind}-{session}"
            came.wrong += [f"{place.name}: {text}" for text in check_store(place).problems[:3]]
            held = numbers_in(place)
            for stream, upto in told.items():
                there = held.get(stream, [])
                # What is missing at the front was trimmed, which takes that the hub has it.
                first = there[0] if there else upto + 1
                missing = set(range(first, upto + 1)) - set(there)
                missing |= set(range(1, first)) - set(arrived.get(stream, []))
                came.wrong_acks += len(missing)
                if missing or not there:
                    came.wrong.append(f"{place.name}: {stream} acked to {upto}, has {there[-3:]}")


def scratch() -> str | None:
    """Memory, so that what is measured is the agent: power cuts are the shadow's affair."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _tail(folder: Path) -> str:
    output = folder / "agent.txt"
    return output.read_text(errors="replace")[-1500:] if output.exists() else ""
