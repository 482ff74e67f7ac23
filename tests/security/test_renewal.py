from __future__ import annotations

import datetime as dt
import logging
import ssl
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from edge_agent import agent as agent_module
from edge_agent.cli.agent_http import AgentAddress
from edge_agent.config import Listen, parse
from edge_agent.security import renewal
from edge_agent.security.certificate_life import certificate_end
from edge_agent.security.renewal import Renewals
from edge_agent.security.tls import make_ca, server_context
from edge_agent.security.tokens import add_token
from edge_agent.system.files import file_state
from edge_agent.values.record import DAY_S, NANOSECONDS
from tests.forward.support import until
from tests.manual_clock import ManualClock
from tests.patience import PATIENCE_S


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


@pytest.mark.parametrize("is_set", [True, False])
async def test_a_certificate_that_has_ended_does_not_replace_one_that_is_good(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, is_set: bool
) -> None:
    ca, clock = trustme.CA(), ManualClock(synced=is_set)
    now = dt.datetime.fromtimestamp(clock.read().wall_ns / NANOSECONDS, dt.UTC)
    day = dt.timedelta(days=1)
    began = now - 100 * day
    write(tmp_path, ca.issue_cert("old.example", not_before=began, not_after=now + day))
    listen = Listen(tls_certificate=str(tmp_path / "cert.pem"), tls_key=str(tmp_path / "key.pem"))
    send, receive = trio.open_memory_channel[None](1)
    renewals = Renewals(listen, Told().online, receive, clock=clock)
    context = server_context(listen)
    assert context is not None
    renewals.add("listen.address", context, partial(server_context, listen))

    async def hang_up() -> None:
        await send.send(None)
        await until(lambda: receive.statistics().tasks_waiting_receive)

    with caplog.at_level(logging.INFO):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(renewals.run)
            write(tmp_path, ca.issue_cert("ended.example", not_before=began, not_after=now - day))
            await hang_up()
            # What a clock says that was never set is no reason.
            assert ("a certificate that is still good, found" in caplog.text) is is_set
            assert ("have a new certificate" in caplog.text) is not is_set
            # Once the old one has ended as well there is nothing to keep, and the newer may be
            # what the clock is wrong about.
            clock.advance(2 * DAY_S)
            write(tmp_path, ca.issue_cert("other.example", not_before=began, not_after=now - day))
            await hang_up()
            assert "have a new certificate" in caplog.text
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


async def test_files_that_somebody_else_renews_are_taken_up_by_links_too_and_a_bad_pair_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(renewal, "LOOK_S", 0.01)
    ca = trustme.CA()
    # As certbot has it: the names in the configuration are links, turned to the newest files.
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, ca.issue_cert(f"{name}.example"))
    live = tmp_path / "live"
    live.mkdir()

    def turn(file: str, name: str) -> None:
        (live / "new").symlink_to(tmp_path / name / file)
        (live / "new").rename(live / file)

    def turn_both(name: str) -> None:
        turn("cert.pem", name)
        turn("key.pem", name)

    turn_both("one")
    listen = Listen(tls_certificate=str(live / "cert.pem"), tls_key=str(live / "key.pem"))
    context = server_context(listen)
    assert context is not None
    renewals = Renewals(listen, lambda: None, None)
    renewals.add("listen.address", context, partial(server_context, listen))
    with caplog.at_level(logging.INFO):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(renewals.run)
            await trio.sleep(0.05)
            turn_both("two")
            await until(lambda: names(context, ca) == ["two.example"], seconds=30)
            # The key of another one, then a file that ends in its midst; whoever writes them may
            # keep time and size, so that nothing but another try finds that they are good again.
            turn("cert.pem", "three")
            await until(lambda: "keep their old certificate" in caplog.text, seconds=30)
            assert names(context, ca) == ["two.example"]
            seen = file_state(tmp_path / "three" / "cert.pem")
            whole = (tmp_path / "three" / "key.pem").read_bytes()
            (tmp_path / "three" / "key.pem").write_bytes(whole[:100])
            turn("key.pem", "three")
            await until(lambda: caplog.text.count("keep their old") == 2, seconds=30)
            monkeypatch.setattr(renewal, "file_state", lambda path: seen)
            (tmp_path / "three" / "key.pem").write_bytes(whole)
            await until(lambda: names(context, ca) == ["three.example"], seconds=30)
            assert caplog.text.count("keep their old") == 2
            nursery.cancel_scope.cancel()


