from __future__ import annotations

import msgspec
import pytest

from edge_agent.errors import StoreDamaged
from edge_agent.store.format.record_maps import (
    LEAN_RECORD_BYTES,
    array_part,
    array_slices,
    decode_maps,
    lean_maps,
    raw_maps,
    time_of,
)
from edge_agent.values.record import array_header
from tests.store.support import START_NS, pack


def test_a_record_that_cannot_be_decoded_hides_no_other() -> None:
    bad = b"\x81\xa1\xff\x01"  # a key that is no UTF-8
    records = msgspec.Raw(b"\x93" + pack({"v": 1}) + bad + pack({"v": 3}))
    assert decode_maps(records) == [{"v": 1}, {}, {"v": 3}]


def test_each_record_is_had_as_its_own_bytes_too() -> None:
    bad = b"\x81\xa1\xff\x01"
    assert raw_maps(msgspec.Raw(b"\x92" + pack({"v": 1}) + bad)) == [pack({"v": 1}), bad]
    with pytest.raises(StoreDamaged):
        raw_maps(msgspec.Raw(pack({"v": 1})))


def test_a_time_that_is_none_counts_as_the_arrival() -> None:
    assert time_of("yesterday", START_NS) == (START_NS, "arrival")
    assert time_of(10**400, START_NS)[0] == START_NS
    assert time_of(-2, START_NS) == (START_NS - 2 * 10**9, "relative")


def test_large_arrays_of_a_large_record_stay_as_they_are_encoded() -> None:
    fields = {"a": [[]] * 40_000, "m": {"n": 1, "b": [1] * 2000, "i": {5: "x" * 2000}}, "s": "x"}
    records = msgspec.Raw(b"\x92" + pack({"v": [1]}) + pack(fields))
    small, large = lean_maps(records)
    assert small == {"v": [1]}
    assert isinstance(large["a"], msgspec.Raw) and isinstance(large["m"]["b"], msgspec.Raw)
    assert large["m"]["n"] == 1 and large["s"] == "x"
    # Whoever encodes it gets what there was.
    assert pack(fields) == msgspec.msgpack.encode(large)


def test_a_record_is_large_by_itself_and_not_by_its_neighbours() -> None:
    small = {"v": [1] * 1100}
    large: dict[str, list[list[int]]] = {"a": [[]] * LEAN_RECORD_BYTES}
    (alone,) = lean_maps(msgspec.Raw(b"\x91" + pack(large)))
    assert isinstance(alone["a"], msgspec.Raw)
    many = msgspec.Raw(array_header(30) + pack(small) * 30)
    assert lean_maps(many) == [small] * 30


def test_a_large_record_that_cannot_be_read_hides_no_other() -> None:
    good = pack({"a": [[]] * 40_000, "b": ["xx"] * 2000})
    wrong = good.replace(b"xx", b"\xff\xfe")
    first, second = lean_maps(msgspec.Raw(b"\x92" + wrong + good))
    assert first == {} and second.keys() == {"a", "b"}


def test_an_array_is_cut_by_count_and_by_bytes() -> None:
    array = pack([1, "x" * 50, 3, 4])
    assert [first for first, _ in array_slices(array)] == [0]
    assert list(array_slices(array, 3)) == [(0, pack([1, "x" * 50, 3])), (3, pack([4]))]
    assert list(array_slices(array, bytes_max=20)) == [
        (0, pack([1])), (1, pack(["x" * 50])), (2, pack([3, 4])),
    ]  # fmt: skip
    assert array_part(array, 0, 2) == pack(1) + pack("x" * 50)
    assert array_part(array, 2, 4) == pack(3) + pack(4)
