"""Compacting, erasing and restoring, whole or interrupted at any step."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from edge_agent.errors import StoreFailed, StoreLocked
from edge_agent.store import Engine, Entry, Position, Quarantined
from edge_agent.store.commit.stamp import writing
from edge_agent.store.create import open_environment
from edge_agent.store.format.keys import QUARANTINE, log_key
from edge_agent.store.format.values import LogHeader, QuarantineHeader, decode, encode
from edge_agent.store.tools.check import check_store
from edge_agent.store.tools.check_deep import look_deep
from edge_agent.store.tools.replace import compact_store, erase_streams, opened
from edge_agent.store.tools.rewrite import used_bytes
from edge_agent.values.stream_names import compile_pattern
from tests.store.conftest import Stores
from tests.store.support import START_NS, entry, records, run
from tests.store.thinning.test_thinner import SMALL, Sent


def ignore(done: int, total: int) -> None:
    assert 0 <= done <= total


def filled(stores: Stores) -> Path:
    """Secrets among other records, some of them trimmed by now, and uncompressed."""
    engine = stores.open(compression_level=0)
    for number in range(40):
        secret = run(3, stream="secret/1", value=number, pad=500)
        engine.commit([Entry((secret, run(2, stream="open/1", value=number)))])
    bad = [Quarantined("bad", "why", name, "pi", 0, START_NS, b"body of " + name.encode())
           for name in ("open/1", "secret/1", "open/1", "secret/1")]  # fmt: skip
    engine.commit([Entry(quarantine=tuple(bad)), Entry(positions=(Position("up", "main", 50),))])
    engine.close()
    return stores.path()


def pads(path: Path) -> int:
    """How often the bytes of a secret record are in the file."""
    raw = (path / "store" / "data.mdb").read_bytes()
    return sum(raw.count(bytes(run(1, value=n, pad=500).body[-100:])) for n in range(40))


def erase_secrets(path: Path) -> Any:
    return erase_streams(path, compile_pattern("secret/**"), "", 0, ignore)


def test_erased_bytes_are_gone_from_the_file_and_the_others_are_not(stores: Stores) -> None:
    path = filled(stores)
    assert pads(path) >= 40
    rebuilt, found = erase_secrets(path)
    assert found.records == {"secret/1": 120} and found.entries == 2
    assert rebuilt.after_bytes < rebuilt.before_bytes
    raw = (path / "store" / "data.mdb").read_bytes()
    assert b"secret" not in raw and pads(path) == 0
    assert len(raw) == 4 << 20
    report = check_store(path)
    assert (report.problems, report.gaps, report.quarantined) == ([], [], 2)
    engine = stores.open()
    found_records = [one for one in records(engine) if one.stream == "open/1"]
    assert [one.seq for one in found_records] == [
        seq for n in range(40) for seq in (5 * n + 4, 5 * n + 5)
    ]
    assert engine.position("up", "main") == (50, None) and engine.last_seq("main") == 200
    assert [number for number, _ in engine.quarantine(0, 9)] == [1, 3]
    engine.commit([Entry((run(1, stream="open/1", value=7),))])
    assert engine.last_seq("main") == 201


def test_a_name_is_looked_for_in_bodies_and_states_too(stores: Stores) -> None:
    engine = stores.open()
    engine.commit([Entry((run(1, stream="a/1"),))])
    body = b'{"stream": "secret/1"}'
    engine.commit([Entry(quarantine=(Quarantined("bad", "", "a/1", "pi", 0, START_NS, body),))])
    engine.commit([Entry(positions=(Position("rule/h", "main", 1, b"..secret/1.."),))])
    engine.close()
    _, found = erase_streams(stores.path(), compile_pattern("secret/1"), "secret/1", 3, ignore)
    assert (found.entries, found.mentioned) == (1, {"rule/h"})


def test_compacting_keeps_everything_but_what_was_deleted(stores: Stores) -> None:
    path = filled(stores)
    engine = stores.open()
    before, names = records(engine), engine.identity
    engine.commit([Entry(released=(2, 4))])
    engine.close()
    assert b"body of secret/1" in (path / "store" / "data.mdb").read_bytes()
    compact_store(path, ignore)
    assert b"body of secret/1" not in (path / "store" / "data.mdb").read_bytes()
    engine = stores.open()
    assert records(engine) == before and engine.identity == names
    assert engine.position("up", "main") == (50, None)


def test_an_agents_store_is_not_touched_and_no_store_is_said(stores: Stores) -> None:
    engine = stores.open()
    with pytest.raises(StoreLocked):
        compact_store(stores.path(), ignore)
    engine.close()
    empty = stores.path("empty")
    empty.mkdir()
    with pytest.raises(StoreFailed, match="holds no store"):
        compact_store(empty, ignore)


def test_too_little_room_is_told_with_how_much_is_needed(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = filled(stores)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(StoreFailed, match=r"needs \d MiB"):
        compact_store(path, ignore)


def test_it_can_be_cut_off_anywhere_and_is_finished_or_never_was(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(stores)
    outcomes: set[bool] = set()
    for cut in range(20):
        name = f"copy-{cut}"
        shutil.copytree(stores.path(), stores.path(name))
        done = _cut_at(cut, partial(erase_secrets, stores.path(name)), monkeypatch)
        engine: Engine = stores.open(name)
        streams = {one.stream for one in records(engine)}
        is_erased = "secret/1" not in streams
        assert "open/1" in streams and len(records(engine)) == 200
        outcomes.add(is_erased)
        engine.close()
        left = {entry.name for entry in stores.path(name).iterdir()}
        assert left == {"lock", "store"}
        if done:
            assert is_erased
            break
    else:
        raise AssertionError("it never came to its end")
    assert outcomes == {True, False}


class _Cut(BaseException):
    """The power fails here."""


def _cut_at(step: int, work: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run ``work`` until its ``step``-th change of a folder; whether it got to its end. What stands
    when the power fails stays: nothing is cleaned up behind it."""
    steps = 0
    off = False

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            nonlocal steps, off
            if off:
                return None
            if steps == step:
                off = True
                raise _Cut
            steps += 1
            return real(*args, **more)

        return call

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", counted(Path.rename))
        patched.setattr(shutil, "rmtree", counted(shutil.rmtree))
        patched.setattr(os, "posix_fallocate", counted(os.posix_fallocate))
        try:
            work()
        except _Cut:
            return False
    return True


