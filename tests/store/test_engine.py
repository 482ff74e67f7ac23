from __future__ import annotations

import threading

import pytest

from edge_agent.errors import StoreFailed, StoreLocked
from edge_agent.store import Entry, LogSettings, Position, Stored
from edge_agent.store.commit.stamp import writing
from edge_agent.store.create import open_environment
from edge_agent.store.engine import Gate
from edge_agent.store.format.keys import block_key, source_key
from edge_agent.store.lmdb_file.pages import PageFile
from tests.patience import PATIENCE_S
from tests.store.conftest import Stores
from tests.store.support import MIB, PAGE, entry, failing_disk, values


def test_everything_is_there_after_closing_and_opening(stores: Stores) -> None:
    engine = stores.open()
    identity = engine.identity
    engine.commit([entry(3, 1)])
    engine.close()
    again = stores.open()
    assert values(again) == [1, 2, 3]
    assert again.next_of("pi") == 4
    assert again.identity == identity
    assert again.salvage_report is None


def test_a_new_store_has_ids_of_its_own(stores: Stores) -> None:
    one, other = stores.open("one").identity, stores.open("other").identity
    assert one.store_id != other.store_id
    assert one.epoch != other.epoch
    assert one.agent_id != other.agent_id


def test_a_second_opening_is_refused_while_the_first_lives(stores: Stores) -> None:
    engine = stores.open()
    with pytest.raises(StoreLocked):
        stores.open()
    engine.close()
    stores.open()


def test_an_opening_that_fails_leaves_no_lock_behind(stores: Stores) -> None:
    with failing_disk(), pytest.raises(StoreFailed):
        stores.open()
    assert stores.open().last_seq("main") == 0


def test_a_disk_that_refuses_fails_the_commit_until_reopened(stores: Stores) -> None:
    engine = stores.open()
    engine.commit([entry(3, 1)])
    with failing_disk(), pytest.raises(StoreFailed, match="committing"):
        engine.commit([entry(3, 4)])
    with pytest.raises(StoreFailed):
        engine.commit([entry(3, 4)])
    with pytest.raises(StoreFailed):
        engine.trim()
    with failing_disk(), pytest.raises(StoreFailed):
        engine.reopen()
    assert "Errno 27" in str(engine.refusal) or "too large" in str(engine.refusal)
    assert values(engine) == [1, 2, 3]
    for told in (lambda: engine.next_of("pi"), lambda: engine.position("hub", "main")):
        with pytest.raises(StoreFailed):
            told()
    engine.reopen()
    assert engine.refusal is None
    assert engine.next_of("pi") == 4
    assert engine.commit([entry(3, 4)]).answers == (Stored({"main": 6}, 7, 0),)
    assert values(engine) == [1, 2, 3, 4, 5, 6]


def test_the_same_entries_after_a_failure_are_stored_once(stores: Stores) -> None:
    engine = stores.open()
    engine.commit([entry(3, 1)])
    engine.reopen()
    assert engine.commit([entry(3, 1), entry(2, 4)]).duplicates == 3
    assert values(engine) == [1, 2, 3, 4, 5]


def test_opening_commits_a_marker_that_reaches_the_disk(stores: Stores) -> None:
    engine = stores.open()
    before = engine._env.info()["last_txnid"] if engine._env else 0
    engine.reopen()
    assert engine._env is not None
    assert engine._env.info()["last_txnid"] == before + 1


def test_a_closed_engine_says_so(stores: Stores) -> None:
    engine = stores.open()
    engine.close()
    engine.close()
    for call in (
        lambda: engine.commit([]),
        lambda: engine.read("main", 0, 1),
        lambda: engine.next_of("pi"),
        engine.statistics,
    ):
        with pytest.raises(StoreFailed, match="closed"):
            call()


