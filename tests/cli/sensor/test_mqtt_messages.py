from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.cli.sensor.mqtt_messages import as_text, fields_of, stream_of, template_problem
from edge_agent.values.stream_names import stream_problem

STREAMS = [
    ("{topic}", "tele/hall/SENSOR", "tele/hall/SENSOR"),
    ("{topic}", "tele/Living room/SENSOR", "tele/Living_room/SENSOR"),
    ("{topic}", "/a//b/", "_/a/_/b/_"),
    ("{topic}", "a/./..", "a/_/_"),
    ("{topic}", "$SYS/x", "_SYS/x"),
    ("{topic}", "Küche", "K_che"),
    ("{topic}", "", "_"),
    ("home/{topic}", "a", "home/a"),
    ("tasmota/{2}", "tele/hall/SENSOR", "tasmota/hall"),
    ("{9}", "a/b", "_"),
    ("all", "a/b", "all"),
]


@pytest.mark.parametrize("template, topic, stream", STREAMS)
def test_a_topic_becomes_a_stream(template: str, topic: str, stream: str) -> None:
    assert template_problem(template) is None
    assert stream_of(template, topic) == stream


@given(st.text(max_size=300))
def test_any_topic_becomes_a_name_that_a_stream_may_have(topic: str) -> None:
    assert stream_problem(stream_of("home/{topic}", topic)) is None


def test_long_topics_that_differ_at_their_end_are_different_streams() -> None:
    one, other = (stream_of("{topic}", "x/" * 150 + end) for end in "ab")
    assert one != other and len(one) == len(other) == 200


@pytest.mark.parametrize("template", ["", "{topik}", "{0}", "{100}", "{}", "$a/{topic}", "/$a"])
def test_a_template_that_names_nothing_is_told(template: str) -> None:
    assert template_problem(template) is not None


FIELDS: list[tuple[bytes, dict[str, Any]]] = [
    (b'{"temperature": 21.5, "a": {"b": [1]}}', {"temperature": 21.5, "a": {"b": [1]}}),
    (b"21.5", {"value": 21.5}),
    (b"true", {"value": True}),
    (b'"on"', {"value": "on"}),
    (b"ON", {"value": "ON"}),
    (b"", {"value": ""}),
    (b"null", {"value": None}),
    (b"[1, 2]", {"value": [1, 2]}),
    (b'{"a":', {"value": '{"a":'}),
    (b'{"t": NaN, "h": 40, "s": "NaN"}', {"t": None, "h": 40, "s": "NaN"}),
    (b'{"t": NaN', {"value": '{"t": NaN'}),
    (b"NaN", {"value": "NaN"}),
    (b'\xef\xbb\xbf{"t": 1}', {"t": 1}),
    (b"\xff\xfe", {"value": b"\xff\xfe"}),
    (b'{"time": "12:00", "stream": "x", "n": 1}', {"n": 1, "time_": "12:00", "stream_": "x"}),
    (b"[" * 10_000, {"value": "[" * 10_000}),
]


@pytest.mark.parametrize("payload, fields", FIELDS)
def test_a_payload_becomes_fields(payload: bytes, fields: dict[str, Any]) -> None:
    assert fields_of(payload) == fields


def test_what_no_record_can_hold_is_text() -> None:
    assert as_text(b'{"n": 1e999}\xff') == {"value": '{"n": 1e999}�'}
