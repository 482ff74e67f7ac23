"""TLS, tokens and rates: an agent with all three, whose canary has a token of its own."""

from __future__ import annotations

import base64
import socket
import ssl
import struct
from functools import partial
from pathlib import Path

import msgpack
import trio

from edge_agent.wire import Segment, encode_segments
from tests.abuse.cases import Cases
from tests.abuse.place import JSON, MSGPACK, Peer, Place, upgrade
from tests.end_to_end.keys import Keys, edge_agent
from tests.patience import PATIENCE_S, receive_to_end
from tests.server.test_agent_session import block

TLS, TOKENS, RATES = Cases("TLS"), Cases("Tokens"), Cases("Rates")
#: Records a second of one token; a canary sends some forty.
RATE = 300


def keys_of(folder: Path) -> Keys:
    """What the agent of these groups has."""
    keys = Keys.make(folder)
    keys.add("canary", "--write", "canary", "--source", "canary")
    keys.add("reader", "--read", "**")
    keys.add("writer", "--write", "abuse/**", "--source", "abuse/**")
    keys.add("other", "--write", "abuse/**", "--source", "abuse/**")
    keys.add("hub", "--forward", "--write", "abuse/**")
    keys.add("fast", "--write", "abuse/**")
    keys.add("in-url", "--write", "abuse/**", "--in-url")
    return keys


# TLS.


def client_hello(version: bytes = b"\x03\x03", extensions: bytes = b"") -> bytes:
    """A ClientHello with one cipher."""
    body = version + bytes(32) + b"\x00" + b"\x00\x02\xc0\x2f" + b"\x01\x00"
    if extensions:
        body += struct.pack(">H", len(extensions)) + extensions
    hello = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + struct.pack(">H", len(hello)) + hello


def no_handshake(name: str, sent: str, data: bytes, answer: str, reason: str = "tls") -> None:
    """Bytes to the TLS port that are no handshake: an alert at most, and the end."""

    async def run(place: Place) -> None:
        async with place.counts("connections_refused_total", reason), bare(place) as stream:
            await stream.send_all(data)
            said = await receive_to_end(stream)
        assert said[:1] in (b"", b"\x15"), said

    TLS.add(name, sent, answer, run)


def bare(place: Place) -> trio.SocketStream:
    """A connection without TLS to the port that speaks it."""
    plain = socket.create_connection(("127.0.0.1", place.agent.port), PATIENCE_S)
    plain.setblocking(False)
    return trio.SocketStream(trio.socket.from_stdlib_socket(plain))


_ALERT = "an alert, counted as `tls`"
no_handshake("noise to the TLS port", "300 times ff", b"\xff" * 300, _ALERT)
no_handshake("TLS 1.1", "a ClientHello of TLS 1.1", client_hello(b"\x03\x02"), _ALERT)
no_handshake("SSL 3", "a ClientHello of SSL 3", client_hello(b"\x03\x00"), _ALERT)
no_handshake("a ClientHello of noise", "a record of the right shape, noise in it",
             b"\x16\x03\x01\x00\x40" + b"\xa5" * 64, _ALERT)  # fmt: skip
no_handshake(
    "a record that is too long",
    "a record of 65,535 bytes",
    b"\x16\x03\x01\xff\xff" + bytes(65_535),
    _ALERT,
)
no_handshake(
    "a heartbeat",
    "a heartbeat that claims 16,384 bytes",
    b"\x18\x03\x02\x00\x03\x01\x40\x00",
    _ALERT,
)
no_handshake(
    "data before the handshake",
    "a record of application data",
    b"\x17\x03\x03\x00\x05hello",
    _ALERT,
)
no_handshake("extensions that lie", "a ClientHello whose extensions end too soon",
             client_hello(extensions=b"\x00\x00\xff\xff\x00"), _ALERT)  # fmt: skip


@TLS.case(
    "no TLS",
    "plain HTTP to the TLS port",
    "400, which says that it speaks TLS; counted as `no_tls`",
)
async def _(place: Place) -> None:
    async with place.counts("connections_refused_total", "no_tls"), bare(place) as stream:
        await stream.send_all(upgrade("/ingest/abuse").encode())
        assert (await receive_to_end(stream)).startswith(b"HTTP/1.1 400 ")


@TLS.case(
    "half a handshake", "a ClientHello, then silence", "closed at `handshake_timeout`", slow=True
)
async def _(place: Place) -> None:
    async with place.counts("connections_refused_total", "timeout"), bare(place) as stream:
        await stream.send_all(client_hello()[:40])
        await receive_to_end(stream)


@TLS.case(
    "a handshake, then silence", "TLS, and no request", "closed at `handshake_timeout`", slow=True
)
async def _(place: Place) -> None:
    async with place.counts("connections_refused_total", "timeout"), place.peer() as peer:
        assert await receive_to_end(peer.stream) == b""


