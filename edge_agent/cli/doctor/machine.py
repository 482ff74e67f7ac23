"""The findings of `doctor` about the machine, judged from facts; and how these are found out."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from edge_agent import __version__
from edge_agent.cli.doctor.verdict import Finding, fail, ok, warn
from edge_agent.ops.text import size
from edge_agent.system.block_device import SYS, first_text

#: What `vcgencmd get_throttled` and its file say, by bit: now, and since the boot.
_UNDER_VOLTAGE, _CAPPED, _THROTTLED, _HOT = 1, 2, 4, 8
_SINCE_BOOT = 16
_MEMORY_LOW = 64 * 2**20
#: Raspberry Pi OS has the whole word: below ``soc`` on a Pi 3 and 4, ``soc@107c000000`` on a Pi 5.
#: Other kernels have its bit for under-voltage since the boot, as an alarm of a sensor.
_THROTTLED_FILES = "devices/platform/soc*/soc*:firmware/get_throttled"
_VOLTAGE_SENSORS = "class/hwmon/hwmon*"


@dataclass(frozen=True, slots=True)
class Unit:
    """What systemd says of edge-agent.service; "" where it knows none. ``watchdog_s``: seconds;
    ``keeps_sockets``: over a restart.
    """

    enabled: str = ""
    active: str = ""
    watchdog_s: float = 0.0
    keeps_sockets: bool = True
    is_there: bool = True


def judge_clock(synced: bool, year: int) -> Finding:
    """Whether the wall clock has been set in this boot."""
    if synced:
        return ok("clock", "set from outside")
    return warn(
        "clock",
        f"not set since this boot (it shows the year {year}): times may be wrong until it is, and"
        " nothing is trimmed by age",
        "let systemd-timesyncd or chrony reach a server; for a clock with a battery, or set by"
        " hand, see docs/wrong-clock.md",
    )


def judge_libraries(python: tuple[int, int], lmdb: str, msgpack_in_c: bool) -> Finding:
    """The interpreter and what is compiled beside it."""
    found = f"Python {python[0]}.{python[1]}, lmdb {lmdb}, msgpack {'in C' if msgpack_in_c else ''}"
    if not msgpack_in_c:
        return warn(
            "libraries",
            f"{found}in Python, nine times slower",
            "install msgpack from a wheel, or with a compiler: pip install --force-reinstall"
            " msgpack",
        )
    return ok("libraries", found)


def judge_client(version: str | None) -> Finding | None:
    """Whether the light client is installed too, which has files of the same names."""
    if version is None:
        return None
    fix = (
        "pip uninstall trio-edge-agent-client trio-edge-agent, then install trio-edge-agent again:"
        " the client is in it"
    )
    if version == __version__:
        told = "trio-edge-agent-client is installed too: uninstalling it takes files of the agent"
        return warn("client", f"{told} away", fix)
    told = f"trio-edge-agent-client {version} and trio-edge-agent {__version__} are installed"
    return fail("client", f"{told} over one another: files of two versions are mixed", fix)


def judge_system(kernel: str, libc: str, bits: int) -> Finding:
    """Kernel, C library and word size."""
    found = f"Linux {kernel}, {libc or 'an unknown C library'}, {bits} bits"
    if bits < 64:
        return warn("system", f"{found}: the store has at most 1 GiB", "use a 64-bit system")
    return ok("system", found)


def judge_unit(unit: Unit) -> Finding:
    """Whether the agent starts by itself, and is started again."""
    name = "systemd"
    if not unit.is_there:
        return ok(name, "this machine has none: something else has to start the agent")
    if not unit.enabled:
        return warn(
            name,
            "edge-agent.service is not installed: nothing starts the agent after a power cut",
            "install the package, or systemd/edge-agent.service: docs/install.md",
        )
    if unit.enabled != "enabled":
        return warn(name, f"edge-agent.service is {unit.enabled}: it does not start at boot",
                    "systemctl enable edge-agent")  # fmt: skip
    if unit.active not in ("active", "activating", "reloading"):
        return warn(name, f"edge-agent.service is {unit.active}",
                    "journalctl -u edge-agent says why; systemctl start edge-agent")  # fmt: skip
    if unit.watchdog_s <= 0:
        return warn(name, "edge-agent.service has no watchdog: a hung agent stays hung",
                    "WatchdogSec=60 in the unit, as in systemd/edge-agent.service")  # fmt: skip
    if not unit.keeps_sockets:
        return warn(name, "edge-agent.service refuses whoever connects during a restart",
                    "FileDescriptorStoreMax= as in systemd/edge-agent.service")  # fmt: skip
    return ok(name, f"enabled, {unit.active}, watchdog {unit.watchdog_s:g} s")


def judge_power(throttled: int | None) -> Finding:
    """What a Raspberry Pi says about its supply; None on other boards."""
    name = "power"
    if throttled is None:
        return ok(name, "this board does not say")
    supply = "a supply of 5.1 V that is strong enough, and a shorter, thicker cable"
    if throttled & _UNDER_VOLTAGE:
        return fail(name, "under-voltage now: writes to the card may go wrong", supply)
    if throttled & _UNDER_VOLTAGE << _SINCE_BOOT:
        return warn(name, "under-voltage since the boot: writes to the card may go wrong", supply)
    if throttled & (_HOT | _THROTTLED | _CAPPED):
        return warn(name, "slowed down now, by heat or by what it is fed", "cool it")
    return ok(name, "enough")


def judge_memory(available: int) -> Finding:
    """Bytes that programs can still get."""
    if available < _MEMORY_LOW:
        return warn("memory", f"{size(available)} available; the agent takes some 50 MB at work",
                    "stop something else, or lower limits.in_flight_bytes")  # fmt: skip
    return ok("memory", f"{size(available)} available")


def judge_entropy(available: int) -> Finding:
    """Bits that the kernel has for ids and TLS."""
    if available < 128:
        return warn("entropy", f"{available} bits: the first TLS connection may wait",
                    "a newer kernel, or rng-tools")  # fmt: skip
    return ok("entropy", f"{available} bits")


def look_at_unit(run: Callable[[list[str]], str | None] | None = None) -> Unit:
    """Ask systemctl; ``run`` gives what a command prints, None where it is not there."""
    ask = run or _output
    told = ask(
        ["systemctl", "show", "edge-agent.service",
         "--property=UnitFileState,ActiveState,WatchdogUSec,FileDescriptorStoreMax"]
    )  # fmt: skip
    if told is None:
        return Unit(is_there=False)
    facts = dict(line.split("=", 1) for line in told.splitlines() if "=" in line)
    return Unit(
        facts.get("UnitFileState", ""),
        facts.get("ActiveState", ""),
        _seconds(facts.get("WatchdogUSec", "")),
        facts.get("FileDescriptorStoreMax") != "0",
    )


def look_at_throttled(sys: Path = SYS) -> int | None:
    """The Raspberry Pi's word of bits; None on other boards."""
    told = [first_text(file.parent, (file.name,)) for file in sys.glob(_THROTTLED_FILES)]
    told.append((_output(["vcgencmd", "get_throttled"]) or "").partition("=")[2])
    for text in told:
        try:
            return int(text.strip(), 16)
        except ValueError:
            continue
    for sensor in sys.glob(_VOLTAGE_SENSORS):
        if first_text(sensor, ("name",)) == "rpi_volt":
            is_low = first_text(sensor, ("in0_lcrit_alarm",)) == "1"
            return _UNDER_VOLTAGE << _SINCE_BOOT if is_low else 0
    return None


