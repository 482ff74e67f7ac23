from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from edge_agent.system import clock
from edge_agent.system.clock import ASK_MAX_S, ASK_S, SystemClock, timedated_says_synced
from tests.manual_clock import ManualClock
from tests.patience import eventually

NOW_NS = 1_795_341_600_000_000_000
SECOND = 10**9


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


class Machine:
    """What the machine's clocks and files say, set by a test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.wall_ns, self.boot_ns = NOW_NS, 50 * SECOND
        #: What the kernel says, None where it may not be asked; then what timedated says, and how
        #: often that was asked.
        self.kernel: bool | None = False
        self.timedated: bool | None = False
        self.asked = 0
        self.timesyncd, self.by_hand = folder / "synchronized", folder / "clock-set"
        monkeypatch.setattr(clock, "SYNCED_MARKER", self.timesyncd)
        monkeypatch.setattr(clock, "SET_MARKER", self.by_hand)
        monkeypatch.setattr(clock, "kernel_says_synced", lambda: self.kernel)
        monkeypatch.setattr(clock, "timedated_says_synced", self.ask_timedated)
        monkeypatch.setattr(clock, "time", self)
        self.CLOCK_BOOTTIME = time.CLOCK_BOOTTIME
        self.clock = SystemClock(recheck_s=0)

    def time_ns(self) -> int:
        return self.wall_ns

    def clock_gettime_ns(self, _clock: int) -> int:
        self.boot_ns += 1
        return self.boot_ns

    def touch(self, marker: Path) -> None:
        marker.touch()
        self.touched = getattr(self, "touched", 0) + SECOND
        os.utime(marker, ns=(self.touched, self.touched))

    def passes(self, seconds: float) -> None:
        self.wall_ns += round(seconds * SECOND)
        self.boot_ns += round(seconds * SECOND)

    def is_set(self) -> bool:
        return self.clock.read().synced

    async def ask_timedated(self) -> bool | None:
        self.asked += 1
        return self.timedated

    async def is_set_after(self, seconds: float) -> bool:
        """While the clock's task runs."""
        self.passes(seconds)
        self.is_set()
        await trio.sleep(seconds)
        return self.is_set()


@asynccontextmanager
async def asking(machine: Machine) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(machine.clock.ask_timedated)
        yield
        nursery.cancel_scope.cancel()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return Machine(monkeypatch, tmp_path)


def test_a_clock_that_nobody_speaks_for_is_not_set(machine: Machine) -> None:
    # A battery-backed clock, as the kernel took it over at boot.
    assert not machine.is_set()


@pytest.mark.parametrize("who", ["kernel", "timesyncd", "by_hand"])
def test_a_clock_is_set_when_the_kernel_or_a_marker_says_so(machine: Machine, who: str) -> None:
    if who == "kernel":
        machine.kernel = True
    else:
        machine.touch(getattr(machine, who))
    assert machine.is_set()
    # Its source is out of reach for a week.
    machine.kernel = False
    machine.passes(7 * 86_400)
    assert machine.is_set()


@pytest.mark.parametrize("who", ["kernel", "timesyncd", "by_hand"])
def test_before_2020_no_clock_is_set_whoever_says_so(machine: Machine, who: str) -> None:
    machine.wall_ns = 9 * SECOND
    if who == "kernel":
        machine.kernel = True
    else:
        machine.touch(getattr(machine, who))
    assert not machine.is_set()
    # Nor does what was said in 1970 count once the year is right.
    machine.wall_ns, machine.kernel = NOW_NS, False
    assert not machine.is_set()
    machine.touch(machine.timesyncd)
    assert machine.is_set()


@pytest.mark.parametrize("step_s", [-3 * 3600, 2, 73 * 365 * 86_400])
def test_a_clock_that_was_stepped_by_hand_has_to_be_said_to_be_set_again(
    machine: Machine, step_s: int
) -> None:
    machine.touch(machine.timesyncd)
    assert machine.is_set()
    machine.wall_ns += step_s * SECOND
    assert not machine.is_set()
    machine.passes(60)
    assert not machine.is_set()
    machine.touch(machine.timesyncd)
    assert machine.is_set()


def test_a_step_that_the_kernel_vouches_for_is_a_better_time(machine: Machine) -> None:
    machine.kernel = True
    assert machine.is_set()
    machine.wall_ns -= 3 * 3600 * SECOND
    assert machine.is_set()
    machine.kernel = False
    assert machine.is_set()


def test_a_marker_that_goes_takes_nothing_back(machine: Machine) -> None:
    machine.touch(machine.by_hand)
    assert machine.is_set()
    machine.by_hand.unlink()
    assert machine.is_set()


def test_a_marker_touched_by_a_clock_that_was_ahead_says_nothing_to_a_new_start(
    machine: Machine,
) -> None:
    machine.timesyncd.touch()
    os.utime(machine.timesyncd, ns=(NOW_NS, NOW_NS))
    machine.wall_ns = NOW_NS - 3 * 3600 * SECOND
    assert not machine.is_set()


async def test_who_may_not_ask_the_kernel_asks_systemd(
    machine: Machine, autojump_clock: MockClock
) -> None:
    machine.kernel = None
    async with asking(machine):
        assert not await machine.is_set_after(1)
        machine.timedated = True
        assert await machine.is_set_after(ASK_S)
        # What is settled is not asked again, until somebody steps the clock.
        machine.timedated, asked = False, machine.asked
        assert await machine.is_set_after(3600) and machine.asked == asked
        machine.wall_ns -= 3 * 3600 * SECOND
        assert not await machine.is_set_after(ASK_S) and machine.asked == asked + 1
        machine.timedated = True
        assert await machine.is_set_after(ASK_S)


async def test_who_asks_in_vain_asks_less_and_less_often(
    machine: Machine, autojump_clock: MockClock
) -> None:
    machine.kernel = None
    async with asking(machine):
        assert not await machine.is_set_after(3600)
    assert 8 <= machine.asked <= 20


async def test_who_may_ask_the_kernel_asks_nobody_else(machine: Machine) -> None:
    await machine.clock.ask_timedated()
    assert not machine.asked


async def test_where_nobody_can_be_asked_that_is_told_once(
    machine: Machine, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    machine.kernel = machine.timedated = None
    with caplog.at_level(logging.INFO):
        async with asking(machine):
            assert not await machine.is_set_after(3 * ASK_MAX_S)
    (told,) = [record.getMessage() for record in caplog.records]
    assert str(machine.by_hand) in told
    machine.touch(machine.by_hand)
    assert machine.is_set()


@pytest.mark.parametrize(
    "said, end, synced",
    [
        ("b true", "exit 0", True),
        ("b false", "exit 0", False),
        ("", "exit 1", None),
        # As where the service is stopped meanwhile: systemd ends all of its processes.
        ("", "kill -TERM $$", False),
    ],
)
async def test_systemds_answer_is_understood(
    said: str, end: str, synced: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "busctl").write_text(f"#!/bin/sh\necho {said}\n{end}\n")
    (tmp_path / "busctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert await timedated_says_synced() is synced
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert await timedated_says_synced() is None


async def test_an_answer_that_does_not_come_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "busctl").write_text(f"#!/bin/sh\necho $$ > {tmp_path}/asked\nexec sleep 3600\n")
    (tmp_path / "busctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    asked = tmp_path / "asked"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timedated_says_synced)
        await eventually(lambda: asked.exists() and asked.read_text() != "", "it is asked")
        nursery.cancel_scope.cancel()
    with pytest.raises(ProcessLookupError):
        os.kill(int(asked.read_text()), 0)
