"""Every parameter of every route, given what no client means: an answer in the 400s, never a fault.

Real sockets and the whole application; what is drawn is the target and the body.
"""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.ops.access import ORDER_HEADER
from tests.ops.real import Agent, agent
from tests.patience import PATIENCE_S

PARAMETERS = {
    "/": ("x",),
    "/healthz": ("x",),
    "/metrics": ("x",),
    "/api/status": ("x",),
    "/api/streams": ("stream", "x"),
    "/api/query": (
        "stream", "from", "to", "filter", "limit", "next", "aggregate", "format", "x",
    ),
    "/api/subscribe": ("stream", "from", "filter", "step", "fields", "x"),
    "/api/quarantine": ("after", "limit", "x"),
    "/api/consumers": ("x",),
}  # fmt: skip
NINES = "9" * 400
NASTY = [
    "", " ", "%00", "%ff%fe", "%ED%A0%80", NINES, f"-{NINES}", f"-{NINES}d", f"{NINES}.{NINES}",
    f"-0.{NINES}s", "9" * 5000, "1e400", "nan", "-inf", "%D9%A3", "%C2%B2", "main:" + NINES,
    "main:0", "nowhere:1", ":", "(" * 500, "a.b.c==" * 100, "9999-12-31T23:59:59-05:00",
    "0001-01-01T00:00:00%2B05:00", "2026-02-30", "**/**/" * 50, "[", "$x", "..", "*" * 200,
]  # fmt: skip
BODIES = [
    b"", b"\xff", b'"\xff"', b"{", b"[]", b"null", b"[" * 60_000, b'{"order":"\\ud800"}',
    b'{"order":"rewind","consumer":"\xff","to":"start"}', b'{"order":"\xff"}',
    b'{"order":"rewind","consumer":"x","to":"' + b"9" * 400 + b'"}',
    b'{"order":"rewind","consumer":"x","to":"-' + b"9" * 400 + b'd"}',
    b'{"order":"skip","consumer":"' + b"x" * 50_000 + b'"}',
    b'{"order":"drop","numbers":[' + b"9" * 400 + b"]}",
    b'{"order":"replay","numbers":[-1]}', b'{"order":"drop","numbers":[18446744073709551615]}',
    b'{"order":"replay","numbers":[9223372036854775807]}', b'{"order":"x"}' + b" " * 70_000,
]  # fmt: skip


async def status_of(running: Agent, target: str, body: bytes | None = None) -> int:
    """The status of one request."""
    lines = [f"{'GET' if body is None else 'POST'} {target} HTTP/1.1", "Connection: close"]
    lines += [f"Host: 127.0.0.1:{running.address[1]}"]
    if body is not None:
        lines += [f"Content-Length: {len(body)}", f"{ORDER_HEADER}: yes"]
    with trio.fail_after(PATIENCE_S):
        async with await trio.open_tcp_stream(*running.address) as stream:
            await stream.send_all("\r\n".join([*lines, "", ""]).encode() + (body or b""))
            answer = b""
            while b"\r\n" not in answer:
                piece = await stream.receive_some(4096)
                assert piece, (target, answer)
                answer += piece
    return int(answer.split()[1])


def is_fine(status: int) -> bool:
    # 503 is "busy" and "store_failing", which nothing here causes.
    return 200 <= status < 500


@pytest.mark.parametrize("path", PARAMETERS)
async def test_every_parameter_answers_nonsense_with_400s(tmp_path: Path, path: str) -> None:
    async with agent(tmp_path) as running:
        await running.keep("a/1", [1, 2, 3])
        for name in PARAMETERS[path]:
            for value in NASTY:
                target = f"{path}?{name}={value.replace(' ', '%20').replace('[', '%5B')}"
                status = await status_of(running, target)
                assert is_fine(status), (target[:200], status)


@pytest.mark.parametrize("path", ["/api/consumers", "/api/quarantine"])
async def test_orders_that_are_nonsense_are_answered_with_400s(tmp_path: Path, path: str) -> None:
    async with agent(tmp_path) as running:
        await running.keep("a/1", [1, 2, 3])
        for body in BODIES:
            status = await status_of(running, path, body)
            assert 400 <= status < 500, (body[:100], status)


@settings(max_examples=5, suppress_health_check=list(HealthCheck))
@given(
    asked=st.lists(
        st.tuples(
            st.sampled_from(
                [(path, name) for path, names in PARAMETERS.items() for name in names]
            ),
            st.one_of(st.text(max_size=30), st.from_regex(r"-?[0-9.]{1,30}[smhdw]?")),
        ),
        min_size=40, max_size=40,
    ),
    orders=st.lists(
        st.dictionaries(
            st.sampled_from(["order", "consumer", "log", "to", "agent", "numbers"]),
            st.one_of(st.text(max_size=9), st.integers(), st.none(), st.lists(st.integers())),
        ),
        min_size=10, max_size=10,
    ),
)  # fmt: skip
async def test_whatever_is_asked_nothing_fails(
    tmp_path_factory: pytest.TempPathFactory,
    asked: list[tuple[tuple[str, str], str]],
    orders: list[dict[str, object]],
) -> None:
    async with agent(tmp_path_factory.mktemp("agent")) as running:
        await running.keep("a/1", [1, 2, 3])
        for (path, name), value in asked:
            target = f"{path}?{name}={quote(value, safe='')}"
            status = await status_of(running, target)
            assert is_fine(status), (target, status)
        for order in orders:
            for path in ("/api/consumers", "/api/quarantine"):
                status = await status_of(running, path, json.dumps(order).encode())
                assert is_fine(status), (order, status)


@pytest.mark.parametrize(
    "target, expected",
    [
        ("/api/streams?steam=a/*", "steam: no such parameter; there are stream"),
        ("/api/streams?stream=a/*&limit=1", "limit: no such parameter"),
        ("/api/quarantine?from=1", "from: no such parameter; there are after, limit"),
        ("/api/quarantine?limit=ten", "limit: expected a whole number, got 'ten'"),
        ("/api/subscribe?limit=1", "limit: no such parameter; there are stream, from"),
        ("/api/query?limits=1", "limits: no such parameter"),
        ("/api/query?stream=a/1&stream=b/1", "stream: given twice"),
        ("/api/streams?stream=a/1&stream=b/1", "stream: given twice"),
        ("/api/subscribe?stream=a/1&stream=b/1", "stream: given twice"),
        ("/api/quarantine?after=1&after=2", "after: given twice"),
    ],
)
async def test_a_parameter_that_a_route_does_not_know_is_refused_by_name(
    tmp_path: Path, target: str, expected: str
) -> None:
    async with agent(tmp_path) as running:
        await running.keep("a/1", [1])
        status, _, body = await running.get(target)
        error = json.loads(body)["error"]
        assert (status, error["code"]) == (400, "bad_query") and expected in error["message"]
