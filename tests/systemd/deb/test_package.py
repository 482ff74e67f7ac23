from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from systemd.deb.package import SOURCES, libc_needed, unit
from tests.systemd.readme import ROOT

SCRIPTS = ("postinst", "prerm", "postrm")


@pytest.mark.parametrize(
    "name, command", [("edge-agent", "run"), ("edge-agent-sensor@", "sensor ${KIND}")]
)
def test_the_packages_units_start_the_packages_program_and_are_the_same_otherwise(
    name: str, command: str
) -> None:
    ours = (ROOT / f"systemd/{name}.service").read_text()
    theirs = unit(ours)
    assert f"ExecStart=/usr/bin/edge-agent {command}" in theirs and "/opt/" not in theirs
    changed = [a for a, b in zip(ours.splitlines(), theirs.splitlines(), strict=True) if a != b]
    assert len(changed) == 2


def test_a_unit_that_begins_another_program_is_not_packed() -> None:
    with pytest.raises(ValueError, match="has no line"):
        unit("[Service]\nExecStart=/usr/local/bin/edge-agent run\n")


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_plain_shell_that_stops_at_a_failure(name: str) -> None:
    text = (SOURCES / name).read_text()
    assert text.startswith("#!/bin/sh\n") and "\nset -e\n" in text
    subprocess.run(["/bin/sh", "-n"], input=text, text=True, check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "-"], input=text, text=True, check=True)


def test_no_script_deletes_below_the_records() -> None:
    lines = "\n".join((SOURCES / name).read_text() for name in SCRIPTS).splitlines()
    deleting = [line.strip() for line in lines if "rm " in line and not line.startswith("#")]
    told = [line for line in deleting if "/var" in line and not line.startswith("echo ")]
    # When its timer ran last is systemd's to note.
    assert told == ["rm -f /var/lib/systemd/timers/stamp-edge-agent-renew.timer"]


def test_the_c_library_that_is_needed_is_that_of_the_newest_symbol(tmp_path: Path) -> None:
    old, new, text = (tmp_path / name for name in ("a.so", "b.abi3.so", "c.py"))
    old.write_bytes(b"\0GLIBC_2.17\0GLIBC_2.4\0")
    new.write_bytes(b"\0GLIBC_2.34\0")
    text.write_bytes(b"GLIBC_2.99")
    assert libc_needed([old, text]) == 17
    assert libc_needed([old, new, text]) == 34
