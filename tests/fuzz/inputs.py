"""Inputs of every kind, drawn from a seed: sound ones, spoilt ones, noise."""

from __future__ import annotations

import json
import random
from typing import Any

import msgpack

from edge_agent.store import encode_runs
from edge_agent.values.clock_note import ClockNote
from edge_agent.values.record import ForeignBlock, Origin, Run
from edge_agent.wire import Segment, encode_segments
from tests.wire.framing import frame

NUMBERS: tuple[Any, ...] = (
    0, 1, -1, 127, 128, 255, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1, 0.1, -0.0, 1e300,
    float("nan"), float("inf"), 1_795_341_600, 1_795_341_600_000, 2**28, -30,
)  # fmt: skip
TEXTS = (
    "", "a", "time", "stream", "noon", "ü\u202e\u2028\x1b[31m", "x" * 300, "a/b", "../x", "$x",
    "\x00",
    "2026-11-28T19:00:00Z", "2026-11-28 19:00:00", "9999-12-31T23:59:59-05:00", "**", "=1+1",
)  # fmt: skip
KEYS = ("t", "h", "time", "stream", "value", "type", "source", "first", "epoch", "id", "ü", "")
HEADERS = (
    "Host: localhost", "Host: evil.example", "Host: [::1", "Origin: null", "Origin: http://a.b",
    "Connection: Upgrade", "Connection: keep-alive, Upgrade", "Upgrade: websocket", "Upgrade: h2c",
    "Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8", "Sec-WebSocket-Version: \xff",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Key: !",
    "Transfer-Encoding: chunked",
    "Sec-WebSocket-Protocol: arduino", "Sec-WebSocket-Protocol: ,,edge-agent.v1+json,",
    "Sec-WebSocket-Protocol: edge-agent.token.%%%", "Sec-WebSocket-Extensions: permessage-deflate",
    "Authorization: Bearer x", "Authorization: \x00", "Content-Length: 0", "Content-Length: -1",
    "Content-Length: 99999999999999999999", "Cookie: " + "x" * 3000, "Expect: 100-continue",
    "X" * 500,
    "edge-agent-order: yes", "Accept: text/event-stream", "Last-Event-ID: main:" + "9" * 50,
)  # fmt: skip
PATHS = (
    "/ingest/fuzz", "/ingest/fuzz?ack=1", "/ingest/", "/ingest/%00", "/ingest/%ff", "/forward", "/",
    "/subscribe/**", "/subscribe/a?from=" + "9" * 400, "/query", "/healthz", "/metrics", "/x" * 900,
    "/api/query?limit=5", "/api/query?from=-9e9&to=1", "/api/status", "/api/streams?stream=[",
    "/api/consumers", "/api/quarantine?after=1", "http://localhost/", "*", "/api/query?filter=((a",
)  # fmt: skip
RETRY_AFTER = (
    "1", "0", "-1", "1e9", "9" * 400, "soon", "", "Wed, 21 Oct 2026 07:28:00 GMT",
    "Wed, 21 Oct 99999999999 07:28:00 GMT", "Wed, 21 Oct 2026 07:28:00 +999999999999999999", "\x00",
    "Wed, 21 Oct 0000 07:28:00 GMT", "Sun, 99 Xyz 2026 99:99:99 GMT", "nan", "1.5", "١",
)  # fmt: skip
BODIES = (
    b"", b"ok", b"\xef\xbb\xbf{}", b"{}", b"null", b"[]", b"<html>login</html>", b"\xff" * 50,
    b'{"errors":true,"items":[]}', b'{"error":"x"}', b'{"items":[{"index":{"status":429}}]}',
    b'{"items":' + b"[" * 5000, b'{"status":' + b"9" * 5000 + b"}", b"x" * 200_000, b'{"code":0}',
    b'{"errors":true,"items":[{"create":{"status":"x"}},3,null]}', b'{"FailedRecordCount":1}',
    b'{"items":[{"create":{"status":400}},{"create":{"status":201}},{"create":{"status":429}}]}',
    b'{"FailedRecordCount":2,"Records":[{"ErrorCode":"x"},{},{"ErrorCode":"y"}]}', b'{"data":null}',
    b'{"partialSuccess":{"rejectedLogRecords":"9"}}', b'{"success":false}', b'[{"error":1},2]',
    b'"\\ud800"', b"1e999",
)  # fmt: skip


