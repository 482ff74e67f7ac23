from __future__ import annotations

import msgspec
import pytest

from edge_agent.errors import StoreDamaged
from edge_agent.store.format.record_maps import decode_maps, raw_maps, time_of
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
