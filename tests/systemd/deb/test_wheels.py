from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from systemd.deb.targets import TARGETS, Target
from systemd.deb.wheels import Wheel, locked_for, needed_by

HERE = Target("bookworm", "arm64")
LOCK = """\
# Made by 'make lock'.
old==1.0 ; python_full_version < '3.13' \\
    --hash=sha256:aa \\
    --hash=sha256:bb
plain==2.0 \\
    --hash=sha256:cc
windows==3.0 ; os_name == 'nt' \\
    --hash=sha256:dd
"""


def wheel(folder: Path, name: str, *needs: str, files: tuple[str, ...] = ()) -> Wheel:
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        lines = [f"Name: {name}", "Version: 1.0", *(f"Requires-Dist: {need}" for need in needs)]
        archive.writestr(f"{name}-1.0.dist-info/METADATA", "\n".join(lines) + "\n\n")
        for file in files:
            archive.writestr(file, "")
    return Wheel(path)


def test_markers_are_held_against_the_target_and_hashes_stay() -> None:
    assert locked_for(LOCK, HERE) == (
        "old==1.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
        "plain==2.0 \\\n    --hash=sha256:cc\n"
    )
    assert "old" not in locked_for(LOCK, Target("trixie", "arm64"))


def test_newer_releases_have_newer_versions_and_take_what_older_c_libraries_take() -> None:
    version = Target("trixie", "amd64").version("0.1.0", 1_795_865_400)
    assert version == "0.1.0-20261128.113000+deb13" < Target("trixie", "arm64").version("0.1.1", 0)
    for target in TARGETS:
        assert target.platforms[-1].startswith("manylinux2014_")
    assert HERE.platforms[0] == "manylinux_2_36_aarch64"


def test_only_what_is_needed_there_is_taken(tmp_path: Path) -> None:
    agent = wheel(tmp_path, "agent", "a>=1", "b; os_name == 'nt'", "e; extra == 'mqtt'")
    others = [wheel(tmp_path, "a", "c"), wheel(tmp_path, "b"), wheel(tmp_path, "c"),
              wheel(tmp_path, "hatchling")]  # fmt: skip
    assert [one.name for one in needed_by(agent, others, HERE)] == ["a", "c"]


def test_what_the_lock_lacks_is_told(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="gone"):
        needed_by(wheel(tmp_path, "agent", "gone"), [], HERE)


def test_tests_types_and_papers_stay_behind(tmp_path: Path) -> None:
    files = ("a/x.py", "a/_tests/x.py", "a/x.pyi", "a/testing/x.py", "a-1.0.dist-info/RECORD",
             "a-1.0.data/data/share/man/man1/a.1")  # fmt: skip
    wheel(tmp_path, "a", files=files).unpack(tmp_path / "to")
    to = tmp_path / "to"
    found = {str(one.relative_to(to)) for one in to.rglob("*") if one.is_file()}
    assert found == {"a/x.py", "a/testing/x.py", "a-1.0.dist-info/METADATA"}


def test_a_wheel_that_wants_files_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="beside site-packages"):
        wheel(tmp_path, "a", files=("a-1.0.data/scripts/x",)).unpack(tmp_path / "to")
