from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from edge_agent.config import Config, load_config, parse_duration
from edge_agent.errors import ConfigError, StoreTooNew
from tests.systemd.readme import ROOT, commands

UNIT = ROOT / "systemd" / "edge-agent.service"
EXAMPLE = ROOT / "systemd" / "edge-agent.toml"


def settings() -> dict[str, str]:
    lines = [line for line in UNIT.read_text().splitlines() if "=" in line and line[0] != "#"]
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.needs("systemd-analyze")
def test_systemd_has_nothing_to_say_against_the_unit(tmp_path: Path) -> None:
    # The program is not installed here, and systemd-analyze would rightly say so.
    unit = tmp_path / "edge-agent.service"
    unit.write_text(UNIT.read_text().replace("/opt/edge-agent/bin/edge-agent", "/bin/true"))
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    verdict = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (verdict.returncode, verdict.stdout + verdict.stderr) == (0, "")


@pytest.mark.needs("systemd-analyze")
def test_systemd_has_nothing_to_say_against_what_renews(tmp_path: Path) -> None:
    for name in ("edge-agent-renew.service", "edge-agent-renew.timer"):
        text = (ROOT / "systemd" / name).read_text()
        (tmp_path / name).write_text(text.replace("/opt/edge-agent/bin/edge-agent", "/bin/true"))
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / "edge-agent-renew.timer")]
    verdict = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (verdict.returncode, verdict.stdout + verdict.stderr) == (0, "")


@pytest.mark.needs("systemd-analyze")
def test_systemd_has_nothing_to_say_against_the_socket_unit(tmp_path: Path) -> None:
    service, socket = tmp_path / UNIT.name, tmp_path / "edge-agent.socket"
    service.write_text(UNIT.read_text().replace("/opt/edge-agent/bin/edge-agent", "/bin/true"))
    socket.write_text((UNIT.parent / socket.name).read_text())
    command = ["systemd-analyze", "verify", "--man=no", str(socket)]
    verdict = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (verdict.returncode, verdict.stdout + verdict.stderr) == (0, "")


@pytest.mark.needs("systemd-analyze")
def test_systemd_has_nothing_to_say_against_the_sensors_unit(tmp_path: Path) -> None:
    unit = tmp_path / "edge-agent-sensor@.service"
    text = (ROOT / "systemd" / unit.name).read_text()
    unit.write_text(text.replace("/opt/edge-agent/bin/edge-agent", "/bin/true"))
    command = [
        "systemd-analyze",
        "verify",
        "--man=no",
        str(tmp_path / "edge-agent-sensor@x.service"),
    ]
    (tmp_path / "edge-agent-sensor@x.service").symlink_to(unit)
    verdict = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (verdict.returncode, verdict.stdout + verdict.stderr) == (0, "")


def test_a_sensor_that_cannot_be_used_is_not_started_again_and_again() -> None:
    text = (ROOT / "systemd" / "edge-agent-sensor@.service").read_text()
    assert f"RestartPreventExitStatus=2 {ConfigError.exit_code}\n" in text


def test_the_unit_waits_longer_than_the_agent_drains() -> None:
    drain = load_config(EXAMPLE, env={}, overrides={}).drain_timeout
    assert float(settings()["TimeoutStopSec"]) >= 2 * drain


def test_a_mistake_in_the_configuration_is_not_started_again_and_again() -> None:
    codes = settings()["RestartPreventExitStatus"].split()
    assert codes == [str(ConfigError.exit_code)] == [str(StoreTooNew.exit_code)]


def exposure(told: str) -> float:
    """The figure of ``systemd-analyze security``."""
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", told)
    assert found is not None, told
    return float(found[1])


@pytest.mark.needs("systemd-analyze")
def test_the_unit_is_exposed_to_little() -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT)]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert exposure(told.stdout) <= 1.2


def test_the_agent_may_talk_to_systemd_and_read_which_boot_this_is() -> None:
    assert "AF_UNIX" in settings()["RestrictAddressFamilies"].split()
    assert "ProcSubset" not in settings()


def test_the_agent_is_started_again_whatever_ended_it() -> None:
    assert settings()["StartLimitIntervalSec"] == "0"
    assert settings()["Restart"] == "always"


def test_assertions_stay_on() -> None:
    # `assert` guards against our own mistakes in the store; python -O would take it out.
    assert "PYTHONOPTIMIZE" not in UNIT.read_text()
    assert " -O" not in settings()["ExecStart"]


def test_the_example_is_a_good_configuration_and_stores_where_the_unit_allows() -> None:
    config = load_config(EXAMPLE, env={}, overrides={})
    assert config.store.path == f"/var/lib/{settings()['StateDirectory']}" == Config().store.path
    assert str(config.log["main"].keep) == str(parse_duration("30d"))


def test_the_example_stays_good_when_its_comments_are_taken_off() -> None:
    lines = EXAMPLE.read_text().splitlines()
    bare = [line.removeprefix("# ") if " = " in line or "[" in line else line for line in lines]
    text = "\n".join(line for line in bare if not line.startswith('address = "127.0.0.1:8765"'))
    config = load_text(text)
    assert [upstream.name for upstream in config.upstream] == ["hub", "cloud"]
    assert list(config.log) == ["main", "alarms"]
    assert config.listen.tokens == "/etc/edge-agent/tokens"
    assert config.rule[0].window == 3600


def load_text(text: str) -> Config:
    from edge_agent.config import parse

    return parse(text, str(EXAMPLE))


def test_the_page_names_files_that_exist() -> None:
    words = " ".join(commands("From a clone", page=ROOT / "docs/install.md")).split()
    files = [word for word in words if word.startswith("systemd/") or word.endswith(".lock")]
    assert len(files) >= 3
    for name in files:
        assert os.access(ROOT / name, os.R_OK), name