def look_at_client(path: list[str] | None = None) -> str | None:
    """The version of the light client where it is installed, in ``path`` or `sys.path`."""
    found = distributions(name="trio-edge-agent-client", path=sys.path if path is None else path)
    return next((one.version for one in found), None)


def look_at_memory(file: Path = Path("/proc/meminfo")) -> int | None:
    """``MemAvailable`` in bytes."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None


def look_at_entropy(file: Path = Path("/proc/sys/kernel/random/entropy_avail")) -> int | None:
    """Bits."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def machine_findings() -> list[Finding]:
    """Everything here that needs no configuration."""
    from edge_agent.system.clock import SystemClock

    now = SystemClock().read()
    memory, entropy, client = look_at_memory(), look_at_entropy(), judge_client(look_at_client())
    found = [
        judge_system(
            platform.release(), " ".join(platform.libc_ver()), sys.maxsize.bit_length() + 1
        ),
        judge_libraries(sys.version_info[:2], _lmdb_version(), _msgpack_in_c()),
        judge_clock(now.synced, 1970 + now.wall_ns // (31_556_952 * 10**9)),
        judge_power(look_at_throttled()),
    ]
    found += [] if client is None else [client]
    found += [] if memory is None else [judge_memory(memory)]
    found += [] if entropy is None else [judge_entropy(entropy)]
    return [*found, judge_unit(look_at_unit())]


def _lmdb_version() -> str:
    import lmdb

    return str(lmdb.__version__)


def _msgpack_in_c() -> bool:
    import msgpack

    return "cmsgpack" in msgpack.Unpacker.__module__


def _seconds(text: str) -> float:
    # systemctl writes spans as "1min", "30s", "1min 30s".
    units = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
    total = 0.0
    for part in text.split():
        digits = part.rstrip("abcdefghijklmnopqrstuvwxyz")
        total += float(digits or 0) * units.get(part[len(digits) :], 0.0)
    return total


def _output(command: list[str]) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=False,
            env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
