from __future__ import annotations

import pytest

from edge_agent.store.format import keys


def test_blocks_sort_by_log_and_then_by_seq() -> None:
    wanted = [(1, 1), (1, 255), (1, 256), (1, 2**40), (2, 1), (255, 2**63)]
    made = [keys.block_key(*place) for place in wanted]
    assert made == sorted(made)
    assert [keys.block_first(key) for key in made] == [seq for _, seq in wanted]
    assert all(keys.BLOCK < key < keys.END for key in made)


def test_a_consumers_name_cannot_reach_into_another_position() -> None:
    assert keys.position_key("a", "b/c") != keys.position_key("a/b", "c")


def test_a_name_too_long_for_a_key_is_refused() -> None:
    assert len(keys.source_key("x" * 500)) <= 511
    with pytest.raises(ValueError, match="at most 500 bytes"):
        keys.source_key("ä" * 251)


@pytest.mark.parametrize("page", [4096, 16_384])
def test_long_values_count_in_whole_pages_and_short_ones_double(page: int) -> None:
    assert keys.stored_bytes(page - 16, page) == page
    assert keys.stored_bytes(page - 15, page) == 2 * page
    assert keys.stored_bytes(100, page) == 248
