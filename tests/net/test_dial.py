from __future__ import annotations

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trustme

from edge_agent.forward.credentials import client_context
from edge_agent.net.dial import NameLookup, dial_tcp, tls_reason
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


async def test_why_there_is_no_tls_is_said_with_where_to_look(tmp_path: Path) -> None:
    ca, stranger = trustme.CA(), trustme.CA()
    for name, one in (("ca", ca), ("stranger", stranger)):
        one.cert_pem.write_to_path(str(tmp_path / name))
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    dates: dict[str, Any] = {"not_before": long_ago, "not_after": long_ago + timedelta(days=9)}

    async def told(certificate: trustme.LeafCert | None, trusted: str = "ca") -> str:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        if certificate is not None:
            certificate.configure_cert(context)
        async with trio.open_nursery() as nursery:
            plain = await trio.open_tcp_listeners(0, host="127.0.0.1")
            port = plain[0].socket.getsockname()[1]
            if certificate is None:
                nursery.start_soon(trio.serve_listeners, greet, plain)
            else:
                secured = [trio.SSLListener(one, context) for one in plain]
                nursery.start_soon(trio.serve_listeners, echo, secured)
            with trio.fail_after(PATIENCE_S), pytest.raises(OSError) as caught:
                await dial_tcp("127.0.0.1", port, client_context(str(tmp_path / trusted)))
            nursery.cancel_scope.cancel()
        return why(caught.value)

    async def greet(stream: trio.abc.Stream) -> None:
        async with stream:
            await stream.send_all(b"220 what is this\r\n")

    failed = "TLS: certificate verify failed: "
    unknown = await told(ca.issue_cert("127.0.0.1"), "stranger")
    assert unknown.startswith(failed)
    assert unknown.endswith("certificate: its authority is not known here (ca_file)")
    assert (await told(ca.issue_cert("other.example"))) == (
        f"{failed}IP address mismatch, certificate is not valid for '127.0.0.1':"
        " it has to name the host of the URL"
    )
    assert (await told(ca.issue_cert("127.0.0.1", **dates))) == f"{failed}certificate has expired"
    assert (await told(None)) == "TLS: wrong version number: does this port speak TLS?"


@pytest.mark.parametrize(
    "error, told",
    [
        (ConnectionResetError(104, "Connection reset by peer"), "reset by peer: does this port"),
        (TimeoutError("_ssl.c:989: The handshake operation timed out"), "The handshake operation"),
    ],
)
def test_who_hangs_up_in_the_handshake_may_speak_something_else(error: OSError, told: str) -> None:
    assert told in tls_reason(error)
    assert tls_reason(error).endswith("does this port speak TLS?") and "_ssl" not in tls_reason(
        error
    )


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
