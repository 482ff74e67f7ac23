"""Ports, certificates and upstreams: verdicts by tables, and real sockets."""

from __future__ import annotations

import datetime as dt
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from edge_agent.cli.doctor.network import (
    UpstreamProbe,
    ask,
    judge_certificate,
    judge_port,
    judge_upstream,
    network_findings,
)
from edge_agent.config import Config, Http, Listen, Upstream
from edge_agent.security.certificate_life import CertificateLife
from edge_agent.security.tls import make_ca
from edge_agent.security.tokens import add_token
from edge_agent.values.record import DAY_S
from tests.end_to_end.support import AgentProcess, agents


@pytest.mark.parametrize(
    "asked, verdict, told",
    [
        (UpstreamProbe(status=101), "ok", "token accepted"),
        (UpstreamProbe(), "ok", "reached"),
        (UpstreamProbe("name", "hub: unknown"), "fail", "unknown"),
        (UpstreamProbe("connection", "refused"), "fail", "refused"),
        (UpstreamProbe("certificate", "expired"), "fail", "expired"),
        (UpstreamProbe("credentials", "token_file"), "fail", "token_file"),
        (UpstreamProbe(status=401), "fail", "refuses our token"),
        (UpstreamProbe(status=403), "fail", "refuses our token"),
        (UpstreamProbe(status=403, said="no scope"), "fail", "refuses our token (403): no scope"),
        (UpstreamProbe(status=404), "fail", "no agent's port"),
        (UpstreamProbe(status=404, said="people"), "fail", "(HTTP 404): people"),
        (UpstreamProbe(status=400, said="This port speaks TLS"), "fail", "without TLS"),
        (UpstreamProbe(status=101, days=5.0), "warn", "5 days"),
        (UpstreamProbe(status=101, days=50.0), "ok", "reached"),
    ],
)
def test_an_upstream(asked: UpstreamProbe, verdict: str, told: str) -> None:
    found = judge_upstream("hub", asked)
    assert (found.verdict, told in found.found) == (verdict, True), found
    assert bool(found.fix) == (verdict != "ok")


def test_ports_and_certificates() -> None:
    assert [judge_port("listen.address", "x:1", who).verdict for who in ("", "agent", "taken")] == [
        "ok", "ok", "fail"
    ]  # fmt: skip
    lives = [CertificateLife(0.0, days * DAY_S) for days in (100.0, 5.0, -3.0)]
    assert [judge_certificate("c", life).verdict for life in (*lives, None)] == [
        "ok", "warn", "fail", "fail"
    ]  # fmt: skip
    # Of our own authority: a renewal that did not come, and the authority's own end.
    for days, authority, told in ((260, 2000, "should have been"), (800, 300, "authority")):
        life = CertificateLife(0.0, days * DAY_S, (authority - days) * DAY_S)
        found = judge_certificate("c", life)
        assert found.verdict == "warn" and told in found.found


def test_a_name_that_does_not_resolve_and_a_port_where_nobody_is() -> None:
    assert ask(hub("ws://no-such-host.invalid:1/forward")).step == "name"
    assert ask(hub("ws://127.0.0.1:1/forward")).step == "connection"
    assert ask(hub("ws://127.0.0.1:1/forward", token_file="/nowhere")).step == "credentials"


def test_who_does_not_speak_http_is_no_agent() -> None:
    with listening(b"220 mail.example ESMTP\r\n") as port:
        assert ask(hub(f"ws://127.0.0.1:{port}/forward")).step == "connection"
        assert ask(hub(f"http://127.0.0.1:{port}/")) == UpstreamProbe()
        assert ask(hub(f"postgresql://me@127.0.0.1:{port}/db")) == UpstreamProbe()
        # Nor has a broker to.
        assert ask(hub(f"mqtt://127.0.0.1:{port}")) == UpstreamProbe()


def test_a_certificate_of_nobody_we_trust(tmp_path: Path) -> None:
    authority = trustme.CA()
    import ssl
    import threading

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(2):
                plain, _ = server.accept()
                try:
                    with context.wrap_socket(plain, server_side=True) as stream:
                        stream.recv(10)
                except OSError:
                    plain.close()

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"https://127.0.0.1:{server.getsockname()[1]}/"
        assert ask(hub(url)).step == "certificate"
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        reached = ask(hub(url, ca_file=str(tmp_path / "ca.pem")))
        assert reached.step == "" and reached.days is not None and reached.days > 300
        thread.join()


async def test_a_real_hub_takes_a_right_token_and_not_a_wrong_one(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    secret = add_token(tokens, "pi", forward=True)
    (tmp_path / "right").write_text(secret)
    (tmp_path / "wrong").write_text("ea1_nonsense")
    made = AgentProcess(
        tmp_path, "hub", f'[store]\nsize = "16MiB"\n[listen]\ntokens = "{tokens}"\n'
    )
    async with agents(made):
        answers = []
        for name in ("right", "wrong", None):
            file = None if name is None else str(tmp_path / name)
            one = hub(f"{made.url}/forward", token_file=file)
            answers.append((await trio.to_thread.run_sync(ask, one)).status)
        assert answers == [101, 401, 401]
        people = await trio.to_thread.run_sync(ask, hub(f"ws://127.0.0.1:{made.http_port}/forward"))
        assert people.said.startswith("this is the people's port")


def test_everything_about_the_network_together(tmp_path: Path) -> None:
    files = make_ca(tmp_path / "tls", ["localhost"], now=dt.datetime.now(dt.UTC))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = Config(
            listen=Listen(
                address=f"127.0.0.1:{port}", tls_certificate=str(files.certificate), tls_key="k"
            ),
            http=Http(address="off"),
            upstream=(hub("ws://127.0.0.1:1/forward"),),
        )
        found = network_findings(config, running=False, upstreams=True)
        verdicts = {one.name: one.verdict for one in found}
        assert verdicts == {"listen.address": "fail", "certificate": "ok", "upstream hub": "fail"}
        held = network_findings(config, running=True, upstreams=False)
        assert [one.verdict for one in held] == ["ok", "ok"]
    none = network_findings(Config(http=Http(address="off")), running=False, upstreams=True)
    assert none[-1].verdict == "warn"


def test_of_a_folder_nobody_says_that_it_was_reached() -> None:
    config = Config(http=Http(address="off"), upstream=(hub("file:///nowhere"),))
    found = network_findings(config, running=False, upstreams=True)[-1]
    assert found.verdict == "ok" and "edge-agent upstream test hub" in found.found


def hub(url: str, **more: Any) -> Upstream:
    return Upstream(name="hub", url=url, **more)


@contextmanager
def listening(says: bytes) -> Iterator[int]:
    """A server that says one thing to whoever connects."""
    import threading

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                try:
                    stream, _ = server.accept()
                except TimeoutError:
                    continue
                with stream:
                    stream.sendall(says)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        done.set()
        thread.join()
