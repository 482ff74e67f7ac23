"""The machine: verdicts by tables, and what files and commands say."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent import __version__
from edge_agent.cli.doctor.machine import (
    Unit,
    judge_client,
    judge_clock,
    judge_entropy,
    judge_libraries,
    judge_memory,
    judge_power,
    judge_system,
    judge_unit,
    look_at_client,
    look_at_entropy,
    look_at_memory,
    look_at_throttled,
    look_at_unit,
    machine_findings,
)


@pytest.mark.parametrize(
    "unit, verdict, told",
    [
        (Unit(is_there=False), "ok", "has none"),
        (Unit("", "inactive"), "warn", "not installed"),
        (Unit("disabled", "active", 60), "warn", "disabled"),
        (Unit("enabled", "failed", 60), "warn", "failed"),
        (Unit("enabled", "active", 0), "warn", "watchdog"),
        (Unit("enabled", "active", 60, keeps_sockets=False), "warn", "during a restart"),
        (Unit("enabled", "active", 60), "ok", "watchdog 60 s"),
    ],
)
def test_the_unit(unit: Unit, verdict: str, told: str) -> None:
    found = judge_unit(unit)
    assert (found.verdict, told in found.found) == (verdict, True), found


@pytest.mark.parametrize(
    "bits, verdict, told",
    [
        (None, "ok", "does not say"),
        (0x0, "ok", "enough"),
        (0x50005, "fail", "now"),
        (0x50000, "warn", "since the boot"),
        (0x4, "warn", "slowed"),
        (0x8, "warn", "slowed"),
        (0x40000, "ok", "enough"),
    ],
)
def test_the_power(bits: int | None, verdict: str, told: str) -> None:
    found = judge_power(bits)
    assert (found.verdict, told in found.found) == (verdict, True), found


def test_clock_memory_entropy_libraries_and_system() -> None:
    assert [judge_clock(synced, 1970).verdict for synced in (True, False)] == ["ok", "warn"]
    assert "1970" in judge_clock(False, 1970).found
    assert [judge_memory(size << 20).verdict for size in (30, 300)] == ["warn", "ok"]
    assert [judge_entropy(bits).verdict for bits in (20, 256)] == ["warn", "ok"]
    assert [judge_libraries((3, 11), "3.0", fast).verdict for fast in (True, False)] == [
        "ok", "warn"
    ]  # fmt: skip
    assert "nine times slower" in judge_libraries((3, 11), "3.0", False).found
    assert [judge_system("6.1", "glibc 2.36", bits).verdict for bits in (64, 32)] == ["ok", "warn"]


def test_a_light_client_that_is_installed_too_is_found_and_told(tmp_path: Path) -> None:
    assert judge_client(look_at_client([str(tmp_path)])) is None
    for version, verdict in ((__version__, "warn"), ("0.0.9", "fail")):
        info = tmp_path / f"trio_edge_agent_client-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: trio-edge-agent-client\nVersion: {version}\n")
        found = judge_client(look_at_client([str(tmp_path)]))
        assert found is not None
        assert (found.verdict, "pip uninstall" in found.fix) == (verdict, True)
        (info / "METADATA").unlink()
        info.rmdir()


def test_systemctl_is_understood() -> None:
    asked: list[list[str]] = []

    def run(command: list[str]) -> str | None:
        asked.append(command)
        return "UnitFileState=enabled\nActiveState=active\nWatchdogUSec=1min 30s\n"

    assert look_at_unit(run) == Unit("enabled", "active", 90.0)
    assert asked[0][:3] == ["systemctl", "show", "edge-agent.service"]
    assert look_at_unit(lambda command: None) == Unit(is_there=False)
    nothing = look_at_unit(lambda command: "UnitFileState=\nActiveState=inactive\nWatchdogUSec=0\n")
    assert nothing == Unit("", "inactive", 0.0)
    assert not look_at_unit(lambda command: "FileDescriptorStoreMax=0\n").keeps_sockets


def test_files_are_read_and_missing_ones_are_none(tmp_path: Path) -> None:
    file = tmp_path / "file"
    assert look_at_memory(file) is None and look_at_entropy(file) is None
    file.write_text("MemTotal: 9 kB\nMemAvailable:   2048 kB\n")
    assert look_at_memory(file) == 2 << 20
    file.write_text("256\n")
    assert look_at_entropy(file) == 256


@pytest.mark.parametrize("soc", ["soc", "soc@107c000000"])
def test_a_raspberry_pi_of_any_kind_says_whether_it_was_fed_well(tmp_path: Path, soc: str) -> None:
    assert look_at_throttled(tmp_path) is None
    folder = tmp_path / f"devices/platform/{soc}/{soc}:firmware"
    folder.mkdir(parents=True)
    (folder / "get_throttled").write_text("50005\n")
    assert look_at_throttled(tmp_path) == 0x50005


@pytest.mark.parametrize("alarm, found", [("0", 0), ("1", 0x10000)])
def test_with_another_kernel_a_raspberry_pi_tells_it_by_a_sensor(
    tmp_path: Path, alarm: str, found: int
) -> None:
    for number, name in enumerate(("cpu_thermal", "rpi_volt")):
        sensor = tmp_path / f"class/hwmon/hwmon{number}"
        sensor.mkdir(parents=True)
        (sensor / "name").write_text(name + "\n")
        (sensor / "in0_lcrit_alarm").write_text(alarm + "\n")
    assert look_at_throttled(tmp_path) == found
    assert judge_power(found).verdict == ("warn" if found else "ok")


def test_this_machine_can_be_looked_at() -> None:
    found = machine_findings()
    assert {"system", "libraries", "clock", "power", "systemd"} <= {one.name for one in found}
    assert all(one.found and (one.verdict == "ok" or one.fix) for one in found)
