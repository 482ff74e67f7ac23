"""Rounds of records, one commit's worth each."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.processes import Agent
from benchmarks.wear_load import Rounds


def test_records_that_do_not_divide_among_the_sources_are_refused() -> None:
    with pytest.raises(ValueError, match="100 records do not divide among 3 sources"):
        Rounds(("127.0.0.1", 9), 3, 100)


def test_each_round_makes_one_commit_of_just_so_many_records(tmp_path: Path) -> None:
    agent = Agent(tmp_path, '[store]\nsize = "16MiB"\n[log.main]\ncommit_interval = "50ms"\n')
    try:
        rounds = Rounds(("127.0.0.1", agent.port), 5, 100)
        rounds.run(1)
        before = agent.get("/api/status")
        rounds.run(4)
        after = agent.get("/api/status")
        for sensor in rounds.sensors:
            sensor.socket.close()
    finally:
        agent.stop()

    assert after["store"]["commits"] - before["store"]["commits"] == 4
    assert after["logs"][0]["records"] - before["logs"][0]["records"] == 400
    assert [sensor.acked for sensor in rounds.sensors] == [100] * 5
