"""What can be seen of the container file without a registry: what it copies is there and enough."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.systemd.readme import ROOT
from tests.systemd.test_unit import EXAMPLE, UNIT

TEXT = (ROOT / "systemd/Containerfile").read_text()
COPIED = [words.split() for words in re.findall(r"^COPY (?!--from)(.*)$", TEXT, re.MULTILINE)]


def test_the_wheel_can_be_built_of_what_the_first_stage_copies(tmp_path: Path) -> None:
    for *sources, target in COPIED[:2]:
        for name in sources:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, tmp_path / target)
            else:
                shutil.copy(source, tmp_path / target)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    assert len(list((tmp_path / "dist").glob("trio_edge_agent-*.whl"))) == 1


def test_it_starts_what_the_unit_starts_with_the_same_configuration() -> None:
    assert [EXAMPLE.relative_to(ROOT).as_posix(), "/etc/edge-agent/edge-agent.toml"] in COPIED
    found = re.search(r"^CMD (.*)$", TEXT, re.MULTILINE)
    assert found
    command = re.sub(r'[\[\]",]', "", found[1])
    assert f"ExecStart=/opt/edge-agent/bin/{command}\n" in UNIT.read_text()
    assert "\nUSER edge-agent\n" in TEXT
