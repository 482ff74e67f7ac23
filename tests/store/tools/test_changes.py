"""What becomes of single values; `test_rewrite.py` has whole stores."""

from __future__ import annotations

from edge_agent.store import Entry, LogSettings, Position, Quarantined
from edge_agent.store.format import keys
from edge_agent.store.format.codec import Compressor
from edge_agent.store.format.values import LogHeader, StoreHeader, decode, encode
from edge_agent.store.identity import new_header
from edge_agent.store.repair.salvage import SALVAGE_JUMP
from edge_agent.store.tools.changes import Change, Erasing, Renewing
from edge_agent.store.tools.replace import erase_streams
from tests.store.conftest import Stores
from tests.store.support import read_all, run, seeded


def test_a_change_as_such_changes_nothing() -> None:
    assert Change().value(b"\x03pi", b"x") == b"x" and Change().end() == {}


def test_a_renewed_store_is_another_one_and_its_logs_count_on_far_above() -> None:
    header = new_header("board", 5, seeded(9))
    change = Renewing(header)
    old = encode(keys.STORE, new_header("other", 1, seeded(1)))
    made = change.value(keys.STORE, old)
    assert made is not None and decode(keys.STORE, made, StoreHeader) == header
    for last, expected in ((0, 0), (7, 7 + SALVAGE_JUMP)):
        key = keys.log_key("main")
        made = change.value(key, encode(key, LogHeader(1, 1, last, last, 100)))
        assert made is not None and decode(key, made, LogHeader).last == expected
    assert change.value(b"\x03pi", b"x") == b"x"


def test_a_damaged_block_is_left_out_and_counted(stores: Stores) -> None:
    engine = stores.open(compression_level=0)
    for value in (1, 2, 3):
        engine.commit([Entry((run(2, value=value, pad=3000),))])
    engine.close()
    raw = bytearray(stores.data().read_bytes())
    needle = run(1, value=2, pad=3000).body[-200:]
    at = raw.find(needle)
    while at >= 0:
        raw[at] ^= 1
        at = raw.find(needle)
    stores.data().write_bytes(raw)
    stores.damaged.add("agent")
    _, found = erase_streams(stores.path(), lambda stream: False, "", 0, lambda done, total: None)
    assert found.damaged == 1 and found.records == {}
    engine = stores.open()
    assert [(item.first, item.last) for item in read_all(engine)] == [(1, 2), (3, 4), (5, 6)]
    assert engine.statistics().logs["main"].records == 4


def test_an_entry_of_quarantine_that_cannot_be_read_is_left_out_and_counted(
    stores: Stores,
) -> None:
    engine = stores.open()
    for name in (b"one", b"two", b"three"):
        item = Quarantined("bad", "why", "a/1", "pi", 0, 1, b"body of " + name)
        engine.commit([Entry(quarantine=(item,))])
    engine.close()
    stores.data().write_bytes(stores.data().read_bytes().replace(b"body of two", b"body of tvo"))
    _, found = erase_streams(stores.path(), lambda stream: False, "", 0, lambda done, total: None)
    assert (found.damaged_entries, found.entries) == (1, 0)
    assert [number for number, _ in stores.open().quarantine(0, 10)] == [1, 3]


def test_an_erasing_without_quarantine_ends_without_it() -> None:
    assert Erasing(lambda stream: True, Compressor(0), 4096).end() == {}


def test_states_of_consumers_change_only_where_records_of_their_log_were_erased(
    stores: Stores,
) -> None:
    logs = (LogSettings("main", share=0.3), LogSettings("b", ("b/**",), share=0.3))
    engine = stores.open(logs=logs)
    engine.commit([Entry((run(2, stream="a/1"), run(2, stream="b/1")))])
    kept = [Position("up", log, 1, b"plan") for log in ("main", "b")]
    engine.commit([Entry(positions=(*kept, Position("bare", "main", 1)))])
    engine.close()

    def restate(consumer: str, state: bytes) -> bytes:
        return consumer.encode() + state

    erase_streams(stores.path(), lambda s: s == "a/1", "a/1", 0, lambda d, t: None, restate=restate)
    engine = stores.open(logs=logs)
    assert engine.position("up", "main") == (1, b"upplan")
    assert engine.position("up", "b") == (1, b"plan")
    assert engine.position("bare", "main") == (1, None)
