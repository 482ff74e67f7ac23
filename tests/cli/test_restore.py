"""`edge-agent restore`: checked first, another identity, nothing written over."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import shutil
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result
from msgspec import structs

from edge_agent.cli.backup import command as backup
from edge_agent.cli.restore import command
from edge_agent.config import Config
from edge_agent.forward import Resend, ResendOrder
from edge_agent.forward.lanes.lane import Lane
from edge_agent.ops.orders.orders import Orders
from edge_agent.ops.orders.resends import ResendGiven, order_told
from edge_agent.store.tools.check import check_store
from tests.forward.support import FakeSink, upstream
from tests.ops.real import agent
from tests.rules.support import in_force

SIZE = '[store]\nsize = "16MiB"\n'


class Place:
    """A backup of a store of 400 records, and where it is restored to."""

    def __init__(self, folder: Path, agent_id: str) -> None:
        self.backup = folder / "backup"
        self.target = folder / "new"
        self.config = folder / "a.toml"
        self.config.write_text(SIZE)
        self.agent_id = agent_id

    def run(self, *arguments: str, source: Path | None = None, answer: str = "") -> Result:
        where = ["--config", str(self.config), "--data", str(self.target)]
        return CliRunner().invoke(
            command, [str(source or self.backup), *arguments, *where], input=answer
        )


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    async with agent(tmp_path / "old", serve=False) as running:
        await running.keep("a/1", list(range(400)))
        agent_id = running.log.identity.agent_id
    made = Place(tmp_path, agent_id)
    done = CliRunner().invoke(backup, [str(made.backup), "--data", str(tmp_path / "old")])
    assert done.exit_code == 0, done.output
    return made


async def test_a_new_store_with_the_records_and_another_identity(place: Place) -> None:
    done = place.run()
    assert done.exit_code == 0, done.output
    report = check_store(place.target)
    assert report.problems == [] and report.logs["main"].records == 400
    assert place.agent_id in done.output and "from now on" in done.output
    async with agent(place.target, serve=False) as running:
        assert running.log.identity.agent_id != place.agent_id
        await running.keep("a/1", [1])
        assert running.log.last_seq("main") == 400 + 2**20 + 1


async def test_numbers_that_a_restore_passes_over_are_nobodys_backlog(place: Place) -> None:
    assert place.run().exit_code == 0
    async with agent(place.target, serve=False) as running:
        await running.keep("a/1", [1])
        hub = upstream("ws://hub:1/forward")
        lane = Lane(
            hub, running.log, "main", FakeSink(), clock=running.clock, dice=random.Random(3),
            metrics=running.metrics,
        )  # fmt: skip
        assert lane.statistics().backlog_records == 401
        orders = Orders(running.log, Config(upstream=(hub,)), running.clock, rules=in_force())
        [told] = await orders.consumers()
        assert (told["last"], told["backlog"]) == (400 + 2**20 + 1, 401)
        # Nor are they what an order to send once more has to look through.
        order = ResendOrder(1, ("**",), 0, 2**62, 1, told["last"], 0)
        asked = order_told(running.log, "main", order, 200)
        assert (asked["done"], asked["left"], asked["last"]) == (200, 201, told["last"])
        given = ResendGiven("hub", ("**",))
        # What was stored before has other ids since, which is told before it is ordered.
        [looked] = await orders.resend(structs.replace(given, look=True))
        assert looked["renamed"]
        await orders.resend(given)
        under_way = Resend(hub, running.log, "main")
        await under_way.restore()
        under_way.floor = 200
        progress = under_way.progress(None)
        assert progress is not None
        assert (progress.done, progress.left) == (200, 201)


async def test_the_agents_id_is_kept_only_when_asked_and_confirmed(place: Place) -> None:
    refused = place.run("--keep-agent-id", answer="n\n")
    assert refused.exit_code == 1 and "never run again" in refused.output
    assert not (place.target / "store").exists()
    assert place.run("--keep-agent-id", "--yes").exit_code == 0
    async with agent(place.target, serve=False) as running:
        assert running.log.identity.agent_id == place.agent_id


async def test_a_store_that_is_there_is_moved_aside_only_when_asked(place: Place) -> None:
    assert place.run().exit_code == 0
    again = place.run()
    assert again.exit_code == 1 and "--replace" in again.output
    done = place.run("--replace")
    assert done.exit_code == 0 and "replaced-1" in done.output
    assert sorted(one.name for one in place.target.iterdir()) == ["lock", "replaced-1", "store"]


async def test_what_fails_leaves_the_store_that_is_there(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert place.run().exit_code == 0
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    done = place.run("--replace")
    assert done.exit_code == 1 and "MiB" in str(done.exception)
    assert sorted(one.name for one in place.target.iterdir()) == ["lock", "store"]
    assert check_store(place.target).logs["main"].records == 400


async def test_a_block_that_was_damaged_before_keeps_nobody_from_the_others(tmp_path: Path) -> None:
    async with agent(tmp_path / "old", serve=False) as running:
        for number in range(3):
            await running.keep("a/1", [f"number {number} of three"])
        agent_id = running.log.identity.agent_id
    data = tmp_path / "old" / "store" / "data.mdb"
    raw = data.read_bytes()
    assert b"number 1 of three" in raw
    data.write_bytes(raw.replace(b"number 1 of three", b"number 1 of thrfe"))
    made = Place(tmp_path, agent_id)
    done = CliRunner().invoke(backup, [str(made.backup), "--data", str(tmp_path / "old")])
    assert done.exit_code == 0, done.output
    done = made.run()
    assert done.exit_code == 0 and "so they stay: 1 blocks" in done.output, done.output
    report = check_store(made.target)
    assert (report.logs["main"].records, report.logs["main"].damaged) == (2, 1)


async def test_a_damaged_backup_is_not_restored(place: Place) -> None:
    data = place.backup / "data.mdb"
    raw = bytearray(data.read_bytes())
    raw[-3000] ^= 1
    data.write_bytes(raw)
    done = place.run()
    assert done.exit_code == 1 and "SHA-256" in str(done.exception)
    assert not place.target.exists()


async def test_a_tar_is_a_backup_and_other_files_are_not(place: Place, tmp_path: Path) -> None:
    packed = tmp_path / "backup.tar"
    with tarfile.open(packed, "w") as tar:
        for name in ("manifest.json", "data.mdb"):
            tar.add(place.backup / name, name)
    assert place.run(source=packed).exit_code == 0
    assert sorted(one.name for one in place.target.iterdir()) == ["lock", "store"]
    packed.write_bytes(b"no tar at all")
    done = place.run("--replace", source=packed)
    assert done.exit_code == 1 and "is no backup" in done.output
    assert len(done.output.splitlines()) == 1


async def test_a_tar_for_which_there_is_no_room_is_one_line(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "backup.tar"
    with tarfile.open(packed, "w") as tar:
        for name in ("manifest.json", "data.mdb"):
            tar.add(place.backup / name, name)

    def full(*given: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    done = place.run(source=packed)
    assert done.exit_code == 1 and "No space left on device" in done.output
    assert isinstance(done.exception, SystemExit) and not place.target.exists()
    monkeypatch.undo()
    assert place.run(source=packed).exit_code == 0
    assert check_store(place.target).logs["main"].records == 400


async def test_a_store_that_is_too_small_for_it_is_told_its_size(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.cli.restore.SHARES_MAX", 0.0001)
    done = place.run()
    assert done.exit_code == 78 and "set it to 16 MiB" in done.output


def _header(name: str, size: int, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info.tobuf(tarfile.GNU_FORMAT)


def _padded(raw: bytes) -> bytes:
    return raw + b"\0" * (-len(raw) % 512)


def _sparse(size: int) -> bytes:
    """A header of GNU's for a file of ``size`` zeros of which nothing is in the archive."""
    raw = bytearray(_header("data.mdb", 0, tarfile.GNUTYPE_SPARSE))
    raw[386:398] = b"%011o\0" % size
    raw[398:410] = b"%011o\0" % 0
    raw[483:495] = b"%011o\0" % size
    raw[148:156] = b"        "
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


