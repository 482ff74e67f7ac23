"""The tables of scopes in docs/who-gets-in.md, each cell asked of the running code."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest
import trio

from edge_agent import agent as agent_module
from edge_agent.agent import Running
from edge_agent.config import parse
from edge_agent.ops import Sources
from edge_agent.ops.access import ORDER_HEADER, Rules
from edge_agent.ops.app import make_app, make_routes
from edge_agent.ops.sign_in import SignIn
from edge_agent.security.tokens import TOKEN_PATH, Tokens, add_token
from edge_agent.wire import subprotocol
from tests.ops.real import agent

PAGE = Path(__file__).parent.parent.parent / "docs" / "who-gets-in.md"
SCOPES = ("nobody", "write", "in URL", "read", "forward", "admin")
#: What a cell says of who has that scope for everything.
IN, OUT = "in", "out"
#: Answers of a door that lets nobody in.
REFUSED = (401, 403, 405)


def table(port: str) -> Iterator[tuple[str, dict[str, str]]]:
    """What can be asked for, and each scope's cell."""
    lines = PAGE.read_text().split(f"| {port} |")[1].split("\n\n")[0].splitlines()[2:]
    for line in lines:
        first, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        for what in re.findall(r"(?:WebSocket )?`[^`]+`", first):
            yield what.replace("`", ""), dict(zip(SCOPES, cells, strict=True))


def said(cell: str) -> str:
    """What a cell means: of what is shown as a form everybody sees the frame."""
    return OUT if cell == "no" else IN


def tokens_of(file: Path) -> dict[str, str]:
    """A secret for each scope, good for all streams."""
    everything = ("**",)
    return {
        "write": add_token(file, "write", write=everything, sources=everything),
        "in URL": add_token(file, "url", write=everything, sources=everything, in_url=True),
        "read": add_token(file, "read", read=everything),
        "forward": add_token(file, "forward", forward=True),
        "admin": add_token(file, "admin", admin=True),
    }


async def status_of(app: Any, method: str, path: str, secret: str | None, form: bytes) -> int:
    """What the people's port would answer, without the rest of the answer."""
    headers = [(b"host", b"pi.local"), (ORDER_HEADER.encode(), b"yes")]
    if path in ("/login", "/logout"):
        headers.append((b"origin", b"https://pi.local"))
    if secret is not None:
        headers.append((b"authorization", b"Bearer " + secret.encode()))
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(),
        "query_string": b"", "scheme": "https", "headers": headers, "client": ("192.0.2.7", 5),
    }  # fmt: skip
    found: list[int] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": form, "more_body": False}

    with trio.CancelScope() as scope_of_it:

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                found.append(message["status"])
                scope_of_it.cancel()
                await trio.lowlevel.checkpoint()

        await app(scope, receive, send)
    return found[0]


async def test_the_peoples_port_does_what_the_table_says(tmp_path: Path) -> None:
    secrets = tokens_of(tmp_path / "tokens")
    tokens = Tokens(tmp_path / "tokens")
    rules = Rules.of("0.0.0.0", (), (), tokens.readable, insecure=False, may_order=tokens.may_order)
    rows = list(table("People's port"))

    def with_them(sources: Sources) -> Sources:
        return replace(sources, tokens=tokens)

    async with agent(tmp_path, change=with_them, serve=False) as running:
        # Whoever signs in does so with a token that may read.
        form = b"token=" + secrets["read"].encode()
        app = make_app(running.watch, rules)
        routes = make_routes(running.watch, SignIn(running.watch.sources, rules))
        for what, cells in rows:
            method, path = what.split()
            path = path.replace("NAME", "a/1").replace("FILE", "page.css")
            for scope, cell in cells.items():
                status = await status_of(app, method, path, secrets.get(scope), form)
                got = OUT if status in REFUSED else IN
                assert got == said(cell), f"{what} with {scope}: {status}, and the page says {cell}"
    real = {
        f"{method} {re.sub('{.*}', '', route.path)}"
        for route in routes
        for method in set(route.methods or ()) - {"HEAD"}
    }
    assert {re.sub("NAME|FILE", "", what) for what, _ in rows} == real


async def test_the_sensors_port_does_what_the_table_says(tmp_path: Path) -> None:
    secrets = tokens_of(tmp_path / "tokens")
    text = (
        f'listen = {{address = "127.0.0.1:0", tokens = "{tmp_path}/tokens"}}\n'
        f'http.address = "off"\nstore = {{path = "{tmp_path}/data", size = "16MiB"}}\n'
    )
    stop = trio.Event()
    rows = list(table("Sensors' port"))
    async with trio.open_nursery() as nursery:
        running: Running = await nursery.start(
            partial(agent_module.run, parse(text, "given"), stop=stop)
        )
        for what, cells in rows:
            for scope, cell in cells.items():
                secret = secrets.get(scope)
                status = await asked(running.sensor_addresses[0], what, secret, scope == "in URL")
                got = IN if status in (101, 200) else OUT
                assert got == said(cell), f"{what} with {scope}: {status}, and the page says {cell}"
        stop.set()
    kinds = {what.split()[1].split("/")[1] for what, _ in rows if what.startswith("WebSocket")}
    assert kinds == set(get_args(subprotocol.Kind))


async def asked(address: str, what: str, secret: str | None, by_url: bool) -> int:
    """What a request for it is answered."""
    verb, path = what.split()
    path = path.replace("STREAM", "a/1").replace("PATTERN", "**")
    lines = [f"Host: {address}"]
    if secret is not None and by_url:
        path = f"{TOKEN_PATH}{secret}{path}"
    elif secret is not None:
        lines.append(f"Authorization: Bearer {secret}")
    if verb == "POST":
        lines += ["Content-Length: 7", "Connection: close"]
    else:
        lines += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
        lines += ["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
        lines += ["Sec-WebSocket-Protocol: edge-agent.v1+msgpack"]
    method = "POST" if verb == "POST" else "GET"
    request = "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""])
    host, port = address.rsplit(":", 1)
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        await stream.send_all(request.encode() + (b'{"t":5}' if verb == "POST" else b""))
        answer = await stream.receive_some(200)
    return int(answer.split()[1])


@pytest.mark.parametrize("scope", ["read", "write", "forward"])
def test_no_scope_contains_another(scope: str, tmp_path: Path) -> None:
    secret = tokens_of(tmp_path / "tokens")[scope]
    token = Tokens(tmp_path / "tokens").find(secret)
    assert token is not None
    given: dict[str, Callable[[], bool]] = {
        "read": lambda: bool(token.read),
        "write": lambda: bool(token.write),
        "forward": lambda: token.forward,
        "admin": lambda: token.admin,
    }
    assert {name for name, has in given.items() if has()} == {scope}
