"""A hub whose certificate is not valid by a clock that is not set: real TLS, real connections."""

from __future__ import annotations

import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
import trustme
from trio.testing import MockClock

from edge_agent.errors import SinkUnavailable
from edge_agent.forward import Forwarder, make_sink
from edge_agent.forward.link.tls_clock import is_out_of_date, rest
from tests.forward.http_upstream import http_upstream
from tests.forward.support import NOW_NS, Station, inline, running_station, serving, until, upstream
from tests.manual_clock import ManualClock

FROM = datetime.now(UTC).replace(microsecond=0) + timedelta(days=400)
TO = FROM + timedelta(days=30)
DATES = f"from {FROM:%Y-%m-%dT%H:%M:%S}Z to {TO:%Y-%m-%dT%H:%M:%S}Z"


class Hub:
    """A hub behind TLS whose certificate can be changed while it runs."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.ca_file = str(folder / "ca.pem")
        self.ca.cert_pem.write_to_path(self.ca_file)
        self.future = self._context(FROM, TO)
        self.past = self._context(FROM - timedelta(days=900), TO - timedelta(days=900))
        self.valid = self._context(FROM - timedelta(days=410), TO)

    def _context(self, not_before: datetime, not_after: datetime) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        cert = self.ca.issue_cert("127.0.0.1", not_before=not_before, not_after=not_after)
        cert.configure_cert(context)
        return context

    @asynccontextmanager
    async def serve(self, station: Station, context: ssl.SSLContext) -> AsyncIterator[int]:
        (tcp,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        secure = trio.SSLListener(tcp, context, https_compatible=True)
        async with serving(station, listeners=[secure]):
            yield tcp.socket.getsockname()[1]


@asynccontextmanager
async def forwarding(station: Station, url: str, ca_file: str) -> AsyncIterator[Forwarder]:
    config = upstream(url, ca_file=ca_file, backoff_base=30.0, backoff_max=60.0)
    async with trio.open_nursery() as nursery:
        forwarder = Forwarder(
            config,
            station.log,
            lambda log: make_sink(
                config, log, identity=station.log.identity, clock=station.clock, run_blocking=inline
            ),
            clock=station.clock,
            dice=random.Random(1),
            metrics=station.metrics,
        )
        nursery.start_soon(forwarder.run)
        yield forwarder
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", ["wss", "https"])
async def test_a_clock_not_set_is_told_as_the_reason_and_waited_for(
    tmp_path: Path, kind: str
) -> None:
    hub, clock = Hub(tmp_path), ManualClock(7 * 10**9, synced=False)
    async with (
        running_station(tmp_path / "hub") as station,
        running_station(tmp_path / "agent", clock=clock) as agent,
        hub.serve(station, hub.future) as forward_port,
        http_upstream(context=hub.future) as server,
    ):
        await agent.put(1)
        port = forward_port if kind == "wss" else server.port
        async with forwarding(agent, f"{kind}://127.0.0.1:{port}/forward", hub.ca_file) as one:
            await until(lambda: one.statistics().phase == "backing off")
            assert one.statistics().error == (
                f"waiting for the clock: the certificate is valid {DATES},"
                " the clock says 1970-01-01T00:00:07Z and is not set"
            )
            # It may take half a minute by the usual wait. By this one it is tried again at once.
            assert one.statistics().lanes[0].failures == 1
            clock.step_wall(NOW_NS, synced=True)
            await until(lambda: one.statistics().lanes[0].failures == 2)
            # Set now: what is wrong is the certificate.
            assert "not yet valid" in one.statistics().error
            assert "waiting for the clock" not in one.statistics().error


async def test_the_reason_is_told_without_dates_where_they_cannot_be_had(tmp_path: Path) -> None:
    hub, clock = Hub(tmp_path), ManualClock(7 * 10**9, synced=False)
    stranger = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(str(stranger))
    async with (
        running_station(tmp_path / "hub") as station,
        running_station(tmp_path / "agent", clock=clock) as agent,
        hub.serve(station, hub.future) as port,
    ):
        await agent.put(1)
        async with forwarding(agent, f"wss://127.0.0.1:{port}/forward", str(stranger)) as one:
            await until(lambda: one.statistics().phase == "backing off")
            # Of a hub that is not trusted nothing is believed, its dates included.
            assert "waiting for the clock" not in one.statistics().error


@pytest.mark.parametrize("synced", [True, False])
async def test_an_expired_certificate_is_told_as_such_where_the_clock_is_set(
    tmp_path: Path, synced: bool
) -> None:
    hub, clock = Hub(tmp_path), ManualClock(NOW_NS, synced=synced)
    async with (
        running_station(tmp_path / "hub") as station,
        running_station(tmp_path / "agent", clock=clock) as agent,
        hub.serve(station, hub.past) as port,
    ):
        await agent.put(1)
        async with forwarding(agent, f"wss://127.0.0.1:{port}/forward", hub.ca_file) as one:
            await until(lambda: one.statistics().phase == "backing off")
            assert ("waiting for the clock" in one.statistics().error) is not synced
            assert ("has expired" in one.statistics().error) is synced


async def test_a_certificate_that_is_valid_needs_no_clock(tmp_path: Path) -> None:
    hub, clock = Hub(tmp_path), ManualClock(7 * 10**9, synced=False)
    async with (
        running_station(tmp_path / "hub") as station,
        running_station(tmp_path / "agent", clock=clock) as agent,
        hub.serve(station, hub.valid) as port,
    ):
        await agent.put(1)
        async with forwarding(agent, f"wss://127.0.0.1:{port}/forward", hub.ca_file) as one:
            await until(lambda: one.statistics().records == 1)


async def test_any_other_failure_rests_until_cancelled(
    autojump_clock: MockClock,
) -> None:
    clock = ManualClock(synced=True)
    with trio.move_on_after(3600) as patience:
        await rest(clock, SinkUnavailable("no route to host"))
    assert patience.cancelled_caught
    with trio.move_on_after(3600) as patience:
        await rest(clock, SinkUnavailable("it was the clock", until_clock_set=True))
    assert not patience.cancelled_caught


def test_causes_that_go_round_in_a_circle_are_looked_at_once() -> None:
    one, two = OSError("one"), OSError("two")
    one.__cause__, two.__cause__ = two, one
    assert not is_out_of_date(one)
    assert not is_out_of_date(None)
