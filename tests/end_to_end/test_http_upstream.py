"""A real agent posts to a real HTTP server of the test, which answers as told."""

from __future__ import annotations

import gzip
import json
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgpack
import pytest
import trio
import trustme

from edge_agent.client import Producer
from tests.end_to_end.support import AgentProcess, agents, eventually, producer_to, run_command
from tests.end_to_end.talking import metric
from tests.forward.http_upstream import Got, HttpUpstream, Reply, http_upstream

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CONFIG = """
[store]
size = "16MiB"
[log.main]
commit_interval = "10ms"
[[upstream]]
name = "cloud"
url = "{url}"
batch_age = "20ms"
backoff_base = "20ms"
backoff_max = "40ms"
"""


def station(folder: Path, server: HttpUpstream, *more: str) -> AgentProcess:
    """An agent that forwards to ``server``; ``more`` are lines for its upstream."""
    return AgentProcess(folder, "agent", CONFIG.format(url=server.url) + "\n".join(more))


@asynccontextmanager
async def sensor(agent: AgentProcess) -> AsyncIterator[Producer]:
    async with producer_to(f"{agent.url}/ingest/greenhouse/1", source="pi") as producer:
        yield producer


async def send(agent: AgentProcess, records: Sequence[dict[str, Any]]) -> None:
    """Records in one message; when this returns they are on the agent's disk."""
    async with sensor(agent) as producer:
        await producer.send(list(records))


def decoded(got: Got) -> list[dict[str, Any]]:
    """The records of a request, as its headers say that they are to be read."""
    unpack: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.decompress,
        "zstd": zstd.decompress,
        "none": bytes,
    }
    parse: dict[str, Callable[[bytes], list[dict[str, Any]]]] = {
        "application/x-ndjson": lambda body: [json.loads(line) for line in body.splitlines()],
        "application/json": json.loads,
        "application/msgpack": msgpack.unpackb,
    }
    plain = unpack[got.headers.get("content-encoding", "none")](got.body)
    return parse[got.headers["content-type"]](plain)


async def upstream_status(agent: AgentProcess) -> dict[str, Any]:
    """What the agent says of its upstream."""
    status: dict[str, Any] = (await agent.get("/api/status"))["upstreams"][0]
    return status


async def until_asked(server: HttpUpstream, count: int) -> Got:
    """Wait for request number ``count``, which is 1 for the first."""

    async def enough() -> bool:
        return len(server.got) >= count

    await eventually(enough, describe=f"{count} requests")
    return server.got[count - 1]


async def until_done(agent: AgentProcess) -> None:
    """Wait until the upstream has everything."""

    async def nothing_left() -> bool:
        return bool((await upstream_status(agent))["backlog_records"] == 0)

    await eventually(nothing_left, describe="an empty backlog")


async def test_a_service_gets_its_own_envelope_by_put_and_another_one_events(
    tmp_path: Path,
) -> None:
    async with http_upstream() as server:
        own = station(
            tmp_path, server, 'compression = "none"', "[upstream.http]", 'method = "PUT"',
            """template = '{"at": {time_ms}, "t": {fields.t}}'""",
            """envelope = '{"points": [{records}]}'""",
        )  # fmt: skip
        events = AgentProcess(
            tmp_path, "events",
            CONFIG.format(url=server.url) + 'compression = "none"\nformat = "cloudevents"\n',
        )  # fmt: skip
        async with agents(own, events):
            await send(own, [{"t": 21.5}])
            got = await until_asked(server, 1)
            (point,) = json.loads(got.body)["points"]
            assert (got.method, point["t"]) == ("PUT", 21.5) and point["at"] > 1e12
            await send(events, [{"t": 21.5}])
            got = await until_asked(server, 2)
            (event,) = json.loads(got.body)
            assert (event["subject"], event["data"]) == ("greenhouse/1", {"t": 21.5})


