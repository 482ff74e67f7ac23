"""`config check` and a start say the same: every refused start, with real processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner

from edge_agent import agent
from edge_agent.assembly.startup import unusable_files
from edge_agent.cli import main
from edge_agent.config import load_config, parse
from edge_agent.errors import EdgeAgentError, StoreSealed
from edge_agent.security.tls import make_ca
from tests.other_user import UID, as_other_user, give, open_folder
from tests.own_sink.installed import installed
from tests.patience import PATIENCE_S

TLS = '[listen]\ntls_certificate = "{tls}/server.pem"\ntls_key = "{tls}/server-key.pem"\n'
#: What is wrong, and a word that has to be in what is said of it.
REFUSED = {
    "no certificate": (TLS.replace("server.pem", "none.pem"), "listen.tls_certificate"),
    "no key": (TLS.replace("server-key.pem", "none.pem"), "listen.tls_key"),
    "a key that does not fit": (TLS.replace("server-key.pem", "private/ca-key.pem"), "tls_key"),
    "a certificate that is none": (TLS.replace("server.pem", "junk"), "listen.tls_certificate"),
    "a folder as certificate": (TLS.replace("/server.pem", ""), "listen.tls_certificate"),
    "no tokens": ('[listen]\ntokens = "{folder}/none"\n', "{folder}/none"),
    "tokens that are none": ('[listen]\ntokens = "{tls}/junk"\n', "{tls}/junk"),
    "tokens of another version": ('[listen]\ntokens = "{folder}/version"\n', "version"),
    "one port for both": (('[listen]\naddress = "127.0.0.1:18999"\n'
                          '[http]\naddress = "127.0.0.1:18999"\n'), "http.address"),
    "one port under two names": (('[listen]\naddress = "127.0.0.1:18999"\n'
                                 '[http]\naddress = "localhost:18999"\n'), "http.address"),
    "one port on all addresses": (('[listen]\ninsecure = true\naddress = "0.0.0.0:18999"\n'
                                  '[http]\naddress = "127.0.0.1:18999"\n'), "http.address"),
    "a port that is taken": ('[listen]\naddress = "{taken}"\n', "{taken}"),
    "people's port is taken": ('[http]\naddress = "{taken}"\n', "{taken}"),
    "an address of another's": ('[listen]\ninsecure = true\naddress = "203.0.113.9:1"\n',
                                "203.0.113.9"),
    "more than the disk has": ('[store]\nsize = "1TiB"\n', "would fit"),
    "a store that is a file": ('[store]\npath = "{tls}/junk"\n', "{tls}/junk"),
    "a store below a file": ('[store]\npath = "{tls}/junk/data"\n', "{tls}/junk"),
    "a store without its key": ('[store]\nkey_file = "{folder}/none"\n', "store.key_file"),
    "a key of the store that all may read": ('[store]\nkey_file = "{tls}/server.pem"\n',
                                             "store.key_file"),
    "a rule without its key": (('[[rule]]\nname = "r"\nstreams = ["**"]\n'
                                'pseudonymise = ["card"]\nkey_file = "{folder}/none"\n'),
                               "rule.r.key_file"),
    "a rule without its hook": ('[[rule]]\nname = "r"\nstreams = ["**"]\nhook = "none_here:f"\n',
                                "rule.r.hook"),
    "a rule about time": ('[[rule]]\nname = "r"\nstreams = ["**"]\ndrop = ["time"]\n', "rule.r"),
    "a path that is too long": ('[store]\npath = "{folder}/' + "a" * 5000 + '"\n', "store.path"),
    "an unknown key": ("[listen]\nadress = 1\n", "adress"),
}  # fmt: skip
#: The same as a user who may do less.
REFUSED_TO_OTHERS = {
    "a key of root's": ("key", ('tls_certificate = "{tls}/server.pem"\n'
                               'tls_key = "{tls}/server-key.pem"\n'), "listen.tls_key"),
    "tokens of root's": ("tokens", 'tokens = "{folder}/tokens"\n', "{folder}/tokens"),
    "a folder of root's": ("folder", "", "store.path"),
    "a privileged port": ("port", 'address = "127.0.0.1:99"\n', "127.0.0.1:99"),
    "a configuration of root's": ("config", "", "a.toml"),
    "a lock of root's": ("lock", "", "lock"),
}  # fmt: skip


class Place:
    def __init__(self, folder: Path, taken: str) -> None:
        self.folder, self.taken = folder, taken
        self.tls = folder / "tls"
        make_ca(self.tls, ["localhost"])
        (self.tls / "junk").write_text("no PEM")
        (folder / "version").write_text('{"version": 99, "tokens": []}')
        self.config = folder / "a.toml"
        self.data = folder / "data"

    def fill(self, text: str) -> str:
        for name in ("folder", "tls", "taken"):
            text = text.replace(f"{{{name}}}", str(getattr(self, name)))
        return text

    def write(self, text: str) -> None:
        parts = self.fill(text)
        defaults = {"[http]": 'address = "off"\n', "[listen]": 'address = "127.0.0.1:0"\n'}
        for section, rest in {**defaults, "[store]": ""}.items():
            if section not in parts:
                parts += f"{section}\n{rest}"
            elif section == "[listen]" and "address" not in parts.split(section)[1].split("[")[0]:
                parts = parts.replace(section, f"{section}\n{rest}")
        if "path =" not in parts:
            parts = parts.replace("[store]\n", f'[store]\npath = "{self.data}"\n')
        if "size =" not in parts:
            parts = parts.replace("[store]\n", '[store]\nsize = "16MiB"\n')
        self.config.write_text(parts)


@pytest.fixture
def place() -> Iterator[Place]:
    with open_folder() as folder, socket.create_server(("127.0.0.1", 0)) as taken:
        yield Place(folder, f"127.0.0.1:{taken.getsockname()[1]}")


def command(*arguments: str, prefix: list[str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*(prefix or []), sys.executable, "-m", "edge_agent", *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def checked(place: Place, *more: str) -> tuple[int, str]:
    """Exit code and words of ``config check``, in this process."""
    done = CliRunner().invoke(main, ["config", "check", str(place.config), *more])
    return done.exit_code, done.output


def started(place: Place) -> Exception | None:
    """Why a real start fails; None where the agent listens, which is ended then."""

    async def start() -> None:
        config = load_config(place.config, env={}, overrides={})
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(agent.run, config, stop=trio.Event()))
            nursery.cancel_scope.cancel()

    try:
        trio.run(start)
    except (EdgeAgentError, OSError) as error:
        return error
    except ExceptionGroup as group:
        return group
    return None


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit code and what it said; an agent that starts is ended, and -1 its code."""
    assert process.stderr is not None
    told, end = "", time.monotonic() + PATIENCE_S
    while (line := process.stderr.readline()) and "sensors:" not in line:
        told += line
        assert time.monotonic() < end, told
    if line:
        process.terminate()
    process.communicate(timeout=PATIENCE_S)
    return (-1 if line else process.returncode), told


