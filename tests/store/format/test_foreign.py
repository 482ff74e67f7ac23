from __future__ import annotations

import pytest
from msgspec import structs

from edge_agent.errors import ProtocolError
from edge_agent.store.format.codec import Compressor
from edge_agent.store.format.foreign import check_payload, without_runs
from edge_agent.store.format.payload import encode_runs
from tests.store.support import foreign, pack, run


def test_a_good_payload_passes_the_check_compressed_too() -> None:
    three = encode_runs([run(3, first=10), run(2, stream="b"), run(2, first=20)])
    check_payload(0, len(three), three, 7)
    raw = encode_runs([run(200)])
    codec, packed = Compressor(3).compress(raw)
    assert codec == 1
    check_payload(codec, len(raw), packed, 200)


def bad_payloads() -> dict[str, tuple[bytes, int]]:
    head = ["a", "s", 1, 5, True, 0]
    return {
        "not msgpack": (b"\xc1", 1),
        "not an array": (pack({"a": 1}), 1),
        "short run": (pack([["a", "s"]]), 1),
        "records not an array": (pack([[*head, 7]]), 1),
        "empty run": (pack([[*head, []]]), 0),
        "wrong count": (pack([[*head, [{}]]]), 2),
        "offsets fall": (pack([[*head, [{}, {}]], [*head, [{}]]]), 3),
        "bad stream": (pack([["a//b", *head[1:], [{}]]]), 1),
        "one bad stream of two": (pack([[*head, [{}]], ["..", *head[1:5], 1, [{}]]]), 2),
        "negative time": (pack([["a", "s", 1, -5, True, 0, [{}]]]), 1),
        "trailing bytes": (pack([[*head, [{}]]]) + b"x", 1),
        "bottomless": (b"\x91\x97\xa1a\xa1s\x01\x05\xc3\x00" + b"\x91" * 100_000, 1),
    }


@pytest.mark.parametrize("name", bad_payloads())
def test_a_bad_payload_from_a_peer_is_refused(name: str) -> None:
    raw, count = bad_payloads()[name]
    with pytest.raises(ProtocolError) as caught:
        check_payload(0, len(raw), raw, count)
    assert caught.value.code == "bad_block"


def test_a_payload_that_claims_too_much_is_refused_before_it_is_unpacked() -> None:
    with pytest.raises(ProtocolError, match="limit"):
        check_payload(1, 2**31, b"", 1)


def test_streams_are_told_and_taken_out_with_all_their_runs() -> None:
    block = foreign(1, 1)
    raw = encode_runs([run(2, stream="a"), run(3, stream="$b"), run(1, stream="a", value=9)])
    codec, packed = Compressor(3).compress(raw)
    block = structs.replace(block, last=6, count=6, codec=codec, raw_len=len(raw), payload=packed)
    assert check_payload(codec, len(raw), packed, 6) == ({"a", "$b"}, {})
    kept = without_runs(block, lambda _, stream: stream == "a")
    assert kept is not None and (kept.first, kept.last, kept.count) == (1, 6, 3)
    assert check_payload(kept.codec, kept.raw_len, kept.payload, 3).streams == {"a"}
    assert without_runs(block, lambda _place, _stream: False) is None


def test_a_record_of_too_many_values_is_found_by_its_run_wherever_it_stands() -> None:
    usual, empty = {"t": 1}, list[object]()
    crowded = {"a": [empty] * 2_000}
    fits = {"a": [empty] * 1_995}  # With the map, the key and the array 1,998.
    head = ["s", 1, 5, True]
    runs = [
        ["a", *head, 0, [usual] * 3_000],
        ["b", *head, 3_000, [crowded]],
        ["c", *head, 3_001, [fits]],
        ["d", *head, 3_002, [usual, {"x": "y" * 9_000}, crowded, usual]],
    ]
    raw = pack(runs)
    assert check_payload(0, len(raw), raw, 3_006, 1_998).crowded == {1: "b", 3: "d"}
    assert check_payload(0, len(raw), raw, 3_006, 2_003).crowded == {}
    block = structs.replace(
        foreign(1, 1), last=3_006, count=3_006, codec=0, raw_len=len(raw), payload=raw
    )
    kept = without_runs(block, lambda place, _: place not in (1, 3))
    assert kept is not None and (kept.last, kept.count) == (3_006, 3_001)
    assert check_payload(0, kept.raw_len, kept.payload, 3_001).streams == {"a", "c"}
