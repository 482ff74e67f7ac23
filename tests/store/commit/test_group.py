"""Judging and gathering, seen through the engine: a group exists only within a transaction."""

from __future__ import annotations

import pytest

from edge_agent.errors import StoreFull
from edge_agent.store import ConsumerSettings, Entry, LogSettings, Numbering, Position, Stored
from edge_agent.store.commit.group import estimate
from tests.store.conftest import Stores
from tests.store.support import (
    MIB,
    entry,
    foreign,
    run,
    values,
)

TWO_LOGS = (LogSettings("alarms", ("alarms/**",), share=0.2), LogSettings("main", share=0.5))


def test_each_entry_is_answered_with_its_own_last_seq(stores: Stores) -> None:
    engine = stores.open()
    result = engine.commit([entry(3, 1), entry(2, 4), entry(1, 1, source="other")])
    assert result.answers == (
        Stored({"main": 3}, 4, 0),
        Stored({"main": 5}, 6, 0),
        Stored({"main": 6}, 2, 0),
    )
    assert result.last_seq == {"main": 6}
    assert result.records == {"main": 6}


def test_what_was_sent_before_is_left_out_and_counted(stores: Stores) -> None:
    engine = stores.open()
    engine.commit([entry(5, 1)])
    result = engine.commit([entry(5, 1), entry(5, 3), entry(2, 8)])
    assert result.answers == (
        Stored({}, 6, 5),
        Stored({"main": 7}, 8, 3),
        Stored({"main": 9}, 10, 0),
    )
    assert result.duplicates == 8
    assert values(engine) == list(range(1, 10))


def test_an_old_entry_sent_again_never_sets_the_number_back(stores: Stores) -> None:
    engine = stores.open()
    engine.commit([entry(5, 1)])
    assert engine.commit([entry(2, 1)]).answers == (Stored({}, 6, 2),)
    assert engine.next_of("pi") == 6


def test_duplicates_within_one_group_are_judged_too(stores: Stores) -> None:
    engine = stores.open()
    engine.commit([entry(2, 1), entry(3, 1), entry(3, 1)])
    assert values(engine) == [1, 2, 3]


def test_a_record_behind_a_missing_one_is_refused_so_that_order_stays(stores: Stores) -> None:
    engine = stores.open()
    answers = engine.commit([entry(1, 1), entry(1, 3), entry(1, 2)]).answers
    assert isinstance(answers[1], StoreFull)
    assert "earlier record" in str(answers[1])
    assert values(engine) == [1, 2]
    assert isinstance(engine.commit([entry(1, 2, source="new")]).answers[0], StoreFull)


def test_a_restart_sets_the_number_up_or_down_and_counts_the_gap(stores: Stores) -> None:
    engine = stores.open()
    engine.commit([entry(3, 1)])
    up = engine.commit([entry(2, 10, restart=True)])
    assert (up.restarts, up.gaps, engine.next_of("pi")) == (1, 6, 12)
    down = engine.commit([entry(2, 5, restart=True)])
    assert (down.restarts, down.gaps, engine.next_of("pi")) == (1, 0, 7)
    assert values(engine) == [1, 2, 3, 10, 11, 5, 6]


def test_a_source_that_begins_later_on_purpose_lacks_nothing(stores: Stores) -> None:
    engine = stores.open()
    known = engine.commit([Entry(numbering=Numbering("pi", 500, 500, restart=True, moved=True))])
    assert (known.restarts, known.gaps, engine.next_of("pi")) == (1, 0, 500)


def test_a_source_not_seen_before_that_goes_on_at_a_later_number_is_a_gap(stores: Stores) -> None:
    engine = stores.open()
    result = engine.commit([entry(1, 500, restart=True)])
    assert (result.restarts, result.gaps) == (1, 499)
    begun = engine.commit([entry(1, 1, restart=True, source="new")])
    assert (begun.restarts, begun.gaps) == (0, 0)


