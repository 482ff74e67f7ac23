"""CloudEvents in structured mode, as the specification 1.0.2 and its JSON format show them."""

from __future__ import annotations

from typing import Any

from tests.rules.support import apply, by_stream, reasons, rule

PROFILE = rule(profile="cloudevents", streams=("events",))
EVENT = {
    "specversion": "1.0",
    "type": "com.example.sensor.measured",
    "source": "/sensors/tn-1234567/alerts",
    "subject": "hall",
    "id": "A234-1234-1234",
    "time": "2026-04-05T17:31:00Z",
    "datacontenttype": "application/json",
    "data": {"t": 21.5, "time": "noon", "stream": 7, "inner": {"a": 1}},
}
ABOUT = {
    "ce_type": "com.example.sensor.measured",
    "ce_source": "/sensors/tn-1234567/alerts",
    "ce_id": "A234-1234-1234",
}


def made(*messages: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    ruled = apply([PROFILE], *messages, stream="events")
    assert not ruled.rejects
    return by_stream(ruled)


def test_the_members_of_the_data_become_fields() -> None:
    data = {"t": 21.5, "data_time": "noon", "data_stream": 7, "inner": {"a": 1}}
    told = {**data, **ABOUT, "ce_subject": "hall", "time": "2026-04-05T17:31:00Z"}
    assert made(EVENT) == {"events": [told]}


def test_data_that_is_no_object_is_one_field() -> None:
    bare = {key: EVENT[key] for key in ("specversion", "type", "source", "id")}
    messages: list[dict[str, Any]] = [bare | {"data": 7}, bare | {"data_base64": "/wA="}, bare]
    assert made(*messages) == {
        "events": [{"data": 7, **ABOUT}, {"data": b"\xff\x00", **ABOUT}, ABOUT]
    }
    ruled = apply([PROFILE], bare | {"data_base64": "!"}, stream="events")
    assert [code for _, code, _ in reasons(ruled)] == ["bad_record"]


def test_what_is_no_event_stays() -> None:
    assert made({"specversion": "1.0", "t": 1}) == {"events": [{"specversion": "1.0", "t": 1}]}
