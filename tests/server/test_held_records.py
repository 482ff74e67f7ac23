"""What a hub has is left out of a resend; see also ``tests/forward/lanes/test_resend.py``."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs

from edge_agent.server import held_records
from edge_agent.server.held_records import HeldRecords, TooManyRanges
from edge_agent.store import Entry
from edge_agent.values.record import ForeignBlock
from tests.forward.support import NOW_NS, Station, running_station
from tests.store.support import foreign

AGENT = "feedfacecafe"
HOUR_NS = 3600 * 10**9


def at(hour: int, count: int = 10, *, via: str = AGENT) -> ForeignBlock:
    block = foreign(count, 1 + hour * 100)
    origin = structs.replace(block.origin, path=(AGENT, via) if via != AGENT else (AGENT,))
    time_ns = NOW_NS + hour * HOUR_NS
    return structs.replace(block, time_min_ns=time_ns, time_max_ns=time_ns, origin=origin)


async def keep(hub: Station, *blocks: ForeignBlock) -> None:
    for block in blocks:
        await (await hub.log.append(Entry(blocks=(block,)))).wait()


async def test_what_is_here_is_left_out_and_the_rest_is_not(tmp_path: Path) -> None:
    async with running_station(tmp_path) as hub:
        await keep(hub, *map(at, range(5)))
        held = HeldRecords(hub.log, AGENT)
        await held.look([at(3)])
        assert held.lacking(at(3)) is None and held.lacking(at(9)) == at(9)
        more = held.lacking(at(3, 12))
        assert more is not None and more.count == 2


async def test_an_older_block_behind_a_newer_one_is_looked_for_too(tmp_path: Path) -> None:
    async with running_station(tmp_path) as hub:
        await keep(hub, *map(at, range(8)))
        held = HeldRecords(hub.log, AGENT)
        await held.look([at(7)])
        await held.look([])
        await held.look([at(1)])
        assert [held.lacking(at(hour)) for hour in (1, 4, 7)] == [None] * 3


async def test_what_another_agent_brought_is_not_looked_at_and_what_passed_us_is(
    tmp_path: Path,
) -> None:
    async with running_station(tmp_path) as hub:
        await keep(hub, at(0), at(1, via="beef"))
        held = HeldRecords(hub.log, "beef")
        await held.look([at(0)])
        assert held.lacking(at(0)) == at(0) and held.lacking(at(1)) is None


async def test_too_many_pieces_are_an_error_and_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_records, "RANGES_MAX", 3)
    async with running_station(tmp_path) as hub:
        await keep(hub, *map(at, range(5)))
        with pytest.raises(TooManyRanges):
            await HeldRecords(hub.log, AGENT).look([at(0)])
