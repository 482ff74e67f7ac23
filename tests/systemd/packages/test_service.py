"""What docs/systemd.md promises, in a real system with the package: a crash under a fleet, a
reload, a disk of its own that is missing and comes later, a socket unit for a port below 1024.
"""

from __future__ import annotations

import json

import pytest

from systemd.deb.targets import Target
from tests.systemd.container import HELPERS, Outcome, run_once
from tests.systemd.packages.made import FOLDER, MACHINE, deb
from tests.systemd.readme import ROOT, commands

PAGE, SERVICE = ROOT / "docs/install.md", ROOT / "docs/systemd.md"
#: One of the two is enough: the unit is the same, and so are its settings in both systemds.
TARGET = Target("trixie", MACHINE)

pytestmark = [pytest.mark.needs("root", "systemd-nspawn"), pytest.mark.xdist_group("service")]

FLEET = r"""
fleet_begins
crash() { kill -KILL "$(property MainPID)"; }
export -f crash property
note killed-fleet fleet kill 50 bash -ec crash
first=$(property MainPID)
kill "$first"
again() { [ "$(property MainPID)" != "$first" ] && [ "$(property ActiveState)" = active ]; }
until_true again
sed -i 's/^connections = 600/connections = 700/' /etc/edge-agent/edge-agent.toml
systemctl reload edge-agent
waits_for_start() { journalctl --unit edge-agent | grep --quiet 'listen.connections$'; }
until_true waits_for_start
note journal journalctl --no-pager --unit edge-agent --output cat
rm -r /etc/systemd/system/edge-agent.service.d
cp /shared/good.toml /etc/edge-agent/edge-agent.toml
systemctl daemon-reload
systemctl restart edge-agent
"""

#: Instead of a stick, whose mount systemd waits for: a mount that fails while a file is missing.
PLUG = r"""
mkdir -p '/etc/systemd/system/var-lib-edge\x2dagent.mount.d'
printf '[Unit]\nAssertPathExists=/srv/plugged\n' \
    > '/etc/systemd/system/var-lib-edge\x2dagent.mount.d/test.conf'
"""

DISK = r"""
note without-disk systemctl start edge-agent
note below find /var/lib/edge-agent -mindepth 1
touch /srv/plugged
systemctl start 'var-lib-edge\x2dagent.mount'
up() { [ "$(property ActiveState)" = active ]; }
until_true up
send
note on-disk records
note on-what findmnt --noheadings --output FSTYPE /var/lib/edge-agent
rm /srv/plugged
# Whatever is started in the container meanwhile asks for all of fstab again, which cancels the job.
systemctl stop 'var-lib-edge\x2dagent.mount' || true
gone() { ! findmnt /var/lib/edge-agent > /dev/null; }
until_true gone
note unplugged property ActiveState
note below-again find /var/lib/edge-agent -mindepth 1
rm -r /etc/fstab /etc/systemd/system/var-lib-edge*
systemctl daemon-reload
"""


SOCKET = r"""
restart_for() {
    printf '[listen]\naddress = "127.0.0.1:%s"\n' "$1" > /etc/edge-agent/edge-agent.toml
    systemctl restart edge-agent
}
to_443() { echo '{"t": 43}' | edge-agent send --url ws://127.0.0.1:443/ingest/greenhouse/1; }
up() { [ "$(property ActiveState)" = active ]; }
until_true up
to_443
note socket-before systemctl show --property=ActiveEnterTimestampMonotonic edge-agent.socket
systemctl restart edge-agent
to_443
note socket-after systemctl show --property=ActiveEnterTimestampMonotonic edge-agent.socket
note from-443 records
restart_for 8765
note socket-elsewhere journalctl --no-pager --unit edge-agent --lines 8 --output cat
send
"""

REMOVE_SOCKET = r"""
cp /shared/good.toml /etc/edge-agent/edge-agent.toml
systemctl disable edge-agent.socket
rm /etc/systemd/system/edge-agent.socket
systemctl daemon-reload
"""


def socket_unit() -> str:
    """The page's commands for a socket unit, with an address that asks for no certificate."""
    own, stop = commands("Ports below 1024, and connections from the boot on", page=SERVICE)
    config = r"printf '[listen]\naddress = \"127.0.0.1:443\"\n' > /etc/edge-agent/edge-agent.toml"
    change = "sed -i s/0.0.0.0/127.0.0.1/ /etc/systemd/system/edge-agent.socket\n"
    first, rest = own.split("\n", 1)
    closed = f"stop() {{\n{stop}}}\nnote socket-stopped stop"
    return "\n".join([config, first, change + rest, SOCKET, closed, REMOVE_SOCKET])


def disk() -> str:
    """The page's commands for records on a disk of their own, with a disk that can be pulled."""
    [own] = commands("Records on a disk of their own", page=SERVICE)
    before, after = "LABEL=records /var/lib/edge-agent ext4", "tmpfs /var/lib/edge-agent tmpfs"
    assert before in own
    return f"{PLUG}{own.replace(before, after)}{DISK}"


def script() -> str:
    install, _ = commands("A package for Debian and Raspberry Pi OS", page=PAGE)
    steps = [
        "export DEBIAN_FRONTEND=noninteractive",
        HELPERS,
        f"cd /debs/new\n{install}\ncd /checkout",
        "cp /etc/edge-agent/edge-agent.toml /shared/good.toml",
        FLEET,
        "systemctl stop edge-agent",
        "rm -r /var/lib/edge-agent",
        disk(),
        socket_unit(),
        "touch /shared/finished",
    ]
    return "\n".join(steps)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Outcome:
    def options() -> list[str]:
        path = deb(TARGET)
        bind = f"--bind-ro={path}:/debs/new/{path.name}"
        return ["--volatile=overlay", f"--directory={FOLDER}/roots/{TARGET.release}", bind]

    return run_once("service", script(), options, tmp_path_factory, worker_id)


def test_a_crash_refuses_nobody_and_loses_nothing(outcome: Outcome) -> None:
    fleet = json.loads(outcome.text("killed-fleet"))
    assert (fleet["command"], fleet["refused"], fleet["failed"]) == (0, 0, {})
    assert fleet["lost_sessions"] == fleet["sensors"] == 50
    assert fleet["stored"] == fleet["sent"] and fleet["more_than_once"] == 0


def test_a_reload_names_what_waits_for_a_start(outcome: Outcome) -> None:
    told = "taken up at the next start alone (systemctl restart edge-agent): listen.connections\n"
    assert told in outcome.text("journal")


def test_a_disk_that_is_missing_is_waited_for_and_nothing_is_written_below(
    outcome: Outcome,
) -> None:
    assert "A dependency job for edge-agent.service failed" in outcome.text("without-disk")
    assert outcome.text("below") == outcome.text("below-again") == ""
    assert outcome.records("on-disk") == [22.5] and outcome.text("on-what") == "tmpfs\n"
    assert outcome.text("unplugged") == "inactive\n"


def test_a_socket_unit_brings_a_port_that_the_agent_may_not_open(outcome: Outcome) -> None:
    assert outcome.records("from-443") == [43.0, 43.0]
    assert outcome.text("socket-before") == outcome.text("socket-after")
    assert outcome.text("socket-stopped") == ""
    assert (
        "systemd listens on 127.0.0.1:443, which the configuration does not name"
        in outcome.text("socket-elsewhere")
    )