@TLS.case("a reset within the handshake", "a ClientHello, then a reset", "counted as `left`")
async def _(place: Place) -> None:
    async with place.counts("connections_refused_total", "left"):
        stream = bare(place)
        await stream.send_all(client_hello()[:40])
        await trio.sleep(0.05)
        Peer(stream).reset()


@TLS.case(
    "an end without goodbye", "FIN within a session, without close_notify", "as any lost connection"
)
async def _(place: Place) -> None:
    secret = _keys(place).secrets["writer"]
    async with place.socket(subprotocol=JSON, token=secret) as peer:
        await peer.hello("abuse/no-notify")
        assert isinstance(peer.stream, trio.SSLStream)
        await peer.stream.transport_stream.send_eof()
        assert (await peer.closed()).code in (1000, 1006)


@TLS.case("no server name", "a handshake without SNI", "served like everybody")
async def _(place: Place) -> None:
    assert (await trio.to_thread.run_sync(partial(_handshake, place, ""))) is not None


@TLS.case(
    "a foreign server name",
    "SNI evil.example",
    "served: the certificate is for the client to judge",
)
async def _(place: Place) -> None:
    assert (await trio.to_thread.run_sync(partial(_handshake, place, "evil.example"))) is not None


@TLS.case("another protocol by ALPN", "ALPN h2 alone", "served, without ALPN")
async def _(place: Place) -> None:
    assert (
        await trio.to_thread.run_sync(partial(_handshake, place, "localhost", alpn=["h2"]))
    ) == ""


@TLS.case("a client that does not trust", "a handshake that ends in unknown_ca",
          "counted as `tls`; status says what to give it")  # fmt: skip
async def _(place: Place) -> None:
    def distrust() -> None:
        plain = socket.create_connection(("127.0.0.1", place.agent.port), PATIENCE_S)
        with plain:
            try:
                ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")
            except ssl.SSLCertVerificationError:
                return
        raise AssertionError("trusted")

    async with place.counts("connections_refused_total", "tls"):
        await trio.to_thread.run_sync(distrust)
    refused = (await place.agent.get("/api/status"))["refused"]
    assert any("does not trust this agent's certificate" in one["sentence"] for one in refused)


@TLS.case(
    "renegotiation",
    "TLS 1.2, and a new handshake within the session",
    "an alert, the connection ends",
)
async def _(place: Place) -> None:
    command = ["openssl", "s_client", "-tls1_2", "-connect", f"127.0.0.1:{place.agent.port}"]
    done = await trio.run_process(
        command, stdin=b"R\n", capture_stdout=True, capture_stderr=True, check=False
    )
    assert b"RENEGOTIATING" in done.stdout + done.stderr
    assert b"no renegotiation" in done.stderr.lower(), done.stderr


# Tokens.


def not_let_in(
    name: str, sent: str, status: int, *headers: str, path: str = "/ingest/abuse/x"
) -> None:
    """A request that is refused."""

    async def run(place: Place) -> None:
        filled = [_filled(place, one) for one in headers]
        answer = await place.ask(upgrade(_filled(place, path), *filled))
        assert answer.status == status, answer
        for secret in _keys(place).secrets.values():
            assert secret not in answer.text

    TOKENS.add(name, sent, str(status), run)


not_let_in("no token", "no Authorization", 401)
not_let_in("a wrong token", "Bearer nonsense", 401, "Authorization: Bearer nonsense")
not_let_in("a token that is nearly right", "the right one, its last letter changed", 401,
           "Authorization: Bearer {writer}x")  # fmt: skip
not_let_in("an empty token", "Bearer and nothing", 401, "Authorization: Bearer ")
not_let_in("a token of 10 KB", "Bearer xxx…", 401, "Authorization: Bearer " + "x" * 10_000)
not_let_in("another scheme", "Basic and the right token", 401, "Authorization: Basic {writer}")
not_let_in("two Authorizations", "a wrong one and the right one", 400,
           "Authorization: Bearer x", "Authorization: Bearer {writer}")  # fmt: skip
not_let_in(
    "a token in the query", "?token=…, the right one", 401, path="/ingest/abuse/x?token={writer}"
)
not_let_in("a token in the path", "/token/…, one that was not made for that", 401,
           path="/token/{writer}/ingest/abuse/x")  # fmt: skip
not_let_in("an endless token in the path", "/token/ and 3,000 letters", 401,
           path="/token/" + "x" * 3000 + "/ingest/abuse/x")  # fmt: skip
