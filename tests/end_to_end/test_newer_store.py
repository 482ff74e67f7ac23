"""A store of a newer version is refused, untouched; damage is never taken for one."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from edge_agent.store import Engine
from edge_agent.store.commit.stamp import writing
from edge_agent.store.create import open_environment
from edge_agent.store.format.keys import STORE
from edge_agent.store.format.values import FORMAT
from edge_agent.store.lmdb_file.pages import PageFile
from tests.manual_clock import ManualClock
from tests.preloaded import run
from tests.store.support import MIB, entry, pack, sealed, seeded, small, values


@pytest.fixture
def path(tmp_path: Path) -> Path:
    engine = Engine.open(tmp_path, small(), clock=ManualClock(), entropy=seeded(1))
    engine.commit([entry(5, 1)])
    engine.close()
    return tmp_path


def written_by_format(path: Path, number: int) -> None:
    env = open_environment(path / "store", 4 * MIB)
    with writing(env) as txn:
        # A later header may have fields that this version has never heard of.
        txn.put(STORE, sealed(STORE, pack([number, {"id": "x"}, 7])))
    env.close()


def digest(path: Path) -> str:
    """Of every file and name but the lock, which holds the pid of whoever looked last."""
    whole = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.name != "lock":
            whole.update(str(file.relative_to(path)).encode())
            whole.update(file.read_bytes() if file.is_file() else b"")
    return whole.hexdigest()


def start(path: Path) -> subprocess.CompletedProcess[str]:
    return run("run", "--data", str(path), "--listen", "127.0.0.1:0", "--http", "off")


def test_a_newer_store_is_refused_with_exit_code_78_and_not_a_byte_is_changed(path: Path) -> None:
    written_by_format(path, FORMAT + 1)
    # What an interrupted step left is not tidied either.
    (path / "store.new").mkdir()
    (path / "store.new" / "data.mdb").write_bytes(b"half")
    before = digest(path)
    ended = start(path)
    assert ended.returncode == 78, ended.stderr
    assert f"format {FORMAT + 1}" in ended.stderr
    assert "install the version that wrote it" in ended.stderr
    assert digest(path) == before


def test_a_newer_lmdb_is_refused_where_both_roots_say_so(path: Path) -> None:
    data = path / "store" / "data.mdb"
    raw = bytearray(data.read_bytes())
    raw[20] = raw[4096 + 20] = 2
    data.write_bytes(raw)
    before = digest(path)
    ended = start(path)
    assert (ended.returncode, digest(path)) == (78, before)


def test_no_flipped_bit_of_the_header_is_taken_for_a_newer_version(path: Path) -> None:
    data = path / "store" / "data.mdb"
    good = data.read_bytes()
    with PageFile(data) as pages:
        node = next(pages.nodes(pages.meta.main.root, print))
        assert node.key == STORE
        value = node.inline
        assert value is not None
    # Wherever this version of the header lies; older commits have others.
    places = [at for at in range(2 * 4096, 64 * 4096) if good.startswith(value, at)]
    assert places
    for bit in range(0, 40, 3):
        raw = bytearray(good)
        for place in places:
            raw[place + bit // 8] ^= 1 << bit % 8
        data.write_bytes(raw)
        engine = Engine.open(path, small(), clock=ManualClock(), entropy=seeded(bit + 2))
        assert engine.salvage_report is not None
        assert values(engine) == [1, 2, 3, 4, 5]
        engine.close()
        data.write_bytes(good)
