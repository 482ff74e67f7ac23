from __future__ import annotations

import json
from typing import Any

from msgspec.structs import replace

from edge_agent.config import HttpTable
from edge_agent.forward.sinks.http.body import rendered
from edge_agent.forward.sinks.http.templates import Templates
from tests.forward.sinks.http.test_body import RECORD

TEMPLATE = """{"device": {stream}, "at": {time_ms},
"values": {fields}, "t": {fields.t}, "none": {fields.no}}"""


def made(template: str, envelope: str | None = None, form: str = "json", **fields: Any) -> bytes:
    found = Templates.of(HttpTable(template=template, envelope=envelope), form)
    assert found is not None
    records = [replace(RECORD, fields=fields), replace(RECORD, stream='a/"b"', fields={})]
    return found.body(
        [rendered(one, "9b1d", "5f0c") for one in records], [one.time_ns for one in records]
    )


def test_a_record_becomes_what_the_template_says() -> None:
    first, second = json.loads(made(TEMPLATE, t=21.5))
    assert first == {
        "device": "greenhouse/2",
        "at": 1_795_341_600_250,
        "values": {"t": 21.5},
        "t": 21.5,
        "none": None,
    }
    # What a record says cannot leave the place that it is given.
    assert second["device"] == 'a/"b"'


def test_a_field_is_named_by_its_path() -> None:
    template = """[{fields.door.open}, {fields."pm2.5"}, {fields.list.1}, {fields.door.no.x}]"""
    fields: dict[str, Any] = {"door": {"open": True}, "list": [1, 2], "pm2.5": 7}
    first, second = json.loads(made(template, **fields))
    assert first == [True, 7, 2, None] and second == [None] * 4


def test_an_envelope_stands_around_all_of_them() -> None:
    found = json.loads(made("{fields}", '{"site": "north", "points": [{records}]}', t=1))
    assert found == {"site": "north", "points": [{"t": 1}, {}]}


def test_as_ndjson_each_is_a_line_however_the_template_is_written() -> None:
    lines = made(TEMPLATE, form="ndjson", t=1).splitlines()
    assert [json.loads(line)["t"] for line in lines] == [1, None]


def test_what_the_body_is_follows_from_it() -> None:
    for envelope, form, kind in (
        (None, "ndjson", "application/x-ndjson"),
        (None, "json", "application/json"),
        ("[{records}]", "ndjson", "application/json"),
    ):
        found = Templates.of(HttpTable(template="{fields}", envelope=envelope), form)
        assert found is not None and found.content_type == kind
    assert Templates.of(HttpTable(method="PUT"), "json") is None
    assert Templates.of(None, "json") is None


def test_the_same_records_give_the_same_bytes() -> None:
    assert made(TEMPLATE, t=1) == made(TEMPLATE, t=1)


def test_every_placeholder_has_its_value() -> None:
    names = ["id", "agent", "seq", "source", "time", "time_s", "time_ns", "time_quality"]
    (first, _) = json.loads(made("[" + ", ".join(f"{{{name}}}" for name in names) + "]"))
    assert first == [
        "5f0c/main/4711", "9b1d", 4711, "pi-7/bme280", "2026-11-22T10:00:00.25Z",
        1795341600.25, 1795341600250000000, "sensor",
    ]  # fmt: skip