not_let_in(
    "a token that is no base64url",
    "edge-agent.token.%%%",
    401,
    "Sec-WebSocket-Protocol: edge-agent.token.%%%",
)
not_let_in("two tokens as subprotocols", "one wrong, one right", 401,
           "Sec-WebSocket-Protocol: edge-agent.token.eA, edge-agent.token.{coded}")  # fmt: skip
not_let_in("a stream of somebody else's", "a writer of abuse/** at canary", 403,
           "Authorization: Bearer {writer}", path="/ingest/canary")  # fmt: skip
not_let_in("reading without the scope", "a writer at /subscribe", 403,
           "Authorization: Bearer {writer}", path="/subscribe/**")  # fmt: skip
not_let_in(
    "asking without the scope",
    "a writer at /query",
    403,
    "Authorization: Bearer {writer}",
    path="/query",
)
not_let_in("forwarding without the scope", "a writer at /forward", 403, "Authorization: Bearer {writer}",
           f"Sec-WebSocket-Protocol: {MSGPACK}", path="/forward")  # fmt: skip
not_let_in(
    "writing without the scope", "a reader at /ingest", 403, "Authorization: Bearer {reader}"
)


@TOKENS.case("a source of somebody else's", "the canary's source with another token",
             "stop `forbidden_source`, close 1008; the canary is not disturbed")  # fmt: skip
async def _(place: Place) -> None:
    secret = _keys(place).secrets["writer"]
    async with place.socket("/ingest/abuse/x", subprotocol=JSON, token=secret) as peer:
        await peer.say({"type": "hello", "source": "canary"})
        assert (await peer.hear())["code"] == "forbidden_source"
        assert (await peer.closed()).code == 1008


@TOKENS.case("a source that has an owner", "a source that another token has used before",
             "stop `forbidden_source`, close 1008")  # fmt: skip
async def _(place: Place) -> None:
    secrets = _keys(place).secrets
    async with place.socket("/ingest/abuse/x", subprotocol=JSON, token=secrets["writer"]) as peer:
        await peer.hello("abuse/mine")
    async with place.socket("/ingest/abuse/x", subprotocol=JSON, token=secrets["other"]) as peer:
        await peer.say({"type": "hello", "source": "abuse/mine"})
        assert (await peer.hear())["code"] == "forbidden_source"
        assert (await peer.closed()).code == 1008


@TOKENS.case("a record for another stream", '"stream":"canary" with a token for abuse/**',
             "nack `forbidden_stream`")  # fmt: skip
async def _(place: Place) -> None:
    secret = _keys(place).secrets["writer"]
    async with place.socket("/ingest/abuse/x", subprotocol=JSON, token=secret) as peer:
        begin = await peer.hello("abuse/elsewhere")
        await peer.say([{"stream": "canary", "n": 1}, {"n": 1}])
        assert await peer.acked(begin + 2) == ["forbidden_stream"]


@TOKENS.case(
    "revoked in the middle", "a session whose token is revoked", "close 1008; what was acked stays"
)
async def _(place: Place) -> None:
    keys = _keys(place)
    secret = await trio.to_thread.run_sync(keys.add, "short", "--write", "abuse/**")
    async with place.socket("/ingest/abuse/short", subprotocol=JSON, token=secret) as peer:
        begin = await peer.hello("short")
        await peer.say({"n": 1})
        await peer.acked(begin + 1)
        await trio.to_thread.run_sync(
            partial(edge_agent, "token", "revoke", "short", "--file", str(keys.tokens))
        )
        closed = await peer.closed()
        assert closed.code == 1008 and closed.reason.startswith("revoked"), closed
    assert (
        await place.ask(upgrade("/ingest/abuse/x", f"Authorization: Bearer {secret}"))
    ).status == 401


@TOKENS.case("two tokens on one connection", "a POST with one token, the next with another",
             "200, then 403")  # fmt: skip
async def _(place: Place) -> None:
    secrets = _keys(place).secrets
    both = "".join(
        f"POST /ingest/abuse/x HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {secrets[name]}\r\n"
        'Content-Length: 7\r\n\r\n{"n":1}'
        for name in ("writer", "other")
    )
    answer = await place.ask(both)
    assert answer.status == 200 and "HTTP/1.1 403 " in answer.text, answer


@TOKENS.case("guessing", "100 wrong tokens", "401 for each; nothing of them is in the journal")
async def _(place: Place) -> None:
    async with place.counts("connections_refused_total", "bad_token", least=100):
        for number in range(100):
            head = upgrade("/ingest/abuse", f"Authorization: Bearer guess{number}")
            assert (await place.ask(head)).status == 401
    assert "guess" not in place.agent.output()


@TOKENS.case("a hub with another's agent", "blocks whose path ends with an agent that is not its own",
             "stop `forbidden_origin`; nothing of it is taken")  # fmt: skip
