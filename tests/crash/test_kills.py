"""A tenth of `make crash`'s kills, and that the comparison at the end would notice."""

from __future__ import annotations

import pytest

from tests.crash.kills import prove
from tests.crash.proof import Scale
from tests.crash.world import compare

KILLS = 10


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whoever_is_killed_whenever_everything_sent_is_at_the_hub_once(seed: int) -> None:
    outcome = prove(Scale(KILLS, processes=1), seed)
    assert outcome.failures == ()
    assert "8 kills of the agent and 2 of the hub" in outcome.lines[0]
    assert "lost 0, duplicates 0" in outcome.lines[0]


def test_what_is_lost_doubled_or_out_of_order_is_told() -> None:
    sent = {"a": 3}
    assert compare(sent, {"a": [1, 2, 3]}) == (0, 0, [])
    assert compare(sent, {"a": [1, 3]})[:2] == (1, 0)
    assert compare(sent, {"a": [1, 2, 2, 3]})[:2] == (0, 1)
    assert compare(sent, {})[:2] == (3, 0)
    assert compare(sent, {"a": [1, 3, 2]})[2]
    assert compare(sent, {"a": [1, 2, 3, 4]})[2]