def test_the_first_log_whose_pattern_matches_takes_a_stream(stores: Stores) -> None:
    logs = (
        LogSettings("alarms", ("alarms/**", "**/alarm"), share=0.1),
        LogSettings("rest", ("**",), share=0.1),
        LogSettings("main", share=0.1),
    )
    engine = stores.open(logs=logs)
    names = ("alarms", "x/alarm", "x/y", "$own/x")
    assert [engine.route(name) for name in names] == ["alarms", "alarms", "rest", "main"]


@pytest.mark.parametrize("by_reading", [True, False])
def test_damage_met_on_the_way_is_salvaged_without_a_restart(
    stores: Stores, by_reading: bool
) -> None:
    stores.damaged.add("agent")
    engine = stores.open(compression_level=0)
    for first in range(1, 201, 10):
        engine.commit([entry(10, first, pad=1000)])
    epoch = engine.identity.epoch
    # A page of a long value that calls itself something else: LMDB refuses to follow it.
    raw = stores.data().read_bytes()
    with PageFile(stores.data()) as pages:
        nodes = {node.key: node for node in pages.nodes(pages.meta.main.root, print)}
    place = nodes[block_key(1, 51)].overflow * PAGE
    with stores.data().open("r+b") as file:
        file.seek(place + 10)
        file.write(bytes((raw[place + 10] | 0x10,)))
    if by_reading:
        found = values(engine)
    else:
        acknowledged = Entry(positions=(Position("up", "main", 200),))
        engine.commit([acknowledged])
        engine._damaged = "as a commit would find it"
        engine.reopen()
        found = values(engine)
        assert engine.position("up", "main")[0] == 200
    # The page's header was wrong, not the block: its checksum says so.
    assert found == list(range(1, 201))
    assert engine.salvage_report is not None
    assert engine.identity.epoch != epoch
    assert engine.commit([entry(1, 201)]).answers[0] == Stored(
        {"main": engine.last_seq("main")}, 202, 0
    )


def test_a_value_that_fails_its_checksum_fails_the_commit_and_is_salvaged(stores: Stores) -> None:
    engine = stores.open()
    engine.commit([entry(3, 1), entry(3, 1, source="other")])
    engine.close()
    env = open_environment(stores.path() / "store", 4 * MIB)
    with writing(env) as txn:
        txn.put(source_key("pi"), b"\x93\x09\x00\xc3four")
    env.close()
    stores.damaged.add("agent")
    again = stores.open()
    with pytest.raises(StoreFailed, match="checksum"):
        again.commit([entry(3, 4)])
    again.reopen()
    assert again.salvage_report is not None
    # An older page still had it.
    assert again.next_of("pi") == 4
    assert again.next_of("other") == 4
    assert values(again) == [1, 2, 3, 1, 2, 3]


def test_readers_are_inside_together() -> None:
    gate = Gate()
    both = threading.Barrier(2, timeout=PATIENCE_S)

    def read() -> None:
        with gate.shared():
            both.wait()

    other = threading.Thread(target=read)
    other.start()
    read()
    other.join(5)
    assert not both.broken


def test_alone_waits_for_readers_and_lets_none_in() -> None:
    gate = Gate()
    order: list[str] = []
    inside = threading.Event()

    def reopen() -> None:
        inside.set()
        with gate.alone():
            order.append("alone")

    def late() -> None:
        with gate.shared():
            order.append("late")

    with gate.shared():
        first = threading.Thread(target=reopen)
        first.start()
        assert inside.wait(PATIENCE_S)
        while not gate._closing:  # Until it waits for this very reader.
            assert first.is_alive()
        second = threading.Thread(target=late)
        second.start()
        order.append("reader")
    first.join(5)
    second.join(5)
    assert order == ["reader", "alone", "late"]


def test_an_error_inside_opens_the_gate_again() -> None:
    gate = Gate()
    for way in (gate.shared, gate.alone):
        try:
            with way():
                raise KeyError
        except KeyError:
            pass
    with gate.alone():
        pass
