"""Commands that may start arm64 programs: ``python -m tests.systemd.arm64.emulated COMMAND ...``.

The kernel hands programs of another machine to qemu where binfmt_misc says so. That is said in a
user namespace of the command's own (Linux 6.7 or newer), as root with every user as it is, so that
nothing of the machine changes and nothing stays when the command has ended.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

#: What Debian's qemu-user-static says of 64-bit ARM, with "F": the interpreter is opened at once,
#: so that it need not be below the root that a program is started in.
RULES = (Path("/usr/lib/binfmt.d/qemu-aarch64.conf"), Path("/usr/lib/binfmt.d/qemu-arm.conf"))
_PLACE = Path("/proc/sys/fs/binfmt_misc")
_NEW_NAMESPACES = 0x10000000 | 0x20000  # CLONE_NEWUSER, CLONE_NEWNS
_ALL_IDS = "0 0 4294967295"


def main() -> int:
    """Make the namespace and run the command in it; its exit code."""
    if not RULES[0].exists() or os.geteuid() != 0:
        sys.exit("emulation needs root and Debian's qemu-user-static")
    made, make_ready = os.pipe()
    mapped, tell_mapped = os.pipe()
    pid = os.fork()
    if pid == 0:
        _call("unshare", _NEW_NAMESPACES)
        os.write(make_ready, b".")
        os.close(tell_mapped)
        if os.read(mapped, 1) != b".":
            os._exit(1)
        os.setgid(0)
        os.setuid(0)
        _call("mount", b"none", bytes(_PLACE), b"binfmt_misc", 0, None)
        for rule in RULES:
            (_PLACE / "register").write_text(rule.read_text().strip())
        os.execvp(sys.argv[1], sys.argv[1:])
    os.close(make_ready)
    # Nothing comes where the child could not make it, and has said why.
    if os.read(made, 1) == b".":
        for kind in ("uid", "gid"):
            Path(f"/proc/{pid}/{kind}_map").write_text(_ALL_IDS)
        os.write(tell_mapped, b".")
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _call(name: str, *arguments: object) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments) != 0:
        reason = os.strerror(ctypes.get_errno())
        sys.exit(f"{name} for a namespace with binfmt_misc: {reason} (Linux 6.7 has it)")


if __name__ == "__main__":
    sys.exit(main())
