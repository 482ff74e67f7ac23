"""A newcomer types what docs/first-hour.md says into a blank system, and sees a chart.

The container has the release's own file system, a network of its own with one address, and the
package in its folder. The browser runs beside it, in the same network.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from systemd.deb.targets import RELEASES, Target
from tests.systemd.container import HELPERS, Outcome, folder_of, run_once
from tests.systemd.packages.made import FOLDER, MACHINE, deb
from tests.systemd.readme import ROOT, commands

PAGE = ROOT / "docs/first-hour.md"
ADDRESS = "192.0.2.10"
#: What the issue allows; it takes half a minute.
SECONDS_MAX = 600
COMMANDS_MAX = 8

pytestmark = [
    pytest.mark.needs("root", "systemd-nspawn", "chromium", "ip", "curl"),
    pytest.mark.parametrize(
        "release",
        [pytest.param(one, marks=pytest.mark.xdist_group(one)) for one in RELEASES],
        scope="module",
    ),
]


def typed() -> list[str]:
    """Every command until the chart, in order."""
    chapters = ("Install", "Let the network in", "The first sensor")
    blocks = [block for chapter in chapters for block in commands(chapter, page=PAGE)]
    return [line for block in blocks for line in block.splitlines()]


def script() -> str:
    install, setup, sensor = typed()
    trouble = commands("If it does not work", page=PAGE)[0]
    return "\n".join(
        [
            "export DEBIAN_FRONTEND=noninteractive",
            HELPERS,
            "cd /debs",
            f"note installing {install}",
            # Three times the Enter key.
            f"printf '\\n\\n\\n' | {setup} > /shared/setup 2>&1",
            f"{sensor} > /shared/sensor 2>&1 & sensor=$!",
            "cp /etc/edge-agent/tls/ca.pem /shared/",
            "touch /shared/ready",
            "for _ in $(seq 3000); do [ -e /shared/looked ] && break; sleep 0.1; done",
            "kill -TERM $sensor; wait $sensor || true",
            *(f"note {line.split()[-1]} {line}" for line in trouble.splitlines()),
            "touch /shared/finished",
        ]
    )


@contextmanager
def network(release: str) -> Iterator[str]:
    """A network namespace with one address, as on a Pi."""
    name = f"edge-{release}-{os.getpid()}"
    lines = [
        f"ip netns add {name}",
        f"ip -n {name} link set lo up",
        f"ip -n {name} link add eth0 type veth peer name eth1",
        f"ip -n {name} addr add {ADDRESS}/24 dev eth0",
        f"ip -n {name} link set eth1 up",
        f"ip -n {name} link set eth0 up",
    ]
    try:
        for line in lines:
            subprocess.run(line.split(), check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False)


def look(folder: Path, name: str, over: Event) -> None:
    """What a person does who has read the lines of setup: the page, and a record from elsewhere."""
    while not (folder / "ready").exists():
        if over.wait(0.1):
            return
    told = (folder / "setup").read_text()
    inside = ["ip", "netns", "exec", name]
    try:
        token = re.search(r"^token page +(\S+)$", told, re.MULTILINE)
        url = re.search(r"^the page +(\S+)", told, re.MULTILINE)
        line = re.search(r"^    (curl .*?)\n\n", told, re.MULTILINE | re.DOTALL)
        assert token is not None and url is not None and line is not None, told
        browse = [sys.executable, "-m", "tests.systemd.packages.newcomer", url[1], token[1], "pi"]
        done = subprocess.run(
            [*inside, *browse], cwd=ROOT, capture_output=True, text=True, check=False
        )
        (folder / "chart").write_text(done.stdout + done.stderr[-3000:])
        ca = folder / "ca.pem"
        curl = [
            str(ca) if word.endswith("ca.pem") else word
            for word in shlex.split(line[1].replace("\\\n", " "))
        ]
        sent = subprocess.run([*inside, *curl], capture_output=True, text=True, check=False)
        (folder / "sent").write_text(sent.stdout + sent.stderr)
    finally:
        (folder / "looked").touch()


@pytest.fixture(scope="module")
def outcome(
    release: str, tmp_path_factory: pytest.TempPathFactory, worker_id: str
) -> Iterator[Outcome]:
    name = f"newcomer-{release}"
    folder = folder_of(name, tmp_path_factory, worker_id)
    with network(release) as namespace:
        over = Event()
        eyes = Thread(target=look, args=(folder, namespace, over))

        def options() -> list[str]:
            eyes.start()
            path = deb(Target(release, MACHINE))
            return [
                "--volatile=overlay", f"--directory={FOLDER}/roots/{release}",
                f"--bind-ro={path}:/debs/{path.name}",
                f"--network-namespace-path=/run/netns/{namespace}",
            ]  # fmt: skip

        try:
            found = run_once(name, script(), options, tmp_path_factory, worker_id)
        finally:
            over.set()
            if eyes.ident is not None:
                eyes.join()
        yield found


def test_the_chart_is_there_within_ten_minutes_and_eight_commands(outcome: Outcome) -> None:
    # Becoming root, and the command that setup prints, are typed too.
    assert len(typed()) + 2 <= COMMANDS_MAX
    assert int(outcome.text("chart")) >= 1, outcome.text("chart")
    seconds = outcome.seconds("script", "looked")
    print(f"from a blank system to the chart: {seconds:.0f} s, {len(typed()) + 2} commands")
    assert seconds < SECONDS_MAX


def test_the_line_that_setup_prints_stores_a_record_from_another_machine(outcome: Outcome) -> None:
    assert '"stored": 1' in outcome.text("sent").replace('"stored":1', '"stored": 1')


def test_root_asks_the_agent_without_a_token(outcome: Outcome) -> None:
    """The sensor, too, which needs one: without it there would be no chart."""
    assert "exit code" not in outcome.text("status"), outcome.text("status")
    doctor = outcome.text("doctor")
    assert "needs a token" not in doctor and "is needed" not in doctor
