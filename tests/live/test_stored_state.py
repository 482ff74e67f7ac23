from __future__ import annotations

import random

import msgpack

from edge_agent.live.stored_state import pack_state, unpack_state
from edge_agent.store import STATE_BYTES_MAX


def never() -> None:
    raise AssertionError("it fits")


def test_a_state_comes_back_as_it_was() -> None:
    values = [1, {"a": [2.5, None, "x"], 7: True}, 2**63]
    assert unpack_state(pack_state(lambda: values, never)) == values


def test_a_state_that_repeats_itself_becomes_small() -> None:
    values = [["greenhouse/bme280", number * 1000] for number in range(1000)]
    assert len(pack_state(lambda: values, never)) < len(msgpack.packb(values)) / 3


def test_a_state_that_was_not_compressed_is_read_as_well() -> None:
    assert unpack_state(msgpack.packb([1, 2, []])) == [1, 2, []]


def test_a_state_that_does_not_fit_is_made_smaller_until_it_does() -> None:
    pieces = [random.Random(number).randbytes(1000) for number in range(400)]
    state = pack_state(lambda: pieces, lambda: pieces.__delitem__(slice(50)))
    assert len(state) <= STATE_BYTES_MAX
    assert len(unpack_state(state)) == 250