async def test_a_certificate_of_our_own_authority_is_renewed_in_time_and_connections_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(renewal, "LOOK_S", 0.01)
    # What lies in the folder where it was started is nobody's program.
    (tmp_path / "edge_agent.py").write_text("raise SystemExit('of somebody else')")
    monkeypatch.chdir(tmp_path)
    clock = ManualClock(synced=False)
    made = dt.datetime.fromtimestamp(clock.read().wall_ns / 1e9, dt.UTC)
    files = make_ca(tmp_path, ["pi.local"], now=made)
    listen = Listen(tls_certificate=str(files.certificate), tls_key=str(files.key))
    context = server_context(listen)
    assert context is not None
    trust = ssl.create_default_context(cafile=files.ca)

    async def connect() -> tuple[trio.SSLStream[Any], int]:
        """An open connection, and the number of the certificate that it was shown."""
        client: trio.SSLStream[Any] = trio.SSLStream(
            await trio.open_tcp_stream("127.0.0.1", port), trust, server_hostname="pi.local"
        )
        await client.do_handshake()
        return client, int(client.getpeercert()["serialNumber"], 16)

    async def echo(stream: trio.SocketStream) -> None:
        secured = trio.SSLStream(stream, context, server_side=True)
        with suppress(trio.BrokenResourceError):
            async for piece in secured:
                await secured.send_all(piece)
        await trio.aclose_forcefully(secured)

    renewals = Renewals(listen, lambda: None, None, None, clock)
    renewals.add("listen.address", context, partial(server_context, listen))
    with caplog.at_level(logging.INFO):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio.serve_tcp, echo, 0, host="127.0.0.1"))
            port = listeners[0].socket.getsockname()[1]
            nursery.start_soon(renewals.run)
            before, first = await connect()
            # It is time by a clock that nobody has set: that is not believed.
            clock.step_wall(clock.read().wall_ns + 560 * int(DAY_S) * 10**9)
            await trio.sleep(0.1)
            unset, third = await connect()
            assert third == first
            clock.step_wall(clock.read().wall_ns, synced=True)
            await until(lambda: "have a new certificate" in caplog.text, seconds=30)
            after, second = await connect()
            assert second != first
            for stream in (before, unset, after):
                await stream.send_all(b"still here")
                assert await stream.receive_some(100) == b"still here"
                await trio.aclose_forcefully(stream)
            nursery.cancel_scope.cancel()
    assert "which is now good until 2030-" in caplog.text


async def test_a_renewal_that_fails_is_told_once_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(renewal, "LOOK_S", 0.01)
    monkeypatch.setattr(renewal, "AGAIN_S", 0.02)
    clock = ManualClock()
    made = dt.datetime.fromtimestamp(clock.read().wall_ns / 1e9, dt.UTC)
    files = make_ca(tmp_path, ["pi.local"], now=made - dt.timedelta(days=700))
    key = files.ca_key.read_bytes()
    files.ca_key.write_text("none")
    listen = Listen(tls_certificate=str(files.certificate), tls_key=str(files.key))
    context = server_context(listen)
    assert context is not None
    renewals = Renewals(listen, lambda: None, None, None, clock)
    renewals.add("listen.address", context, partial(server_context, listen))
    with caplog.at_level(logging.INFO):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(renewals.run)
            await until(lambda: "cannot be renewed" in caplog.text, seconds=30)
            await trio.sleep(0.1)
            assert caplog.text.count("cannot be renewed") == 1
            files.ca_key.write_bytes(key)
            await until(lambda: "have a new certificate" in caplog.text, seconds=30)
            nursery.cancel_scope.cancel()


async def test_an_agent_whose_user_has_the_authoritys_key_renews_and_its_status_says_until_when(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "LOOK_S", 0.01)
    clock = ManualClock()
    now = dt.datetime.fromtimestamp(clock.read().wall_ns / 1e9, dt.UTC)
    files = make_ca(tmp_path / "tls", ["localhost", "127.0.0.1"], now=now - dt.timedelta(days=700))
    add_token(tmp_path / "tokens", "me", read=("**",))
    config = parse(
        f'listen = {{address = "127.0.0.1:0", tls_certificate = "{files.certificate}",'
        f' tls_key = "{files.key}", tokens = "{tmp_path}/tokens"}}\n'
        'http.address = "127.0.0.1:0"\n'
        f'store = {{path = "{tmp_path}/data", size = "16MiB"}}\n',
        "given",
    )
    stop, ends = trio.Event(), certificate_end(files.certificate)
    async with trio.open_nursery() as nursery:
        run = partial(agent_module.run, config, stop=stop, clock=clock)
        running: agent_module.Running = await nursery.start(run)
        await until(lambda: certificate_end(files.certificate) > ends, seconds=30)
        address = AgentAddress(f"http://{running.http_address}")
        year = str(now.year + 3 if now.month > 9 else now.year + 2)
        # The file is there before the port shows it.
        with trio.fail_after(PATIENCE_S):
            while True:
                told = (await trio.to_thread.run_sync(address.json, "/api/status"))["certificate"]
                if told["ends"][:4] == year:
                    break
                await trio.sleep(0.01)
        assert told["not_renewed_here"] is None and told["authority_ends"] is not None
        stop.set()
