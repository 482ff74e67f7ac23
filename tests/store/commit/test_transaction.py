"""The file itself full, which shares and headroom prevent; and settings that shrank under it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import hypothesis.strategies as st
import lmdb
import pytest
from hypothesis import given, settings

from edge_agent.errors import StoreFull
from edge_agent.store import (
    ConsumerSettings,
    Engine,
    Entry,
    LogSettings,
    Position,
    Stored,
    create,
    opening,
)
from edge_agent.store.commit import stamp
from edge_agent.store.commit.group import estimate, with_pages
from edge_agent.store.commit.transaction import Writer
from tests.store.conftest import Stores
from tests.store.support import MIB, entry, run, values


def fill_bulk(stores: Stores, log: LogSettings) -> int:
    """A store full of a log's records, to the last page of its file; how many groups it holds."""
    engine = stores.open(logs=(log, LogSettings("main", share=0.1)), compression_level=0)
    for _ in range(24):
        engine.commit([Entry(runs=(run(100, stream="bulk/x", pad=1000),))])
    last = engine.last_seq("bulk")
    assert engine._env is not None
    pages = engine._env.info()["last_pgno"] + 1
    page_bytes = engine._env.stat()["psize"]
    engine.close()
    os.truncate(stores.data(), pages * page_bytes)
    return last


def test_a_full_file_frees_what_is_no_longer_configured_and_stores(stores: Stores) -> None:
    last = fill_bulk(stores, LogSettings("bulk", ("bulk/**",), share=0.7))
    engine = stores.open(size=1 * MIB, compression_level=0)
    for first in range(1, 301, 100):
        answer = engine.commit([entry(100, first, pad=1000)]).answers[0]
        assert isinstance(answer, Stored)
    assert values(engine) == list(range(1, 301))
    assert engine.first_seq("bulk") > 1
    assert engine.last_seq("bulk") == last


def test_a_full_file_that_may_not_free_anything_refuses_and_goes_on_reading(
    stores: Stores,
) -> None:
    bulk = LogSettings("bulk", ("bulk/**",), share=0.7, when_full="refuse")
    last = fill_bulk(stores, bulk)
    engine = stores.open(
        logs=(bulk, LogSettings("main", share=0.1, when_full="refuse")),
        consumers=(ConsumerSettings("up", "bulk"),),
        size=1 * MIB,
        compression_level=0,
    )
    answers: list[Stored | StoreFull] = []
    for _ in range(40):
        answers += engine.commit([Entry(runs=(run(100, pad=1000),))]).answers
    assert isinstance(answers[-1], StoreFull)
    assert len(values(engine, "bulk")) == last
    stored = sum(isinstance(answer, Stored) for answer in answers)
    assert len(values(engine)) == 100 * stored