@pytest.mark.parametrize(
    "case",
    ["compressed", "sparse", "larger", "smaller", "symlink", "hard link", "device", "folder",
     "huge manifest", "no data", "twenty others", "claims a terabyte"],
)  # fmt: skip
async def test_a_tar_that_is_none_of_ours_writes_next_to_nothing_and_leaves_nothing(
    place: Place, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = (place.backup / "manifest.json").read_bytes()
    data = (place.backup / "data.mdb").read_bytes()
    parts = [_header("manifest.json", len(manifest)), _padded(manifest)]
    kinds = {"symlink": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE,
             "device": tarfile.CHRTYPE, "folder": tarfile.DIRTYPE}  # fmt: skip
    if case == "sparse":
        parts += [_sparse(2**31)]
    elif case == "larger":
        parts += [_header("data.mdb", len(data) + 512), _padded(data), b"\0" * 512]
    elif case == "smaller":
        parts += [_header("data.mdb", 512), data[:512]]
    elif case in kinds:
        parts += [_header("data.mdb", 0, kinds[case], str(place.backup / "data.mdb"))]
    elif case == "huge manifest":
        parts = [_header("manifest.json", 2**31), _padded(manifest)]
    elif case == "twenty others":
        parts = [_header(f"other-{n}", 0) for n in range(20)] + parts
        parts += [_header("data.mdb", len(data)), _padded(data)]
    elif case == "claims a terabyte":
        claimed = json.loads(manifest) | {"bytes": 2**40}
        manifest = json.dumps(claimed).encode()
        parts = [_header("manifest.json", len(manifest)), _padded(manifest)]
        parts += [_header("data.mdb", 2**40), data]
    packed = tmp_path / "backup.tar"
    packed.write_bytes(b"".join(parts) + b"\0" * 1024)
    if case == "compressed":
        zeros = b"\0" * 2**25
        with tarfile.open(packed, "w:gz") as tar:
            info = tarfile.TarInfo("data.mdb")
            info.size = len(zeros)
            tar.add(place.backup / "manifest.json", "manifest.json")
            tar.addfile(info, io.BytesIO(zeros))
    most = 0
    real = shutil.rmtree

    def seen(folder: Path, *, ignore_errors: bool = False) -> None:
        nonlocal most
        most = max([most, *(each.stat().st_size for each in Path(folder).rglob("*"))])
        real(folder, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", seen)
    done = place.run(source=packed)
    assert done.exit_code in (1, 78) and isinstance(done.exception, SystemExit), done.output
    assert most <= len(manifest)
    assert not place.target.exists() or list(place.target.iterdir()) == []


async def test_a_tar_with_more_in_it_is_a_backup_all_the_same(place: Place, tmp_path: Path) -> None:
    packed = tmp_path / "backup.tar"
    with tarfile.open(packed, "w") as tar:
        for name in ("data.mdb", "manifest.json"):
            tar.add(place.backup / name, name)
        tar.add(place.backup / "manifest.json", "../../escaped")
    assert place.run(source=packed).exit_code == 0
    assert check_store(place.target).logs["main"].records == 400
    assert not (tmp_path.parent / "escaped").exists()


async def test_what_a_manifest_says_moves_no_cursor(place: Place) -> None:
    file = place.backup / "manifest.json"
    told = json.loads(file.read_text())
    file.write_text(json.dumps(told | {"agent_id": "\x1b[2J\u202e"}))
    done = place.run()
    assert done.exit_code == 0 and "\x1b" not in done.output and "\u202e" not in done.output


async def test_a_pipe_holds_nobody_up_wherever_it_stands(place: Place, tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    for path in (pipe, Path("/dev/zero")):
        done = place.run(source=path)
        assert done.exit_code == 1 and f"{path} is no plain file" in done.output
    for name in ("data.mdb", "manifest.json"):
        shutil.copytree(place.backup, copied := tmp_path / f"without {name}")
        (copied / name).unlink()
        os.mkfifo(copied / name)
        done = place.run(source=copied)
        assert done.exit_code == 1 and "no plain file" in str(done.output + str(done.exception))
