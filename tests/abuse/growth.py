"""Little that becomes much: what a sensor sends is small, what others make of it need not be."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from tests.abuse.cases import Cases
from tests.abuse.place import JSON, Answer, Place
from tests.patience import PATIENCE_S

CASES = Cases("Little that becomes much")
CONFIG = """
[[rule]]
name = "flat"
streams = ["abuse/flat"]
flatten = "_"
[[rule]]
name = "tasmota"
streams = ["abuse/tasmota"]
profile = "tasmota"
[[rule]]
name = "shelly"
streams = ["abuse/shelly"]
profile = "shelly-gen2"
[[upstream]]
name = "files"
url = "file://{folder}"
streams = ["abuse/table/*"]
format = "csv"
compression = "none"
[upstream.file]
age = "1s"
"""
#: As many records that have a field each are a table of 10,240,000 cells.
ROWS = 3_200
ANSWER = "nack `too_big`, in quarantine; the next record is stored"


@asynccontextmanager
async def _with_rules(place: Place) -> AsyncIterator[None]:
    place.more["files"] = folder = place.agent.folder / "files"
    folder.mkdir(parents=True)
    place.agent.config += CONFIG.format(folder=folder)
    yield


async def _warm_up(place: Place) -> None:
    """What is large and right goes the same ways: through a rule, to people, and to a file."""
    for stream in ("flat", "shelly", "tasmota"):
        for record in ({"x" * 30_000: {"a": 1}}, {"x": {f"{n}": 1 for n in range(3_000)}}):
            await _put(place, stream, [record])
    await _put(place, "table/wide", [{f"k{n % 300}": 1} for n in range(ROWS)])
    await _put(place, "table/usual", [{"t": 1}] * ROWS)
    for form in ("csv", "ndjson") * 3:
        assert (await _asked(place, "usual", form)).status == 200
    await _all_written(place, 2 * ROWS)


CASES.around, CASES.first = _with_rules, _warm_up


def grows(name: str, sent: str, stream: str, record: dict[str, Any], sound: Any) -> None:
    """A record of which a rule would make a large one, or large ones."""

    async def run(place: Place) -> None:
        async with (
            place.counts("records_nacked_total", "too_big"),
            place.socket(f"/ingest/abuse/{stream}", subprotocol=JSON) as peer,
        ):
            begin = await peer.hello(f"{stream}-{name.replace(' ', '-')}")
            await peer.say([record, sound])
            assert await peer.acked(begin + 2) == ["too_big"]

    CASES.add(name, sent, ANSWER, run)


_LONG = {"x" * 30_000: {f"{n}": 1 for n in range(3_000)}}
_CHAINS = {"x" * 30_000: {f"{n}": {"a": 1} for n in range(2_000)}}
grows("a long name above many values", "45 KB that `flatten` would make 90 MB of", "flat", _LONG,
      {"t": 1})  # fmt: skip
grows("the same with a map above each", "the same, a map to each value", "flat", _CHAINS, {"t": 1})
grows("a component with a long name", "the same in a Shelly's frame", "shelly",
      {"method": "NotifyStatus", "params": {"switch:0": _LONG}},
      {"method": "NotifyStatus", "params": {"switch:0": {"apower": 1}}})  # fmt: skip
grows("a unit for 500 sensors", "a unit of 20 KB, which each of them gets", "tasmota",
      {"Time": "T", "TempUnit": "C" * 20_000} | {f"s{n}": {"Temperature": 1} for n in range(500)},
      {"Time": "T", "TempUnit": "C", "s": {"Temperature": 1}})  # fmt: skip


@CASES.case(
    "a table that is nearly empty",
    "3,200 records, each with a field that no other has; asked for as CSV",
    "413, which says what to ask for; as NDJSON all of them; a file of them has the rarest fields"
    " in one column",
    slow=True,
)
async def _(place: Place) -> None:
    await _put(place, "table/apart", [{f"k{n}": 1} for n in range(ROWS)])
    refused = await _asked(place, "apart", "csv")
    assert refused.status == 413 and "or as ndjson" in refused.text, refused.text[:500]
    assert (await _asked(place, "apart", "ndjson")).status == 200
    await _all_written(place, 3 * ROWS)
    assert sum(file.stat().st_size for file in place.more["files"].iterdir()) < 4_000_000


async def _put(place: Place, stream: str, records: list[dict[str, Any]]) -> None:
    async with place.socket(f"/ingest/abuse/{stream}", subprotocol=JSON) as peer:
        begin = await peer.hello(stream.replace("/", "-"))
        await peer.say(records)
        assert await peer.acked(begin + len(records)) == []


async def _asked(place: Place, name: str, form: str) -> Answer:
    query = f"stream=abuse/table/{name}&limit={ROWS}&format={form}"
    head = f"GET /api/query?{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    return await place.ask(head, port=place.agent.http_port)


async def _all_written(place: Place, count: int) -> None:
    """Wait until so many records are in files."""
    with trio.fail_after(3 * PATIENCE_S):
        while True:
            (upstream,) = (await place.agent.get("/api/status"))["upstreams"]
            assert not upstream["mistaken"], json.dumps(upstream)
            if upstream["acknowledged_records"] >= count:
                return
            await trio.sleep(0.2)