class Inputs:
    """Draws inputs; two with the same seed draw the same."""

    def __init__(self, seed: object) -> None:
        self._random = random.Random(str(seed))

    def value(self, depth: int = 3) -> Any:
        """Something that JSON or msgpack might hold."""
        draw = self._random
        kind = draw.randrange(10 if depth else 6)
        if kind < 3:
            return draw.choice(NUMBERS)
        if kind < 5:
            return draw.choice(TEXTS)
        if kind == 5:
            return draw.choice((None, True, False))
        if kind < 8:
            return {draw.choice(KEYS): self.value(depth - 1) for _ in range(draw.randrange(5))}
        return [self.value(depth - 1) for _ in range(draw.randrange(5))]

    def message(self) -> str | bytes:
        """A data message, in JSON or msgpack."""
        draw = self._random
        value = self.value() if draw.random() < 0.8 else [self.value(2) for _ in range(50)]
        if draw.random() < 0.5:
            text = json.dumps(value)
            if draw.random() < 0.4:
                text = self.spoilt(text.encode()).decode("utf-8", "replace")
            return text
        if draw.random() < 0.1 and isinstance(value, dict):
            value = {draw.choice((1, None, b"k", 1.5)): value, "b": draw.randbytes(9)}
        data: bytes = msgpack.packb(value)
        return self.spoilt(data) if draw.random() < 0.4 else data

    def hello(self, source: str | None = None) -> str:
        """The first message of a session, mostly sound."""
        draw = self._random
        hello: dict[str, Any] = {"type": "hello", "source": source or f"fuzz/{draw.randrange(20)}"}
        for key in ("epoch", "first", "proof", "x", "source", "type"):
            if draw.random() < 0.1:
                hello[key] = self.value(1)
        text = json.dumps(hello)
        if draw.random() < 0.1:
            return self.spoilt(text.encode()).decode("utf-8", "replace")
        return text

    def control(self) -> str | bytes:
        """What an agent says to its client."""
        draw = self._random
        said: dict[str, Any] = {"type": draw.choice(("welcome", "ack", "nack", "stop", "x", 1))}
        said |= {"epoch": "e" * 16, "next": 1, "window": {"records": 1, "bytes": 1}, "at": 1}
        said |= {"code": "rate", "retry_after": 1, "message": "m"}
        for key in list(said):
            if draw.random() < 0.2:
                said[key] = self.value(1)
        data: bytes = msgpack.packb(said)
        spoilt = self.spoilt(data) if draw.random() < 0.2 else data
        return spoilt if draw.random() < 0.5 else json.dumps(said)

    def frames(self) -> bytes:
        """Frames as a client might send them, right or wrong."""
        draw = self._random
        found = b""
        for _ in range(draw.randrange(1, 6)):
            opcode = draw.choice((0, 1, 1, 2, 2, 8, 9, 10, 3, 15))
            payload = draw.choice((b"", b"{}", b"[1,2]", b"\xff", draw.randbytes(130), b'{"t":1}'))
            length_bytes = draw.choice((None, None, None, 2, 8))
            lengths = (None, None, None, None, len(payload) + 1, 2**15, 2**40, 2**63)
            found += frame(
                opcode,
                payload,
                final=draw.random() < 0.8,
                key=None if draw.random() < 0.1 else draw.randbytes(4),
                reserved=draw.choice((0, 0, 0, 0, 0, 0x40, 0x10)),
                length_bytes=length_bytes,
                length=draw.choice(lengths if length_bytes != 2 else lengths[:6]),
            )
            if draw.random() < 0.1:
                found += draw.randbytes(20)
        return found

    def segments(self) -> bytes:
        """A message of ``/forward``."""
        draw = self._random
        first = draw.choice((1, 1, 1, 5, 2**62))
        made: list[Segment] = []
        for _ in range(draw.randrange(1, 4)):
            last = first + draw.randrange(5)
            if draw.random() < 0.4:
                made.append(Segment(first, last, draw.choice(("filtered", "trimmed", "thinned"))))
            else:
                made.append(Segment.of(self._block(first, last)))
            first = last + 1
        notes = [
            ClockNote(
                "feedfacecafe",
                draw.randbytes(16),
                draw.choice((0, 5, 2**62)),
                draw.choice((6, 2**63 - 1)),
            )
            for _ in range(draw.randrange(2))
        ]
        data = encode_segments(made, notes)
        if draw.random() < 0.3:
            return self.spoilt(data)
        if draw.random() < 0.3:
            items = msgpack.unpackb(data, strict_map_key=False, use_list=True)
            item = draw.choice(items)
            item[draw.randrange(len(item))] = self.value(1)
            try:
                return bytes(msgpack.packb(items))
            except (ValueError, OverflowError):
                return data
        return data

    def _block(self, first: int, last: int) -> ForeignBlock:
        draw = self._random
        count = last - first + 1
        body = b"".join(msgpack.packb({"t": draw.random()}) for _ in range(count))
        run = Run(draw.choice(("a/b", "$x", "", "ü")), "s", 0, 5, True, count, body, 5, 5)
        payload = encode_runs([run]) if draw.random() < 0.7 else draw.randbytes(40)
        agent = draw.choice(("0a1b2c3d4e5f", "feedfacecafe", "x"))
        origin = Origin(agent, "5f0c" * 4, "main", 1, b"b" * 16, 5, 6, True, (agent,))
        return ForeignBlock(
            first, last, count, draw.choice((0, 0, 1, 9)), len(payload), payload, 3, 4, origin
        )

    def request(self) -> bytes:
        """The head of a request, to either port."""
        draw = self._random
        method = draw.choice(("GET",) * 6 + ("POST", "HEAD", "OPTIONS", "PRI", "", "G\xff"))
        version = draw.choice(("HTTP/1.1",) * 6 + ("HTTP/1.0", "HTTP/2.0", "HTTP/9", ""))
        lines = [f"{method} {draw.choice(PATHS)} {version}"]
        if draw.random() < 0.6:
            lines += [HEADERS[0], "Connection: Upgrade", "Upgrade: websocket"]
            lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
        lines += draw.choices(HEADERS, k=draw.randrange(6))
        data = "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")
        if draw.random() < 0.3:
            data += draw.choice((b"{}", b"0\r\n\r\n", draw.randbytes(60), self.frames()))
        return self.spoilt(data) if draw.random() < 0.3 else data

    def answer(self) -> tuple[int, list[tuple[str, str]], bytes]:
        """Status, headers and body of an upstream's answer."""
        draw = self._random
        statuses = (200, 201, 202, 204, 207, 301, 302, 304, 400, 401, 403, 404, 409, 413, 415, 422)
        status = draw.choice((*statuses, 429, 429, 500, 502, 503, 503, 100, 199, 299, 599, 999))
        headers = [("Content-Type", draw.choice(("application/json", "text/plain", "", "\x7f")))]
        if draw.random() < 0.5:
            headers.append(("Retry-After", draw.choice(RETRY_AFTER)))
        if draw.random() < 0.2:
            headers.append(("Location", draw.choice(("/", "http://127.0.0.1:1/", "\x00", "//"))))
        if draw.random() < 0.2:
            headers.append(("Content-Encoding", draw.choice(("gzip", "br", "deflate", "x"))))
        body = draw.choice(BODIES) if draw.random() < 0.7 else json.dumps(self.value()).encode()
        return status, headers, body

    def raw_answer(self) -> bytes:
        """The same as bytes, cut or spoilt now and then."""
        draw = self._random
        status, headers, body = self.answer()
        if draw.random() < 0.8:
            headers.append(("Content-Length", str(len(body) + draw.choice((0, 0, 0, 1, -1)))))
        lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers)]
        data = "\r\n".join([*lines, "", ""]).encode("utf-8") + body
        if draw.random() < 0.2:
            return data[: draw.randrange(len(data))]
        return self.spoilt(data) if draw.random() < 0.2 else data

    def text(self) -> str:
        """What stands in a parameter."""
        draw = self._random
        if draw.random() < 0.5:
            return draw.choice(TEXTS + RETRY_AFTER)
        return "".join(
            draw.choices("0123456789-+.:smhd*/$()<>=&| ä\x00'\"at", k=draw.randrange(20))
        )

    def spoilt(self, data: bytes) -> bytes:
        """``data`` with a byte flipped, cut out, put in, or a stretch repeated."""
        draw = self._random
        made = bytearray(data)
        for _ in range(draw.randrange(1, 4)):
            at = draw.randrange(len(made) + 1)
            change = draw.randrange(5)
            if change == 0 and at < len(made):
                made[at] ^= 1 << draw.randrange(8)
            elif change == 1:
                del made[at : at + draw.randrange(1, 9)]
            elif change == 2:
                made[at:at] = draw.randbytes(draw.randrange(1, 9))
            elif change == 3:
                del made[at:]
            else:
                made[at:at] = made[max(at - 20, 0) : at] * draw.randrange(1, 20)
        return bytes(made)
