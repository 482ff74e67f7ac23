"""The heads that popular clients send, as they send them: each is let in, and its record stored.

Written down from the clients' sources or from what they put on the wire. ``{host}`` is the address
without the port, ``{at}`` with it; ``{key}`` a key. What a *browser* sends for a foreign page is at
the end, and is refused.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from edge_agent.config.shape import Listen
from edge_agent.security.tokens import add_token
from edge_agent.server.admission import Peer, admit
from edge_agent.server.handshake import HandshakeRefusal, read_head
from edge_agent.wire import choose_subprotocol, encode_token
from tests.patience import eventually, receive_until
from tests.server.support import raw, serving, until_closed

KEY = "AAAAAAAAAAAAAAAAAAAAAA=="
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0"

CLIENTS: dict[str, str] = {
    "Arduino, Links2004": """GET /ingest/a HTTP/1.1
Host: {at}
Connection: Upgrade
Upgrade: websocket
Sec-WebSocket-Version: 13
Sec-WebSocket-Key: {key}
Sec-WebSocket-Protocol: arduino
Origin: file://
User-Agent: arduino-WebSocket-Client
""",
    "Arduino, gilmaimon": """GET /ingest/a HTTP/1.1
Host: {host}
Sec-WebSocket-Key: {key}
Upgrade: websocket
Connection: Upgrade
Sec-WebSocket-Version: 13
User-Agent: TinyWebsockets Client
Origin: https://github.com/gilmaimon/TinyWebsockets
""",
    "ESP-IDF, esp_websocket_client": """GET /ingest/a HTTP/1.1
Connection: Upgrade
Host: {at}
User-Agent: ESP32 Websocket Client
Upgrade: websocket
Sec-WebSocket-Version: 13
Sec-WebSocket-Key: {key}
""",
    "ESP-IDF with a subprotocol": """GET /ingest/a HTTP/1.1
Connection: Upgrade
Host: {at}
User-Agent: ESP32 Websocket Client
Upgrade: websocket
Sec-WebSocket-Version: 13
Sec-WebSocket-Key: {key}
Sec-WebSocket-Protocol: json
""",
    "MicroPython, uwebsockets": """GET /ingest/a HTTP/1.1
Host: {at}
Connection: Upgrade
Upgrade: websocket
Sec-WebSocket-Key: {key}
Sec-WebSocket-Version: 13
Origin: http://{at}
""",
    "Python, websocket-client": """GET /ingest/a HTTP/1.1
Upgrade: websocket
Host: {at}
Origin: http://{at}
Sec-WebSocket-Key: {key}
Sec-WebSocket-Version: 13
Connection: Upgrade
""",
    "Python, websockets": """GET /ingest/a HTTP/1.1
Host: {at}
Upgrade: websocket
Connection: Upgrade
Sec-WebSocket-Key: {key}
Sec-WebSocket-Version: 13
Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits
User-Agent: Python/3.13 websockets/15.0
""",
    "Python, aiohttp (Home Assistant)": """GET /ingest/a HTTP/1.1
Host: {at}
Upgrade: websocket
Connection: Upgrade
Sec-WebSocket-Version: 13
Sec-WebSocket-Key: {key}
Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits
Accept: */*
Accept-Encoding: gzip, deflate, br
User-Agent: Python/3.13 aiohttp/3.12
""",
    "Node, ws (Node-RED)": """GET /ingest/a HTTP/1.1
Sec-WebSocket-Version: 13
Sec-WebSocket-Key: {key}
Connection: Upgrade
Upgrade: websocket
Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits
Host: {at}
""",
    "Node, undici": """GET /ingest/a HTTP/1.1
host: {at}
connection: upgrade
upgrade: websocket
sec-websocket-key: {key}
sec-websocket-version: 13
sec-websocket-extensions: permessage-deflate; client_max_window_bits
accept: */*
accept-language: *
sec-fetch-mode: websocket
user-agent: node
pragma: no-cache
cache-control: no-cache
accept-encoding: gzip, deflate
""",
    "Go, gorilla": """GET /ingest/a HTTP/1.1
Host: {at}
User-Agent: Go-http-client/1.1
Connection: Upgrade
Sec-WebSocket-Key: {key}
Sec-WebSocket-Version: 13
Upgrade: websocket
""",
    "Go, coder/websocket": """GET /ingest/a HTTP/1.1
