"""A package's life in real systems of both releases: installed, upgraded, removed, purged.

Each container has the release's own file system under a layer that is forgotten afterwards, no
network, and the two packages. Its commands are those of docs/install.md.
"""

from __future__ import annotations

import json

import pytest

from systemd.deb.targets import RELEASES, Target
from tests.systemd.container import HELPERS, Outcome, run_once
from tests.systemd.packages.made import FOLDER, MACHINE, deb
from tests.systemd.readme import ROOT, commands
from tests.systemd.test_unit import exposure

PAGE = ROOT / "docs/install.md"

pytestmark = [
    pytest.mark.needs("root", "systemd-nspawn"),
    # Each container's tests are one worker's, so that none waits for another's container.
    pytest.mark.parametrize(
        "release",
        [pytest.param(one, marks=pytest.mark.xdist_group(one)) for one in RELEASES],
        scope="module",
    ),
]

#: As bash asks, with the package's own script: what may come after "edge-agent con"?
COMPLETE = """\
complete_words() {
    . /usr/share/bash-completion/completions/edge-agent
    COMP_WORDS=(edge-agent con) COMP_CWORD=1
    _edge_agent_completion edge-agent con
    echo "${COMPREPLY[@]}"
}
note words complete_words"""

OLD_CERTIFICATE = (
    "import datetime as dt; from edge_agent.security.tls import make_ca;"
    ' make_ca("/etc/edge-agent/tls", ["pi"], now=dt.datetime(2024, 1, 1, tzinfo=dt.UTC))'
)


def script() -> str:
    install, look = commands("A package for Debian and Raspberry Pi OS", page=PAGE)
    update, remove, purge = commands("Update and remove the package", page=PAGE)
    steps = [
        "export DEBIAN_FRONTEND=noninteractive",
        HELPERS,
        "send() { echo '{\"t\": '$1'}' | edge-agent send --stream greenhouse/1; }",
        "cd /debs/before",
        f"first() {{\n{install}}}\nnote installing first",
        look,
        "note first records",
        "note account getent passwd edge-agent",
        "note enabled systemctl is-enabled edge-agent",
        "note folders stat --format '%n %U %G %a' /var/lib/edge-agent /etc/edge-agent",
        "note unit systemd-analyze verify --man=no edge-agent.service",
        "note doctor edge-agent doctor",
        "note check edge-agent config check --user edge-agent",
        "note compiled find /usr/lib/edge-agent -path '*edge_agent/log.py' -o -name 'log.*.pyc'",
        COMPLETE,
        # A certificate of 2024, to be renewed by now; by root's timer, as the key is root's.
        "touch /run/edge-agent-clock-set",
        f"/usr/lib/edge-agent/bin/python -c '{OLD_CERTIFICATE}'",
        "note timer systemctl is-enabled edge-agent-renew.timer",
        "note next systemctl show --property=ActiveState,Unit edge-agent-renew.timer",
        "note renewing systemctl start edge-agent-renew.service",
        "note renewed edge-agent tls renew /etc/edge-agent/tls",
        "note audit journalctl --no-pager -o cat -t edge-agent-audit",
        # What the unit of the package forbids, `config check` knows.
        "install --directory --owner=edge-agent /srv/records",
        "sed s#/var/lib/edge-agent#/srv/records# /etc/edge-agent/*.toml > /srv/else.toml",
        "note elsewhere edge-agent config check --user edge-agent /srv/else.toml",
        # What a person adds and changes.
        "echo '# mine' >> /etc/edge-agent/edge-agent.toml",
        "edge-agent token add me --write '**' --file /etc/edge-agent/tokens > /dev/null",
        "send 22.5",
        "cp /etc/edge-agent/edge-agent.toml /root/mine.toml",
        # The upgrade comes while 500 sensors are connected.
        "fleet_begins",
        "echo '# mine' >> /etc/edge-agent/edge-agent.toml",
        "note pid-before property MainPID",
        f"upgrade() {{\ncd /debs/new\n{update}}}\nexport -f upgrade",
        "note fleet fleet upgrade 500 bash -ec 'upgrade > /shared/upgrading 2>&1'",
        "cd /debs/new",
        "note versions dpkg-query --show --showformat '${Version} ${db:Status-Abbrev}' edge-agent",
        "note state systemctl is-active edge-agent",
        "note pid-after property MainPID",
        "note exposure systemd-analyze security --no-pager edge-agent.service",
        "note kept-sockets property NFileDescriptorStore",
        "note configuration tail -n 1 /etc/edge-agent/edge-agent.toml",
        "cp /root/mine.toml /etc/edge-agent/edge-agent.toml",
        "rm -r /etc/systemd/system/edge-agent.service.d",
        "systemctl daemon-reload",
        "systemctl restart edge-agent",
        "note upgraded records",
        "send 23.5",
        f"removal() {{\n{remove}}}\nnote removing removal",
        "note left-of-program find /usr/lib/edge-agent /usr/bin/edge-agent",
        "note left-running pgrep --full edge-agent.run",
        "note kept find /var/lib/edge-agent /etc/edge-agent -type f",
        f"again() {{\n{update}}}\nnote again again",
        "note after-removal records",
        f"purging() {{\n{purge}}}\nnote purging purging",
        "note kept-after-purge find /var/lib/edge-agent /etc/edge-agent -type f",
        f"once_more() {{\n{install}}}\nnote once-more once_more",
        "note after-purge records",
        "systemctl stop edge-agent",
        "find /var/lib/edge-agent -mindepth 1 -delete",
        "note purging-nothing purging",
        "note left find / -xdev -name '*edge*agent*' -not -path '/tmp/*' -not -path '/debs/*'",
        "touch /shared/finished",
    ]
    return "\n".join(steps)


