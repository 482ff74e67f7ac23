from __future__ import annotations

import pytest

from edge_agent.errors import StoreDamaged
from edge_agent.record import Origin
from edge_agent.store.format.origins import decode_origin, encode_origin
from tests.store.support import START_NS, pack

ORIGIN = Origin(
    "feedfacecafe", "e" * 16, "main", 900, b"o" * 16, 3, START_NS, False, ("feedfacecafe", "x")
)


def test_an_origin_comes_back_as_it_was() -> None:
    assert decode_origin(memoryview(encode_origin(ORIGIN))) == ORIGIN


@pytest.mark.parametrize("raw", [b"", pack([]), pack(["a"] * 9)])
def test_what_is_none_is_damaged(raw: bytes) -> None:
    with pytest.raises(StoreDamaged, match="origin"):
        decode_origin(memoryview(raw))
