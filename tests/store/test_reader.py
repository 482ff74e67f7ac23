from __future__ import annotations

import threading

from edge_agent.store import Entry, LogSettings, Stored
from tests.store.conftest import Stores
from tests.store.support import entry, read_all, run, values


def test_reads_beside_commits_see_only_whole_groups(stores: Stores) -> None:
    engine = stores.open()
    seen: list[int] = []
    stop = threading.Event()

    def follow() -> None:
        while not stop.is_set():
            items = read_all(engine)
            seen.append(items[-1].last if items else 0)

    reader = threading.Thread(target=follow)
    reader.start()
    for group in range(30):
        engine.commit([entry(2, 1 + 4 * group), entry(2, 3 + 4 * group)])
        if group % 10 == 9:
            engine.reopen()
    stop.set()
    reader.join(10)
    assert seen == sorted(seen)
    assert all(last % 4 == 0 for last in seen)


def test_a_log_that_is_no_longer_configured_can_still_be_read(stores: Stores) -> None:
    logs = (LogSettings("alarms", ("alarms/**",), share=0.1), LogSettings("main", share=0.1))
    engine = stores.open(logs=logs)
    engine.commit([Entry(runs=(run(2, stream="alarms/x"),))])
    engine.close()
    again = stores.open()
    assert again.logs() == ("alarms", "main")
    assert values(again, "alarms") == [0, 1]
    assert again.route("alarms/x") == "main"


def test_an_empty_group_and_an_empty_entry_are_fine(stores: Stores) -> None:
    engine = stores.open()
    assert engine.commit([]).answers == ()
    assert engine.commit([Entry()]).answers == (Stored({}, 0, 0),)
    assert (engine.first_seq("main"), engine.last_seq("main")) == (1, 0)
    assert (engine.first_seq("none"), engine.last_seq("none")) == (1, 0)
    assert engine.read("none", 0, 1) == []
