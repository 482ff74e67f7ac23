"""The pace of a metered link, as it is measured at the other side."""

from __future__ import annotations

import random
import ssl
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme

from edge_agent.forward import Forwarder, make_sink
from edge_agent.forward.link.pacing import LinkPace, PacedSink, PacedStream, paced
from edge_agent.forward.link.progress_stream import ProgressStream, paced_below, socket_of
from edge_agent.forward.sink import Batch
from edge_agent.net.dial import dial_tcp
from tests.forward.http_upstream import HttpUpstream
from tests.forward.support import FakeSink, inline, running_station, until, upstream
from tests.patience import PATIENCE_S


async def read_all(stream: trio.abc.ReceiveStream, sizes: dict[str, int], name: str) -> None:
    while piece := await stream.receive_some(65536):
        sizes[name] += len(piece)


@pytest.mark.parametrize("rate", [1_024, 51_200, 5_000_000])
async def test_ten_seconds_at_the_far_side_are_within_five_per_cent_and_fair(
    autojump_clock: trio.testing.MockClock, rate: int
) -> None:
    pace, sizes = LinkPace(rate), dict.fromkeys("ab", 0)
    async with trio.open_nursery() as nursery:
        # One sends at once what the other sends in small messages.
        for name, message in ("a", 20 * rate), ("b", pace.piece_bytes):
            ours, theirs = trio.testing.memory_stream_pair()

            async def send(stream: PacedStream, message: int) -> None:
                while True:
                    await stream.send_all(bytes(message))

            nursery.start_soon(send, PacedStream(ours, pace), message)
            nursery.start_soon(read_all, theirs, sizes, name)
        await trio.sleep(1.01)
        before = sum(sizes.values())
        await trio.sleep(10)
        assert sum(sizes.values()) - before == pytest.approx(10 * rate, rel=0.05)
        assert sizes["b"] == pytest.approx(sizes["a"], rel=0.05)
        nursery.cancel_scope.cancel()


async def test_who_wakes_late_makes_up_for_it_and_a_rest_is_not_saved_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    pace = LinkPace(1000)
    await trio.sleep(60)
    began = trio.current_time()
    for _ in range(100):
        await pace.pay(100)
        await trio.sleep(0.03)  # Late each time.
    assert trio.current_time() - began == pytest.approx(10, abs=0.45)


async def test_who_gives_up_waiting_has_taken_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    pace = LinkPace(100)
    pace.charge(1000)
    with trio.move_on_after(1):
        await pace.pay(100_000)
    began = trio.current_time()
    await pace.wait()
    assert trio.current_time() - began < 10


async def test_a_slow_pace_is_no_silence(autojump_clock: trio.testing.MockClock) -> None:
    """Where the kernel cannot be asked: as long as pieces go."""
    ours, theirs = trio.testing.memory_stream_pair()
    watched = ProgressStream(PacedStream(ours, LinkPace(1_000)))
    sizes = {"a": 0}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.send_all, bytes(100_000))
        nursery.start_soon(read_all, theirs, sizes, "a")
        for _ in range(30):
            await trio.sleep(1)
            watched.look()
            assert watched.moved_at == watched.gone_at == trio.current_time()
        nursery.cancel_scope.cancel()
    await trio.sleep(5)
    watched.look()
    assert trio.current_time() - watched.moved_at == pytest.approx(5, abs=0.1)


async def test_a_peer_that_confirms_nothing_is_silent_whatever_the_pace() -> None:
    """What the kernel takes in advance is no sign of life, also in pieces."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    listener.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4 * 1024)
    port = listener.socket.getsockname()[1]
    async with listener, await trio.open_tcp_stream("127.0.0.1", port) as ours:
        theirs = await listener.accept()
        watched = ProgressStream(PacedStream(ours, LinkPace(4_000_000)))
        async with theirs, trio.open_nursery() as nursery:
            nursery.start_soon(watched.send_all, bytes(64 * 1024 * 1024))
            # From here on their kernel confirms nothing more; ours goes on taking.
            while watched.queued <= 10_000:
                await trio.sleep(0.01)
                watched.look()
            quiet = 0
            while quiet < 5:
                before = watched.moved_at
                await trio.sleep(0.05)
                watched.look()
                quiet = quiet + 1 if watched.moved_at == before else 0
            nursery.cancel_scope.cancel()


async def test_tls_is_paced_with_what_it_adds(tmp_path: Path) -> None:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    pace = LinkPace(10_000_000)
    async with trio.open_nursery() as nursery:

        async def answer() -> None:
            async with trio.SSLStream(await listener.accept(), server, server_side=True) as stream:
                await stream.send_all(await stream.receive_some())

        nursery.start_soon(answer)
        with trio.fail_after(PATIENCE_S):
            stream = await paced(dial_tcp, pace)("localhost", port, client)
            below = paced_below(stream)
            assert below is not None and socket_of(stream) is not None
            shaken = below.handed_bytes
            await stream.send_all(b"x" * 100)
            assert shaken > 100 and below.handed_bytes - shaken > 100
            assert await stream.receive_some() == b"x" * 100
            await trio.aclose_forcefully(stream)
    await listener.aclose()


async def test_lanes_to_http_together_keep_the_pace_and_their_deadline_knows_it(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """Each body takes longer than the timeout, as does waiting for the other lanes' turns."""
    logs, server = ("main", "alarms"), HttpUpstream()
    async with running_station(tmp_path, logs=logs) as station, trio.open_nursery() as nursery:

        async def dial(host: str, port: int, tls: ssl.SSLContext | None) -> trio.abc.Stream:
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(server.serve, theirs)
            await trio.lowlevel.checkpoint()
            return ours

        pace = LinkPace(10_000)
        config = upstream("http://far/in", timeout=0.5, compression="none")
        for log in logs:
            await station.put(60, stream=f"{log}/1", log=log)
        make = partial(
            make_sink, config, identity=station.log.identity, clock=station.clock,
            run_blocking=inline, pace=pace, dial=dial,
        )  # fmt: skip
        began = trio.current_time()
        dice = random.Random(1)
        forwarder = Forwarder(
            config, station.log, make, clock=station.clock, dice=dice, metrics=station.metrics
        )
        nursery.start_soon(forwarder.run)
        await until(lambda: forwarder.statistics().records == 120)
        size = sum(len(got.body) for got in server.got)
        assert len(server.got) == 2 and size > 15_000
        assert trio.current_time() - began >= size / 10_000 - 0.45
        assert station.metrics.total("forward_failures_total") == 0
        nursery.cancel_scope.cancel()


async def test_a_sink_that_dials_itself_is_paced_from_batch_to_batch(
    autojump_clock: trio.testing.MockClock,
) -> None:
    inner, pace = FakeSink(keyed=True), LinkPace(1)
    sink = PacedSink(inner, pace)
    began = trio.current_time()
    for seq in range(1, 6):
        assert (await sink.send(Batch("main", seq, seq, ()))).upto == seq
    # It says a byte for each: the first goes at once, each other when the one before is paid for.
    assert trio.current_time() - began == pytest.approx(4, abs=0.45)
    await sink.aclose()
    assert inner.closed == 1 and sink.keyed and sink.drained