Host: {at}
User-Agent: Go-http-client/1.1
Connection: Upgrade
Sec-Websocket-Extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover
Sec-Websocket-Key: {key}
Sec-Websocket-Version: 13
Upgrade: websocket
""",
    "Go, x/net/websocket": """GET /ingest/a HTTP/1.1
Host: {at}
Upgrade: websocket
Connection: Upgrade
Sec-WebSocket-Key: {key}
Origin: http://localhost/
Sec-WebSocket-Version: 13
""",
    "Rust, tungstenite": """GET /ingest/a HTTP/1.1
Host: {at}
Connection: Upgrade
Upgrade: websocket
Sec-WebSocket-Version: 13
Sec-WebSocket-Key: {key}
""",
    "curl": """GET /ingest/a HTTP/1.1
Host: {at}
User-Agent: curl/8.14.1
Accept: */*
Upgrade: websocket
Sec-WebSocket-Version: 13
Sec-WebSocket-Key: {key}
Connection: Upgrade
""",
    "Mongoose 7": """GET /ingest/a HTTP/1.1
Upgrade: websocket
Host: {host}
Connection: Upgrade
Sec-WebSocket-Version: 13
Sec-WebSocket-Key: {key}
""",
    "Mongoose OS (a Shelly's firmware)": """GET /ingest/a HTTP/1.1
Upgrade: websocket
Connection: Upgrade
Sec-WebSocket-Version: 13
Sec-WebSocket-Key: {key}
Host: {at}
""",
    ".NET": """GET /ingest/a HTTP/1.1
Host: {at}
Connection: Upgrade
Upgrade: websocket
Sec-WebSocket-Version: 13
Sec-WebSocket-Key: {key}
""",
    "Java, netty": """GET /ingest/a HTTP/1.1
upgrade: websocket
connection: upgrade
sec-websocket-key: {key}
host: {at}
origin: http://{at}
sec-websocket-version: 13
""",
    "C, ulfius": """GET /ingest/a HTTP/1.1
Host: {at}
Upgrade: websocket
Connection: Upgrade
Origin: ws://{at}
User-Agent: Ulfius Websocket Client Framework
Sec-WebSocket-Version: 13
Sec-WebSocket-Key: {key}
""",
    "Dart, with a package's name for an origin": """GET /ingest/a HTTP/1.1
user-agent: Dart/3.9 (dart:io)
connection: Upgrade
cache-control: no-cache
accept-encoding: gzip
sec-websocket-version: 13
host: {at}
sec-websocket-extensions: permessage-deflate; client_max_window_bits
sec-websocket-key: {key}
upgrade: websocket
origin: com.example.sensors
""",
    "Firefox's way of saying Connection": """GET /ingest/a HTTP/1.1
Host: {at}
Connection: keep-alive, Upgrade
Upgrade: WebSocket
Sec-WebSocket-Version: 13
Sec-WebSocket-Key: {key}
""",
    "two lines of Connection, spaces, empty offers": """GET /ingest/a HTTP/1.1
Host:{at}
Connection: keep-alive
Connection:   Upgrade\x20
Upgrade: websocket\x20\x20
Sec-WebSocket-Version: 13
Sec-WebSocket-Key: {key}\x20
Sec-WebSocket-Protocol: ,arduino , ,
Sec-WebSocket-Protocol: soap
""",
    "ours among others": """GET /ingest/a HTTP/1.1
Host: {at}
Connection: Upgrade
Upgrade: websocket
Sec-WebSocket-Version: 13
Sec-WebSocket-Key: {key}
Sec-WebSocket-Protocol: mqtt, edge-agent.v1.plain
""",
}
#: What stands in the head of any browser, whatever its page says.
BROWSER = f"""GET /ingest/a HTTP/1.1
Host: {{at}}
Connection: Upgrade
Pragma: no-cache
Cache-Control: no-cache
User-Agent: {CHROME}
Upgrade: websocket
Origin: {{origin}}
Sec-WebSocket-Version: 13
Accept-Encoding: gzip, deflate, br
Accept-Language: en-US,en;q=0.9
Sec-WebSocket-Key: {{key}}
Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits
"""
FOREIGN = (
    "https://evil.example",
    "null",
    "file://",
    "chrome-extension://abcdef",
    "http://{host}:1",
)
#: A text frame that says {"t":1}.
RECORD = b'\x81\x87\x00\x00\x00\x00{"t":1}'


def head(text: str, at: str, *more: str, origin: str = "") -> bytes:
    host = at.rpartition(":")[0]
    origin = origin.format(host=host)
    lines = text.format(host=host, at=at, key=KEY, origin=origin).splitlines()
    return "\r\n".join([*lines, *more, "", ""]).encode()


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("empty_line_first", [False, True])
async def test_each_is_let_in_and_its_record_is_stored(
    tmp_path: Path, client: str, empty_line_first: bool
) -> None:
    async with serving(tmp_path) as port:
        async with raw(port) as stream:
            request = head(CLIENTS[client], f"127.0.0.1:{port.port}")
            await stream.send_all(b"\r\n" * empty_line_first + request + RECORD)
            answer = (await receive_until(stream, b"\r\n\r\n")).decode()
            assert answer.startswith("HTTP/1.1 101 Switching Protocols\r\n"), answer
            # Strict clients compare these to the letter.
            assert "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" in answer
            assert "extensions" not in answer.lower()
            chosen = "edge-agent.v1.plain" if client == "ours among others" else None
            assert ("Sec-WebSocket-Protocol" in answer) == (chosen is not None)
            await eventually(lambda: port.log.last_seq("main") == 1, "it is stored")
        assert [record.fields for record in await port.records()] == [{"t": 1}]


async def judged(request: bytes, listen: Listen) -> None:
    """Read and judge a request that came over the network, without tokens (``insecure``)."""
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(request)
    upgrade = await read_head(ours, what_this_is="A port.")
    choice = choose_subprotocol(upgrade.subprotocols)
    assert choice.mode == "plain"
    admit(upgrade, choice.token, Peer("192.168.1.77", False), listen, None)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("at", ["192.168.1.5:8765", "[fd00::5]:8765", "greenhouse:8765"])
async def test_each_is_let_in_over_an_insecure_network(client: str, at: str) -> None:
    await judged(head(CLIENTS[client], at), Listen(insecure=True, hosts=("greenhouse",)))


@pytest.mark.parametrize("origin", FOREIGN)
async def test_a_page_from_elsewhere_is_refused(tmp_path: Path, origin: str) -> None:
    async with serving(tmp_path) as port, raw(port) as stream:
        await stream.send_all(head(BROWSER, f"127.0.0.1:{port.port}", origin=origin))
        answer = await until_closed(stream)
        assert answer.startswith("HTTP/1.1 403") and "listen.origins" in answer
    with pytest.raises(HandshakeRefusal, match=r"listen\.origins"):
        await judged(head(BROWSER, "192.168.1.5:8765", origin=origin), Listen(insecure=True))


async def test_a_name_that_was_turned_to_this_port_is_refused() -> None:
    rebound = head(BROWSER, "evil.example:8765", origin="http://evil.example:8765")
    with pytest.raises(HandshakeRefusal, match=r"listen\.origins"):
        await judged(rebound, Listen(insecure=True))


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("client", [BROWSER, BROWSER.replace(CHROME, "WebView")])
async def test_a_token_in_the_request_is_no_attack(
    tmp_path: Path, origin: str, client: str
) -> None:
    secret = add_token(tmp_path / "tokens", "a", write=["**"])
    offers = (
        f"Authorization: Bearer {secret}",
        f"Sec-WebSocket-Protocol: edge-agent.v1.plain, {encode_token(secret)}",
    )
    async with serving(tmp_path, tokens=tmp_path / "tokens") as port:
        for offer in offers:
            async with raw(port) as stream:
                at = f"127.0.0.1:{port.port}"
                await stream.send_all(head(client, at, offer, origin=origin))
                answer = await receive_until(stream, b"\r\n\r\n")
                assert answer.startswith(b"HTTP/1.1 101"), answer
        async with raw(port) as stream:
            wrong = "Authorization: Bearer wrong"
            await stream.send_all(head(BROWSER, at, wrong, origin=origin))
            assert (await until_closed(stream)).startswith("HTTP/1.1 403")


async def test_a_version_to_come_is_not_taken_for_a_sensor(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, raw(port) as stream:
        text = CLIENTS["curl"]
        offer = "Sec-WebSocket-Protocol: edge-agent.v2+json"
        await stream.send_all(head(text, f"127.0.0.1:{port.port}", offer))
        answer = await until_closed(stream)
    assert answer.startswith("HTTP/1.1 400") and "edge-agent.v1+json" in answer
