"""The wheel where people put it: pip, as pipx calls it, in a fresh environment without network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent import __version__
from systemd.deb.__main__ import build_agent
from systemd.deb.targets import TARGETS
from systemd.deb.wheels import ROOT, fetch
from tests.systemd.packages.made import FOLDER, MACHINE


def test_the_wheel_is_installed_without_a_network_and_brings_the_command(tmp_path: Path) -> None:
    here = "{}.{}".format(*sys.version_info)
    targets = [one for one in TARGETS if (one.python, one.machine) == (here, MACHINE)]
    if not targets:
        pytest.skip(f"no package is for Python {here}")
    links = fetch(targets[0], ROOT / "requirements.lock", FOLDER / "wheels")[0].path.parent
    agent = build_agent(tmp_path / "dist", 1_700_000_000)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    programs = tmp_path / "venv/bin"
    subprocess.run(
        [programs / "python", "-m", "pip", "install", "--quiet", "--no-index",
         "--find-links", str(links), str(agent.path)],
        check=True,
    )  # fmt: skip
    command = [str(programs / "edge-agent"), "--version"]
    said = subprocess.check_output(command, text=True, cwd=tmp_path)
    assert __version__ in said
