from __future__ import annotations

import re
import signal
import subprocess
import sys
from typing import Any

import pytest
import trio
import trio.testing

from edge_agent.cli.send.options import EX_NOPERM, host_name
from edge_agent.cli.sensor.host import HostReader, measure
from edge_agent.values.stream_names import stream_problem
from tests.client.stub import StubAgent, agent_on_a_port, make
from tests.preloaded import run


def test_this_machine_is_read_in_its_units() -> None:
    now = iter([0.0, 2.0])
    fields = HostReader("/", lambda: next(now)).read()
    assert 0 <= fields["cpu_percent"] <= 100
    assert 0 < fields["memory_percent"] < 100
    assert fields["disk_free_bytes"] > 0
    assert fields["network_received_bytes_per_second"] >= 0
    assert all(isinstance(value, (int, float)) for value in fields.values())


def test_rates_are_per_second_and_a_counter_that_went_back_gives_none() -> None:
    now = iter([0.0, 2.0, 4.0])
    reader = HostReader("/", lambda: next(now))
    name = "network_sent_bytes_per_second"
    reader._before[name] -= 2_000_000
    assert reader.read()[name] >= 1_000_000
    reader._before[name] += 10**15
    assert name not in reader.read()


async def test_records_keep_their_pace_without_drifting(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    agent, at = StubAgent(nursery), []
    begin = trio.current_time()

    def read() -> dict[str, Any]:
        at.append(round(trio.current_time() - begin, 3))
        return {"n": len(at)}

    async with make(agent) as producer:
        assert await measure(producer, read, 0.5, 4) == 4
    assert at == [0, 0.5, 1.0, 1.5]
    assert agent.kept() == [1, 2, 3, 4]
    assert all("time" in fields for _, _, fields in agent.records)


async def test_intervals_that_were_missed_are_left_out(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    agent, at = StubAgent(nursery), []
    agent.reachable = False
    begin = trio.current_time()

    def read() -> dict[str, Any]:
        at.append(round(trio.current_time() - begin))
        return {"n": len(at)}

    async with make(agent, buffer_records=2) as producer, trio.open_nursery() as inner:
        inner.start_soon(measure, producer, read, 1.0, 5)
        await trio.sleep(10)
        agent.reachable = True
    assert agent.kept() == [1, 2, 3, 4, 5]
    assert at[:3] == [0, 1, 2]
    assert len(set(at)) == 5  # no burst to make up for the pause


@pytest.mark.parametrize("name", ["pi-7", "höst name", ".", ""])
def test_the_hosts_name_is_fit_for_a_stream(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: name)
    assert stream_problem(f"host/{host_name()}") is None


def test_the_command_sends_counts_and_ends() -> None:
    with agent_on_a_port() as (agent, url):
        counted = ("--interval", "0.01", "--count", "3")
        # As an unset variable in a unit file gives it: the default.
        done = run("sensor", "host", "--url", url, "--stream", "", "--source", "", *counted)
        assert done.returncode == 0, done.stderr
        assert re.search(r"3 records acked, 0 kept", done.stderr)
        assert len(agent.kept(f"host/{host_name()}")) == 3


def test_one_that_goes_on_says_when_its_first_record_is_on_the_card() -> None:
    with agent_on_a_port() as (agent, url):
        command = [sys.executable, "-m", "edge_agent", "sensor", "host", "--url", url]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as sensor:
            assert sensor.stderr is not None
            said = sensor.stderr.readline()
            sensor.send_signal(signal.SIGINT)
            rest = sensor.stderr.read()
    assert "the first record is acked; one more each 1 s, until Ctrl-C" in said
    assert len(agent.records) >= 1
    assert "the first record" not in rest and "records acked, 0 kept" in rest


def test_a_refused_token_ends_it_at_once_with_what_helps() -> None:
    with agent_on_a_port() as (agent, url):
        agent.refuse = (401, b"unknown token")
        done = run("sensor", "host", "--url", url, "--source", "me")
    assert done.returncode == EX_NOPERM
    assert "HTTP 401: unknown token (try " in done.stderr and "--token-file FILE" in done.stderr
