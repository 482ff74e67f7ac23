from __future__ import annotations

import logging
import ssl
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from edge_agent import renewal
from edge_agent.config import Listen
from edge_agent.renewal import Renewals
from edge_agent.tls import server_context
from tests.forward.support import until


class Told:
    """A forwarder, as far as it is told of SIGHUP."""

    def __init__(self) -> None:
        self.times = 0

    def online(self) -> None:
        self.times += 1


def write(folder: Path, cert: trustme.LeafCert, *, key: bool = True) -> None:
    (folder / "cert.pem").write_bytes(cert.cert_chain_pems[0].bytes())
    if key:
        (folder / "key.pem").write_bytes(cert.private_key_pem.bytes())


def names(context: ssl.SSLContext, ca: trustme.CA) -> list[str]:
    """What the port shows to who connects."""
    trust = ssl.create_default_context()
    ca.configure_trust(trust)
    trust.check_hostname = False
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trust.wrap_bio(ours, theirs)
    server = context.wrap_bio(theirs, ours, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
    found: Any = client.getpeercert()
    return [name for _, name in found["subjectAltName"]]


async def test_a_renewed_certificate_is_shown_from_then_on_and_a_wrong_one_never(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ca = trustme.CA()
    write(tmp_path, ca.issue_cert("old.example"))
    listen = Listen(tls_certificate=str(tmp_path / "cert.pem"), tls_key=str(tmp_path / "key.pem"))
    context = server_context(listen)
    assert context is not None and names(context, ca) == ["old.example"]
    send, receive = trio.open_memory_channel[None](1)
    told = Told()
    renewals = Renewals(listen, told.online, receive)
    renewals.add("listen.address", context, partial(server_context, listen))
    with caplog.at_level(logging.INFO):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(renewals.run)
            await until(lambda: receive.statistics().tasks_waiting_receive)
            # Half of a renewal: the certificate is there, its key is not.
            write(tmp_path, ca.issue_cert("new.example"), key=False)
            await send.send(None)
            await until(lambda: "keep their old certificate" in caplog.text)
            assert names(context, ca) == ["old.example"]
            # Written over and over, and never whole: the old one stays in force, said once.
            whole = (tmp_path / "cert.pem").read_bytes()
            for length in range(0, 500, 10):
                (tmp_path / "cert.pem").write_bytes(whole[:length])
                await send.send(None)
                await until(lambda: receive.statistics().tasks_waiting_receive)
                assert names(context, ca) == ["old.example"]
            lines = [one for one in caplog.records if "keep their old" in one.getMessage()]
            assert len(lines) <= len({one.getMessage() for one in lines}) <= 3
            write(tmp_path, ca.issue_cert("new.example"))
            await send.send(None)
            await until(lambda: "have a new certificate" in caplog.text)
            assert names(context, ca) == ["new.example"] and told.times == 52
            nursery.cancel_scope.cancel()


async def test_a_renewal_is_noticed_without_a_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "LOOK_S", 0.01)
    ca = trustme.CA()
    write(tmp_path, ca.issue_cert("old.example"))
    listen = Listen(tls_certificate=str(tmp_path / "cert.pem"), tls_key=str(tmp_path / "key.pem"))
    context = server_context(listen)
    assert context is not None
    renewals = Renewals(listen, lambda: None, None)
    renewals.add("listen.address", context, partial(server_context, listen))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(renewals.run)
        await trio.sleep(0.05)
        write(tmp_path, ca.issue_cert("new.example"))
        await until(lambda: names(context, ca) == ["new.example"], seconds=30)
        nursery.cancel_scope.cancel()


async def test_what_was_renewed_while_the_agent_started_is_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "LOOK_S", 0.01)
    ca = trustme.CA()
    write(tmp_path, ca.issue_cert("old.example"))
    listen = Listen(tls_certificate=str(tmp_path / "cert.pem"), tls_key=str(tmp_path / "key.pem"))
    renewals = Renewals(listen, lambda: None, None)
    context = server_context(listen)
    assert context is not None
    write(tmp_path, ca.issue_cert("new.example"))
    renewals.add("listen.address", context, partial(server_context, listen))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(renewals.run)
        await until(lambda: names(context, ca) == ["new.example"], seconds=30)
        nursery.cancel_scope.cancel()
