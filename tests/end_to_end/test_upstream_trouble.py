"""A real agent and ways to an HTTP server through which not everything gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.support import AgentProcess, agents, eventually, producer_to, run_command
from tests.end_to_end.test_http_upstream import (
    CONFIG,
    decoded,
    send,
    station,
    until_done,
    upstream_status,
)
from tests.forward.gateways import gateway
from tests.forward.http_upstream import Got, Reply, http_upstream

COUNT = 3000


async def fill(agent: AgentProcess, count: int = COUNT) -> None:
    """Records as sensors send them, some 270 bytes each as JSON."""
    for first in range(0, count, 500):
        await send(
            agent, [{"n": n, "t": n / 7, "pad": "x" * 40} for n in range(first, first + 500)]
        )


def distinct(records: list[dict[str, Any]]) -> list[int]:
    """The numbers of records, each once by its id."""
    return sorted({record["id"]: record["fields"]["n"] for record in records}.values())


@pytest.mark.parametrize("how", ["hang_up", "silent"])
async def test_a_gateway_that_drops_bodies_over_60_kb_gets_them_smaller(
    tmp_path: Path, how: str
) -> None:
    taken: list[dict[str, Any]] = []

    def answer(got: Got) -> Reply:
        if len(got.body) > 60_000:
            return Reply(hang_up=how == "hang_up", silent=how == "silent")
        taken.extend(decoded(got))
        return Reply()

    async with http_upstream() as server:
        server.answer = answer
        agent = station(tmp_path, server, 'compression = "none"', 'timeout = "1s"')
        async with agents(agent):
            await fill(agent)
            await until_done(agent)
            (lane,) = (await upstream_status(agent))["lanes"]
            assert 20_000 < lane["largest_passed_bytes"] <= 60_000
            assert lane["last_batch"]["outcome"] == "acknowledged"
            assert lane["last_batch"]["http_status"] == 204
            url = f"http://127.0.0.1:{agent.http_port}"
            shown = (await run_command("status", "--url", url)).stdout
            if lane["smallest_failed_bytes"]:
                assert "do not get through" in shown
            assert "do not get through, so less is sent" in agent.output()
    assert distinct(taken) == [*range(COUNT)]
    # Bodies are the same under the same key, whatever was cut.
    assert len({(got.key, got.body) for got in server.got}) == len({got.key for got in server.got})


async def test_a_backlog_over_16_kb_a_second_arrives_although_it_takes_many_timeouts(
    tmp_path: Path,
) -> None:
    """810 kB in 50 s against a timeout of 30 s, eight times faster."""
    taken: list[dict[str, Any]] = []

    def answer(got: Got) -> Reply:
        taken.extend(decoded(got))
        return Reply()

    async with http_upstream() as server, gateway(server.port, per_second=8 * 16_000) as way:
        server.answer = answer
        config = CONFIG.format(url=f"http://127.0.0.1:{way.port}/in")
        config += 'compression = "none"\ntimeout = "3s"\n'
        agent = AgentProcess(tmp_path, "agent", config)
        async with agents(agent):
            await fill(agent)
            await until_done(agent)
            status = await upstream_status(agent)
    assert distinct(taken) == [*range(COUNT)]
    assert status["failures"] == 0


async def test_what_was_set_aside_is_sent_again_by_command(tmp_path: Path) -> None:
    broken = True
    taken: list[dict[str, Any]] = []

    def answer(got: Got) -> Reply:
        records = decoded(got)
        if broken and any(record["fields"]["n"] == 4 for record in records):
            return Reply(409, b"conflict")
        taken.extend(records)
        return Reply()

    async with http_upstream() as server:
        server.answer = answer
        agent = station(tmp_path, server)
        async with agents(agent):
            await send(agent, [{"n": n} for n in range(8)])
            await until_done(agent)
            url = f"http://127.0.0.1:{agent.http_port}"
            listed = json.loads(
                (await run_command("quarantine", "list", "--json", "--url", url)).stdout
            )
            assert [(one["code"], one["log"], one["seq"]) for one in listed] == [
                ("upstream_refused", "main", 5)
            ]
            assert "HTTP 409: conflict" in listed[0]["reason"]
            assert distinct(taken) == [0, 1, 2, 3, 5, 6, 7]
            broken = False
            told = await run_command("quarantine", "replay", "--all", "--url", url)
            assert told.returncode == 0
            assert "1 on their way to upstream cloud again" in told.stdout

            async def arrived() -> bool:
                status = await agent.get("/api/status")
                return status["store"]["quarantine_entries"] == 0 and len(distinct(taken)) == 8

            await eventually(arrived, describe="the record, and an empty quarantine")
    assert distinct(taken) == [*range(8)]


async def test_one_sensor_that_sends_rubbish_does_not_stop_the_others(tmp_path: Path) -> None:
    taken: list[dict[str, Any]] = []

    def answer(got: Got) -> Reply:
        records = decoded(got)
        if any(record["fields"].get("rubbish") for record in records):
            return Reply(400, b"rubbish")
        taken.extend(records)
        return Reply()

    async with http_upstream() as server:
        server.answer = answer
        agent = station(tmp_path, server)
        async with agents(agent):
            await send(agent, [{"n": n, "rubbish": True} for n in range(30)])
            async with producer_to(f"{agent.url}/ingest/cellar/1", source="good") as producer:
                await producer.send([{"n": n} for n in range(30, 40)])
            await until_done(agent)
            assert (await upstream_status(agent))["phase"] == "caught up"
            assert (await agent.get("/api/status"))["store"]["quarantine_entries"] == 30
    assert distinct(taken) == [*range(30, 40)]
