"""Long text stays the bytes in which it came, and is read as any text."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import msgpack
import pytest

from edge_agent.wire import RUN_BYTES_MAX, Received, Undecodable, read_messages, text_of
from edge_agent.wire.frames_out import data_frame
from edge_agent.wire.long_text import LongText
from edge_agent.wire.reading_types import Arrival, WireLimits

ARRIVAL = Arrival("a", "pi", 1_795_341_600_000_000_000, True)
WIDE = "\U0001f600" + "y" * RUN_BYTES_MAX


def read(message: str | bytes, **limits: int) -> Received:
    return read_messages([message], 1, ARRIVAL, WireLimits(**limits))


def maps(received: Received) -> list[dict[str, Any]]:
    unpacker = msgpack.Unpacker()
    for run in received.runs:
        unpacker.feed(run.body)
    return list(unpacker)


def test_short_text_is_text_and_long_text_the_same_in_bytes() -> None:
    assert text_of(b"\xc3\xa4") == "ä" and text_of(b"x" * RUN_BYTES_MAX) == "x" * RUN_BYTES_MAX
    for text in (WIDE, "x" * (RUN_BYTES_MAX + 1)):
        found = text_of(text.encode())
        assert type(found) is LongText and found == text.encode()


@pytest.mark.parametrize("bad", [b"\xff", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc3"])
@pytest.mark.parametrize("before", [10, RUN_BYTES_MAX - 1, RUN_BYTES_MAX, 3 * RUN_BYTES_MAX])
def test_what_is_no_utf8_is_told_by_its_place(bad: bytes, before: int) -> None:
    # A letter of several bytes may lie across two pieces.
    good = "ä".encode() + b"x" * (before - 2)
    with pytest.raises(UnicodeDecodeError) as found:
        text_of(good + bad + (b"" if bad == b"\xc3" else b"y" * 2 * RUN_BYTES_MAX))
    assert found.value.start == before
    assert text_of(good + "ä€😀".encode() + b"y" * 2 * RUN_BYTES_MAX)


SHAPES: dict[str, Any] = {
    "an array": [{"x": WIDE[:100], "n": n} for n in range(2_000)],
    "an array of one": [{"x": WIDE}],
    "a record": {"x": WIDE, "m": {"a": [1, {}]}},
    "a value": WIDE,
}


@pytest.mark.parametrize("space", ["", " \r\n"])
@pytest.mark.parametrize("name", SHAPES)
def test_it_is_read_as_the_same_text(name: str, space: str) -> None:
    text = space + json.dumps(SHAPES[name], ensure_ascii=False) + space
    size = len(text.encode())
    long, short = (read(each, record_bytes=size) for each in (text_of(text.encode()), text))
    assert long == short and long.failure is None and maps(long)


@pytest.mark.parametrize("around", ["[%s]", "%s"])
def test_what_is_no_number_is_null_there_too(around: str) -> None:
    text = around % ('{"n":NaN,"x":"' + WIDE + '"}')
    received = read(text_of(text.encode()), record_bytes=2 * RUN_BYTES_MAX)
    assert maps(received) == [{"n": None, "x": WIDE}]


@pytest.mark.parametrize("text", ["[" + WIDE, '{"a":' + WIDE, '["' + WIDE + '"', "NaN" + WIDE])
def test_what_is_no_json_is_told_as_of_text(text: str) -> None:
    long, short = (read(each) for each in (text_of(text.encode()), text))
    assert isinstance(long.failure, Undecodable)
    assert str(long.failure) == str(short.failure) and long.failure.message.startswith("not JSON")


def test_one_wide_letter_does_not_widen_all_of_it() -> None:
    payload = ('[{"x":"\U0001f600' + "y" * 1_000_000 + '"}]').encode()
    tracemalloc.start()
    read(text_of(payload))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The text, one section, and one record to look at.
    assert peak < 3_500_000


def test_it_is_sent_as_text() -> None:
    assert data_frame(LongText(WIDE.encode())) == data_frame(WIDE)
