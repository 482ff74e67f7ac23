"""Signing in with a token: a cookie that lets look until it is over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import pytest
import trio

from edge_agent.config import Config, Http, Listen, Size, StoreConfig
from edge_agent.ops.sign_in import SESSION_S, SESSIONS_MAX, Sessions
from edge_agent.security.tokens import Tokens, add_token, revoke_token
from tests.ops.real import Agent, agent


@asynccontextmanager
async def locked(folder: Path) -> AsyncIterator[tuple[Agent, Path, str]]:
    """An agent that asks for a token, its file of tokens, and one that reads ``a/**``."""
    config = Config(
        listen=Listen(insecure=True),
        http=Http(address="0.0.0.0:0"),
        store=StoreConfig(path=str(folder), size=Size(16 << 20)),
    )
    secret = add_token(file := folder / "tokens", "g", read=["a/**"])
    tokens = Tokens(file)
    async with agent(folder, config=config, change=lambda s: replace(s, tokens=tokens)) as running:
        running.address = ("127.0.0.1", running.address[1])
        await running.keep("a/1", [1])
        await running.keep("b/1", [1])
        yield running, file, secret


async def post(
    running: Agent, path: str, form: dict[str, str], *headers: str, origin: str = ""
) -> tuple[int, str, bytes]:
    """Send a form as a browser does."""
    own = f"http://127.0.0.1:{running.address[1]}"
    body = urlencode(form)
    lines = [
        f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{running.address[1]}", "Connection: close",
        f"Origin: {origin or own}", f"Content-Length: {len(body)}", *headers,
    ]  # fmt: skip
    async with await trio.open_tcp_stream(*running.address) as stream:
        await stream.send_all("\r\n".join([*lines, "", body]).encode())
        answer = b"".join([piece async for piece in stream])
    head, _, rest = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode(), rest


def cookie_of(head: str) -> str:
    (line,) = [line for line in head.splitlines() if line.lower().startswith("set-cookie:")]
    return line.partition(":")[2].strip()


async def test_a_token_becomes_a_cookie_that_lets_see_its_streams(tmp_path: Path) -> None:
    async with locked(tmp_path) as (running, file, secret):
        page = (await running.get("/stream/a/1?last=1h"))[2]
        assert b'value="/stream/a/1?last=1h"' in page
        form = {"token": f" {secret} ", "then": "/stream/a/1?last=1h"}
        status, head, _ = await post(running, "/login", form)
        assert status == 303 and "location: /stream/a/1?last=1h" in head.lower()
        told = cookie_of(head)
        assert "HttpOnly" in told and "SameSite=Strict" in told and f"Max-Age={SESSION_S}" in told
        assert "Secure" not in told and secret not in told
        cookie = f'Cookie: other={{"a b": [1]}}; {told.partition(";")[0]}'
        page = (await running.get("/", cookie))[2]
        assert b"/stream/a/1" in page and b"/stream/b/1" not in page and b"/logout" in page
        assert b'data-stream="a/1"' in (await running.get("/stream/a/1", cookie))[2]
        # Who is asked by another page's script does not know the viewer.
        assert b"/logout" not in (await running.get("/", cookie, "Sec-Fetch-Site: same-site"))[2]
        # The token is gone, and with it what it was let in for.
        revoke_token(file, "g")
        assert running.watch.sources.tokens is not None
        await running.watch.sources.tokens.refresh()
        assert (await running.get("/api/streams", cookie))[0] == 401


async def test_who_signs_out_is_out(tmp_path: Path) -> None:
    async with locked(tmp_path) as (running, _, secret):
        _, head, _ = await post(running, "/login", {"token": secret})
        cookie = f"Cookie: {cookie_of(head).partition(';')[0]}"
        assert (await running.get("/api/streams", cookie))[0] == 200
        status, head, _ = await post(running, "/logout", {}, cookie)
        assert status == 303 and "Max-Age=0" in cookie_of(head)
        assert (await running.get("/api/streams", cookie))[0] == 401


async def test_a_wrong_token_is_told_and_noted(tmp_path: Path) -> None:
    async with locked(tmp_path) as (running, _, _):
        status, head, page = await post(running, "/login", {"token": "ea1_x", "then": "/?q=a"})
        assert status == 401 and "set-cookie" not in head.lower()
        assert b"is not known" in page and b'value="/?q=a"' in page
        (told,) = running.watch.sources.refused.listing()
        assert (told.port, told.reason) == ("http.address", "bad_token")


async def test_a_form_of_another_page_is_not_taken(tmp_path: Path) -> None:
    async with locked(tmp_path) as (running, _, secret):
        for origin in ("https://evil.example", "null"):
            status, _, body = await post(running, "/login", {"token": secret}, origin=origin)
            assert status == 403 and b"foreign_origin" in body
        big = {"token": "x" * 5000}
        assert (await post(running, "/login", big))[0] == 400


@pytest.mark.parametrize("then", ["//evil.example", "https://evil.example", "/\\evil", "x", ""])
async def test_signing_in_leads_nowhere_else(tmp_path: Path, then: str) -> None:
    async with locked(tmp_path) as (running, _, secret):
        _, head, _ = await post(running, "/login", {"token": secret, "then": then})
        assert "location: /\r\n" in head.lower()


async def test_where_there_are_no_tokens_there_is_nothing_to_sign_in_to(tmp_path: Path) -> None:
    async with agent(tmp_path) as running:
        status, head, _ = await post(running, "/login", {"token": "x", "then": "/?q=a"})
        assert status == 303 and "set-cookie" not in head.lower()


def test_a_session_ends_by_itself_by_order_and_for_a_newer_one() -> None:
    now = 0.0
    sessions = Sessions(lambda: now)
    key = sessions.begin("secret")
    assert sessions.secret(key) == "secret" and sessions.secret("other") is None
    now = SESSION_S - 1.0
    assert sessions.secret(key) == "secret"
    now = float(SESSION_S)
    assert sessions.secret(key) is None
    first, second = sessions.begin("a"), sessions.begin("b")
    sessions.end(second)
    sessions.end("never was")
    assert sessions.secret(second) is None
    for _ in range(SESSIONS_MAX):
        last = sessions.begin("c")
    assert sessions.secret(first) is None and sessions.secret(last) == "c"
