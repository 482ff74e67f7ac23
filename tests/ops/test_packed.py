"""Packing of answers: for whom, and that it is undone by who takes it."""

from __future__ import annotations

import gzip

import pytest
from starlette.requests import Request

from edge_agent.ops.packed import PACKED_FROM, packed, takes_gzip


@pytest.mark.parametrize(
    "accepted, expected",
    [
        ("gzip", True),
        ("br, gzip", True),
        ("deflate,gzip,br", True),
        ("", False),
        ("br", False),
        ("gzip;q=0", False),
        ("xgzip", False),
    ],
)
def test_it_is_for_who_can_unpack_it(accepted: str, expected: bool) -> None:
    headers = [(b"accept-encoding", accepted.encode())] if accepted else []
    assert takes_gzip(Request({"type": "http", "headers": headers})) is expected


def test_the_same_text_is_packed_into_the_same_bytes_and_comes_back() -> None:
    text = b"abc" * PACKED_FROM
    assert packed(text) == packed(text) and len(packed(text)) < len(text) // 10
    assert gzip.decompress(packed(text)) == text