def test_reading_leaves_no_trace_where_nobody_writes(stores: Stores, tmp_path: Path) -> None:
    engine = stores.open()
    engine.commit([entry(3, 1)])
    engine.close()
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(stores.data(), copy / "data.mdb")
    with opened(copy, 4 << 20, "alone") as env:
        assert used_bytes(env) > 0
    assert [file.name for file in copy.iterdir()] == ["data.mdb"]


def test_a_thinned_log_stays_one_when_a_stream_is_erased_and_goes_on_thinning(
    stores: Stores,
) -> None:
    engine = stores.open(**SMALL)
    sent = Sent(stores, engine)
    sent.go_on(700)
    engine.close()
    one = "a/pi-0"
    _, found = erase_streams(stores.path(), compile_pattern(one), one, 3, ignore)
    assert 0 < found.records[one] < 7000 and found.mentioned == set()
    assert look_deep(stores.data(), ignore).problems == []
    sent.engine = stores.open(**SMALL)
    before = sent.engine.statistics().logs["main"].thinned
    assert one not in {record.stream for record in records(sent.engine)}
    sent.go_on(300)
    assert sent.engine.statistics().logs["main"].thinned > before
    assert {record.stream for record in records(sent.engine)} > {one, "a/pi-1", "a/pi-2"}


@pytest.mark.needs("root")
def test_what_root_makes_belongs_to_the_owner_of_the_agents_folder(stores: Stores) -> None:
    path = filled(stores)
    for each in (path, *path.rglob("*")):
        os.chown(each, 65534, 65534)
    (path / "lock").unlink()
    compact_store(path, ignore)
    owners = {each.name: each.stat().st_uid for each in path.rglob("*")}
    assert owners == dict.fromkeys(("lock", "store", "data.mdb", "lock.mdb"), 65534)


def test_bytes_that_a_former_version_miscounted_are_counted_anew(stores: Stores) -> None:
    """It copied them from a store with pages of another size."""
    path = filled(stores)
    good = check_store(path)
    env = open_environment(path / "store", 4 << 20)
    with writing(env) as txn:
        for key, kind in ((log_key("main"), LogHeader), (QUARANTINE, QuarantineHeader)):
            raw = txn.get(key)
            assert raw is not None
            header: Any = decode(key, raw, kind)
            txn.put(key, encode(key, replace(header, bytes=header.bytes // 2)))
    env.close()
    wrong = check_store(path)
    assert len(wrong.problems) == wrong.miscounted == 2
    compact_store(path, ignore)
    assert not check_store(path).problems
    assert check_store(path).logs == good.logs
