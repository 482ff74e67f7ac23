"""`edge-agent check`: sound, damaged, in use, not there."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_agent.cli.check import command
from edge_agent.seal import read_keys
from edge_agent.store import Engine
from edge_agent.store.process_lock import StoreLock
from tests.manual_clock import ManualClock
from tests.ops.real import agent
from tests.store.support import entry, small


@pytest.fixture
async def store(tmp_path: Path) -> Path:
    async with agent(tmp_path, serve=False) as running:
        for number in range(5):
            await running.keep(f"a/{number}", list(range(400)))
    return tmp_path


async def test_a_sound_store_is_described(store: Path) -> None:
    done = CliRunner().invoke(command, ["--data", str(store)])
    assert done.exit_code == 0, done.output
    assert "log main: 2 000 records in 5 blocks, seq 1 to 2000" in done.output
    assert done.output.endswith("sound\n")


async def test_a_flipped_bit_is_found_and_the_exit_code_says_so(store: Path) -> None:
    path = store / "store" / "data.mdb"
    data = bytearray(path.read_bytes())
    # Every compressed block begins with zstd's magic number; pages no longer in use hold copies.
    for found in re.finditer(rb"\x28\xb5\x2f\xfd", bytes(data)):
        data[found.start() + 20] ^= 0x01
    path.write_bytes(data)
    done = CliRunner().invoke(command, ["--data", str(store), "--json"])
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert report["problems"] and "damaged" in done.stderr


async def test_a_store_in_use_is_left_alone(store: Path) -> None:
    lock = StoreLock(store / "lock")
    done = CliRunner().invoke(command, ["--data", str(store)])
    lock.release()
    assert done.exit_code == 75
    assert str(os.getpid()) in done.output and "running" in done.output


def test_no_store_is_said(tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["--data", str(tmp_path)])
    assert done.exit_code == 1 and "holds no store" in done.output


async def test_deep_down_a_sound_store_is_sound_and_says_how_much_was_read(store: Path) -> None:
    done = CliRunner().invoke(command, ["--data", str(store), "--deep"])
    assert done.exit_code == 0, done.output
    assert "16 MiB read from the card, 2 000 records decoded" in done.output
    told = json.loads(
        CliRunner().invoke(command, ["--data", str(store), "--deep", "--json"]).stdout
    )
    assert told["deep"] == {"problems": [], "bytes": 16 << 20, "records": 2000, "sealed": 0}


async def test_deep_down_damage_is_found_too(store: Path) -> None:
    path = store / "store" / "data.mdb"
    data = bytearray(path.read_bytes())
    for found in re.finditer(rb"\x28\xb5\x2f\xfd", bytes(data)):
        data[found.start() + 20] ^= 0x01
    path.write_bytes(data)
    done = CliRunner().invoke(command, ["--data", str(store), "--deep", "--json"])
    assert done.exit_code == 1 and json.loads(done.stdout)["deep"]["problems"]


def test_what_is_sealed_is_checked_without_its_key_and_looked_into_with_it(tmp_path: Path) -> None:
    key = tmp_path / "store.key"
    key.touch(mode=0o600)
    key.write_text("5e" * 32)
    seals = read_keys(str(key), os.urandom)
    path = tmp_path / "agent"
    engine = Engine.open(path, small(keys=seals), clock=ManualClock(), entropy=os.urandom)
    engine.commit([entry(5, 1)])
    engine.close()
    config = tmp_path / "edge-agent.toml"
    for named, told in ((key, ""), (tmp_path / "none", "1 values are sealed and were not looked")):
        config.write_text(f'[store]\nkey_file = "{named}"\n')
        options = ["--config", str(config), "--data", str(path), "--deep"]
        done = CliRunner().invoke(command, options)
        assert done.exit_code == 0 and f"{path}: sound" in done.output, done.output
        assert told in done.output and ("were not looked" in done.output) == bool(told)
