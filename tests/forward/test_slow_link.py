"""What a slow link makes of batches: answers come in seconds, and the link is used."""

from __future__ import annotations

import random
import ssl
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from edge_agent.forward import Forwarder, make_sink
from edge_agent.forward.link.pacing import LinkPace, PacedStream
from tests.forward.http_upstream import Got, HttpUpstream, Reply
from tests.forward.support import Station, inline, running_station, upstream


class SlowLink:
    """A server at the end of a link that takes so many bytes a second."""

    def __init__(self, nursery: trio.Nursery, rate: float) -> None:
        self.server = HttpUpstream(answer=self._note)
        self.answered: list[float] = []
        self.bytes = 0
        self._nursery, self._pace = nursery, LinkPace(rate)

    async def dial(self, host: str, port: int, tls: ssl.SSLContext | None) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self.server.serve, theirs)
        await trio.lowlevel.checkpoint()
        return PacedStream(ours, self._pace)

    def _note(self, got: Got) -> Reply:
        self.answered.append(trio.current_time())
        self.bytes += len(got.body)
        return Reply()


def forwarder_over(link: SlowLink, station: Station) -> Forwarder:
    config = upstream("http://far/in", compression="none")
    make = partial(
        make_sink, config, identity=station.log.identity, clock=station.clock,
        run_blocking=inline, dial=link.dial,
    )  # fmt: skip
    dice = random.Random(1)
    return Forwarder(
        config, station.log, make, clock=station.clock, dice=dice, metrics=station.metrics
    )


@pytest.mark.parametrize("rate, records", [(2_000, 2_000), (20_000, 8_000)])
async def test_the_first_answer_comes_in_seconds_and_the_link_is_used(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, rate: int, records: int
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        for start in range(0, records, 500):
            await station.put(500, start=start)
        link = SlowLink(nursery, rate)
        forwarder = forwarder_over(link, station)
        began = trio.current_time()
        nursery.start_soon(forwarder.run)
        while forwarder.statistics().records < records:
            await trio.sleep(1)
        took = [b - a for a, b in zip([began, *link.answered], link.answered, strict=False)]
        nursery.cancel_scope.cancel()
    # What one batch of a mebibyte in the store would have taken.
    assert link.bytes / rate > 60
    assert took[0] < 12
    assert sum(took[3:]) / len(took[3:]) < 8 and max(took[5:]) < 12
    assert link.bytes >= 0.8 * rate * (link.answered[-1] - began)


async def test_a_fast_link_gets_batches_as_they_are_configured(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        for start in range(0, 60_000, 10_000):
            await station.put(10_000, start=start)
        link = SlowLink(nursery, 50e6)
        forwarder = forwarder_over(link, station)
        nursery.start_soon(forwarder.run)
        while forwarder.statistics().records < 60_000:
            await trio.sleep(1)
        # ``batch_records`` is what bounds them.
        assert max(len(got.records) for got in link.server.got) == 10_000
        nursery.cancel_scope.cancel()