@pytest.mark.parametrize(
    "form, compression, kind",
    [
        ("ndjson", "gzip", "application/x-ndjson"),
        ("json", "none", "application/json"),
        ("msgpack", "zstd", "application/msgpack"),
    ],
)
async def test_records_arrive_in_each_format_with_a_token_over_https(
    tmp_path: Path, form: str, compression: str, kind: str
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    (tmp_path / "token").write_text("s3cret\n")
    async with http_upstream(context=context) as server:
        agent = station(
            tmp_path, server, f'format = "{form}"', f'compression = "{compression}"',
            f'ca_file = "{tmp_path / "ca.pem"}"', f'token_file = "{tmp_path / "token"}"',
        )  # fmt: skip
        agent.config = agent.config.replace("http://", "https://")
        async with agents(agent):
            epoch = (await agent.get("/api/status"))["agent"]["epoch"]
            await send(agent, [{"n": n, "time": 1795341600.25 + n} for n in range(3)])
            got = await until_asked(server, 1)
            await until_done(agent)
    assert len(server.got) == 1
    assert got.headers["authorization"] == "Bearer s3cret"
    assert got.headers["content-type"] == kind
    assert got.headers.get("content-encoding", "none") == compression
    assert got.key == f"{epoch}/main/1-3"
    records = decoded(got)
    assert [record["id"] for record in records] == [f"{epoch}/main/{seq}" for seq in (1, 2, 3)]
    assert [record["fields"] for record in records] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert {(record["stream"], record["source"]) for record in records} == {("greenhouse/1", "pi")}
    assert records[0]["time"] == "2026-11-22T10:00:00.25Z"


@pytest.mark.parametrize(
    "halved, change",
    [
        # What is on the disk behind the batch would go into it if it were planned anew.
        (False, "records behind it"),
        # And so would fewer records. No commit follows the send here, so that a plan which only
        # rides on the next commit is not on the disk yet.
        (False, "smaller batches"),
        (True, "smaller batches"),
    ],
)
async def test_a_batch_killed_before_its_answer_comes_again_with_the_same_key_and_bytes(
    tmp_path: Path, halved: bool, change: str
) -> None:
    async with http_upstream() as server:
        release = trio.Event()

        def refuse_then_hold(_: Got) -> Reply:
            server.hold = release
            return Reply(400, b"too much at once")

        if halved:
            server.answer = refuse_then_hold
        else:
            server.hold = release
        agent = station(tmp_path, server)
        async with agents(agent):
            await send(agent, [{"n": n} for n in range(8)])
            unanswered = await until_asked(server, 2 if halved else 1)
            if change == "records behind it":
                await send(agent, [{"n": n} for n in range(8, 12)])
            await agent.kill()
            if change == "smaller batches":
                agent.config += "batch_records = 3\n"
            asked = len(server.got)
            server.answer = lambda _: Reply()
            release.set()
            await agent.start()
            again = await until_asked(server, asked + 1)
            if change == "smaller batches":
                await send(agent, [{"n": n} for n in range(8, 12)])
            await until_done(agent)
    assert unanswered.key.endswith("/main/1-4" if halved else "/main/1-8")
    assert again.key == unanswered.key
    assert again.body == unanswered.body
    after = [record["fields"]["n"] for got in server.got[asked:] for record in decoded(got)]
    assert after == [*range(12)]


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_waited_for(tmp_path: Path, status: int) -> None:
    times: list[float] = []
    busy = True

    def answer(_: Got) -> Reply:
        times.append(trio.current_time())
        return Reply(status, b"busy", {"Retry-After": "1"}) if busy else Reply()

    async with http_upstream() as server:
        server.answer = answer
        agent = station(tmp_path, server)
        async with agents(agent):
            await send(agent, [{"n": 1}])

            async def waits() -> bool:
                shown = await upstream_status(agent)
                # Without the header it would be 40 ms at most.
                asked = (shown["retry_in_s"] or 0.0) > 0.1
                return asked and bool(shown["error"] == f"HTTP {status}: busy")

            await eventually(waits, describe="the wait in status")
            busy = False
            await until_done(agent)
    assert all(later - earlier >= 1.0 for earlier, later in pairwise(times))
    assert len({(got.key, got.body) for got in server.got}) == 1


async def test_one_poison_record_goes_to_quarantine_and_its_neighbours_arrive_once(
    tmp_path: Path,
) -> None:
    taken: list[dict[str, Any]] = []

    def picky(got: Got) -> Reply:
        records = decoded(got)
        if any("poison" in record["fields"] for record in records):
            return Reply(400, b"no poison, please")
        taken.extend(records)
        return Reply(200, b'{"taken": true}', {"Content-Type": "application/json"})

    async with http_upstream() as server:
        server.answer = picky
        agent = station(tmp_path, server)
        async with agents(agent):
            epoch = (await agent.get("/api/status"))["agent"]["epoch"]
            batch: list[dict[str, Any]] = [{"n": n} for n in range(1, 21)]
            batch[12]["poison"] = True
            await send(agent, batch)
            await until_done(agent)
            await send(agent, [{"n": 21}])
            await until_done(agent)
            status = await agent.get("/api/status")
            # Nothing is lost here: the record can still be asked for.
            assert await agent.count() == 21
            assert await metric(agent, "forward_refused_total") == 1
            assert "refuses main 13 for good (in quarantine)" in agent.output()
    numbers = [n for n in range(1, 22) if n != 13]
    assert [record["fields"]["n"] for record in taken] == numbers
    assert [record["id"] for record in taken] == [f"{epoch}/main/{n}" for n in numbers]
    assert status["store"]["quarantine_entries"] == 1
    assert status["upstreams"][0]["refused_records"] == 1
    assert status["upstreams"][0]["phase"] == "caught up"
    keys = [got.key for got in server.got]
    assert len(keys) == len(set(keys)) <= 12


async def test_401_keeps_everything_and_shows_in_status(tmp_path: Path) -> None:
    async with http_upstream() as server:
        server.answer = lambda _: Reply(401, b"who are you?")
        agent = station(tmp_path, server, 'format = "json"')
        async with agents(agent):
            await send(agent, [{"n": n} for n in range(5)])
            await until_asked(server, 3)
            shown = await upstream_status(agent)
            assert shown["error"] == "HTTP 401: who are you?"
            assert not shown["connected"]
            assert (shown["backlog_records"], shown["refused_records"]) == (5, 0)
            told = await run_command("status", "--url", f"http://127.0.0.1:{agent.http_port}")
            assert "HTTP 401: who are you?" in told.stdout
            asked = len(server.got)
            server.answer = lambda _: Reply()
            await until_done(agent)
            assert (await agent.get("/api/status"))["store"]["quarantine_entries"] == 0
    # No bisecting either: it is the same batch again and again.
    assert len({(got.key, got.body) for got in server.got}) == 1
    assert len(server.got) >= asked + 1
    assert [record["fields"]["n"] for record in decoded(server.got[-1])] == [*range(5)]


async def test_a_captive_portal_acknowledges_nothing(tmp_path: Path) -> None:
    page = b"<!doctype html><title>Welcome to Grand Hotel</title>"
    portal = Reply(200, page, {"Content-Type": "text/html; charset=utf-8"})
    async with http_upstream() as server:
        server.answer = lambda _: portal
        agent = station(tmp_path, server)
        async with agents(agent):
            await send(agent, [{"n": n} for n in range(5)])
            await until_asked(server, 3)
            shown = await upstream_status(agent)
            assert "HTTP 200, but its body is text/html" in shown["error"]
            assert (shown["backlog_records"], shown["acknowledged_records"]) == (5, 0)
            server.answer = lambda _: Reply()
            await until_done(agent)
            assert (await upstream_status(agent))["acknowledged_records"] == 5
    assert len({(got.key, got.body) for got in server.got}) == 1
