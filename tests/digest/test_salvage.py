"""What a damaged file of history still holds is read back, once and whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_agent.digest import HistoryFile, HistoryOwner
from edge_agent.digest.file import BUILDING, DAMAGED, REBUILT
from edge_agent.digest.salvage import salvage_history
from edge_agent.errors import StoreDamaged, StoreSealed
from edge_agent.history import FOLDER, keys, to_store
from edge_agent.seal import OPEN, KeyRing
from edge_agent.store import DATA, PageFile, rename
from tests.digest.support import DAY, MIB, Bench, Opened, everything, kept

SECOND = 10**9


def filled(one: Bench) -> None:
    for hour in range(12):
        for stream in range(4):
            found = [
                (DAY + (hour * 3600 + i * 40) * SECOND, {"t": i / 8, "s": f"{i * hour:x}"})
                for i in range(90)
            ]
            one.send(*found, stream=f"s/{stream}")
        one.flush()


def data_of(one: Bench) -> Path:
    return one.path / FOLDER / DATA


def break_page(one: Bench, number: int) -> None:
    with data_of(one).open("r+b") as data:
        with PageFile(data_of(one)) as pages:
            size = pages.page_bytes
        data.seek(number * size)
        data.write(b"\xff" * size)


def leaves(one: Bench, txn_from_newest: int = 0) -> list[int]:
    """The leaf pages of a root, in the order of their keys."""
    with PageFile(data_of(one)) as pages:
        metas = sorted((m for m in pages.metas if m is not None), key=lambda m: -m.txn)
        found, waiting = [], [metas[txn_from_newest].main.root]
        while waiting:
            number = waiting.pop()
            _, flags, places = pages.tree_page(number)
            if flags == 2:
                found.append(number)
            else:
                page = pages.read(number * pages.page_bytes, pages.page_bytes)
                waiting += reversed(
                    [
                        int.from_bytes(page[p : p + 4], "little")
                        | int.from_bytes(page[p + 4 : p + 6], "little") << 32
                        for p in places
                    ]
                )
        return found


def shared(one: Bench) -> list[int]:
    """Leaf pages that both trees have."""
    found = [page for page in leaves(one)[1:-1] if page in leaves(one, 1)]
    assert found
    return found


def test_a_page_of_the_newest_tree_alone_costs_nothing(bench: Opened) -> None:
    """The tree before is whole, and what came later is digested again."""
    one = bench()
    filled(one)
    one.all_logged = False
    expected = everything(one.history.file)
    one.history.file.close()
    fresh = [page for page in leaves(one) if page not in leaves(one, 1)]
    assert fresh
    break_page(one, fresh[-1])
    one.history = one.opened()
    assert "parts of it were read back, 0 could not be" in one.told
    assert (one.path / DAMAGED / DATA).exists()
    one.take()
    one.flush()
    assert everything(one.history.file) == expected


def test_of_a_page_that_both_trees_have_only_its_own_parts_are_lost(bench: Opened) -> None:
    one = bench()
    filled(one)
    one.all_logged = False
    before = [record.seq for record in kept(one.history.file)]
    names = one.history.file.names
    one.history.file.close()
    break_page(one, shared(one)[0])
    one.history = one.opened()
    assert "parts of it were read back, 1 could not be" in one.told
    one.take()
    one.flush()
    found = [record.seq for record in kept(one.history.file)]
    # No record twice, and none that was not there.
    assert len(before) * 3 // 4 < len(found) == len(set(found) & set(before))
    assert one.history.file.names == names


def test_where_the_logs_hold_everything_it_begins_anew_instead(bench: Opened) -> None:
    one = bench()
    filled(one)
    expected = everything(one.history.file)
    one.history.file.close()
    common = shared(one)
    break_page(one, common[0])
    one.history = one.opened()
    assert "begins anew (the logs still hold all of it)" in one.told
    one.take()
    one.flush()
    assert everything(one.history.file) == expected


@pytest.mark.parametrize("moment", ["before the old one is moved", "after"])
def test_a_power_cut_while_it_takes_its_place_loses_nothing(bench: Opened, moment: str) -> None:
    one = bench()
    filled(one)
    expected = everything(one.history.file)
    one.history.file.close()
    identity = one.engine.identity
    owner = HistoryOwner(identity.store_id, identity.epoch)
    salvage_history(one.path / FOLDER, one.path / BUILDING, owner, 64 * MIB)
    rename(one.path / BUILDING, one.path / REBUILT)
    if moment == "after":
        rename(one.path / FOLDER, one.path / DAMAGED)
    one.history = one.opened()
    assert one.told == ""
    assert everything(one.history.file) == expected


@pytest.mark.parametrize("all_logged", [True, False])
def test_a_damaged_file_whose_key_is_missing_stays_as_it_is_until_the_key_is_there(
    bench: Opened, all_logged: bool
) -> None:
    one = bench()
    one.all_logged, one.seals = all_logged, KeyRing((b"1" * 32,), os.urandom)
    one.reopen()
    filled(one)
    one.history.file.close()
    break_page(one, [page for page in leaves(one) if page not in leaves(one, 1)][-1])
    before = data_of(one).read_bytes()
    there = {entry.name for entry in one.path.iterdir()}
    for lacking in (OPEN, KeyRing((b"2" * 32,), os.urandom)):
        one.seals, right = lacking, one.seals
        with pytest.raises(StoreSealed, match=r"store\.key_file.*nothing was changed"):
            one.opened()
        one.seals = right
        assert data_of(one).read_bytes() == before
        assert {entry.name for entry in one.path.iterdir()} == there
    one.history = one.opened()
    assert "parts of it were read back, 0 could not be" in one.told
    assert (one.path / DAMAGED / DATA).exists()


def test_another_stores_file_is_not_read_back(bench: Opened, tmp_path: Path) -> None:
    one = bench()
    one.send((DAY, {"t": 1}))
    one.flush()
    one.history.file.close()
    with pytest.raises(StoreDamaged, match="another store"):
        salvage_history(
            one.path / FOLDER, tmp_path / "target", HistoryOwner("other", "e"), 64 * MIB
        )
    assert not (tmp_path / "target").exists()
    file, told = HistoryFile.open(one.path, MIB, HistoryOwner("other", "e"))
    assert "begins anew" in told and not list(file.parts(keys.RAW, -(2**31), 2**31))
    file.close()


def test_a_stream_whose_name_is_lost_becomes_no_other_ones(bench: Opened) -> None:
    """Nor does a new stream get a number that is in use."""
    one = bench()
    for number, stream in enumerate(("a", "b", "c")):
        one.send((DAY + number * SECOND, {"t": number}), stream=stream)
    one.flush()
    one.flush()  # So that both roots lead to it.
    one.all_logged = False
    one.history.file.close()
    raw = data_of(one).read_bytes()
    for number, lost in ((2, b"b"), (3, b"c")):
        name = to_store(keys.series_key(number), lost)
        assert name in raw
        raw = raw.replace(name, b"?" + name[1:])
    data_of(one).write_bytes(raw)
    one.history = one.opened()
    assert "6 could not be" in one.told
    for second, stream in ((7, "d"), (8, "e"), (9, "c")):
        one.send((DAY + second * SECOND, {"t": second}), stream=stream)
    one.flush()
    one.reopen()
    found = [(record.stream, record.fields["t"]) for record in kept(one.history.file)]
    assert found == [("a", 0), ("d", 7), ("e", 8), ("c", 9)]
