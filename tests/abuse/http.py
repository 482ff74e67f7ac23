"""HTTP on the sensors' port: smuggling, heads and bodies that lie, paths, Host and Origin."""

from __future__ import annotations

import gzip

import trio

from tests.abuse.cases import Cases, Run
from tests.abuse.place import JSON, Place, upgrade

CASES = Cases("HTTP")
case = CASES.case
POST = "POST /ingest/abuse/http HTTP/1.1\r\nHost: localhost\r\n"


def refused(name: str, sent: str, request: bytes | str, *statuses: int, reason: str = "") -> None:
    """A request that is answered with one of these, after which the agent closes."""

    async def run(place: Place) -> None:
        answer = await place.ask(request)
        assert answer.status in statuses, answer
        assert reason in answer.text, answer
        # One answer, whatever else was in there.
        assert answer.text.count("HTTP/1.1 ") == 1, answer
        assert "\r\nconnection: close\r\n" in answer.text.lower(), answer

    CASES.add(name, sent, " or ".join(map(str, statuses)), run)


def posted(headers: str, body: str) -> str:
    """A POST whose length is not told unless ``headers`` do."""
    return f"{POST}{headers}\r\n{body}"


# What a proxy and we might understand differently.

refused(
    "two ways to say the length",
    "Content-Length and Transfer-Encoding in one POST",
    posted("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", '5\r\n{"n":\r\n0\r\n\r\n'),
    400,
)
refused(
    "two lengths",
    "Content-Length: 7 and Content-Length: 20",
    posted("Content-Length: 7\r\nContent-Length: 20\r\n", '{"n":1}             '),
    400,
)
refused(
    "two codings",
    "Transfer-Encoding: chunked, twice",
    posted("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
    400,
    501,
)
refused(
    "an unknown transfer coding",
    "Transfer-Encoding: xchunked",
    posted("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
    400,
    501,
)
refused(
    "a coding with a tab",
    "Transfer-Encoding:<tab>chunked, and a length",
    posted("Transfer-Encoding:\tchunked\r\nContent-Length: 3\r\n", "0\r\n\r\n"),
    400,
)
refused(
    "a space before the colon",
    "Content-Length : 7",
    posted("Content-Length : 7\r\n", '{"n":1}'),
    400,
)
refused("a negative length", "Content-Length: -1", posted("Content-Length: -1\r\n", ""), 400)
refused(
    "a length with a sign", "Content-Length: +7", posted("Content-Length: +7\r\n", '{"n":1}'), 400
)
refused(
    "a length in other digits",
    "Content-Length: ² (latin-1)",
    posted("Content-Length: \xb2\r\n", '{"n":1}'),
    400,
)
refused(
    "an absurd length",
    "Content-Length: 99999999999999999999",
    posted("Content-Length: 99999999999999999999\r\n", '{"n":1}'),
    400,
    413,
)
refused(
    "a length of a gigabyte",
    "Content-Length: 1000000000, and nothing of it",
    posted("Content-Length: 1000000000\r\nExpect: 100-continue\r\n", ""),
    413,
)
refused(
    "a chunk of a negative size",
    "chunk size -1",
    posted("Transfer-Encoding: chunked\r\n", '-1\r\n{"n":1}\r\n0\r\n\r\n'),
    400,
)
refused(
    "a chunk in hexadecimal as C writes it",
    "chunk size 0x7",
    posted("Transfer-Encoding: chunked\r\n", '0x7\r\n{"n":1}\r\n0\r\n\r\n'),
    400,
)
refused(
    "a chunk of 2^64",
    "chunk size ffffffffffffffff",
    posted("Transfer-Encoding: chunked\r\n", "ffffffffffffffff\r\n" + "x" * 300_000),
    400,
    413,
)
refused(
    "a chunk longer than it says",
    "chunk size 3, then 7 bytes",
    posted("Transfer-Encoding: chunked\r\n", '3\r\n{"n":1}\r\n0\r\n\r\n'),
    400,
)
refused(
    "a chunk's extension without end",
    "300 KB behind the size of a chunk",
    posted("Transfer-Encoding: chunked\r\n", "7;" + "x" * 300_000),
    400,
    431,
)
refused(
    "a chunked body without end",
    "1 MB in chunks of 64 KB, where 256 KiB are allowed",
    posted("Transfer-Encoding: chunked\r\n", ("10000\r\n" + " " * 65536 + "\r\n") * 16),
    413,
)
refused("a body that would grow", "gzip of a megabyte of zeros",
        POST.encode() + b"Content-Encoding: gzip\r\nContent-Length: 1000\r\n\r\n"
        + gzip.compress(bytes(1_000_000))[:1000], 415)  # fmt: skip
refused("no length at all", "a POST without length and chunks", posted("", '{"n":1}'), 411)
refused(
    "a form that is not read",
    "CBOR of -18, which is the JSON 1 when taken for text",
    posted("Content-Type: application/senml+cbor\r\nContent-Length: 1\r\n", "\x31"),
    415,
)
# Heads.

refused(
    "a head of a megabyte", "one header without end", "GET / HTTP/1.1\r\nX: " + "x" * 1_000_000, 431
)
refused(
    "a thousand headers",
    "a thousand headers of 100 bytes",
    "GET / HTTP/1.1\r\n" + ("X: " + "x" * 95 + "\r\n") * 1000 + "\r\n",
    431,
)
refused("a NUL in a header", "X: a<NUL>b", upgrade("/ingest/abuse", "X: a\0b"), 400)
refused("no Host", "HTTP/1.1 without Host", "GET /ingest/abuse HTTP/1.1\r\n\r\n", 400)
refused(
    "two Hosts",
    "Host: localhost and Host: evil.example",
    upgrade("/ingest/abuse", "Host: evil.example"),
    400,
)
refused(
    "two keys",
    "Sec-WebSocket-Key twice",
    upgrade("/ingest/abuse", "Sec-WebSocket-Key: BBBBBBBBBBBBBBBBBBBBBA=="),
    400,
)
refused(
    "a key that is none", "Sec-WebSocket-Key: short", upgrade("/ingest/abuse", key="c2hvcnQ="), 400
)
refused(
    "another version of WebSocket",
    "Sec-WebSocket-Version: 8",
    upgrade("/ingest/abuse").replace("Version: 13", "Version: 8"),
    426,
)
refused(
    "an upgrade to something else",
    "Upgrade: h2c",
    upgrade("/ingest/abuse").replace("Upgrade: websocket", "Upgrade: h2c"),
    426,
)
refused("HTTP/2", "the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505)
refused(
    "a version that is not spoken",
    "a POST that says HTTP/9.9",
    posted("Content-Length: 7\r\n", '{"n":1}').replace("HTTP/1.1", "HTTP/9.9"),
    505,
)
refused("HTTP/0.9", "GET / and nothing else", "GET /\r\n\r\n", 400)
refused(
    "a tunnel",
    "CONNECT evil.example:443",
    "CONNECT evil.example:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    405,
)
refused(
    "TLS where there is none",
    "a ClientHello to the plain port",
    bytes.fromhex("160301002f0100002b0303") + bytes(38),
    400,
    reason="without TLS",
)
refused("another protocol", "SSH's greeting", "SSH-2.0-OpenSSH_9.2\r\n\r\n", 400)

# Who asks, and for what.

refused(
    "a foreign Host",
    "Host: evil.example, as DNS rebinding does",
    upgrade("/ingest/abuse", host="evil.example"),
    403,
)
refused(
    "a foreign page",
    "Origin: http://evil.example",
    upgrade("/ingest/abuse", "Origin: http://evil.example"),
    403,
)
refused("a sandboxed page", "Origin: null", upgrade("/ingest/abuse", "Origin: null"), 403)
refused(
    "a foreign page that posts",
    "the same, as a form can",
    posted("Origin: http://evil.example\r\nContent-Length: 7\r\n", '{"n":1}'),
    403,
)
refused("a path upwards", "/ingest/../query", upgrade("/ingest/../query"), 400)
refused(
    "a path upwards in disguise", "/ingest/%2e%2e%2fquery", upgrade("/ingest/%2e%2e%2fquery"), 400
)
refused("a path encoded twice", "/ingest/%252e%252e", upgrade("/ingest/%252e%252e"), 400)
refused("a path with NUL", "/ingest/a%00b", upgrade("/ingest/a%00b"), 400)
refused("a path that is no UTF-8", "/ingest/%ff%fe", upgrade("/ingest/%ff%fe"), 400)
refused("a path with two slashes", "//ingest/abuse", upgrade("//ingest/abuse"), 404)
refused(
    "a target as for a proxy, to a path that is none",
    "GET http://localhost//ingest/abuse",
    upgrade("http://localhost//ingest/abuse"),
    404,
)
refused("a path nobody knows", "/admin", upgrade("/admin"), 404)
refused(
    "a target of 8,000 characters",
    "/ingest/abuse?ack=000…",
    upgrade("/ingest/abuse?ack=" + "0" * 8000),
    400,
)
refused("a query key twice", "?ack=1&ack=0", upgrade("/ingest/abuse?ack=1&ack=0"), 400)
refused(
    "a thousand query keys",
    "?a0=&a1=…",
    upgrade("/ingest/abuse?" + "&".join(f"a{n}=" for n in range(500))),
    400,
)
refused(
    "an endless key",
    "Idempotency-Key of 5,000 characters",
    posted("Idempotency-Key: " + "k" * 5000 + "\r\nContent-Length: 7\r\n", '{"n":1}'),
    400,
)


@case("a target as for a proxy", "GET http://evil.example/ingest/abuse, Host: localhost",
      "101: the path counts, and the Host is judged")  # fmt: skip
async def _(place: Place) -> None:
    async with place.peer() as peer:
        await peer.upgrade("http://evil.example/ingest/abuse")
        assert " 101 " in peer.head, peer.head


@case("a request behind a body", "a POST, and behind its length a second one with a foreign Host",
      "200 for the first, 403 for the second")  # fmt: skip
async def _(place: Place) -> None:
    second = POST.replace("localhost", "evil.example") + 'Content-Length: 7\r\n\r\n{"n":2}'
    answer = await place.ask(posted("Content-Length: 7\r\n", '{"n":1}') + second)
    assert answer.status == 200 and answer.text.count("HTTP/1.1 403 ") == 1, answer


@case("a WebSocket behind a POST", "a POST, and an upgrade on the same connection",
      "200, then 405")  # fmt: skip
async def _(place: Place) -> None:
    answer = await place.ask(posted("Content-Length: 7\r\n", '{"n":1}') + upgrade("/ingest/abuse"))
    assert answer.status == 200 and answer.text.count("HTTP/1.1 405 ") == 1, answer


@CASES.last
async def _(place: Place) -> None:
    assert await place.stored() == [{"n": 1}, {"n": 1}], "all but two were refused"


@case("a body that never comes", "a length of 100, then silence", "closed at `idle_timeout`",
      slow=True)  # fmt: skip
async def _(place: Place) -> None:
    assert (await place.ask(posted("Content-Length: 100\r\n", '{"n":1}'))).status == 0


@case("frames before the upgrade", "an upgrade that is refused, and frames behind it",
      "404, the frames are thrown away")  # fmt: skip
async def _(place: Place) -> None:
    answer = await place.ask(upgrade("/nowhere") + "\x81\x80\0\0\0\0" * 50_000)
    assert answer.status == 404 and answer.text.count("HTTP/1.1 ") == 1, answer


def _thousand_subprotocols() -> Run:
    async def run(place: Place) -> None:
        names = ", ".join(f"p{n}" for n in range(1000))
        async with place.peer() as peer:
            await peer.upgrade("/ingest/abuse", f"Sec-WebSocket-Protocol: {names}, {JSON}")
            assert f"Protocol: {JSON}" in peer.head
            with trio.move_on_after(1):
                await peer.hello("many-protocols")

    return run


CASES.add("a thousand subprotocols", "a thousand that nobody knows, and ours last",
          "ours is chosen", _thousand_subprotocols())  # fmt: skip
