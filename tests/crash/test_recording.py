"""Reading strace's log: what a process did to its files, and nothing overlooked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.recording import Op, UnknownCall, read_ops

ROOT = Path("/d")


def hexed(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


def ops_of(tmp_path: Path, *lines: str) -> list[Op]:
    log = tmp_path / "log"
    log.write_text("".join(f"{line}\n" for line in lines))
    return read_ops(log, ROOT)


def test_a_write_has_its_file_place_and_bytes(tmp_path: Path) -> None:
    (op,) = ops_of(tmp_path, f'7 pwrite64(4<{hexed("/d/a/b")}>, "\\x00\\xff", 2, 4096) = 2')

    assert (op.kind, op.path, op.fd, op.offset, op.data) == ("write", "a/b", 4, 4096, b"\x00\xff")


def test_a_vector_is_one_write_where_the_file_stands(tmp_path: Path) -> None:
    parts = '[{iov_base="\\x61", iov_len=1}, {iov_base="\\x62\\x63", iov_len=2}], 2'
    seek, write = ops_of(
        tmp_path,
        f"7 lseek(4<{hexed('/d/b')}>, 512, SEEK_SET) = 512",
        f"7 writev(4<{hexed('/d/b')}>, {parts}) = 3",
    )

    assert (seek.kind, seek.offset) == ("seek", 512)
    assert (write.kind, write.offset, write.data) == ("write", None, b"abc")


def test_what_is_elsewhere_is_left_out(tmp_path: Path) -> None:
    assert ops_of(tmp_path, f'7 pwrite64(4<{hexed("/dev/b")}>, "\\x00", 1, 0) = 1') == []


def test_calls_that_overlap_keep_their_begin_and_end(tmp_path: Path) -> None:
    write, sync = ops_of(
        tmp_path,
        f"7 fdatasync(4<{hexed('/d/b')}> <unfinished ...>",
        f'8 pwrite64(4<{hexed("/d/b")}>, "\\x00", 1, 0) = 1',
        "7 <... fdatasync resumed>) = 0",
    )

    assert (write.kind, write.begin, write.end) == ("write", 1, 1)
    assert (sync.kind, sync.begin, sync.end) == ("sync", 0, 2)


def test_a_rename_has_both_names(tmp_path: Path) -> None:
    (op,) = ops_of(tmp_path, f'7 rename("{hexed("/d/a")}", "{hexed("/d/b")}") = 0')

    assert (op.kind, op.path, op.other) == ("rename", "a", "b")


def test_a_name_is_found_from_the_folder_that_it_is_relative_to(tmp_path: Path) -> None:
    unlink, rmdir = ops_of(
        tmp_path,
        f'7 unlinkat(8<{hexed("/d/a")}>, "{hexed("b")}", 0) = 0',
        f'7 unlinkat(8<{hexed("/d")}>, "{hexed("a")}", AT_REMOVEDIR) = 0',
    )

    assert (unlink.kind, unlink.path, rmdir.kind, rmdir.path) == ("unlink", "a/b", "rmdir", "a")


def test_both_ways_of_a_connection_are_told(tmp_path: Path) -> None:
    ends = "6<TCP:[127.0.0.1:80->127.0.0.1:99]>"
    say, hear = ops_of(
        tmp_path,
        f'7 sendto({ends}, "\\x61\\x62", 2, 0, NULL, 0) = 1',
        f'7 read({ends}, "\\x63", 100) = 1',
    )

    assert (say.kind, say.path, say.data) == ("say", "127.0.0.1:80->127.0.0.1:99", b"a")
    assert (hear.kind, hear.data) == ("hear", b"c")


@pytest.mark.parametrize(
    "call",
    [
        f'truncate("{hexed("/d/b")}", 0) = 0',
        f'link("{hexed("/d/b")}", "{hexed("/d/c")}") = 0',
        f'rename("{hexed("/elsewhere")}", "{hexed("/d/c")}") = 0',
        f"copy_file_range(4<{hexed('/x')}>, NULL, 5<{hexed('/d/b')}>, NULL, 1, 0) = 1",
        f"fallocate(4<{hexed('/d/b')}>, FALLOC_FL_PUNCH_HOLE, 0, 4096) = 0",
        f"sync_file_range(4<{hexed('/d/b')}>, 0, 1, SYNC_FILE_RANGE_WRITE) = 0",
        f"dup2(4<{hexed('/d/b')}>, 5<{hexed('/x')}>) = 5",
        "sync() = 0",
        f'pwrite64(4<{hexed("/d/b")}>, "\\x00"..., 2, 0) = 2',
    ],
)
def test_what_the_model_does_not_know_ends_the_reading(tmp_path: Path, call: str) -> None:
    with pytest.raises(UnknownCall):
        ops_of(tmp_path, f"7 {call}")