@pytest.mark.parametrize("case", REFUSED)
def test_a_start_that_is_refused_is_told_by_the_check(place: Place, case: str) -> None:
    text, word = REFUSED[case]
    place.write(text)
    check = checked(place)
    assert started(place) is not None
    assert check[0] == 78 and place.fill(word) in check[1], check
    assert "Traceback" not in check[1]


def test_what_can_start_is_good(place: Place) -> None:
    place.write(TLS)
    assert checked(place)[0] == 0
    assert not place.data.exists()
    assert started(place) is None
    assert checked(place)[0] == 0


def test_a_sealed_store_without_its_key_is_told_by_the_check_as_well(place: Place) -> None:
    key = place.folder / "store.key"
    key.touch(mode=0o600)
    key.write_text("5e" * 32)
    place.write(f'[store]\nkey_file = "{key}"\n')
    assert started(place) is None
    code, told = checked(place)
    assert code == 0 and "lies on the same file system as the store" in told
    place.write("")
    code, told = checked(place)
    assert code == 78 and "sealed with the key" in told
    refused = started(place)
    assert isinstance(refused, ExceptionGroup) and refused.subgroup(StoreSealed) is not None


@pytest.mark.needs("root", "unshare", "setpriv")
@pytest.mark.parametrize("case", REFUSED_TO_OTHERS)
def test_it_is_checked_as_the_user_that_runs_the_agent(place: Place, case: str) -> None:
    kind, listen, word = REFUSED_TO_OTHERS[case]
    place.write(f"[listen]\n{listen}" if listen else "")
    (place.folder / "tokens").write_text('{"tokens": []}')
    (place.folder / "tokens").chmod(0o600)
    place.data.mkdir()
    if kind != "folder":
        give(place.data)
    if kind == "lock":
        (place.data / "lock").write_text("")
        (place.data / "lock").chmod(0o600)
    if kind == "config":
        place.config.chmod(0o600)
    assert checked(place, "--user", "0")[0] == 0
    check = checked(place, "--user", str(UID))
    start = ended(command("run", "--config", str(place.config), prefix=as_other_user()))
    assert start[0] > 0, start
    assert check[0] == 78 and place.fill(word) in check[1], check


def test_a_check_beside_the_running_agent_does_not_mind_its_ports(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    place.write(f'[listen]\naddress = "127.0.0.1:{port}"\n')
    running = command("run", "--config", str(place.config))
    assert running.stderr is not None
    while "sensors:" not in (line := running.stderr.readline()):
        assert line
    check = checked(place)
    running.terminate()
    running.communicate(timeout=PATIENCE_S)
    assert check[0] == 0, check


def test_all_of_it_is_told_at_once(place: Place) -> None:
    place.write(TLS.replace("server.pem", "none.pem") + 'tokens = "{folder}/none"\n')
    code, told = checked(place)
    assert code == 78 and "none.pem" in told and f"{place.folder}/none" in told
    assert os.geteuid() == os.getuid()


def test_a_package_that_cannot_make_its_upstream_refuses_the_start_and_is_named(
    tmp_path: Path,
) -> None:
    config = parse('[[upstream]]\nname = "x"\nurl = "https://h/x"\n', "f")
    assert unusable_files(config) == []
    with installed(tmp_path / "site", {"spool": "edge_agent_spool:make_broken"}):
        config = parse('[[upstream]]\nname = "x"\nurl = "spool:///x"\n', "f")
        (error,) = unusable_files(config)
        assert "edge-agent-spool 1.0" in str(error) and "no such luck" in str(error)
        assert unusable_files(config, lambda key: key == "upstream.x") == []
