"""Commands run as another user, for tests that run as root.

The interpreter may lie in a home that this user may not enter (an environment of root's own); then
it is shown to them in a mount namespace of their own, and nothing else of that home is.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: ``nobody``, whom every machine has.
UID = 65534

#: Arguments: the closed home, how many folders of it are shown, these, the command.
_SHOW = """
home=$1; count=$2; shift 2
mount -t tmpfs tmpfs /mnt || exit 99
for number in $(seq "$count"); do
    eval "shown=\\${$number}"
    mkdir "/mnt/$number" && mount --bind "$shown" "/mnt/$number" || exit 99
done
mount -t tmpfs -o mode=755 tmpfs "$home" || exit 99
for number in $(seq "$count"); do
    mkdir -p "$1" && mount --bind "/mnt/$number" "$1" || exit 99
    shift
done
exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
"""
ROOT = Path(__file__).parent.parent


def as_other_user() -> list[str]:
    """What stands before a command, so that it runs as `UID`."""
    needed = [Path(sys.base_prefix), Path(sys.prefix), ROOT]
    closed = {home for path in needed if (home := _closed_above(path)) is not None}
    if not closed:
        return ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
    (home,) = closed
    shown = [str(path) for path in dict.fromkeys(needed) if _closed_above(path) == home]
    return ["unshare", "--mount", "sh", "-c", _SHOW, "sh", str(home), str(len(shown)), *shown]


def _closed_above(path: Path) -> Path | None:
    """The topmost folder above ``path`` that others may not pass."""
    closed = [one for one in path.parents if one.stat().st_mode & 0o001 == 0]
    return closed[-1] if closed else None


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder of root's that everybody may pass, unlike pytest's own; removed in the end."""
    folder = Path(tempfile.mkdtemp(prefix="edge-agent-test-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def give(*paths: Path) -> None:
    """Let them, and all below, be the other user's."""
    for path in paths:
        for each in (path, *path.rglob("*")):
            os.chown(each, UID, UID, follow_symlinks=False)
