from __future__ import annotations

from edge_agent.errors import StoreFull
from edge_agent.store import Stored
from edge_agent.store.create import open_environment
from edge_agent.store.keys import source_key
from edge_agent.store.stamp import writing
from tests.store.conftest import Stores
from tests.store.support import entry

DAY_S = 86_400.0


def test_sources_unseen_for_long_are_forgotten_and_the_others_not(stores: Stores) -> None:
    engine = stores.open()
    engine.commit([entry(1, 1, source="old"), entry(1, 1, source="busy")])
    stores.clock.advance(60 * DAY_S)
    engine.commit([entry(1, 2, source="busy")])
    stores.clock.advance(60 * DAY_S)
    assert engine.trim().sources_forgotten == 1
    assert (engine.next_of("old"), engine.next_of("busy")) == (0, 3)
    # Who comes back is new; what is remembered in memory does not say otherwise.
    back = engine.commit([entry(1, 1, source="old"), entry(1, 3, source="busy")])
    assert back.answers == (Stored({"main": 4}, 2, 0), Stored({"main": 5}, 4, 0))
    assert engine.statistics().sources == 2


def test_a_wrong_clock_forgets_nobody(stores: Stores) -> None:
    engine = stores.open()
    stores.clock.step_wall(5, synced=False)
    engine.commit([entry(1, 1, source="heard in 1970")])
    stores.clock.step_wall(1_795_341_600_000_000_000, synced=True)
    assert engine.trim().sources_forgotten == 0
    stores.clock.advance(3600)
    assert engine.trim().sources_forgotten == 0
    assert engine.next_of("heard in 1970") == 2


def test_at_the_limit_a_new_source_is_refused_and_old_ones_go_on(stores: Stores) -> None:
    engine = stores.open(sources_max=3)
    group = [entry(1, 1, source=f"s{i}") for i in range(5)]
    answers = engine.commit(group).answers
    assert [type(answer) for answer in answers] == [Stored] * 3 + [StoreFull] * 2
    assert "sources" in str(answers[3])
    assert isinstance(engine.commit([entry(1, 2, source="s0")]).answers[0], Stored)


def test_at_the_limit_forgotten_sources_make_room(stores: Stores) -> None:
    engine = stores.open(sources_max=2)
    engine.commit([entry(1, 1, source="a"), entry(1, 1, source="b")])
    stores.clock.advance(100 * DAY_S)
    result = engine.commit([entry(1, 1, source="c")])
    assert isinstance(result.answers[0], Stored)
    assert result.sources_forgotten == 2
    engine.close()
    assert stores.open().statistics().sources == 1


def test_a_source_whose_value_cannot_be_read_is_forgotten(stores: Stores) -> None:
    engine = stores.open()
    engine.commit([entry(1, 1)])
    engine.close()
    env = open_environment(stores.path() / "store", 4 * 1024 * 1024)
    with writing(env) as txn:
        txn.put(source_key("broken"), b"\xc1")
    env.close()
    again = stores.open()
    stores.clock.advance(3600)
    assert again.trim().sources_forgotten == 1
    assert again.next_of("pi") == 2
