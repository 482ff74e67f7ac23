"""Chunks go out whole and in order, and never beyond the window."""

from __future__ import annotations

import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.pump import Flow, chunked, pump, slices


@given(st.lists(st.integers(1, 300), max_size=60), st.integers(1, 20), st.integers(1, 1000))
def test_chunks_hold_all_messages_in_order_within_their_limits(
    sizes: list[int], most: int, chunk_bytes: int
) -> None:
    cuts = list(slices(sizes, most, chunk_bytes))

    assert [size for cut in cuts for size in sizes[cut]] == sizes
    for cut in cuts:
        held = sizes[cut]
        assert 0 < len(held) <= most
        assert len(held) == 1 or sum(held) <= chunk_bytes


def test_joined_messages_are_counted_up_to_the_end_of_each_chunk() -> None:
    assert chunked([b"a", b"bb", b"ccc"], 2) == ([b"abb", b"ccc"], [2, 3])


def test_the_window_in_records_holds_a_chunk_back_until_enough_is_acked(flow: Flow) -> None:
    assert not flow.send()
    assert flow.index == 2

    flow.acked = 9
    flow.send()
    assert flow.index == 2
    flow.acked = 10
    flow.send()
    assert flow.index == 3


def test_the_window_in_bytes_holds_a_chunk_back_too(flow: Flow) -> None:
    flow.window, flow.window_bytes = 1000, 250
    flow.send()
    assert flow.index == 2

    flow.acked = 19  # the second chunk is not acked to its end
    flow.send()
    assert flow.index == 3


def test_a_chunk_that_no_window_would_take_is_refused_before_the_clock_starts(flow: Flow) -> None:
    flow.check()
    flow.window_bytes = 99
    with pytest.raises(ValueError, match="larger than the window"):
        flow.check()
    flow.window_bytes, flow.window = 1000, 9
    with pytest.raises(ValueError, match="larger than the window"):
        pump([flow])


def echo(theirs: socket.socket, count: int, got: bytearray) -> None:
    """Ack every byte as a record."""
    while len(got) < count and (piece := theirs.recv(1000)):
        got += piece
        theirs.sendall(b"a" * len(piece))
    theirs.close()


def take(flow: Flow, data: bytes) -> None:
    flow.acked += len(data)


def test_everything_arrives_in_order_through_small_windows_and_many_connections() -> None:
    flows, threads, heard = [], [], []
    for index in range(3):
        ours, theirs = socket.socketpair()
        chunks = [bytes([index, step % 256]) * 500 for step in range(200)]
        got = bytearray()
        upto = [1000 * (step + 1) for step in range(200)]
        flows.append(Flow(ours, chunks, upto, 3000, take))
        threads.append(threading.Thread(target=echo, args=(theirs, 200_000, got)))
        heard.append((got, b"".join(chunks)))
    for thread in threads:
        thread.start()

    seconds = pump(flows)

    for thread in threads:
        thread.join()
    assert seconds > 0
    assert all(bytes(got) == sent for got, sent in heard)
    assert [flow.acked for flow in flows] == [200_000] * 3
    for flow in flows:
        flow.socket.close()


def test_a_server_that_leaves_before_all_is_acked_ends_the_run() -> None:
    ours, theirs = socket.socketpair()
    flow = Flow(ours, [bytes(1000)], [1000], 1000, take, source="bench/0")
    theirs.close()

    with ours, pytest.raises((ConnectionError, BrokenPipeError)):
        pump([flow])
