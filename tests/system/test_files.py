"""Files of a command: whole, with the owner and mode that their reader needs, through no link."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import subprocess
from pathlib import Path

import pytest

from edge_agent.system.files import (
    OPEN,
    SECRET,
    acting_as,
    acting_as_owner,
    give_to_owner,
    open_plain,
    refuse_links,
    refuse_pipes,
    replace_file,
    whole_file,
    why_unreadable,
)
from tests.other_user import UID, give, open_folder


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "out"

    def fails() -> None:
        with whole_file(path) as out:
            out.write(b"half")
            assert not path.exists()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert list(tmp_path.iterdir()) == []
    replace_file(path, b"whole")
    assert path.read_bytes() == b"whole" and mode_of(path) == SECRET
    assert list(tmp_path.iterdir()) == [path]


def test_a_mode_that_is_asked_for_is_what_it_gets_and_the_umask_counts_otherwise(
    tmp_path: Path,
) -> None:
    before = os.umask(0o077)
    try:
        replace_file(tmp_path / "public", b"", 0o644)
        replace_file(tmp_path / "usual", b"", OPEN)
    finally:
        os.umask(before)
    assert (mode_of(tmp_path / "public"), mode_of(tmp_path / "usual")) == (0o644, 0o600)


def test_what_is_replaced_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    for mode in (0o600, 0o640, 0o644, 0o400):
        path.chmod(mode)
        replace_file(path, b"new")
        assert mode_of(path) == mode


def test_ones_own_link_is_followed_to_its_file(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    replace_file(tmp_path / "link", b"new")
    assert (tmp_path / "real").read_text() == "new" and (tmp_path / "link").is_symlink()


def test_what_is_no_plain_file_is_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    (tmp_path / "victim").write_text("x")
    for name in ("pipe", "link"):
        with pytest.raises(OSError, match="is "):
            open_plain(tmp_path / name, os.O_RDWR)
    with pytest.raises(OSError, match="no plain file"):
        replace_file(tmp_path / "pipe", b"")
    with pytest.raises(OSError, match="no plain file"):
        replace_file(Path("/dev/null"), b"")


@pytest.mark.needs("root")
def test_root_is_the_owner_of_a_folder_while_it_works_there() -> None:
    with open_folder() as folder:
        (theirs := folder / "theirs").mkdir()
        give(theirs)
        with acting_as_owner(theirs / "not" / "there"):
            assert os.geteuid() == UID
            (theirs / "made").write_text("")
            with acting_as_owner(folder):
                assert os.geteuid() == 0
            assert os.geteuid() == UID
            with pytest.raises(PermissionError):
                (folder / "no").write_text("")
        assert os.geteuid() == 0 and (theirs / "made").stat().st_uid == UID
        # It cannot pass: then root stays root, who alone can work there.
        folder.chmod(0o700)
        with acting_as_owner(theirs):
            assert os.geteuid() == 0
        # Its own folder, closed by itself, makes nobody root.
        folder.chmod(0o755)
        theirs.chmod(0)
        with acting_as_owner(theirs):
            assert os.geteuid() == UID


@pytest.mark.needs("root")
def test_a_new_file_of_roots_is_for_whom_its_folder_is(tmp_path: Path) -> None:
    replace_file(tmp_path / "mine", b"")
    assert (tmp_path / "mine").stat().st_uid == 0
    os.chown(tmp_path, 0, UID)
    tmp_path.chmod(0o750)
    replace_file(tmp_path / "shared", b"")
    found = (tmp_path / "shared").stat()
    assert (found.st_uid, found.st_gid, mode_of(tmp_path / "shared")) == (0, UID, 0o640)
    os.chown(tmp_path, UID, UID)
    replace_file(tmp_path / "theirs", b"")
    assert (tmp_path / "theirs").stat().st_uid == UID


@pytest.mark.needs("root")
def test_what_root_gives_away_is_its_own_and_no_links_target(tmp_path: Path) -> None:
    (folder := tmp_path / "theirs").mkdir()
    (victim := tmp_path / "victim").write_text("")
    os.chown(folder, UID, UID)
    (folder / "made").mkdir()
    (folder / "made" / "file").write_text("")
    (folder / "made" / "link").symlink_to(victim)
    os.link(victim, folder / "made" / "second name")
    give_to_owner(folder, folder / "made")
    assert victim.stat().st_uid == 0
    assert (folder / "made" / "file").stat().st_uid == UID


def test_what_could_wait_for_ever_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for path in (tmp_path / "pipe", tmp_path / "link", Path("/dev/zero")):
        with pytest.raises(OSError, match="no plain file"):
            refuse_pipes(path)
        with pytest.raises(OSError, match="no plain file"):
            refuse_links(path)


def test_what_a_shell_hands_over_and_what_is_plain_may_be_read(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    (tmp_path / "link").symlink_to("plain")
    out, into = os.pipe()
    try:
        refuse_pipes(Path(f"/dev/fd/{out}"), Path("/dev/stdin"), Path("/dev/null"))
    finally:
        os.close(out)
        os.close(into)
    refuse_pipes(tmp_path, tmp_path / "plain", tmp_path / "link", tmp_path / "missing")


@pytest.mark.needs("root")
def test_a_link_that_leads_to_itself_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with acting_as_owner(tmp_path / "loop"), pytest.raises(OSError, match="Too many levels"):
        (tmp_path / "loop" / "file").write_text("")
    with pytest.raises(OSError, match="no plain file"):
        replace_file(tmp_path / "loop", b"")


@pytest.mark.needs("root")
@pytest.mark.parametrize("shut", ["file", "folder"])
def test_whoever_may_not_read_a_file_is_told_the_commands_that_help(shut: str) -> None:
    with open_folder() as top:
        (folder := top / "folder").mkdir()
        (secret := folder / "token").write_text("secret")
        what, mode = (folder, "g+x") if shut == "folder" else (secret, "g+r")
        what.chmod(0o700 if shut == "folder" else 0o600)
        with acting_as(UID, UID):
            with pytest.raises(PermissionError) as refused:
                secret.read_text()
            told = why_unreadable(refused.value, secret)
        user, group = pwd.getpwuid(UID).pw_name, grp.getgrgid(UID).gr_name
        assert told == f"Permission denied for {user} (chgrp {group} {what}; chmod {mode} {what})"
        for command in told.partition("(")[2].removesuffix(")").split("; "):
            subprocess.run(command.split(), check=True)
        with acting_as(UID, UID):
            assert secret.read_text() == "secret"


@pytest.mark.needs("root")
def test_a_file_that_a_group_may_read_is_not_taken_from_it() -> None:
    with open_folder() as top:
        (secret := top / "tokens").write_text("secret")
        os.chown(secret, 0, 1)
        secret.chmod(0o640)
        with acting_as(UID, UID), pytest.raises(PermissionError) as refused:
            secret.read_text()
        group = grp.getgrgid(1).gr_name
        with acting_as(UID, UID):
            told = why_unreadable(refused.value, secret)
        user = pwd.getpwuid(UID).pw_name
        assert told == f"Permission denied for {user} (root and the group {group} may: sudo)"
        service = pwd.getpwnam("mail")
        with acting_as(service.pw_uid, service.pw_gid):
            told = why_unreadable(refused.value, secret)
        assert told.endswith(f"(root and the group {group} may: usermod -a -G {group} mail)")


@pytest.mark.needs("root")
def test_a_link_into_a_folder_that_is_shut_is_told_by_that_folder() -> None:
    with open_folder() as top:
        (archive := top / "archive").mkdir()
        (archive / "key").write_text("secret")
        archive.chmod(0o700)
        (link := top / "key").symlink_to("archive/key")
        with acting_as(UID, UID):
            with pytest.raises(PermissionError) as refused:
                link.read_text()
            told = why_unreadable(refused.value, link)
        assert f"chmod g+x {archive})" in told


def test_what_is_not_there_is_told_in_the_systems_words(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        (tmp_path / "none").read_text()
    assert why_unreadable(missing.value, tmp_path / "none") == "No such file or directory"
