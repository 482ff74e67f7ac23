from __future__ import annotations

from edge_agent.errors import StoreFull
from edge_agent.store import Binding, Engine, Entry, Numbering, SourceOrder, Stored
from edge_agent.store.commit.sources import REST_S
from edge_agent.store.commit.stamp import writing
from edge_agent.store.create import open_environment
from edge_agent.store.format.keys import source_key
from tests.store.conftest import Stores
from tests.store.support import entry, foreign

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


def owned(source: str, owner: str | None, *, first: int = 1, bind: Binding | None = None) -> Entry:
    return Entry(numbering=Numbering(source, first, first, owner=owner, bind=bind))


def owners(engine: Engine) -> dict[str, str | None]:
    return {view.name: view.owner for view in engine.sources()}


def test_who_numbers_a_source_first_owns_it_across_restarts(stores: Stores) -> None:
    engine = stores.open()
    engine.commit([owned("oven", "a"), owned("pump", None)])
    for _ in range(2):
        assert owners(engine) == {"oven": "a", "pump": None}
        assert engine.owner_of("oven") == "a"
        refused = engine.commit([owned("oven", "b"), entry(2, 1, source="pump")]).answers
        assert isinstance(refused[0], StoreFull) and refused[0].code == "forbidden_source"
        assert isinstance(refused[1], Stored)
        engine.close()
        engine = stores.open()
    # What belonged to nobody is its next rightful user's, with its numbering as it was.
    answer = engine.commit([owned("pump", "b", first=3, bind=Binding())]).answers[0]
    assert answer == Stored({}, 3, 0) and owners(engine)["pump"] == "b"
    # Without tokens nothing changes hands.
    assert isinstance(engine.commit([owned("oven", None)]).answers[0], Stored)
    assert owners(engine)["oven"] == "a"


def test_of_two_in_one_group_the_first_one_gets_it(stores: Stores) -> None:
    engine = stores.open()
    first, second = engine.commit([owned("oven", "a"), owned("oven", "b")]).answers
    assert isinstance(first, Stored) and isinstance(second, StoreFull)
    # A stranger's restart holds nobody back.
    again = Numbering("oven", 9, 9, restart=True, owner="b")
    assert isinstance(engine.commit([Entry(numbering=again)]).answers[0], StoreFull)
    assert isinstance(engine.commit([owned("oven", "a")]).answers[0], Stored)


def test_an_owner_gives_way_as_it_was_judged_and_not_otherwise(stores: Stores) -> None:
    engine = stores.open()
    engine.commit([owned("oven", "a")])
    bound = owned("oven", "b", bind=Binding(over="c"))
    assert isinstance(engine.commit([bound]).answers[0], StoreFull)
    assert isinstance(
        engine.commit([owned("oven", "b", bind=Binding(over="a"))]).answers[0], Stored
    )
    assert (owners(engine), engine.statistics().sources_of) == ({"oven": "b"}, {"b": 1})


def test_an_identity_at_its_share_is_refused_and_others_are_not(stores: Stores) -> None:
    engine = stores.open(sources_max=8)
    share = Binding(share=2)
    made = [owned(f"a{n}", "a", bind=share) for n in range(4)]
    answers = engine.commit([*made, owned("b0", "b", bind=share)]).answers
    assert [type(answer) for answer in answers] == [Stored] * 2 + [StoreFull] * 2 + [Stored]
    refused = answers[2]
    assert isinstance(refused, StoreFull) and refused.code == "too_many_sources"
    assert "too many sources of a: 2" in str(refused)
    told = engine.statistics()
    assert (told.sources_of, told.lacking) == ({"a": 2, "b": 1}, {"a": 2})


def test_the_oldest_unused_of_its_own_give_way(stores: Stores) -> None:
    engine = stores.open(sources_max=8)
    share = Binding(share=2)
    engine.commit([owned("others", "b", bind=share), owned("old", "a", bind=share)])
    stores.clock.advance(REST_S)
    engine.commit([owned("connected", "a", bind=share)])
    stores.clock.advance(2 * REST_S)
    engine.note_connected(lambda source: source == "connected")
    result = engine.commit([owned("new", "a", bind=share)])
    assert isinstance(result.answers[0], Stored) and result.sources_forgotten == 1
    assert set(owners(engine)) == {"others", "connected", "new"}
    assert engine.statistics().sources_of == {"a": 2, "b": 1}


def test_what_was_heard_lately_does_not_give_way_nor_does_an_agents(stores: Stores) -> None:
    engine = stores.open(sources_max=8)
    share = Binding(share=1)
    engine.commit([owned("$agent/aa", "a", bind=share), owned("oven", "b", bind=share)])
    stores.clock.advance(REST_S / 2)
    assert isinstance(engine.commit([owned("new", "b", bind=share)]).answers[0], StoreFull)
    stores.clock.advance(10 * REST_S)
    assert isinstance(engine.commit([owned("new", "a", bind=share)]).answers[0], StoreFull)
    assert set(owners(engine)) == {"$agent/aa", "oven"}


def test_where_no_place_is_left_those_give_way_that_have_more_than_their_share(
    stores: Stores,
) -> None:
    engine = stores.open(sources_max=4)
    # All of before there were owners, as an attacker may have left them.
    engine.commit([entry(1, 1, source=f"s{n}") for n in range(4)])
    stores.clock.advance(2 * REST_S)
    assert isinstance(engine.commit([owned("new", "a", bind=Binding(share=2))]).answers[0], Stored)
    assert "new" in owners(engine)


def test_a_source_is_moved_and_forgotten_in_one_group_with_others(stores: Stores) -> None:
    engine = stores.open()
    engine.commit([entry(5, 1, source="oven")])
    keep = SourceOrder("oven", "move", "a", keep_numbers=True)
    engine.commit([entry(1, 6, source="oven"), Entry(sources=(keep,))])
    assert (engine.next_of("oven"), engine.owner_of("oven")) == (7, "a")
    engine.commit([Entry(sources=(SourceOrder("oven", "move", "b"),))])
    assert (engine.next_of("oven"), engine.owner_of("oven")) == (1, "b")
    # What is still on its way of the old owner is refused.
    late = Numbering("oven", 7, 8, owner="a")
    assert isinstance(engine.commit([Entry(numbering=late)]).answers[0], StoreFull)
    forget = Entry(sources=(SourceOrder("oven", "forget"),))
    answers = engine.commit([forget, owned("oven", "c")]).answers
    assert isinstance(answers[1], Stored) and owners(engine) == {"oven": "c"}
    assert engine.statistics().sources_of == {"c": 1}
    engine.close()
    assert owners(stores.open()) == {"oven": "c"}


def test_blocks_of_an_agent_that_belongs_to_another_are_refused_whole(stores: Stores) -> None:
    engine = stores.open()
    engine.commit([owned("$agent/feedfacecafe", "a"), owned("$forward/x/h/main/live", "b")])
    for owner, taken in (("b", False), (None, True)):
        numbering = Numbering("$forward/x/h/main/live", 1, 3, owner=owner)
        (answer,) = engine.commit([Entry(blocks=(foreign(2, 1),), numbering=numbering)]).answers
        assert isinstance(answer, Stored) is taken