async def _(place: Place) -> None:
    secret = _keys(place).secrets["hub"]
    async with place.socket("/forward", subprotocol=MSGPACK, token=secret) as peer:
        await peer.hello("bbbbbbbbbbbb/hub/main/live")
        await peer.say(encode_segments([Segment.of(block(1, 3, stream="abuse/x"))]))
        told = await peer.hear()
        assert told["code"] == "forbidden_origin", told
        assert (await peer.closed()).code == 1008


@TOKENS.case("a hub that brings other streams", "blocks of canary with a token for abuse/**",
             "nack `forbidden_stream`, its numbers are used up")  # fmt: skip
async def _(place: Place) -> None:
    secret = _keys(place).secrets["hub"]
    async with place.socket("/forward", subprotocol=MSGPACK, token=secret) as peer:
        await peer.hello("cccccccccccc/hub/main/live")
        await peer.say(
            encode_segments([Segment.of(block(1, 3, stream="canary", path=("cccccccccccc",)))])
        )
        assert await peer.acked(4) == ["forbidden_stream"]


@TOKENS.last
async def _(place: Place) -> None:
    said = (place.agent.folder / "stderr.txt").read_text(errors="replace")
    for name, secret in _keys(place).secrets.items():
        assert secret not in said, f"the token {name} is in the journal"


# Rates: a token has `limits.records_per_second`.


@RATES.case("a session that is too fast", "2,000 records at once, and one more",
            "stop `rate`, close 1013; another token goes on")  # fmt: skip
async def _(place: Place) -> None:
    secret = _keys(place).secrets["fast"]
    async with place.counts("stops_total", "rate"):
        async with place.socket("/ingest/abuse/x", subprotocol=JSON, token=secret) as peer:
            begin = await peer.hello("fast")
            await peer.say([{"n": 1}] * 2000)
            await peer.acked(begin + 2000)
            await peer.say({"n": 1})
            told = await peer.hear()
            assert told["code"] == "rate" and told["retry_after"] > 0, told
            assert (await peer.closed()).code == 1013


@RATES.case(
    "the same, plain", "2,000 records, and one more, with ?ack=1", "error `rate`, close 1013"
)
async def _(place: Place) -> None:
    secret = _keys(place).secrets["writer"]
    async with place.socket("/ingest/abuse/x?ack=1", token=secret) as peer:
        await peer.say([{"n": 1}] * 2000)
        await peer.hear()
        await peer.say({"n": 1})
        assert (await peer.hear())["error"] == "rate"
        assert (await peer.closed()).code == 1013


@RATES.case(
    "posts that are too fast", "2,000 records in a POST, and another one", "429 with Retry-After"
)
async def _(place: Place) -> None:
    secret = _keys(place).secrets["other"]
    body = "[" + "1," * 1999 + "1]"
    head = f"POST /ingest/abuse/x HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {secret}\r\n"
    sent = f"{head}Content-Length: {len(body)}\r\n\r\n{body}"
    answer = await place.ask(sent + sent + head + "Connection: close\r\n\r\n")
    assert answer.status == 200 and "HTTP/1.1 429 " in answer.text, answer
    assert "\r\nRetry-After: " in answer.text


@RATES.case(
    "the same by many connections", "one token on twenty connections", "they share its rate"
)
async def _(place: Place) -> None:
    secret = _keys(place).secrets["in-url"]
    async with place.counts("stops_total", "rate", least=1):
        for number in range(20):
            async with place.socket("/ingest/abuse/x", subprotocol=MSGPACK, token=secret) as peer:
                begin = await peer.hello(f"many-{number}")
                await peer.say(msgpack.packb([{"n": 1}] * 200))
                if (await peer.hear())["type"] == "stop":
                    return
                assert begin == 1
    raise AssertionError("4,000 records at once are more than 300 a second")


def _keys(place: Place) -> Keys:
    assert place.keys is not None
    return place.keys


def _filled(place: Place, text: str) -> str:
    secrets = _keys(place).secrets
    coded = base64.urlsafe_b64encode(secrets["writer"].encode()).decode().rstrip("=")
    return (
        text.replace("{writer}", secrets["writer"])
        .replace("{reader}", secrets["reader"])
        .replace("{coded}", coded)
    )


def _handshake(place: Place, name: str, alpn: list[str] | None = None) -> str | None:
    """A handshake as asked; the protocol agreed on, "" for none, None where there is no TLS."""
    context = ssl.create_default_context(cafile=str(_keys(place).ca))
    context.check_hostname = False
    if alpn:
        context.set_alpn_protocols(alpn)
    plain = socket.create_connection(("127.0.0.1", place.agent.port), PATIENCE_S)
    with plain, context.wrap_socket(plain, server_hostname=name or None) as secured:
        return secured.selected_alpn_protocol() or "" if secured.cipher() else None
