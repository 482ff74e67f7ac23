from __future__ import annotations

import gzip
import json
import sys
from typing import Any

import msgpack
import msgspec
import pytest
from msgspec.structs import replace

from edge_agent.config import Format
from edge_agent.forward.sinks.http.body import (
    Compression,
    RenderedRecord,
    compressed,
    encode_each,
    joined,
    rendered,
)
from edge_agent.values.record import Record
from tests.forward.support import NOW_NS
from tests.rules.support import apply, by_stream, rule

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

RECORD = Record(
    "main", 4711, "greenhouse/2", NOW_NS + 250_000_000, "sensor", NOW_NS, True, "pi-7/bme280", 9,
    {"t": 21.7},
)  # fmt: skip
EXPECTED = {
    "id": "5f0c/main/4711",
    "agent": "9b1d",
    "seq": 4711,
    "stream": "greenhouse/2",
    "time": "2026-11-22T10:00:00.25Z",
    "source": "pi-7/bme280",
    "fields": {"t": 21.7},
    "time_quality": "sensor",
}


def body(fields: dict[str, Any], how: Format = "json", compression: Compression = "none") -> bytes:
    one = rendered(replace(RECORD, fields=fields), "9b1d", "5f0c")
    return compressed(bodied([one], how), compression)


def bodied(records: list[RenderedRecord], how: Format) -> bytes:
    return joined(encode_each(records, how), how)


def test_a_record_reads_as_everywhere_plus_its_stable_id() -> None:
    one = rendered(RECORD, "9b1d", "5f0c")
    assert json.loads(bodied([one], "json")) == [EXPECTED]
    assert msgpack.unpackb(bodied([one], "msgpack")) == [EXPECTED]
    lines = bodied([one, one], "ndjson").splitlines()
    assert [json.loads(line) for line in lines] == [EXPECTED, EXPECTED]


def test_a_record_from_another_agent_keeps_the_id_it_got_there() -> None:
    foreign = replace(RECORD, origin="77aa", origin_epoch="e9", origin_log="alarms", origin_seq=12)
    one = rendered(foreign, "9b1d", "5f0c")
    assert (one.id, one.agent, one.seq) == ("e9/alarms/12", "77aa", 4711)


def test_what_json_cannot_say_is_said_otherwise() -> None:
    fields = {"nan": float("nan"), "inf": float("-inf"), "raw": b"\x00\xff", "none": None}
    assert json.loads(body(fields))[0]["fields"] == {
        "nan": None, "inf": None, "raw": "AP8=", "none": None,
    }  # fmt: skip
    unknown = msgspec.msgpack.Ext(5, b"\x01")
    assert json.loads(body({"x": unknown}))[0]["fields"] == {"x": {"ext": 5, "data": "AQ=="}}


def test_msgpack_keeps_bytes_and_nan() -> None:
    fields = msgpack.unpackb(body({"raw": b"\x00\xff", "nan": float("nan")}, "msgpack"))[0][
        "fields"
    ]
    assert fields["raw"] == b"\x00\xff" and fields["nan"] != fields["nan"]


def test_a_record_that_cannot_be_said_raises() -> None:
    with pytest.raises(TypeError, match="object"):
        body({"x": object()})


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_the_same_records_give_the_same_bytes_whatever_the_time(
    compression: Compression, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = body({"t": 1}, "ndjson", compression)
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert body({"t": 1}, "ndjson", compression) == first


def test_compression_is_what_its_name_says() -> None:
    plain = body({"t": 1})
    assert gzip.decompress(body({"t": 1}, "json", "gzip")) == plain
    assert zstd.decompress(body({"t": 1}, "json", "zstd")) == plain


def test_cloudevents_are_a_batch_of_events_with_all_that_the_standard_requires() -> None:
    (event,) = json.loads(body({"t": 21.7}, "cloudevents"))
    assert event == {
        "specversion": "1.0",
        "id": "5f0c/main/4711",
        "source": "urn:edge-agent:9b1d",
        "type": "edge-agent.record",
        "subject": "greenhouse/2",
        "time": "2026-11-22T10:00:00.25Z",
        "datacontenttype": "application/json",
        "sender": "pi-7/bme280",
        "timequality": "sensor",
        "data": {"t": 21.7},
    }
    assert all(name.isalnum() and name == name.lower() and len(name) <= 20 for name in event)


def test_an_event_comes_back_through_the_profile_that_reads_events() -> None:
    (event,) = json.loads(body({"t": 21.7}, "cloudevents"))
    ruled = apply([rule(profile="cloudevents", streams=("events",))], event, stream="events")
    (fields,) = by_stream(ruled)["events"]
    assert (fields["t"], fields["time"]) == (21.7, EXPECTED["time"])
    assert (fields["ce_id"], fields["ce_subject"]) == (EXPECTED["id"], EXPECTED["stream"])


def test_an_aggregate_has_an_id_that_no_record_and_no_other_aggregate_has() -> None:
    def id_of(**changes: Any) -> str:
        return rendered(replace(RECORD, **changes), "9b1d", "5f0c").id

    found = id_of(source="$thin/pi", fields={"records": 60, "t_mean": 20.5})
    assert found.startswith("5f0c/main/4711/thinned-")
    assert found == id_of(source="$thin/pi", fields={"records": 60, "t_mean": 20.5})
    # Another agent thinned the same records, and began elsewhere.
    assert found != id_of(source="$thin/pi", fields={"records": 59, "t_mean": 20.5})
    origin = {"origin": "9b1d", "origin_epoch": "5f0c", "origin_log": "main", "origin_seq": 4711}
    passed_on = replace(
        RECORD, seq=7, source="$thin/pi", fields={"records": 60, "t_mean": 20.5}, **origin
    )
    assert rendered(passed_on, "hub", "h0").id == found


@pytest.mark.parametrize("how", ["gzip", "zstd"])
def test_where_bytes_are_what_costs_fewer_are_sent_and_always_the_same(how: Compression) -> None:
    records = [
        rendered(replace(RECORD, seq=n, fields={"t": (n * 7919 % 1000) / 10}), "9b1d", "5f0c")
        for n in range(3000)
    ]
    plain = bodied(records, "ndjson")
    usual, saving = (compressed(plain, how, saves=saves) for saves in (False, True))
    assert len(saving) < len(usual)
    assert compressed(plain, how, saves=True) == saving
    assert compressed(plain, "none", saves=True) == plain
    unpacked = gzip.decompress(saving) if how == "gzip" else zstd.decompress(saving)
    assert unpacked == plain
