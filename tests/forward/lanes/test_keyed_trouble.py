from __future__ import annotations

import logging
from pathlib import Path

import pytest

from edge_agent.errors import SinkRefused, SinkUnavailable
from edge_agent.forward.batches.planned_reader import PlannedBatches, SinkMisconfigured
from edge_agent.forward.lanes.diagnosis import Diagnosis
from edge_agent.forward.lanes.journal import Journal
from edge_agent.forward.lanes.keyed_trouble import KeyedTrouble
from edge_agent.forward.lanes.lane_state import Standing
from edge_agent.forward.sink import Batch
from edge_agent.values.stream_names import compile_patterns
from tests.forward.support import FakeSink, Station, running_station, upstream

CONFIG = upstream("http://h/", batch_records=4)


async def trouble_of(station: Station, sink: FakeSink) -> tuple[KeyedTrouble, Batch]:
    matches = compile_patterns(CONFIG.streams)
    log, clock = station.log, station.clock
    batches = PlannedBatches(CONFIG, log, "main", "upstream/hub", matches, clock)
    batches.restore(None, 0)
    diagnosis = Diagnosis(CONFIG, log, "main", sink, matches, clock)
    journal = Journal(logging.getLogger(__name__), "hub")
    standing = Standing("hub", station.metrics)
    return KeyedTrouble(CONFIG, batches, diagnosis, journal, standing), await batches.next()


@pytest.mark.parametrize("others_pass", [True, False])
async def test_what_alone_is_refused_is_to_blame_and_what_is_like_the_rest_is_not(
    tmp_path: Path, *, others_pass: bool
) -> None:
    async with running_station(tmp_path) as station:
        await station.put(4)
        await station.put(1, stream="u/1", start=4)
        refusal = None if others_pass else SinkRefused("HTTP 400: no")
        trouble, batch = await trouble_of(station, FakeSink(keyed=True, refuse=lambda _: refusal))
        error = SinkUnavailable("HTTP 400: no")
        error.status = 400
        past = await trouble.got_past(batch, error)
        assert isinstance(past, SinkRefused) == others_pass
        assert others_pass or (past is False and "tried by itself" in str(error))


async def test_what_says_nothing_of_the_batch_is_waited_for(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station:
        await station.put(4)
        sink = FakeSink(keyed=True)
        trouble, batch = await trouble_of(station, sink)
        assert await trouble.got_past(batch, SinkUnavailable("no route")) is False
        await trouble.acquit(SinkMisconfigured("sixteen in a row"))
        sink.refuse = lambda _: SinkRefused("HTTP 400: no")
        with pytest.raises(SinkMisconfigured, match="tried by itself"):
            await trouble.acquit(SinkMisconfigured("sixteen in a row"))
