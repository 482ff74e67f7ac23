"""What is in the packages: by lintian, by their own lists, and by making them again."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from edge_agent import __version__
from systemd.deb.__main__ import source_date
from systemd.deb.targets import TARGETS, Target
from tests.systemd.packages.made import FOLDER, deb
from tests.systemd.readme import ROOT

#: e_machine of ELF, and what its first bytes say.
ELF = {"amd64": 62, "arm64": 183}


@cache
def listing(path: Path) -> dict[str, tuple[str, str]]:
    """Name to mode and owner, of all that is inside."""
    said = subprocess.check_output(["dpkg-deb", "--contents", str(path)], text=True)
    lines = [line.split(maxsplit=5) for line in said.splitlines()]
    return {line[5].removeprefix("./"): (line[0], line[1]) for line in lines}


def field(path: Path, name: str) -> str:
    return subprocess.check_output(["dpkg-deb", "--field", str(path), name], text=True).strip()


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(one, id=name, marks=pytest.mark.xdist_group(name))
        for one in TARGETS
        for name in [f"{one.release}-{one.machine}"]
    ],
)
def target(request: pytest.FixtureRequest) -> Target:
    chosen: Target = request.param
    return chosen


@pytest.fixture(scope="module")
def tree(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package unpacked, its control files below DEBIAN; once for all tests of it."""
    folder = tmp_path_factory.mktemp("tree") / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", str(deb(target)), str(folder)], check=True)
    return folder


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# Twenty seconds of CPU for each: between these two are both releases and both machines.
@pytest.mark.needs("lintian")
@pytest.mark.parametrize("one", [Target("bookworm", "arm64"), Target("trixie", "amd64")])
def test_lintian_finds_nothing_that_is_not_meant(one: Target) -> None:
    command = ["lintian", "--no-cfg", "--allow-root"]
    done = subprocess.run(
        [*command, "--fail-on=error,warning", "--tag-display-limit=0", str(deb(one))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")


def test_the_same_commit_makes_the_same_bytes_elsewhere_too(tmp_path: Path) -> None:
    environment = {**os.environ, "TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-m", "systemd.deb", "--release", "trixie", "--machine", "arm64"]
    shell = 'umask 077; cd "$0"; exec "$@"'
    subprocess.run(
        ["/bin/sh", "-c", shell, str(ROOT), *command, "--dist", str(tmp_path)],
        env=environment, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    [again] = tmp_path.glob("*.deb")
    assert digest(again) == digest(FOLDER / "new" / again.name)


def test_it_needs_one_python_and_no_library_of_debians_python(target: Target) -> None:
    needs = [re.sub(r" \(.*", "", one) for one in field(deb(target), "Depends").split(", ")]
    assert needs == [
        f"python{target.python}", "libc6", "libgcc-s1", "procps", "init-system-helpers",
        "systemd | systemd-standalone-sysusers | systemd-sysusers",
    ]  # fmt: skip
    assert field(deb(target), "Architecture") == target.machine
    assert field(deb(target, "new"), "Version") == target.version(__version__, source_date())


def test_files_stand_where_debian_looks_for_them_and_belong_to_root(target: Target) -> None:
    files = listing(deb(target))
    for name in (
        "etc/edge-agent/edge-agent.toml",
        "usr/lib/systemd/system/edge-agent.service",
        "usr/lib/systemd/system/edge-agent-renew.service",
        "usr/lib/systemd/system/edge-agent-renew.timer",
        "usr/lib/systemd/system/edge-agent-sensor@.service",
        "usr/lib/sysusers.d/edge-agent.conf",
        "usr/lib/tmpfiles.d/edge-agent.conf",
        "usr/share/bash-completion/completions/edge-agent",
        "usr/share/zsh/vendor-completions/_edge-agent",
        "usr/share/fish/vendor_completions.d/edge-agent.fish",
        "usr/share/man/man1/edge-agent-config-init.1.gz",
        "usr/share/man/man5/edge-agent.toml.5.gz",
        "usr/share/doc/edge-agent/docs/install.md",
    ):
        assert files[name] == ("-rw-r--r--", "root/root"), name
    assert "usr/bin/edge-agent -> ../lib/edge-agent/bin/edge-agent" in files
    assert {owner for _, owner in files.values()} == {"root/root"}
    assert not [name for name in files if name.endswith(".pyc") or "/_tests/" in name]
    programs = [name for name, (mode, _) in files.items() if mode == "-rwxr-xr-x"]
    assert programs == ["usr/lib/edge-agent/bin/edge-agent"]


def test_libraries_are_for_its_machine_its_python_and_its_c_library(
    target: Target, tree: Path
) -> None:
    libraries = list(tree.rglob("*.so"))
    assert {"_core", "cpython", "_rust", "_zstd"} <= {
        one.name.partition(".")[0] for one in libraries
    }
    for path in libraries:
        assert struct.unpack_from("<H", path.read_bytes(), 18) == (ELF[target.machine],), path
        assert re.search(rf"\.(abi3|cpython-{target.python.replace('.', '')}-)", path.name), path
    minor = re.search(r"libc6 \(>= 2\.(\d+)\)", field(deb(target), "Depends"))
    assert minor is not None and int(minor[1]) <= {"bookworm": 36, "trixie": 41}[target.release]


def test_its_bill_names_what_is_inside_with_hashes_of_the_lock(target: Target, tree: Path) -> None:
    bill = json.loads((tree / "usr/share/doc/edge-agent/edge-agent.cdx.json").read_text())
    lock = (ROOT / "requirements.lock").read_text()
    wheels = [one for one in bill["components"] if one["purl"].startswith("pkg:pypi/")]
    inside = {one["name"] for one in wheels}
    assert {"trio", "lmdb", "cryptography", "backports-zstd"} <= inside
    assert not {"hatchling", "trove-classifiers"} & inside
    for one in wheels:
        assert f"{one['name']}=={one['version']}" in lock
        assert f"sha256:{one['hashes'][0]['content']}" in lock
    folders = [path.name for path in tree.rglob("*.dist-info")]
    assert len(folders) == len(inside) + 1
    told = (tree / "usr/share/doc/edge-agent/copyright").read_text()
    assert not [name for name in inside if f"\n{name} " not in told]


def test_sums_are_right_and_the_configuration_is_the_persons(target: Target, tree: Path) -> None:
    assert (tree / "DEBIAN/conffiles").read_text() == "/etc/edge-agent/edge-agent.toml\n"
    subprocess.run(
        ["md5sum", "--check", "--quiet", "--strict", "DEBIAN/md5sums"], cwd=tree, check=True
    )
    assert deb(target).stat().st_size < 10_000_000
