from __future__ import annotations

import pytest
from msgspec.structs import replace

from edge_agent.errors import StoreDamaged
from edge_agent.store.format.values import LogHeader, PositionValue, SourceValue, decode, encode
from tests.store.support import pack, sealed


def test_values_come_back_as_they_went() -> None:
    for value in (LogHeader(1, 2, 3, 4, 5), PositionValue(7, b"x"), SourceValue(4, 5, True)):
        assert decode(b"k", encode(b"k", value), type(value)) == value


def test_elements_that_a_newer_version_added_are_ignored() -> None:
    longer = sealed(b"k", pack([7, None, True, 3, [0, 0], False, "later"]))
    assert decode(b"k", longer, PositionValue) == PositionValue(7, None, paused=True, skipped=3)
    shorter = sealed(b"k", pack([7, None]))
    assert decode(b"k", shorter, PositionValue) == PositionValue(7, None)


@pytest.mark.parametrize("raw", [b"", b"\xc1", pack({"floor": 1}), pack(["x", None]), pack([])])
def test_bytes_that_are_not_ours_are_damage(raw: bytes) -> None:
    with pytest.raises(StoreDamaged, match="PositionValue"):
        decode(b"k", sealed(b"k", raw), PositionValue)


def test_every_flipped_bit_and_a_value_in_anothers_place_are_damage() -> None:
    stored = encode(b"k", SourceValue(4, 5, True))
    for at in range(8 * len(stored)):
        flipped = bytearray(stored)
        flipped[at // 8] ^= 1 << at % 8
        with pytest.raises(StoreDamaged, match="checksum"):
            decode(b"k", bytes(flipped), SourceValue)
    for key, raw in ((b"j", stored), (b"k", b""), (b"k", b"abc")):
        with pytest.raises(StoreDamaged, match="checksum"):
            decode(key, raw, SourceValue)


def test_what_thinning_remembers_of_blocks_does_not_outlast_them() -> None:
    header = LogHeader(1, 11, 90, 80, 8000, looked=70, looked_bytes=6000, thinned=5, aggregates=1)
    held = header.rewritten(70, 7500)
    assert (held.first, held.last, held.records, held.bytes) == (11, 90, 70, 7500)
    assert (held.looked, held.looked_bytes) == (0, 0)
    assert (held.thinned, held.aggregates) == (5, 1)


def test_seqs_that_a_restore_or_a_salvage_passed_over_were_given_to_nobody() -> None:
    header = LogHeader(1, first=1, last=10).counting_on(10, 1000)
    header = replace(header, last=1015).counting_on(1015, 1000)
    assert header.given(0, 10) == header.given(0, 600) == header.given(0, 1010) == 10
    assert header.given(4, 1015) == 6 + 5 and header.given(1012, 2020) == 3 + 5
    assert header.given(600, 700) == header.given(30, 20) == 0
