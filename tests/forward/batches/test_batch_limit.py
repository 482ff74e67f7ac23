from __future__ import annotations

import random

from edge_agent.forward.batches.batch_limit import PATIENCE_MAX, PATIENCE_MIN, BatchLimit

MOST = 1024 * 1024


def run(limit: BatchLimit, gate: int, sends: int, *, most: int = MOST) -> tuple[BatchLimit, int]:
    """A backlog of full batches through a gate; the limit then, and how many sends were lost."""
    lost = cuts = 0
    for _ in range(sends):
        size = limit.stored or most
        if size > gate:
            lost += 1
            cuts += 1
            if cuts == 2:
                limit, cuts = limit.after_cut(size, size), 0
        else:
            limit, cuts = limit.after_pass(size, size, most), 0
    return limit, lost


def test_it_halves_until_something_passes_and_tells_what_does() -> None:
    limit, lost = run(BatchLimit(), 60_000, 12)
    assert limit.stored == 32 * 1024 and lost == 10
    assert (limit.passed, limit.failed) == (32 * 1024, 64 * 1024)


def test_a_gate_that_stays_costs_little_in_the_long_run() -> None:
    limit, _ = run(BatchLimit(), 60_000, 1000)
    limit, lost = run(limit, 60_000, 10_000)
    assert lost <= 30
    # And it is made good use of.
    assert limit.good > 40_000


def test_it_grows_again_when_the_gate_is_gone() -> None:
    limit, _ = run(BatchLimit(), 60_000, 40)
    limit, lost = run(limit, 10 * MOST, 4000)
    assert limit.stored == 0 and lost == 0


def test_a_way_that_gets_worse_is_followed_down() -> None:
    limit, _ = run(BatchLimit(), 200_000, 300)
    limit, lost = run(limit, 5_000, 30)
    assert limit.stored <= 5_000 and lost <= 14
    assert limit.passed <= 5_000


def test_batches_that_are_small_anyway_do_not_let_it_grow() -> None:
    limit = BatchLimit().after_cut(100_000, 100_000)
    for _ in range(10 * PATIENCE_MAX):
        limit = limit.after_pass(500, 500, MOST)
    assert limit.stored == 50_000


def test_whatever_happens_it_is_at_least_a_byte_and_its_patience_is_bounded() -> None:
    dice = random.Random(1)
    limit = BatchLimit()
    for _ in range(20_000):
        size = dice.randint(1, limit.stored or MOST)
        if dice.random() < 0.4:
            limit = limit.after_cut(size, size)
        else:
            limit = limit.after_pass(size, size, MOST)
        assert 0 <= limit.stored < MOST
        assert PATIENCE_MIN <= limit.patience <= PATIENCE_MAX
        assert not limit.failed or limit.passed < limit.failed
    assert BatchLimit().after_cut(1, 1).stored == 1
