"""Every kind of connection does to a real agent what its name says, and is counted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.churn_load import ADDRESSES, Churn
from benchmarks.processes import Agent
from edge_agent.security.tokens import add_token

CONFIG = '[store]\nsize = "16MiB"\n[log.main]\ncommit_interval = "10ms"\n'
ACKED = {"session", "plain", "vanishing"}


def test_each_kind_of_connection_is_made_and_what_was_acked_is_stored(tmp_path: Path) -> None:
    agent = Agent(tmp_path, CONFIG)
    try:
        churn = Churn("127.0.0.1", agent.port)
        churn.kinds = dict.fromkeys(churn.kinds, 1)
        churn.run(60)
        status = agent.get("/api/status")
    finally:
        agent.stop()

    assert set(churn.opened) == {kind.__name__ for kind in churn.kinds}
    assert churn.opened.total() == 60
    assert churn.acked == sum(churn.opened[kind] for kind in ACKED)
    stored = status["logs"][0]["records"]
    assert churn.acked <= stored <= churn.acked + churn.opened["careless"]


def test_a_wave_takes_its_steps_together() -> None:
    churn = Churn("127.0.0.1", 9)
    order: list[str] = []

    def first():  # type: ignore[no-untyped-def]  # a step generator, named by what it does
        order.append("a")
        yield
        order.append("b")

    churn.kinds = {first: 1}
    churn.run(3)

    assert order == ["a", "a", "a", "b", "b", "b"]
    assert churn.opened == Counter(first=3)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the run ends, and its sockets with it
def test_an_agent_that_refuses_ends_the_load_with_its_words(tmp_path: Path) -> None:
    add_token(tmp_path / "tokens", "somebody else")
    agent = Agent(tmp_path, CONFIG + f'[listen]\ntokens = "{tmp_path / "tokens"}"\n')
    try:
        churn = Churn("127.0.0.1", agent.port)
        churn.kinds = {churn.session: 1}
        with pytest.raises(ConnectionError, match="401"):
            churn.run(20)
    finally:
        agent.stop()


def test_there_are_addresses_enough_for_all_connections_to_be_remembered_as_closed() -> None:
    ports_of_an_address = 60_999 - 32_768
    assert len(set(ADDRESSES)) * ports_of_an_address > 2 * 60_000
