from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.errors import StoreDamaged
from edge_agent.store.commit.stamp import writing
from edge_agent.store.create import open_environment
from edge_agent.store.format.keys import STORE
from edge_agent.store.lmdb_file.btree import (
    Account,
    booked_by_header,
    booked_for_blocks,
    branch,
    check_leaves,
    leaf,
    order_of,
    order_of_free,
    spans,
)
from edge_agent.store.lmdb_file.pages import PageFile
from tests.store.support import PAGE


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[PageFile]:
    """A tree of three levels, of values short and long."""
    dice = random.Random(2)
    env = open_environment(tmp_path, 2048 * PAGE)
    for group in range(40):
        with writing(env) as txn:
            txn.put(STORE, b"header")
            for number in range(50):
                key = b"\xf0\x01" + (group * 50 + number).to_bytes(8, "big")
                txn.put(key, dice.randbytes(dice.choice([100, 900, 1500, PAGE + 900])))
    env.close()
    with PageFile(tmp_path / "data.mdb") as opened:
        yield opened


def test_a_sound_tree_is_counted_and_its_pages_are_taken_once(pages: PageFile) -> None:
    account = Account(pages.meta.last)
    found = spans(pages, pages.meta.main, account)
    assert account.taken == pages.meta.main.branches
    for span in found:
        account.take(span.number)
    leaves = list(check_leaves(pages, found, account, booked_for_blocks(pages, 10)))
    main = pages.meta.main
    assert len(leaves) == main.leaves
    assert sum(one.entries for one in leaves) == main.entries == 2002
    assert account.taken == main.branches + main.leaves + main.overflows


def test_no_page_is_taken_twice_or_beyond_the_end() -> None:
    account = Account(9)
    account.take(3, 4)
    assert (account.taken, account.end) == (4, 7)
    for number, count in ((6, 1), (2, 2), (0, 1), (1, 1), (9, 2), (4, 0)):
        with pytest.raises(StoreDamaged):
            account.take(number, count)


def test_any_bit_of_a_leaf_that_decides_its_structure_is_noticed(pages: PageFile) -> None:
    number = spans(pages, pages.meta.main, Account(pages.meta.last))[7].number
    page, _, places = pages.tree_page(number)
    assert leaf(pages, number).entries == len(places)
    lower = int.from_bytes(page[12:14], "little")
    heads = [range(at, at + 8) for at in places]
    unnoticed = set()
    for at in (*range(8), *range(10, lower), *(byte for head in heads for byte in head)):
        for bit in range(8):
            turned = bytearray(page)
            turned[at] ^= 1 << bit
            try:
                leaf(pages, number, page=bytes(turned))
            except StoreDamaged:
                continue
            unnoticed.add(at)
    # The size of a long value is in no page's structure; its own page's header tells.
    long = {at for at in places if page[at + 4] == 1}
    assert unnoticed <= {at + i for at in long for i in range(4)}


def test_keys_out_of_order_are_noticed_within_and_between_pages(pages: PageFile) -> None:
    found = spans(pages, pages.meta.main, Account(pages.meta.last))
    fullest = max(found, key=lambda span: leaf(pages, span.number).entries).number
    page, _, places = pages.tree_page(fullest)
    turned = bytearray(page)
    turned[places[0] + 8 + 2] ^= 0x40  # the highest byte of the first key's seq
    with pytest.raises(StoreDamaged, match="out of order"):
        leaf(pages, fullest, page=bytes(turned))
    swapped = [found[3], found[2]]
    with pytest.raises(StoreDamaged, match="begins before"):
        list(check_leaves(pages, swapped, Account(pages.meta.last), booked_by_header(pages)))


def test_a_branch_page_tells_what_each_page_below_may_hold(pages: PageFile) -> None:
    found = spans(pages, pages.meta.main, Account(pages.meta.last))
    below = branch(pages, pages.meta.main.root, b"", order_of)
    assert below[0][0] == b""
    assert [low for low, _ in below] == sorted({low for low, _ in below})
    with pytest.raises(StoreDamaged, match="no branch"):
        branch(pages, found[0].number, b"", order_of)


def test_a_long_value_whose_header_says_more_pages_would_take_its_neighbours_along(
    pages: PageFile, tmp_path: Path
) -> None:
    found = spans(pages, pages.meta.main, Account(pages.meta.last))
    key, number, size = next(long for span in found for long in leaf(pages, span.number).longs)
    assert booked_by_header(pages)(key, number, size) == 2
    with (tmp_path / "data.mdb").open("r+b") as file:
        file.seek(number * PAGE + 12)
        file.write(b"\x06")
    with pytest.raises(StoreDamaged):
        booked_for_blocks(pages, 10)(key, number, size)
    assert booked_for_blocks(pages, 0)(key, number, size) == 2


def test_the_keys_of_free_pages_are_ordered_as_numbers() -> None:
    numbers = [1, 2, 255, 256, 65_536, 2**40]
    encoded = [number.to_bytes(8, "little") for number in numbers]
    assert sorted(encoded, key=order_of_free) == encoded
    with pytest.raises(StoreDamaged):
        order_of_free(b"abc")
