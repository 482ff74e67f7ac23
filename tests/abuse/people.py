"""The people's port: what a page, a scraper or a script must not do to it."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack
from functools import partial
from urllib.parse import quote

import trio

from tests.abuse.cases import Cases
from tests.abuse.place import Place

CASES = Cases("The people's port")
case = CASES.case
GET = "GET {0} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{1}\r\n"


def asked(
    name: str, sent: str, path: str, *statuses: int, headers: str = "", head: str = ""
) -> None:
    """A request, and its status."""

    async def run(place: Place) -> None:
        request = head or GET.format(path, headers)
        answer = await place.ask(request, port=place.agent.http_port)
        assert answer.status in statuses, answer
        assert "Traceback" not in answer.text

    CASES.add(name, sent, " or ".join(map(str, statuses)), run)


asked("a path to files", "/../../etc/passwd", "/../../etc/passwd", 404)
asked("a path to files in disguise", "/%2e%2e/%2e%2e/etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", 404)
asked("a page with NUL", "/%00", "/%00", 404)
asked("a foreign name", "Host: evil.example", "", 403, 421,
      head="GET /api/status HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")  # fmt: skip
asked("a foreign page that orders", "POST /api/consumers with Origin: http://evil.example", "", 400, 403, 404, 405,
      head="POST /api/consumers HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n"
      "Content-Length: 2\r\nConnection: close\r\n\r\n{}")  # fmt: skip
asked("an order without its header", "a POST as a form sends it", "", 400, 403, 404, 405, 415,
      head="POST /api/consumers HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
      "Content-Length: 2\r\nConnection: close\r\n\r\n{}")  # fmt: skip
asked("smuggling at the people's port", "Content-Length and Transfer-Encoding", "", 400,
      head="POST /api/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
      "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")  # fmt: skip
asked("a question of a million records", "limit=1e99", "/api/query?limit=1e99", 400)
asked(
    "a question that ends before it begins", "from=9e15&to=1", "/api/query?from=9e15&to=1", 200, 400
)
asked("a filter of 1,000 brackets", "filter=((((…", "/api/query?filter=" + quote("(" * 1000), 400)
asked(
    "a filter that multiplies",
    "fields of 500 parts",
    "/api/query?filter=" + quote("a" + ".a" * 500 + ">1"),
    200,
    400,
)
asked("a live view as CSV", "/api/subscribe?format=csv", "/api/subscribe?format=csv", 400)
asked("a key nobody knows", "/api/query?nonsense=1", "/api/query?nonsense=1", 400)
asked(
    "2,500 fields",
    "fields=f0,f1,…",
    "/api/query?step=1h&fields=" + ",".join(f"f{n}" for n in range(2_500)),
    400,
)
asked(
    "a pattern of 90 wildcards",
    "stream=**/a/**/a/…",
    "/api/query?stream=" + "/".join(["**", "a"] * 45),
    200,
    400,
)
asked("a live view each nanosecond", "step=1ns", "/api/subscribe?stream=**&step=1ns", 400)
asked("a thousand ranges", "Range: bytes=0-1,2-3,… of the page", "/", 200,
      headers="Range: bytes=" + ",".join(f"{n}-{n + 1}" for n in range(0, 2_000, 2)) + "\r\n")  # fmt: skip
asked("2,000 entity tags", 'If-None-Match: "a","a",…', "/", 200,
      headers="If-None-Match: " + '"a",' * 2_000 + "\r\n")  # fmt: skip
asked("metrics by another method", "DELETE /metrics", "", 405,
      head="DELETE /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")  # fmt: skip
asked("a cursor of somebody else's", "next=AAAA", "/api/query?next=AAAA", 400)
asked("an event id that lies", "Last-Event-ID: main:999…", "/api/nothing", 404,
      headers="Last-Event-ID: main:" + "9" * 400 + "\r\n")  # fmt: skip


@case("half a question", "half a head, then silence, twenty times", "others are answered")
async def _(place: Place) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(20):
            peer = await stack.enter_async_context(place.peer(port=place.agent.http_port))
            await peer.write("GET /api/status HTTP/1.1\r\n")
        await place.agent.get("/healthz")


@case(
    "an answer that nobody reads",
    "twenty pipelined questions, no answer read",
    "others are answered",
)
async def _(place: Place) -> None:
    async with place.peer(port=place.agent.http_port) as peer:
        assert isinstance(peer.stream, trio.SocketStream)
        peer.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await peer.write("GET /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
        await place.agent.get("/healthz")


@case(
    "live views without end", "eight at once, where five are allowed", "those beyond get 4xx or 503"
)
async def _(place: Place) -> None:
    statuses: list[str] = []
    async with AsyncExitStack() as stack:
        for _ in range(8):
            peer = await stack.enter_async_context(place.peer(port=place.agent.http_port))
            await peer.write(GET.format("/api/subscribe?stream=nothing/**", ""))
            statuses.append(str((await _head(peer.stream))[9:12]))
    assert statuses[:5] == ["200"] * 5, statuses
    assert all(status[0] in "45" for status in statuses[5:]), statuses


async def _head(stream: trio.abc.Stream) -> str:
    read = partial(stream.receive_some, 4096)
    return bytes(await read()).decode(errors="replace")