def test_numbers_are_judged_alike_by_memory_and_by_file(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.store.commit.state.EXPECTED_MAX", 3)
    engine = stores.open()
    sources = ["a", "b", "c", "d"]
    for first in (1, 3, 5):
        # Four sources are more than are remembered: some come from memory, some from the file.
        for group in (sources[:2], sources[2:], sources[1:3]):
            sent = [entry(2, first, source=source) for source in group]
            found = engine.commit(sent).answers
            assert [type(answer) for answer in found] == [Stored] * len(group)
            assert [answer.next for answer in found if isinstance(answer, Stored)] == [
                first + 2
            ] * len(group)
    assert [engine.next_of(source) for source in sources] == [7] * 4
    assert engine.statistics().logs["main"].records == 24


def test_the_senders_opening_is_kept_with_the_number_by_memory_and_by_file(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.store.commit.state.EXPECTED_MAX", 2)
    engine = stores.open()

    def opened(source: str, first: int, opening: str | None) -> None:
        sent = entry(1, first, source=source)
        sent.numbering = Numbering(source, first, first + 1, opening=opening)
        assert isinstance(engine.commit([sent]).answers[0], Stored)

    for source in "abc":
        opened(source, 1, f"of {source}")
    for source in "abc":
        # None for the same as before, whether it is remembered or has to be looked up.
        opened(source, 2, None)
        assert engine.history_of(source)[1] == f"of {source}"
    opened("a", 3, "the next")
    opened("b", 3, "")
    engine.close()
    engine = stores.open()
    assert [engine.history_of(source) for source in "abcd"] == [
        (4, "the next"), (4, ""), (3, "of c"), (0, "")
    ]  # fmt: skip


def test_numbers_are_used_up_without_records(stores: Stores) -> None:
    engine = stores.open()
    engine.commit([Entry(numbering=Numbering("pi", 1, 1, restart=True))])
    assert engine.next_of("pi") == 1
    engine.commit([Entry(numbering=Numbering("pi", 1, 9))])
    assert engine.next_of("pi") == 9
    assert engine.last_seq("main") == 0


def test_plain_records_are_never_judged(stores: Stores) -> None:
    engine = stores.open()
    for _ in range(2):
        engine.commit([Entry(runs=(run(2),))])
    assert values(engine) == [0, 1, 0, 1]


def test_foreign_blocks_are_judged_whole_or_cut(stores: Stores) -> None:
    engine = stores.open()
    source = "feedfacecafe/hub/main/live"
    send = [
        Entry(blocks=(foreign(10, 1),), numbering=Numbering(source, 1, 11)),
        Entry(blocks=(foreign(10, 1), foreign(5, 11)), numbering=Numbering(source, 1, 16)),
        Entry(blocks=(foreign(10, 13),), numbering=Numbering(source, 13, 23)),
    ]
    answers = [engine.commit([one]).answers[0] for one in send]
    assert [a.duplicates for a in answers if isinstance(a, Stored)] == [0, 10, 3]
    assert values(engine) == list(range(1, 23))


def test_a_group_is_estimated_not_below_what_it_takes(stores: Stores) -> None:
    engine = stores.open(compression_level=0)
    group = [entry(10, 1, pad=70), Entry(blocks=(foreign(50, 1),)), entry(10, 11)]
    expected = estimate(group, engine.route, engine._state.logs)
    engine.commit(group)
    assert expected["main"] >= engine.statistics().logs["main"].bytes


def test_many_small_foreign_blocks_are_not_reckoned_with_a_page_each(stores: Stores) -> None:
    engine = stores.open(compression_level=0)
    group = [Entry(blocks=tuple(foreign(1, number) for number in range(1, 501)))]
    expected = estimate(group, engine.route, engine._state.logs)
    engine.commit(group)
    held = engine.statistics().logs["main"].bytes
    assert held <= expected["main"] < 2.5 * held


def test_an_empty_log_takes_an_entry_that_is_larger_than_its_share(stores: Stores) -> None:
    logs = (LogSettings("main", share=0.01, when_full="refuse"),)
    consumers = (ConsumerSettings("up", "main"),)
    engine = stores.open(logs=logs, consumers=consumers, size=16 * MIB, compression_level=0)
    large = engine.settings.share_bytes("main") // 1000 + 20
    assert isinstance(engine.commit([entry(1, 1)]).answers[0], Stored)
    refused = engine.commit([entry(large, 2, pad=1000)]).answers[0]
    assert isinstance(refused, StoreFull)
    engine.commit([Entry(positions=(Position("up", "main", 1),))])
    answers = engine.commit([entry(large, 2, pad=1000), entry(1, 2 + large)]).answers
    assert [type(answer) for answer in answers] == [Stored, StoreFull]
    stores.close_and_check()


def test_a_refused_restart_holds_back_what_was_sent_behind_it(stores: Stores) -> None:
    logs = (LogSettings("main", share=0.05, when_full="refuse"),)
    engine = stores.open(logs=logs, compression_level=0)
    engine.commit([entry(100, 1)])
    while isinstance(engine.commit([Entry(runs=(run(20, pad=1000),))]).answers[0], Stored):
        pass
    restart = entry(20, 50, restart=True, pad=1000)
    # Its numbers are below the stored 101, so alone it would pass for a duplicate.
    behind = Entry(numbering=Numbering("pi", 70, 71))
    answers = engine.commit([restart, behind]).answers
    assert [type(answer) for answer in answers] == [StoreFull, StoreFull]
    assert isinstance(engine.commit([behind]).answers[0], StoreFull)
    engine.reopen()
    assert isinstance(engine.commit([behind]).answers[0], StoreFull)
    assert engine.next_of("pi") == 101
    assert isinstance(engine.commit([behind]).answers[0], Stored)


def test_an_entry_is_refused_whole_where_one_of_its_logs_is_full(stores: Stores) -> None:
    logs = (
        LogSettings("alarms", ("alarms/**",), share=0.02, when_full="refuse"),
        LogSettings("main", share=0.5),
    )
    engine = stores.open(logs=logs, compression_level=0)
    alarm = run(40, stream="alarms/a", pad=1000)
    while isinstance(engine.commit([Entry(runs=(alarm,))]).answers[0], Stored):
        pass
    position = Position("c", "main", 1, b"state")
    mixed = Entry((run(1), alarm), (), Numbering("pi", 1, 42), (position,))
    answers = engine.commit([mixed, entry(1, 42), Entry(runs=(run(1, value=5),))]).answers
    assert [type(answer) for answer in answers] == [StoreFull, StoreFull, Stored]
    assert values(engine) == [5]
    assert engine.position("c", "main") == (0, None)
    assert engine.next_of("pi") == 0
