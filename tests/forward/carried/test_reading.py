from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from edge_agent.errors import ForeignFile
from edge_agent.forward.carried.reading import find_files, read_file, segments
from edge_agent.forward.sinks.file.names import parse_name
from edge_agent.store import check_payload
from tests.forward.carried.rich import fill, write_out
from tests.forward.support import running_station


def make(folder: Path, compression: str) -> Path:
    """A file, as the sink writes it."""
    stick = folder / "stick"

    async def run() -> None:
        async with running_station(folder / "a") as station:
            await fill(station)
            await write_out(station, stick, compression=compression)

    trio.run(run)
    (path,) = stick.iterdir()
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes]:
    """Name and content of a file, which is made once."""
    path = make(tmp_path_factory.mktemp("made"), "none")
    return path.name, path.read_bytes()


@pytest.fixture
def written(tmp_path: Path, made: tuple[str, bytes]) -> Path:
    path = tmp_path / made[0]
    path.write_bytes(made[1])
    return path


def read(path: Path) -> Any:
    name = parse_name(path.name)
    assert name is not None
    return read_file(path, name)


def test_a_whole_file_is_read_and_covers_its_range_in_blocks_that_a_hub_takes(
    written: Path,
) -> None:
    file = read(written)
    made = list(segments(file, 1))
    assert (made[0].first, made[-1].last) == (1, file.name.last)
    blocks = [one.block for one in made if one.block is not None]
    assert sum(block.count for block in blocks) == len(file.lines) == 35
    for block in blocks:
        check_payload(block.codec, block.raw_len, block.payload, block.count)
    assert blocks[-1].origin.path == ("c0ffee", "facade", file.name.agent)
    assert next(iter(segments(file, 10))).first == 10


Change = Callable[[dict[str, Any]], None]


def changed(path: Path, line: int, change: Change) -> None:
    lines = path.read_text().splitlines()
    record = json.loads(lines[line - 1])
    change(record)
    lines[line - 1] = json.dumps(record)
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda r: r.update(store="x/y/z"), "store: expected"),
        (lambda r: r.update(seq=1), "seq: expected 4 to"),
        (lambda r: r.update(seq=10**6), "seq: expected 4 to"),
        (lambda r: r.update(stream="a//b"), "a stream name has parts"),
        (lambda r: r.update(id="x"), "id: expected EPOCH/LOG/NUMBER"),
        (lambda r: r.update(boot="zz/1"), "."),
        (lambda r: r.update(boot="00/1"), "boot: expected"),
        (lambda r: r.update(quality="guess"), "Invalid enum value"),
        (lambda r: r.pop("source_seq"), "missing required field"),
        (lambda r: r.update(time_ns=2**70), "."),
        (lambda r: r.update(stored_ns=-1), "a time that no clock shows"),
        (lambda r: r.update(exact="!"), "."),
        (lambda r: r.update(fields={"time": 1}), "time and stream are none"),
        (lambda r: r.update(agent="somebody"), "path: expected to begin with agent"),
        (lambda r: r.update(quality="sensor", time_ns=1), "microseconds"),
    ],
)
def test_a_line_that_does_not_fit_is_told_with_file_and_line(
    written: Path, change: Change, said: str
) -> None:
    changed(written, 4, change)
    with pytest.raises(ForeignFile, match=f"{written.name}, line 4: .*{said}"):
        read(written)


def test_a_file_that_was_cut_off_is_told_wherever_it_was_cut(written: Path) -> None:
    whole = written.read_bytes()
    lines = whole.splitlines(keepends=True)
    for cut, said in (
        (b"".join(lines[:20]), "line 20: the file ends here, with 20 of the 35 records"),
        (whole[:-3], "line 35: the file ends in the middle of this line"),
        (b"", "line 0: the file ends here"),
    ):
        written.write_bytes(cut)
        with pytest.raises(ForeignFile, match=said):
            read(written)
    written.write_bytes(lines[0] + b"\xff\n")
    with pytest.raises(ForeignFile, match="line 2"):
        read(written)


def test_a_flipped_bit_in_a_compressed_file_is_told(written: Path) -> None:
    packed = written.with_name(written.name + ".gz")
    data = bytearray(gzip.compress(written.read_bytes()))
    packed.write_bytes(data)
    assert len(read(packed).lines) == 35
    for damage in (bytes(data[:-9]), bytes([*data[:900], data[900] ^ 4, *data[901:]]), b"PK"):
        packed.write_bytes(damage)
        with pytest.raises(ForeignFile, match="cannot be read whole"):
            read(packed)


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_bit_that_is_flipped_anywhere_is_told_or_changes_nothing(
    tmp_path: Path, compression: str
) -> None:
    packed = make(tmp_path, compression)
    data, told = packed.read_bytes(), 0
    whole = read(packed).lines
    # Each byte of the head, where the errors are of most kinds, and some of the rest.
    for place in [*range(150), *range(150, len(data), 97)]:
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        packed.write_bytes(damaged)
        try:
            assert read(packed).lines == whole
        except ForeignFile as error:
            told += str(error).startswith(str(packed))
    assert told > 100


def test_of_a_folder_files_of_ours_are_found_and_a_foreign_one_that_was_named_is_told(
    written: Path,
) -> None:
    folder = written.parent
    (folder / "notes.txt").write_text("")
    (folder / f".{written.name}.part").write_text("")
    (folder / written.name.replace("ndjson", "csv")).write_text("")
    assert [path for path, _ in find_files([folder, written])] == [written]
    with pytest.raises(ForeignFile, match="its name does not say"):
        find_files([folder / "notes.txt"])


def test_what_has_passed_this_agent_before_or_too_many_goes_no_further(written: Path) -> None:
    file = read(written)
    own = file.name.agent
    for path in (("c0ffee", own), ("c0ffee", *(f"a{n}" for n in range(7)))):
        changed(written, 35, lambda record, path=path: record.update(path=path))  # type: ignore[misc]
        assert list(segments(read(written), 35))[-1].reason == "loop"
