"""Fields cut out of stored bytes: what decoding and encoding them gives, or nothing."""

from __future__ import annotations

import struct
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.store.format.even_maps import even_maps
from edge_agent.store.format.payload import RunView
from edge_agent.store.format.record_maps import decode_maps
from edge_agent.values.record import array_header

FLOATS = st.floats().map(lambda value: struct.pack(">d", value)) | st.binary(min_size=8, max_size=8)
#: What a sensor sends each time again, beside its floats.
SAME = st.none() | st.booleans() | st.integers(-40, 2**40) | st.sampled_from(
    ["", "C", "tür", b"\xff", [], [1.5], {"time": 2.5}, {"a": {1: msgpack.ExtType(5, b"1")}}]
)  # fmt: skip
KEYS = st.sampled_from(["time", "t", "humi", "tür", "k" * 40]) | st.text(max_size=3)


def view_of(bodies: list[bytes]) -> RunView:
    raw = msgspec.Raw(array_header(len(bodies)) + b"".join(bodies))
    return RunView("t/1", "s", 1, 1, True, 0, 0, len(bodies), raw)


def check(bodies: list[bytes]) -> bool:
    """Whether they were alike; then they are what they are to everybody else."""
    view = view_of(bodies)
    found = even_maps(view)
    if found is None:
        return False
    maps = decode_maps(view.records)
    # As bytes, which tell one NaN from another, and 1 from 1.0.
    assert list(map(msgpack.packb, found.times)) == [
        msgpack.packb(one.pop("time", None)) for one in maps
    ]
    for one in maps:
        one.pop("stream", None)
    fields = [found.head + b"".join(parts) for parts in zip(*found.columns, strict=True)]
    assert (fields or [found.head] * len(maps)) == list(map(msgspec.msgpack.encode, maps))
    return True


def body_of(layout: dict[str, Any], floats: dict[str, bytes]) -> bytes:
    values = [
        msgpack.packb(key) + (b"\xcb" + floats[key] if key in floats else msgpack.packb(value))
        for key, value in layout.items()
    ]
    return msgpack.Packer().pack_map_header(len(values)) + b"".join(values)


@given(st.data(), st.dictionaries(KEYS, SAME | st.just(0.5), max_size=17))
def test_what_is_cut_out_is_what_decoding_and_encoding_gives(
    data: st.DataObject, layout: dict[str, Any]
) -> None:
    """Of records that are alike, and of such with one byte that is another one."""
    free = [key for key, value in layout.items() if type(value) is float]
    bodies = [body_of(layout, {key: data.draw(FLOATS) for key in free}) for _ in range(8)]
    body = bytearray(b"".join(bodies))
    if data.draw(st.booleans()):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    size = len(bodies[0])
    bodies = [bytes(body[at : at + size]) for at in range(0, len(body), size)]
    try:
        msgspec.msgpack.decode(array_header(8) + body, type=list[msgspec.Raw])
    except msgspec.DecodeError:
        return  # The byte was one that says how long something is: no block has such a run.
    check(bodies)


TIME = 1_790_000_000.25


@pytest.mark.parametrize(
    "layout",
    [
        {"time": TIME, "t": 21.5, "n": 3, "unit": "C"},
        {"t": 21.5, "time": TIME},
        {"a": 1.5, "time": TIME, "b": 2.5},
        {"time": TIME},
        {"t": 21.5},
        {"time": 1_790_000_000, "t": 21.5},
        {"time": TIME, **{f"key {n}": n + 0.5 for n in range(15)}},
    ],
)
def test_what_most_sensors_send_is_cut(layout: dict[str, Any]) -> None:
    bodies = [
        msgpack.packb({
            key: value + n if key == "time" or type(value) is float else value
            for key, value in layout.items()
        })
        for n in range(9)
    ]  # fmt: skip
    assert check(bodies)
    assert check(bodies), "by the layout that is known by now"
    assert not check(bodies[:7])
    # Of the same size, and another one.
    assert check([body.replace(b"\xa1t", b"\xa1u") for body in bodies])


LIKE = [msgpack.packb({"time": TIME + n, "a": n + 0.5}) for n in range(8)]


@pytest.mark.parametrize(
    "one",
    [
        LIKE[0].replace(b"\xa1a", b"\xa1b"),
        LIKE[0].replace(b"\xa1a", b"\xa1\xff"),
        LIKE[0].replace(b"\xa1a\xcb", b"\xa1a\xcf"),
        LIKE[0].replace(b"\x82", b"\x81", 1),
        LIKE[0] + b"\x80",
    ],
)
def test_one_that_is_another_is_seen_wherever_it_stands(one: bytes) -> None:
    assert check(LIKE)
    for place in range(9):
        assert not check([*LIKE[:place], one, *LIKE[place:]])


@pytest.mark.parametrize(
    "body",
    [
        msgpack.packb({"time": TIME, "stream": "t/2", "a": 1.5}),
        msgpack.packb({"time": "2026-11-22T10:00:00Z", "a": 1.5}),
        msgpack.packb({"time": None, "a": 1.5}),
        b"\x82\xa1a\xcb" + bytes(8) + b"\xa1a\xcb" + bytes(8),  # the same key twice
        b"\x81\xd9\x01a\xcb" + bytes(8),  # wider than it need be
        b"\x82\xa1a\xcb" + bytes(8) + b"\xa1b\xd7\xff\x00\x00\x00\x04" + bytes(4),  # nanoseconds
        b"\x81\xa1a\xca" + bytes(4),  # a short float, which is written as a long one
        b"\x81\xa1a\xa1\xff",  # a text that is no UTF-8
        msgpack.packb({"a": 1.5, "long": "x" * 200}),
    ],
)
def test_what_would_be_written_in_another_way_is_not_cut(body: bytes) -> None:
    assert not check([body] * 8)
