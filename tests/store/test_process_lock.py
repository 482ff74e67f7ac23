from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.errors import StoreFailed, StoreLocked
from edge_agent.store.process_lock import StoreLock

HOLD = """
import sys
from pathlib import Path
from edge_agent.store.process_lock import StoreLock
lock = StoreLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_opening_in_this_process_is_refused_with_our_pid(tmp_path: Path) -> None:
    lock = StoreLock(tmp_path / "lock")
    with pytest.raises(StoreLocked, match=f"process {os.getpid()}") as caught:
        StoreLock(tmp_path / "lock")
    assert caught.value.pid == os.getpid()
    lock.release()
    lock.release()
    StoreLock(tmp_path / "lock").release()


def test_another_process_is_named_and_its_death_frees_the_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(StoreLocked) as caught:
            StoreLock(tmp_path / "lock")
        assert caught.value.pid == other.pid
        other.kill()
    StoreLock(tmp_path / "lock").release()


def test_a_folder_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match="must be writable"):
        StoreLock(tmp_path / "missing" / "lock")


def test_a_lock_file_with_nonsense_in_it_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("who knows")
    lock = StoreLock(tmp_path / "lock")
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    lock.release()


def test_a_lock_whose_file_was_deleted_is_taken_again(tmp_path: Path) -> None:
    lock = StoreLock(tmp_path / "lock")
    lock.renew()
    (tmp_path / "lock").unlink()
    lock.renew()
    with pytest.raises(StoreLocked):
        StoreLock(tmp_path / "lock")
    lock.release()


def test_a_lock_that_somebody_else_took_meanwhile_is_not_ours_until_they_end(
    tmp_path: Path,
) -> None:
    lock = StoreLock(tmp_path / "lock")
    (tmp_path / "lock").unlink()
    other = StoreLock(tmp_path / "lock")
    for _ in range(2):
        with pytest.raises(StoreFailed, match=f"in use by process {os.getpid()}"):
            lock.renew()
    other.release()
    lock.renew()
    with pytest.raises(StoreLocked):
        StoreLock(tmp_path / "lock")
    lock.release()


@pytest.mark.parametrize("written", [0, 1])
def test_a_pid_that_cannot_be_written_whole_is_said_and_never_misread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, written: int
) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:written], at))
    lock = StoreLock(tmp_path / "lock")
    assert "the pid of its owner is missing: only a part of it was written" in caplog.text
    with pytest.raises(StoreLocked, match="another process") as caught:
        StoreLock(tmp_path / "lock")
    assert caught.value.pid == 0
    lock.release()


def test_a_pid_that_could_not_be_written_is_once_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "lock").touch()
    real = os.open

    def read_only(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise OSError(30, "Read-only file system")
        return real(path, flags, mode)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", read_only)
        lock = StoreLock(tmp_path / "lock")
        lock.renew()
        lock.renew()
    assert len(caplog.records) == 1
    with pytest.raises(StoreLocked):
        StoreLock(tmp_path / "lock")
    lock.renew()
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    with pytest.raises(StoreLocked, match=f"process {os.getpid()}"):
        StoreLock(tmp_path / "lock")
    lock.release()


def test_a_full_disk_is_no_obstacle_to_the_lock_but_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(fd: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "ftruncate", full)
    lock = StoreLock(tmp_path / "lock")
    assert "the pid of its owner is missing: No space left on device" in caplog.text
    with pytest.raises(StoreLocked):
        StoreLock(tmp_path / "lock")
    lock.release()
