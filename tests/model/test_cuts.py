"""Cuts on the way to servers that are no agents; at full scale a part of ``make crash``."""

from __future__ import annotations

import pytest

from tests.crash.proof import Scale
from tests.model.cuts import campaign
from tests.model.cuts.controls import caught
from tests.model.cuts.servers import SERVERS
from tests.model.cuts.world import simulate


@pytest.mark.parametrize("server", SERVERS)
def test_nothing_is_lost_and_nothing_doubled_where_it_must_not_be(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.model.cuts.world.RECORDS", 60)
    result = simulate(server, 1)
    assert result.problems == [] and result.cuts > 5


@pytest.mark.parametrize(
    "server", [pytest.param("postgres", marks=pytest.mark.needs("postgresql", "psycopg")), "kafka"]
)
def test_nothing_is_lost_at_real_servers_whose_connections_end_behind_any_byte(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.model.cuts.world.RECORDS", 100)
    monkeypatch.setattr("tests.model.cuts.relayed._SHARE", 1.0)
    result = simulate(server, 1)
    assert result.problems == [] and result.cuts > 0


@pytest.mark.needs("postgresql", "psycopg")
def test_a_mistake_of_a_sink_is_noticed_at_a_real_server() -> None:
    assert caught("postgres gives up a batch") is not None


def test_the_campaign_counts_the_cuts_and_tells_which_control_was_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.model.cuts.world.RECORDS", 30)
    monkeypatch.setattr(campaign, "_ROUND", 2)
    monkeypatch.setattr(campaign, "SERVERS", {"nats": SERVERS["nats"]})
    monkeypatch.setattr(campaign, "CONTROLS", ["http gives up a batch"])
    monkeypatch.setattr(campaign, "RELAYED", {})
    outcome = campaign.prove(Scale(5, processes=1), 1)
    assert outcome.ok, outcome.failures
    assert "0 of 2 simulations with a loss" in outcome.lines[0]
    monkeypatch.setattr(campaign, "caught", lambda name: None)
    assert campaign.prove(Scale(5, processes=1), 1).failures == (
        "the control was not caught: http gives up a batch",
    )
