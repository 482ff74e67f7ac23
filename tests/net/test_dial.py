from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trustme

from edge_agent.forward.credentials import client_context
from edge_agent.net.dial import NameLookup, dial_tcp
from edge_agent.output.printable import why
from tests.patience import PATIENCE_S


async def echo(stream: trio.abc.Stream) -> None:
    async with stream:
        try:
            while data := await stream.receive_some():
                await stream.send_all(data)
        except trio.BrokenResourceError:
            pass


async def test_plain_tcp() -> None:
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, echo, 0)
        port = listeners[0].socket.getsockname()[1]
        async with await dial_tcp("127.0.0.1", port, None) as stream:
            await stream.send_all(b"hello")
            assert await stream.receive_some() == b"hello"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_why_there_is_no_connection_is_said_as_the_system_says_it(host: str) -> None:
    with pytest.raises(ConnectionRefusedError) as caught:
        await dial_tcp(host, 1, None)
    assert why(caught.value) == f"{host}:1: Connection refused"


async def test_a_name_that_the_resolver_cannot_ask_for_is_told_as_one_without_an_answer() -> None:
    with pytest.raises(OSError, match=r"^a\.\.b:1: is no name of a host"):
        await dial_tcp("a..b", 1, None)


async def test_tls_with_our_own_ca_and_with_a_strangers(tmp_path: Path) -> None:
    ca, stranger = trustme.CA(), trustme.CA()
    for name, one in (("ca", ca), ("stranger", stranger)):
        one.cert_pem.write_to_path(str(tmp_path / name))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    async with trio.open_nursery() as nursery:
        plain = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = plain[0].socket.getsockname()[1]
        listeners = [trio.SSLListener(one, context) for one in plain]
        nursery.start_soon(trio.serve_listeners, echo, listeners)
        stream = await dial_tcp("127.0.0.1", port, client_context(str(tmp_path / "ca")))
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"hello"
        await stream.aclose()
        with pytest.raises(OSError, match=r"^TLS: ") as caught:
            await dial_tcp("127.0.0.1", port, client_context(str(tmp_path / "stranger")))
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        nursery.cancel_scope.cancel()


async def test_names_that_nobody_answers_for_keep_no_thread_from_the_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release, ask = threading.Event(), socket.getaddrinfo

    def silent(host: Any, *more: Any) -> Any:
        if host == b"dead.invalid":
            release.wait()
        return ask(host, *more)

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    trio.socket.set_custom_hostname_resolver(NameLookup())

    async def dead() -> None:
        with pytest.raises(OSError, match="dead"):
            await dial_tcp("dead.invalid", 1, None)

    try:
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(dead)
            await trio.testing.wait_all_tasks_blocked(0.05)
            with trio.fail_after(PATIENCE_S):
                assert await trio.to_thread.run_sync(sum, (1, 2)) == 3
                with pytest.raises(ConnectionRefusedError):
                    await dial_tcp("localhost", 1, None)
            nursery.cancel_scope.cancel()
    finally:
        release.set()
