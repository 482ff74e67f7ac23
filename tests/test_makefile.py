from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements.lock", "requirements-dev.lock")

pytestmark = pytest.mark.needs("make", "cksum")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the set-up reads, and nothing else."""
    for name in ("Makefile", "pyproject.toml", *LOCKS):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def python_in(folder: Path, body: str) -> str:
    """A stand-in for python3 that runs the shell script ``body``."""
    program = folder / "fake-python"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    return f"PYTHON={program}"


def stamp_of(folder: Path, *arguments: str) -> str:
    """The name of the stamp, which is what tells whether anything has to be set up."""
    printed = make(folder, "--dry-run", "--print-data-base", "test", *arguments).stdout
    return next(line for line in printed.splitlines() if line.startswith("KEY := "))


def test_a_python_that_is_too_old_is_told_in_one_line(checkout: Path) -> None:
    before = {path.name for path in checkout.iterdir()}
    old = python_in(checkout, '[ "$1" = --version ] && echo Python 3.9.2; exit 1')
    ended = make(checkout, "test", old)
    assert ended.returncode != 0
    assert ended.stdout.count("\n") == 1
    assert "needs Python 3.11 or newer" in ended.stdout
    assert "Python 3.9.2" in ended.stdout
    assert {path.name for path in checkout.iterdir()} == before | {"fake-python"}


@pytest.mark.parametrize("target", ["run", "test", "test-floors", "lock"])
def test_debian_without_ensurepip_is_told_in_one_line(checkout: Path, target: str) -> None:
    (checkout / "modules").mkdir()
    (checkout / "modules" / "ensurepip.py").write_text("raise ImportError('Debian')\n")
    lacking = python_in(checkout, f'PYTHONPATH={checkout}/modules exec {sys.executable} "$@"')
    ended = make(checkout, target, lacking)
    assert ended.returncode != 0
    assert ended.stdout == (
        "This Python cannot make environments. On Debian: apt install python3-venv\n"
    )
    assert not list(checkout.glob(".venv*"))


def test_a_set_up_that_fails_leaves_no_stamp_and_starts_anew_next_time(checkout: Path) -> None:
    # This Python makes environments in which nothing can be installed.
    body = 'if [ "$2" = venv ]; then mkdir -p .venv/bin; cp /bin/false .venv/bin/python; exit; fi\n'
    broken = python_in(checkout, body + f'exec {sys.executable} "$@"')
    for _ in range(2):
        ended = make(checkout, "run", broken)
        assert ended.returncode != 0
        assert "Setting up" in ended.stdout
        assert not list(checkout.glob(".venv/run-*"))


def test_an_environment_that_cannot_be_made_leaves_nothing(checkout: Path) -> None:
    body = 'if [ "$2" = venv ]; then mkdir -p .venv/bin; exit 1; fi\n'
    broken = python_in(checkout, body + f'exec {sys.executable} "$@"')
    assert make(checkout, "test", broken).returncode != 0
    assert not list(checkout.glob(".venv*"))


def test_the_stamp_changes_with_everything_that_the_set_up_depends_on(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stamps = [stamp_of(checkout)]
    assert stamp_of(checkout) == stamps[0]
    for name in ("pyproject.toml", *LOCKS):
        with (checkout / name).open("a") as file:
            file.write("# changed\n")
        stamps.append(stamp_of(checkout))
    stamps.append(stamp_of(checkout, python_in(checkout, "echo another Python")))
    moved = tmp_path_factory.mktemp("moved") / "here"
    checkout.rename(moved)
    stamps.append(stamp_of(moved))
    assert len(set(stamps)) == len(stamps)


def pins_of(lock: str) -> dict[str, tuple[Requirement, str]]:
    """Each locked requirement with its hashes, by its name."""
    text = (ROOT / lock).read_text().replace("\\\n", " ")
    found: dict[str, tuple[Requirement, str]] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            pinned, _, hashes = line.partition(" --hash=")
            requirement = Requirement(pinned)
            found[canonicalize_name(requirement.name)] = requirement, hashes
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_one_version_with_hashes_and_names_no_place(lock: str) -> None:
    assert "/" not in (ROOT / lock).read_text()
    for requirement, hashes in pins_of(lock).values():
        assert str(requirement.specifier).startswith("=="), requirement
        assert hashes.startswith("sha256:"), requirement


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_a_version_that_fits_for_all_that_the_project_asks_for(lock: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = project["project"]["dependencies"] + project["build-system"]["requires"]
    if lock == "requirements-dev.lock":
        asked += project["project"]["optional-dependencies"]["dev"]
        asked += project["project"]["optional-dependencies"]["docs"]
    pins = pins_of(lock)
    for requirement in map(Requirement, asked):
        pinned, _ = pins[canonicalize_name(requirement.name)]
        version = str(pinned.specifier).removeprefix("==")
        assert requirement.specifier.contains(version), f"{requirement}: run make lock"


def test_both_locks_agree() -> None:
    tested = pins_of("requirements-dev.lock")
    for name, (requirement, hashes) in pins_of("requirements.lock").items():
        assert (tested[name][0].specifier, tested[name][1]) == (requirement.specifier, hashes)


def test_the_lock_of_npm_pins_each_package_with_a_hash_and_names_no_place() -> None:
    folder = ROOT / "tests" / "docs" / "sensors" / "npm"
    packages = json.loads((folder / "package-lock.json").read_text())["packages"]
    asked = json.loads((folder / "package.json").read_text())["dependencies"]
    assert packages.pop("")["dependencies"] == asked
    assert {name: packages[f"node_modules/{name}"]["version"] for name in asked} == asked
    for one in packages.values():
        # What is bundled comes within another package, under that one's hash.
        assert ("integrity" in one or one["inBundle"]) and "resolved" not in one


def test_a_commit_is_checked_by_what_make_test_runs_first() -> None:
    recipes = [
        (ROOT / "Makefile").read_text().partition(f"\n{target}:")[2].partition("\n\n")[0]
        for target in ("test", "types")
    ]
    commands = [
        line.strip().replace("$(BIN)", ".venv/bin/python")
        for line in "\n".join(recipes).splitlines()
        if line.startswith("\t$(BIN)")
    ]
    hooks = (ROOT / ".pre-commit-config.yaml").read_text().splitlines()
    entries = [line.partition("entry: ")[2] for line in hooks if "entry: " in line]
    assert entries == commands


def test_every_python_that_is_found_runs_the_tests_in_a_folder_of_its_own(checkout: Path) -> None:
    (checkout / "python3.12").write_text("#!/bin/sh\n")
    (checkout / "python3.12").chmod(0o755)
    # What is on PATH and does not run is not there either.
    (checkout / "python3.13").write_text("#!/bin/sh\nexit 127\n")
    (checkout / "python3.13").chmod(0o755)
    path = f"PATH={checkout}:/usr/bin:/bin"
    pythons = "PYTHONS=python3.12 python3.13 python3.nowhere"
    ended = make(checkout, "test-pythons", path, pythons, "MAKE=echo make")
    assert ended.stdout.splitlines() == [
        "python3.12:",
        "make --no-print-directory test PYTHON=python3.12 VENV=.venv-python3.12",
        "python3.13: not found, passed over",
        "python3.nowhere: not found, passed over",
        "Passed with: python3.12",
    ]
    ended = make(checkout, "test-pythons", path, "PYTHONS=python3.13", "MAKE=echo make")
    assert ended.returncode != 0
    assert "None of python3.13 was found" in ended.stdout
