"""The witness itself: a log written by hand, right and wrong."""

from __future__ import annotations

from pathlib import Path

from tests.crash.syscalls import judge

HEAD = """\
10 openat(AT_FDCWD, "/d/data.mdb", O_RDWR|O_CREAT, 0644) = 4
10 openat(AT_FDCWD, "/d/data.mdb", O_WRONLY|O_DSYNC|O_CLOEXEC) = 5
"""
WRITE = '11 pwrite64(4, "\\0\\1rec-000001\\n\\"", 14, 8192) = 14\n'
SYNC = "11 fdatasync(4) = 0\n"
META = '11 pwrite64(5, "\\0", 120, 32) = 120\n'
ACK = '10 sendto(7, "\\201\\33{\\"type\\":\\"ack\\",\\"next\\":2}", 29, 0, NULL, 0) = 29\n'


def verdict_of(tmp_path: Path, *lines: str) -> list[str]:
    path = tmp_path / "log"
    path.write_text(HEAD + "".join(lines))
    verdict = judge(path)
    assert verdict.acks == 1
    return verdict.early


def test_an_ack_after_data_sync_and_meta_is_fine(tmp_path: Path) -> None:
    assert verdict_of(tmp_path, WRITE, SYNC, META, ACK) == []


def test_an_ack_before_the_meta_page_is_caught(tmp_path: Path) -> None:
    assert len(verdict_of(tmp_path, WRITE, SYNC, ACK, META)) == 1


def test_an_ack_before_the_sync_is_caught(tmp_path: Path) -> None:
    assert len(verdict_of(tmp_path, WRITE, ACK, SYNC, META)) == 1


def test_a_sync_that_had_begun_before_the_write_does_not_count(tmp_path: Path) -> None:
    begun = "11 fdatasync(4 <unfinished ...>\n"
    ended = "11 <... fdatasync resumed>) = 0\n"
    write = WRITE.replace("11 ", "12 ", 1)

    assert len(verdict_of(tmp_path, begun, write, ended, META, ACK)) == 1


def test_an_ack_that_began_while_the_meta_write_was_running_is_caught(tmp_path: Path) -> None:
    begun = '11 pwrite64(5, "\\0", 120, 32 <unfinished ...>\n'
    ended = "11 <... pwrite64 resumed>) = 120\n"

    assert len(verdict_of(tmp_path, WRITE, SYNC, begun, ACK, ended)) == 1


def test_a_meta_page_through_the_unsynced_descriptor_does_not_count(tmp_path: Path) -> None:
    unsynced = META.replace("(5,", "(4,")

    assert len(verdict_of(tmp_path, WRITE, SYNC, unsynced, ACK)) == 1


def test_a_failed_sync_does_not_count(tmp_path: Path) -> None:
    failed = "11 fdatasync(4) = -1 EIO (Input/output error)\n"

    assert len(verdict_of(tmp_path, WRITE, failed, META, ACK)) == 1
