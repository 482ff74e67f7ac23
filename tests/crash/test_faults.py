"""One in twenty of `make crash`'s failing calls, and that the checks would notice."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.crash.faults import every_fault, prove, run_faults
from tests.crash.faulty import Fault
from tests.crash.proof import Scale

#: Four at a time, so that they spread over the workers of `make test`.
SLICES = 4
TRIES = 8


@pytest.mark.parametrize("slice_", range(SLICES))
def test_whichever_call_fails_no_ack_is_wrong_and_the_agent_says_so(slice_: int) -> None:
    outcome = prove(Scale(TRIES, processes=1), seed=slice_)
    assert outcome.failures == (), "\n".join((*outcome.lines, *outcome.failures))
    assert f"{TRIES} calls failed" in outcome.lines[-1] or "not reached" in outcome.lines[-1]


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


def test_every_position_fails_in_every_way_and_writes_in_two_more() -> None:
    faults = every_fault(Counter({"rename": 2, "pwrite64": 1}))
    assert [str(fault) for fault in faults] == [
        "pwrite64 1 EIO", "pwrite64 1 ENOSPC", "pwrite64 1 EROFS", "pwrite64 1 outage",
        "pwrite64 1 short", "pwrite64 1 late",
        "rename 1 EIO", "rename 1 ENOSPC", "rename 1 EROFS", "rename 1 outage",
        "rename 2 EIO", "rename 2 ENOSPC", "rename 2 EROFS", "rename 2 outage",
    ]  # fmt: skip
