"""Cuts on the way to servers that are no agents; at full scale a part of ``make crash``."""

from __future__ import annotations

import pytest

from tests.crash.proof import Scale
from tests.model.cuts import campaign
from tests.model.cuts.servers import SERVERS
from tests.model.cuts.world import simulate


@pytest.mark.parametrize("server", SERVERS)
def test_nothing_is_lost_and_nothing_doubled_where_it_must_not_be(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.model.cuts.world.RECORDS", 60)
    result = simulate(server, 1)
    assert result.problems == [] and result.cuts > 5


def test_the_campaign_counts_the_cuts_and_tells_which_control_was_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.model.cuts.world.RECORDS", 30)
    monkeypatch.setattr(campaign, "_ROUND", 2)
    monkeypatch.setattr(campaign, "SERVERS", {"nats": SERVERS["nats"]})
    monkeypatch.setattr(campaign, "CONTROLS", ["http gives up a batch"])
    outcome = campaign.prove(Scale(5, processes=1), 1)
    assert outcome.ok, outcome.failures
    assert "0 of 2 simulations with a loss" in outcome.lines[0]
    monkeypatch.setattr(campaign, "caught", lambda name: None)
    assert campaign.prove(Scale(5, processes=1), 1).failures == (
        "the control was not caught: http gives up a batch",
    )
