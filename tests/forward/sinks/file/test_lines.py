from __future__ import annotations

import json
import math
from pathlib import Path

from edge_agent.forward.sink import Batch
from edge_agent.forward.sinks.file.lines import CarriedRecord, carried, encode_lines
from edge_agent.forward.sinks.http.body import encode_each, rendered
from edge_agent.store import Identity
from tests.forward.carried.rich import MAPS, fill
from tests.forward.support import running_station

ID = Identity("00" * 16, "e0" * 8, "a1" * 6, 0)


async def batch_in(folder: Path) -> Batch:
    async with running_station(folder) as station:
        await fill(station)
        items = tuple(await station.log.read("main", 0))
        return Batch("main", 1, items[-1].last, items)


async def test_a_line_begins_as_an_http_upstream_has_it_and_says_the_rest_behind(
    tmp_path: Path,
) -> None:
    batch = await batch_in(tmp_path)
    records = list(batch.records(lambda _: True))
    lines = encode_lines(carried(batch, records), ID).splitlines()
    bodies = encode_each([rendered(one, ID.agent_id, ID.epoch) for one in records], "ndjson")
    for line, body in zip(lines, bodies, strict=True):
        assert line.startswith(body[:-1])
    first, foreign = json.loads(lines[0]), json.loads(lines[-1])
    assert first["store"] == f"{ID.agent_id}/{ID.epoch}/main"
    assert (first["seq"], first["source_seq"], first["quality"]) == (1, 1, "sensor")
    assert first["time_ns"] == 1_795_341_600_123_456_000
    assert (foreign["agent"], foreign["path"]) == ("c0ffee", ["c0ffee", "facade"])
    assert "path" not in first and "boot" not in first and "corrected" not in first


async def test_what_json_cannot_say_stands_beside_it_exactly(tmp_path: Path) -> None:
    batch = await batch_in(tmp_path)
    records = list(batch.records(lambda stream: stream == "greenhouse/1"))
    lines = encode_lines(carried(batch, records), ID).splitlines()
    strange = [n for n, line in enumerate(lines) if b'"exact"' in line]
    assert strange == [5]
    told = json.loads(lines[5])
    assert told["fields"]["nan"] is None
    kept = CarriedRecord(**{**told, "path": ()}).all_fields
    assert kept["raw"] == MAPS[5]["raw"] and math.isinf(kept["nan"])


async def test_the_same_records_give_the_same_lines(tmp_path: Path) -> None:
    batch = await batch_in(tmp_path)
    records = list(batch.records(lambda _: True))
    assert encode_lines(carried(batch, records), ID) == encode_lines(carried(batch, records), ID)