def test_a_restart_for_which_the_file_has_no_page_holds_back_what_was_sent_behind_it(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(writer: Writer, entries: object) -> list[Stored | StoreFull]:
        raise lmdb.MapFullError("no page is free")

    engine = stores.open()
    engine.commit([entry(100, 1)])
    with monkeypatch.context() as patched:
        patched.setattr(Writer, "_commit", full)
        answers = engine.commit([entry(2, 1, restart=True), entry(1, 3)]).answers
    assert [type(answer) for answer in answers] == [StoreFull, StoreFull]
    # By the numbering that was to end, these would pass for records that are there.
    assert isinstance(engine.commit([entry(2, 3)]).answers[0], StoreFull)
    assert engine.next_of("pi") == 101


def test_a_group_larger_than_its_log_is_stored_as_far_as_it_goes(stores: Stores) -> None:
    logs = (LogSettings("main", share=0.2),)
    engine = stores.open(logs=logs, size=1 * MIB, compression_level=0)
    group = [entry(20, 1 + 20 * i, pad=1000) for i in range(30)]
    answers = engine.commit(group).answers
    kinds = [type(answer) for answer in answers]
    stored = kinds.count(Stored)
    assert 0 < stored < 30
    assert kinds == [Stored] * stored + [StoreFull] * (30 - stored)
    assert values(engine) == list(range(1, 20 * stored + 1))
    assert isinstance(engine.commit(group[stored : stored + 3]).answers[0], Stored)


sizes = st.tuples(st.integers(1, 8), st.sampled_from([0, 300, 3000]))


@settings(max_examples=25)
@given(groups=st.lists(st.lists(sizes, min_size=1, max_size=30), min_size=1, max_size=12))
def test_no_group_exceeds_a_share_and_none_is_refused_that_fits_as_a_whole(
    groups: list[list[tuple[int, int]]],
) -> None:
    with TemporaryDirectory(prefix="share-") as folder:
        stores = Stores(Path(folder))
        engine = stores.open(
            logs=(LogSettings("main", share=0.2, when_full="refuse"),),
            size=1 * MIB,
            block_bytes=8192,
            compression_level=0,
        )
        share = engine.settings.share_bytes("main")
        kept: list[int] = []
        value = 0
        for group in groups:
            entries, begun = [], []
            for count, pad in group:
                entries.append(Entry(runs=(run(count, value=value, pad=pad),)))
                begun.append(value)
                value += count
            room = share - engine.statistics().logs["main"].bytes
            size = estimate(entries, engine.route, engine._state.logs)["main"]
            fits = with_pages(size, engine.settings, engine._tools.page_bytes) <= room
            answers = engine.commit(entries).answers
            assert engine.statistics().logs["main"].bytes <= share
            assert not fits or all(isinstance(answer, Stored) for answer in answers)
            for first, (count, _), answer in zip(begun, group, answers, strict=True):
                if isinstance(answer, Stored):
                    kept += range(first, first + count)
        assert values(engine) == kept
        stores.close_and_check()


@pytest.mark.parametrize("policy", ["refuse", "discard-oldest"])
def test_a_position_in_the_same_group_makes_room_for_its_records(
    stores: Stores, policy: Literal["refuse", "discard-oldest"]
) -> None:
    engine = stores.open(
        logs=(LogSettings("main", share=0.2, when_full=policy),),
        consumers=(ConsumerSettings("up", "main"),),
        size=1 * MIB,
        compression_level=0,
    )
    first = 1
    while engine.statistics().logs["main"].bytes < 0.15 * MIB:
        engine.commit([entry(20, first, pad=1000)])
        first += 20
    word = Entry(positions=(Position("up", "main", engine.last_seq("main")),))

    result = engine.commit([entry(60, first, pad=1000), word])

    assert [type(answer) for answer in result.answers] == [Stored, Stored]
    assert result.trimmed["main"]
    assert not result.discarded


@pytest.mark.parametrize("pad,count", [(3000, 20), (30, 400)])
@pytest.mark.parametrize("policy", ["discard-oldest", "refuse"])
def test_a_size_that_shrank_below_what_is_stored_is_trimmed_to_by_policy_and_never_wedges(
    stores: Stores, policy: Literal["discard-oldest", "refuse"], pad: int, count: int
) -> None:
    def reopened(mib: int) -> Engine:
        return stores.open(
            logs=(LogSettings("main", share=0.7, when_full=policy),),
            consumers=(ConsumerSettings("up", "main"),), size=mib * MIB, compression_level=0,
        )  # fmt: skip

    engine = reopened(8)
    first = 1
    while engine.statistics().used_bytes < 5 * MIB and first < 40_000:
        engine.commit([entry(count, first, pad=pad)])
        first += count
    engine.close()
    engine = reopened(1)
    held = engine.statistics().logs["main"].bytes
    assert held > MIB
    (answer,) = engine.commit([entry(count, first, pad=pad)]).answers
    if policy == "refuse":
        assert isinstance(answer, StoreFull)
        engine.commit([Entry(positions=(Position("up", "main", first - 1),))])
        assert engine.trim().discarded == {}
        (answer,) = engine.commit([entry(count, first, pad=pad)]).answers
    assert isinstance(answer, Stored)
    assert engine.statistics().logs["main"].bytes <= 0.7 * MIB
    assert values(engine)[-1] == first + count - 1


def test_a_file_without_a_free_page_is_made_larger_to_be_trimmed(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = stores.open(compression_level=0)
    engine.commit([entry(20, 1, pad=1000)])
    engine.close()
    tried: list[int] = []

    def open_it(folder: Path, map_size: int, *, clean: bool) -> lmdb.Environment:
        tried.append(map_size)
        return create.open_environment(folder, map_size, clean=clean)

    @contextmanager
    def full_at_first(env: lmdb.Environment) -> Iterator[lmdb.Transaction[bytes]]:
        with stamp.writing(env) as txn:
            if len(tried) == 1:
                raise lmdb.MapFullError("no page is free")
            yield txn

    monkeypatch.setattr(opening, "open_environment", open_it)
    monkeypatch.setattr(opening, "writing", full_at_first)
    engine = stores.open(compression_level=0)
    assert tried == [4 * MIB, 4 * MIB + opening.SPARE_BYTES]
    assert engine.commit([entry(1, 21)]).answers == (Stored({"main": 21}, 22, 0),)
