"""One in twenty of `make crash`'s failing calls, and that the checks would notice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from edge_agent.net.backoff import Backoff
from tests.crash.faults import every_fault, prove, run_faults
from tests.crash.faulty import Fault
from tests.crash.proof import Scale
from tests.end_to_end.support import AgentProcess, agents, producer_to
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.needs("seccomp")

STORE = '[store]\nsize = "16MiB"\nreopen_after = "50ms"\n'

#: Four at a time, so that they spread over the workers of `make test`.
SLICES = 4
TRIES = 10


@pytest.mark.parametrize("slice_", range(SLICES))
def test_whichever_call_fails_no_ack_is_wrong_and_the_agent_says_so(slice_: int) -> None:
    outcome = prove(Scale(TRIES, processes=1), seed=slice_)
    assert outcome.failures == (), "\n".join((*outcome.lines, *outcome.failures))
    failed = int(outcome.lines[-1].split()[0])
    # A position behind the run's last call may remain unreached, but for one or two at most.
    assert TRIES - 2 <= failed <= TRIES
    assert "wrong acks 0, lost 0, duplicates 0" in outcome.lines[-1]


def test_a_card_that_lies_about_a_sync_is_caught() -> None:
    (plain,) = run_faults([None])
    assert plain.wrong == []
    last = plain.calls["fdatasync"]
    # The last syncs before a stop, whose records are still in the log when the image is taken. Some
    # held only positions: what such a lie breaks is read back whole by the salvage, from older
    # pages, and the checker alone notices. So one after the other, until records were among it.
    came = []
    for back in range(12):
        came += run_faults([Fault("fdatasync", last - back, "lie")])
        if came[-1].wrong_acks:
            break
    assert came[-1].wrong_acks, [one.wrong for one in came]


@pytest.mark.needs("strace")
async def test_strace_finds_the_same(tmp_path: Path) -> None:
    """Another tool's injection into a whole process, started as people start it."""
    agent = AgentProcess(tmp_path, "agent", '[log.main]\ncommit_interval = "5ms"\n' + STORE)
    data = agent.store / "store" / "data.mdb"
    agent.wrapper = (
        "strace", "-f", "-qq", "-o", str(tmp_path / "calls.txt"), "-P", str(data),
        "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=4",
    )  # fmt: skip
    async with (
        agents(agent),
        producer_to(f"{agent.url}/ingest/pi", source="pi", backoff=Backoff(0.02, 0.1)) as producer,
    ):
        for first in range(1, 100, 10):
            await producer.send([{"n": n} for n in range(first, first + 10)])
            await producer.flush(PATIENCE_S)
        assert [each["fields"]["n"] for each in await agent.records("pi")] == [*range(1, 101)]
        await agent.stop()
    assert "(INJECTED)" in (tmp_path / "calls.txt").read_text()
    assert "the disk refuses: committing: " in agent.output()
    assert "the disk takes writes again" in agent.output()


def test_every_position_fails_in_every_way_and_writes_in_two_more() -> None:
    faults = every_fault(Counter({"rename": 2, "pwrite64": 1}))
    assert [str(fault) for fault in faults] == [
        "pwrite64 1 EIO", "pwrite64 1 ENOSPC", "pwrite64 1 EROFS", "pwrite64 1 outage",
        "pwrite64 1 short", "pwrite64 1 late",
        "rename 1 EIO", "rename 1 ENOSPC", "rename 1 EROFS", "rename 1 outage",
        "rename 2 EIO", "rename 2 ENOSPC", "rename 2 EROFS", "rename 2 outage",
    ]  # fmt: skip
