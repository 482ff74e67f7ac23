"""Where ``make deb-test`` put what is tested."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from systemd.deb.targets import MACHINES, RELEASES, Target

FOLDER = Path(os.environ.get("EDGE_AGENT_DEBS", "build/deb")).absolute()
#: What this machine can run.
MACHINE = {wheels: debian for debian, wheels in MACHINES.items()}[platform.machine()]


def deb(target: Target, which: str = "new") -> Path:
    """The package for ``target``, "new" or "before"."""
    [path] = (FOLDER / which).glob(f"*+deb{RELEASES[target.release][0]}_{target.machine}.deb")
    return path
