"""A real systemd in a container without network, which runs one script and is off again."""

from __future__ import annotations

import fcntl
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.systemd.readme import ROOT

#: The script of a container that takes longer hangs; the longest take a minute and a half.
DEADLINE_S = 800

#: Runs inside, as the one unit that the container is booted for.
DRIVER = """\
[Unit]
Wants=multi-user.target
After=multi-user.target
[Service]
Type=oneshot
WorkingDirectory=/checkout
Environment=PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheelhouse PIP_DISABLE_PIP_VERSION_CHECK=1 HOME=/root
StandardOutput=append:/shared/output
StandardError=inherit
ExecStart=/bin/bash -eux /shared/script
ExecStopPost=/bin/systemctl --no-block poweroff
"""

#: What a person would do between the commands of a page. `note NAME COMMAND` keeps what it prints.
HELPERS = r"""
exec {trace}>&1; BASH_XTRACEFD=$trace  # so that what a command prints is only that
note() { name="$1"; shift; "$@" > "/shared/$name" 2>&1 || echo "exit code $?" >> "/shared/$name"; }
get='import sys, urllib.request as web; print(web.urlopen(sys.argv[1]).read().decode())'
ask() { /usr/bin/python3 -c "$get" "http://127.0.0.1:8766$1"; }
records() { ask "/api/query?stream=greenhouse/1&format=ndjson"; }
until_true() {
    for _ in $(seq 300); do if "$@"; then return; fi; sleep 0.1; done
    echo "never: $*"; exit 1
}
property() { systemctl show --property="$1" --value edge-agent; }
# `fleet NAME SENSORS COMMAND`: what SENSORS meet while COMMAND is run; the agent listens to 500.
fleet_begins() {
    edge-agent token add fleet --write '**' --read '**' --source '**' --file /root/tokens \
        > /root/secret
    mkdir -p /etc/systemd/system/edge-agent.service.d
    printf '[Service]\nLoadCredential=tokens:/root/tokens\n' \
        > /etc/systemd/system/edge-agent.service.d/fleet.conf
    # All may be in the middle of a handshake: no test depends on the machine being quick.
    printf '[listen]\n%s = 600\n%s = 600\n%s = 600\ntokens = "%s"\n' \
        connections unproved unproved_per_address /run/credentials/edge-agent.service/tokens \
        > /etc/edge-agent/edge-agent.toml
    systemctl daemon-reload
    systemctl restart edge-agent
}
fleet() {
    name="$1" sensors="$2"; shift 2
    python=/usr/lib/edge-agent/bin/python  # of the package; else of a clone
    [ -x "$python" ] || python=/opt/edge-agent/bin/python
    "$python" /checkout/tests/systemd/fleet.py --name "$name" --sensors "$sensors" \
        --token "$(grep -oE 'ea1_[A-Za-z0-9_-]+' /root/secret)" "$@"
}
send() { echo '{"t": 22.5}' | edge-agent send --stream greenhouse/1; }
"""


@dataclass(frozen=True)
class Outcome:
    """What the container left behind."""

    folder: Path

    def text(self, name: str) -> str:
        return (self.folder / name).read_text()

    def seconds(self, first: str, last: str) -> float:
        """From when one file was written until another one was."""
        return (self.folder / last).stat().st_mtime - (self.folder / first).stat().st_mtime

    def records(self, name: str) -> list[float]:
        return [json.loads(line)["fields"]["t"] for line in self.text(name).splitlines() if line]


def folder_of(name: str, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """What the container of that name has as ``/shared``."""
    base = tmp_path_factory.getbasetemp()
    return (base if worker_id == "master" else base.parent) / name


def run_once(
    name: str,
    script: str,
    options: Callable[[], list[str]],
    tmp_path_factory: pytest.TempPathFactory,
    worker_id: str,
) -> Outcome:
    """What ``script`` left in its container: one for all workers, whichever comes first."""
    folder = folder_of(name, tmp_path_factory, worker_id)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            folder.mkdir()
            (folder / "script").write_text(script)
            _boot(folder, options())
    output = folder / "output"
    said = output.read_text() if output.exists() else (folder / "console").read_text()
    assert (folder / "finished").exists(), said[-6000:]
    return Outcome(folder)


def _boot(folder: Path, options: list[str]) -> None:
    (folder / "driver.service").write_text(DRIVER)
    command = [
        "systemd-nspawn", "--quiet", "--register=no", "--keep-unit",
        *([] if any("--network" in one for one in options) else ["--private-network"]),
        "--console=read-only", f"--machine=edge-agent-{folder.name}", *options,
        f"--bind-ro={ROOT}:/checkout", f"--bind={folder}:/shared", "--boot",
        f"--bind-ro={folder}/driver.service:/etc/systemd/system/driver.service",
        "systemd.unit=driver.service", "systemd.firstboot=no",
    ]  # fmt: skip
    with (folder / "console").open("wb") as console:
        subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=console, stderr=console,
            timeout=DEADLINE_S, check=False,
        )  # fmt: skip
