from __future__ import annotations

import time
from pathlib import Path

import pytest

from edge_agent import clock
from edge_agent.clock import ManualClock, SystemClock


def test_the_system_clock_reads_the_machines_clocks() -> None:
    before_wall, before_boot = time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    reading = SystemClock().read()
    assert before_wall <= reading.wall_ns <= time.time_ns()
    assert before_boot <= reading.boot_ns <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert len(reading.boot_id) == 16


def test_the_boot_id_is_the_kernels_and_stays() -> None:
    text = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert SystemClock().read().boot_id.hex() == text.replace("-", "")
    assert SystemClock().read().boot_id == SystemClock().read().boot_id


def test_without_procfs_a_run_still_has_a_boot_id_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(clock, "_BOOT_ID", tmp_path / "absent")
    first, second = SystemClock(), SystemClock()
    assert first.read().boot_id != second.read().boot_id
    assert first.read().boot_id == first.read().boot_id


def test_synced_is_what_the_kernel_or_the_marker_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    marker = tmp_path / "synchronized"
    monkeypatch.setattr(clock, "SYNCED_MARKER", marker)
    monkeypatch.setattr(clock, "kernel_says_synced", lambda: False)
    system = SystemClock(recheck_s=0)
    assert system.read().synced is False
    marker.touch()
    assert system.read().synced is True
    marker.unlink()
    assert system.read().synced is False
    monkeypatch.setattr(clock, "kernel_says_synced", lambda: True)
    assert system.read().synced is True


def test_synced_is_not_asked_for_every_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def ask() -> bool:
        asked.append(1)
        return True

    monkeypatch.setattr(clock, "kernel_says_synced", ask)
    system = SystemClock(recheck_s=3600)
    for _ in range(100):
        assert system.read().synced is True
    assert len(asked) == 1


def test_the_kernel_can_be_asked() -> None:
    # Either answer is right here; a machine without adjtimex says False instead of raising.
    assert clock.kernel_says_synced() in (True, False)


def test_the_manual_clock_stands_until_it_is_turned() -> None:
    manual = ManualClock()
    first = manual.read()
    assert manual.read() == first
    manual.advance(1.5)
    second = manual.read()
    assert second.wall_ns - first.wall_ns == second.boot_ns - first.boot_ns == 1_500_000_000


def test_setting_the_wall_clock_leaves_the_boot_clock_alone() -> None:
    manual = ManualClock(wall_ns=1, synced=False)
    manual.step_wall(10**18, synced=True)
    assert manual.read().wall_ns == 10**18
    assert manual.read().boot_ns == ManualClock().read().boot_ns
    assert manual.read().synced is True
    manual.step_wall(5)
    assert manual.read().synced is True


def test_a_reboot_has_a_new_id_and_knows_not_what_time_it_is() -> None:
    manual = ManualClock()
    manual.advance(100)
    before = manual.read()
    manual.reboot(wall_ns=0)
    after = manual.read()
    assert after.boot_id != before.boot_id
    assert after.boot_ns < before.boot_ns
    assert (after.wall_ns, after.synced) == (0, False)
