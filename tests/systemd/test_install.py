"""A real systemd follows docs/install.md, from a clone, and then finds the agent hanging.

The container sees this machine's /usr, an empty /etc, /opt and /var, and no network, so that
whatever the page forgets is missing. pip finds its wheels in a folder instead of the network;
its commands stay as they are.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.systemd.container import HELPERS, Outcome, run_once
from tests.systemd.readme import ROOT, commands
from tests.systemd.wheelhouse import fill

PAGE = ROOT / "docs/install.md"

HANG = r"""
# A minute is too long for a test; everything else stays as installed.
mkdir -p /etc/systemd/system/edge-agent.service.d
printf '[Service]\nWatchdogSec=2\n' > /etc/systemd/system/edge-agent.service.d/test.conf
systemctl daemon-reload
systemctl restart edge-agent
send
first=$(property MainPID)
kill -STOP "$first"
restarted() { [ "$(property NRestarts)" = 1 ] && [ "$(property ActiveState)" = active ]; }
until_true restarted
[ "$(property MainPID)" != "$first" ]
send
note after-the-hang records
note journal journalctl --no-pager --unit edge-agent
rm -r /etc/systemd/system/edge-agent.service.d
systemctl daemon-reload
"""

MISTAKE = r"""
cp /etc/edge-agent/edge-agent.toml /shared/good.toml
echo 'adress = 1' >> /etc/edge-agent/edge-agent.toml
systemctl restart edge-agent || true
failed() { [ "$(property ActiveState)" = failed ]; }
until_true failed
note mistake systemctl show --property=ExecMainStatus,NRestarts,Result edge-agent
note closed property NFileDescriptorStore
note mistake-journal journalctl --no-pager --unit edge-agent --lines 12
cp /shared/good.toml /etc/edge-agent/edge-agent.toml
systemctl start edge-agent
"""


FLEET = r"""
fleet_begins
note fleet fleet restart 50 systemctl restart edge-agent
note kept-sockets property NFileDescriptorStore
note fleet-journal journalctl --no-pager --unit edge-agent --output cat
rm -r /etc/systemd/system/edge-agent.service.d
cp /shared/good.toml /etc/edge-agent/edge-agent.toml
systemctl daemon-reload
systemctl restart edge-agent
"""


def script() -> str:
    install, update, remove = commands("From a clone", page=PAGE)
    _, look = commands("A package for Debian and Raspberry Pi OS", page=PAGE)
    [change] = commands("Change the configuration", page=PAGE)
    [network] = commands("Let sensors on the network in", page=PAGE)
    steps = [
        HELPERS,
        install,
        "note verify systemd-analyze verify --man=no /etc/systemd/system/edge-agent.service",
        look,
        "note first records",
        "note status /opt/edge-agent/bin/edge-agent status",
        "note store stat --format '%U %a' /var/lib/edge-agent /var/lib/edge-agent/*",
        change,
        "cp /etc/edge-agent/edge-agent.toml /shared/shipped.toml",
        network,
        "note active systemctl is-active edge-agent",
        "note opened grep --extended-regexp '^(address|tokens)' /etc/edge-agent/edge-agent.toml",
        "note tls find /etc/edge-agent/tls /etc/edge-agent/tokens -printf '%f %U %G %m\\n'",
        (
            "note hidden setpriv --reuid=edge-agent --regid=edge-agent --init-groups"
            " find /etc/edge-agent -type f -not -readable"
        ),
        "cp /shared/shipped.toml /etc/edge-agent/edge-agent.toml",
        "systemctl restart edge-agent",
        "note renewed edge-agent tls init /etc/edge-agent/tls --name new.example",
        update,
        HANG,
        MISTAKE,
        FLEET,
        "note again records",
        "note stopping systemctl stop edge-agent",
        "note stopped systemctl show --property=Result,ExecMainStatus edge-agent",
        "systemctl start edge-agent",
        remove,
        "note left find / -xdev -name '*edge*agent*' -not -path '/proc/*' -not -path '/tmp/*'",
        "note user id edge-agent",
        "touch /shared/finished",
    ]
    return "\n".join(steps)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Outcome:
    def options() -> list[str]:
        wheelhouse = Path(sys.prefix) / "wheelhouse"
        if not wheelhouse.exists():  # not an environment that make set up
            wheelhouse = tmp_path_factory.mktemp("wheelhouse")
            fill(wheelhouse)
        return [
            "--volatile=yes", "--directory=/", f"--bind-ro={wheelhouse}:/wheelhouse",
            # Of this machine's /usr, which is read-only there, the one folder that is added to.
            "--tmpfs=/usr/local/bin:mode=755",
        ]  # fmt: skip

    return run_once("container", script(), options, tmp_path_factory, worker_id)


pytestmark = pytest.mark.needs("root", "systemd-nspawn", "/usr/bin/python3", "python3-venv")


def test_the_page_can_be_followed_word_by_word(outcome: Outcome) -> None:
    assert outcome.records("first") == [21.5]
    assert ": ok" in outcome.text("status").splitlines()[0]
    assert "Active: active (running)" in outcome.text("output")
    assert "edge-agent.toml: good" in outcome.text("output")


def test_the_installed_unit_is_clean(outcome: Outcome) -> None:
    assert outcome.text("verify") == ""


def test_the_store_is_readable_for_the_agent_alone(outcome: Outcome) -> None:
    lines = outcome.text("store").splitlines()
    assert lines[0] == "edge-agent 700"
    for line in lines:
        owner, mode = line.split()
        assert owner == "edge-agent"
        assert mode.endswith("00")


def test_the_agents_user_reads_all_that_it_needs_and_not_the_authoritys_key(
    outcome: Outcome,
) -> None:
    lines = dict(line.split(maxsplit=1) for line in outcome.text("tls").splitlines())
    assert lines["ca-key.pem"] == "0 0 600" and lines["private"] == "0 0 700"
    assert lines["server-key.pem"].startswith("0 ") and lines["server-key.pem"].endswith(" 640")
    assert lines["tokens"].endswith(" 640")
    # What it may not even look into it cannot list: find says so.
    hidden = [one for one in outcome.text("hidden").splitlines() if one.startswith("/")]
    assert hidden == ["/etc/edge-agent/local-token"] and "tls/private" in outcome.text("hidden")
    assert "new.example" in outcome.text("renewed") and "by the same" in outcome.text("renewed")


def test_setup_opens_the_agent_to_the_network_and_it_runs(outcome: Outcome) -> None:
    assert outcome.text("active") == "active\n"
    lines = outcome.text("opened").splitlines()
    assert [line.partition("#")[0].strip() for line in lines] == [
        'address = "0.0.0.0:8765"', 'tokens = "/etc/edge-agent/tokens"',
        'address = "0.0.0.0:8766"',
    ]  # fmt: skip
    assert "restarting the agent" in outcome.text("output")
    assert "curl --cacert /etc/edge-agent/tls/ca.pem https://" in outcome.text("output")


def test_the_watchdog_restarts_an_agent_that_hangs_and_no_record_is_lost(outcome: Outcome) -> None:
    assert outcome.records("after-the-hang") == [21.5, 22.5, 22.5]
    assert "Watchdog timeout" in outcome.text("journal")


def test_a_mistake_in_the_configuration_stops_it_once_and_is_named(outcome: Outcome) -> None:
    assert "ExecMainStatus=78" in outcome.text("mistake")
    assert "NRestarts=0" in outcome.text("mistake")
    assert "adress" in outcome.text("mistake-journal")
    assert outcome.records("again") == [21.5, 22.5, 22.5]


def test_a_restart_refuses_nobody_and_loses_nothing(outcome: Outcome) -> None:
    fleet = json.loads(outcome.text("fleet"))
    assert (fleet["command"], fleet["refused"], fleet["failed"]) == (0, 0, {})
    assert fleet["lost_sessions"] == fleet["sensors"] == 50
    assert fleet["stored"] == fleet["sent"] and fleet["more_than_once"] == 0


def test_its_sockets_are_kept_while_it_may_be_started_again_and_no_longer(outcome: Outcome) -> None:
    assert outcome.text("kept-sockets") == "2\n"
    assert outcome.text("closed") == "0\n"


def test_it_learns_from_systemd_whether_the_clock_is_set(outcome: Outcome) -> None:
    # A clock that is set already is no reason to ask; one that is not, is asked for in vain here.
    assert "nobody can be asked whether the clock is set" not in outcome.text("fleet-journal")
    assert "Traceback" not in outcome.text("fleet-journal")


def test_it_stops_cleanly(outcome: Outcome) -> None:
    assert outcome.text("stopping") == ""
    assert outcome.text("stopped").split() == ["Result=success", "ExecMainStatus=0"]


def test_nothing_is_left_when_it_is_removed(outcome: Outcome) -> None:
    assert outcome.text("left").split() == []
    assert "no such user" in outcome.text("user")
