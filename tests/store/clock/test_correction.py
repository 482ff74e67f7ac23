from __future__ import annotations

import pytest

from edge_agent.store.clock.correction import WAITED_NS_MAX, Correction, correction_of
from edge_agent.values.record import Origin
from tests.store.support import START_NS

SECOND = 10**9
BOOT = b"b" * 16
#: It was START_NS when the boot clock stood at zero, and the wall clock said 1970.
OFFSETS = {("", BOOT): START_NS}


def origin(*, synced: bool) -> Origin:
    return Origin("feed", "e", "main", 1, BOOT, 50 * SECOND, 57 * SECOND, synced, ("feed",))


def test_an_unset_block_of_a_known_boot_is_moved_by_what_the_clock_was_off() -> None:
    fix = correction_of(BOOT, 100 * SECOND, 107 * SECOND, False, None, OFFSETS)
    assert fix == Correction(START_NS - 7 * SECOND, START_NS - 7 * SECOND, START_NS + 100 * SECOND)
    assert fix.arrival(106 * SECOND) == START_NS + 99 * SECOND


def test_what_is_right_or_unknown_is_not_corrected() -> None:
    assert correction_of(BOOT, 1, 2, True, None, OFFSETS) is None
    assert correction_of(b"x" * 16, 1, 2, False, None, OFFSETS) is None
    assert correction_of(BOOT, 1, 2, True, origin(synced=True), OFFSETS) is None
    assert correction_of(BOOT, 1, 2, True, origin(synced=False), OFFSETS) is None


def test_a_foreign_block_is_corrected_by_its_own_agents_boot() -> None:
    offsets = {("feed", BOOT): START_NS}
    fix = correction_of(b"o" * 16, 1, START_NS + 90 * SECOND, True, origin(synced=False), offsets)
    assert fix == Correction(START_NS - 7 * SECOND, 0, START_NS + 50 * SECOND)


def test_our_own_unset_clock_moves_only_when_we_stored_a_foreign_block() -> None:
    fix = correction_of(BOOT, 10 * SECOND, 3 * SECOND, False, origin(synced=True), OFFSETS)
    assert fix is not None
    assert (fix.stored_ns, fix.corrects_arrivals) == (START_NS + 7 * SECOND, False)
    assert fix.latest(5) == 5


@pytest.mark.parametrize("off_s", [56 * 365 * 86_400, -10_800, WAITED_NS_MAX // SECOND + 1])
def test_an_arrival_from_the_other_side_of_a_step_counts_as_the_commit(off_s: int) -> None:
    fix = Correction(START_NS, START_NS, START_NS + 100 * SECOND)
    assert fix.arrival(99 * SECOND) == START_NS + 99 * SECOND
    assert fix.arrival((100 - off_s) * SECOND) == START_NS + 100 * SECOND


def test_nothing_of_a_corrected_block_is_later_than_it_says() -> None:
    fix = Correction(START_NS, START_NS, START_NS + 100 * SECOND)
    for arrival_s in (-(10**9), 0, 99, 101, 10**9):
        assert fix.arrival(arrival_s * SECOND) <= fix.latest(arrival_s * SECOND)


def test_what_another_agent_claims_beyond_all_clocks_corrects_nothing() -> None:
    for offset_ns in (2**63 - 1, -(2**63)):
        fix = correction_of(BOOT, 1, 2, True, origin(synced=False), {("feed", BOOT): offset_ns})
        assert fix is None
        known = {("feed", BOOT): offset_ns, **OFFSETS}
        ours = correction_of(BOOT, 1, 2, False, origin(synced=False), known)
        assert ours is not None and not ours.corrects_arrivals