@pytest.fixture(scope="module")
def outcome(release: str, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Outcome:
    def options() -> list[str]:
        target = Target(release, MACHINE)
        pairs = [(which, deb(target, which)) for which in ("before", "new")]
        binds = [f"--bind-ro={path}:/debs/{which}/{path.name}" for which, path in pairs]
        return ["--volatile=overlay", f"--directory={FOLDER}/roots/{release}", *binds]

    return run_once(f"life-{release}", script(), options, tmp_path_factory, worker_id)


def test_it_is_installed_and_runs_by_the_commands_of_the_page(outcome: Outcome) -> None:
    assert outcome.records("first") == [21.5]
    assert outcome.text("enabled").strip() == "enabled"
    assert ":/var/lib/edge-agent:/usr/sbin/nologin" in outcome.text("account")
    assert outcome.text("folders").splitlines() == [
        "/var/lib/edge-agent edge-agent edge-agent 700",
        "/etc/edge-agent root root 755",
    ]
    assert outcome.text("unit") == ""
    assert "enabled, active, watchdog 60 s" in outcome.text("doctor")
    assert outcome.text("check").endswith("edge-agent.toml: good\n")
    assert "the unit edge-agent may write below /var/lib/edge-agent only" in outcome.text(
        "elsewhere"
    )


def test_a_timer_of_roots_renews_the_certificate_and_the_journal_says_so(outcome: Outcome) -> None:
    assert outcome.text("timer") == "enabled\n"
    assert set(outcome.text("next").split()) == {
        "ActiveState=active", "Unit=edge-agent-renew.service"
    }  # fmt: skip
    assert outcome.text("renewing") == ""
    assert "server.pem: good until 20" in outcome.text("renewed")
    who, what = 'who="uid 0 (root)" from=here', 'what="/etc/edge-agent/tls/server.pem"'
    (line,) = outcome.text("audit").splitlines()
    assert line == f'order="tls renew" {who} {what} outcome=done'


def test_what_it_imports_was_compiled_ahead_and_a_shell_completes_its_words(
    outcome: Outcome,
) -> None:
    assert len(outcome.text("compiled").split()) >= 2
    assert sorted(outcome.text("words").split()) == ["config", "consumer"]


def test_an_upgrade_restarts_it_and_keeps_records_and_what_a_person_changed(
    outcome: Outcome, release: str
) -> None:
    assert outcome.text("versions").split() == [
        deb(Target(release, MACHINE)).name.split("_")[1], "ii",
    ]  # fmt: skip
    assert outcome.text("state").strip() == "active"
    assert outcome.text("pid-before") != outcome.text("pid-after") != "0\n"
    assert outcome.records("upgraded") == [21.5, 22.5]
    assert outcome.text("configuration") == "# mine\n"


def test_an_upgrade_under_a_fleet_refuses_nobody_and_loses_nothing(outcome: Outcome) -> None:
    fleet = json.loads(outcome.text("fleet"))
    assert (fleet["command"], fleet["refused"], fleet["failed"]) == (0, 0, {}), fleet
    assert fleet["lost_sessions"] == fleet["sensors"] == 500
    assert fleet["stored"] == fleet["sent"] and fleet["more_than_once"] == 0
    assert outcome.text("kept-sockets") == "2\n"


def test_it_is_exposed_to_little(outcome: Outcome) -> None:
    assert exposure(outcome.text("exposure")) <= 1.2


def test_removal_takes_the_program_and_leaves_records_and_configuration(outcome: Outcome) -> None:
    assert "exit code" not in outcome.text("removing")
    assert outcome.text("left-of-program").count("No such file") == 2
    assert outcome.text("left-running") == "exit code 1\n"
    kept = outcome.text("kept").split()
    assert "/etc/edge-agent/edge-agent.toml" in kept and "/etc/edge-agent/tokens" in kept
    assert any(path.endswith("store/data.mdb") for path in kept)
    assert outcome.records("after-removal") == [21.5, 22.5, 23.5]


def test_a_purge_takes_the_configuration_and_never_records(outcome: Outcome) -> None:
    assert "the records are kept in /var/lib/edge-agent" in outcome.text("purging")
    kept = outcome.text("kept-after-purge")
    assert "No such file" in kept and "/etc/edge-agent/" not in kept
    assert "store/data.mdb" in kept
    assert outcome.records("after-purge") == [21.5, 22.5, 23.5]


def test_a_purge_without_records_leaves_nothing(outcome: Outcome) -> None:
    assert "records are kept" not in outcome.text("purging-nothing")
    assert outcome.text("left").split() == []
